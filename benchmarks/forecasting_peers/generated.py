"""A panel drawn from a seed, of series such as a shop, a plant or a grid has: no two alike, none of them clean.

A series is a level that wanders and now and then jumps, a slope that comes and damps away, a season of twelve steps
whose amplitude and phases drift, and noise that is autocorrelated and for some series heavy-tailed. Half of the series
are products of these, half are sums; their units run from 0.01 to 100,000.
"""

import numpy as np
from numpy.typing import NDArray

SEED = 20_240_607
PERIOD = 12
FULL = (2_000, 50, 2_000)
"""Series, least and most steps."""
SMALL = (200, 50, 300)


def draw_panel(number: int, shortest: int, longest: int, seed: int = SEED) -> list[NDArray[np.float64]]:
    """Draws the series; lengths are spread evenly over their logarithms, and each series has a stream of its own."""
    lengths = np.random.default_rng(seed).uniform(np.log(shortest), np.log(longest + 1), number)
    return [draw_series(np.random.default_rng([seed, i]), int(np.exp(length))) for i, length in enumerate(lengths)]


def draw_series(generator: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Draws one series of ``length`` values."""
    scale = 10 ** generator.uniform(-2, 5)
    deviation = min(float(generator.lognormal(np.log(0.05), 0.6)), 0.15)  # of the noise, the series' level being 1
    parts = (
        _level(generator, length, deviation)
        + _season(generator, length, deviation)
        + _noise(generator, length, deviation)
    )
    if generator.random() < 0.5:
        values = scale * np.exp(parts)
    else:  # a tenth of these have values of either sign
        values = scale * ((0.0 if generator.random() < 0.1 else generator.uniform(1.0, 4.0)) + parts)
    return np.rint(values) if scale > 1_000 and generator.random() < 0.5 else values


def _level(generator: np.random.Generator, length: int, deviation: float) -> NDArray[np.float64]:
    """A level whose shocks stay, a slope that damps, and jumps, about one in 250 steps."""
    wander = deviation * 10 ** generator.uniform(-1.5, -0.3)
    damping, share = generator.uniform(0.8, 0.98), generator.uniform(0, 1)
    slope = _filtered(damping, (1 - damping) * wander * share * generator.standard_normal(length))
    shocks = slope + wander * np.sqrt(1 - share**2) * generator.standard_normal(length)
    jumps = np.where(generator.random(length) < 1 / 250, 4 * deviation * generator.standard_normal(length), 0)
    return _filtered(0.998, shocks + jumps)


def _season(generator: np.random.Generator, length: int, deviation: float) -> NDArray[np.float64]:
    """Four harmonics of the period, for three series of four."""
    amplitude = deviation * generator.lognormal(np.log(2.0), 0.7) if generator.random() < 0.75 else 0.0
    weights = generator.standard_normal(4) / np.arange(1, 5)
    phases = generator.uniform(0, 2 * np.pi, 4)
    drift = np.cumsum(0.01 * generator.standard_normal((length, 4)), axis=0)
    strength = np.exp(0.3 * np.sqrt(1 - 0.99**2) * _filtered(0.99, generator.standard_normal(length)))
    angles = 2 * np.pi * np.arange(length)[:, None] * np.arange(1, 5) / PERIOD + phases + drift
    return amplitude * strength * (np.sin(angles) @ (weights / np.sqrt(np.sum(weights**2))))


def _noise(generator: np.random.Generator, length: int, deviation: float) -> NDArray[np.float64]:
    """Noise of an autoregression; heavy-tailed (Student's t, three degrees) for three series of ten."""
    rho = generator.uniform(0, 0.7) if generator.random() < 0.7 else 0.0
    heavy = generator.random() < 0.3
    drawn = generator.standard_t(3, length) / np.sqrt(3) if heavy else generator.standard_normal(length)
    return deviation * np.sqrt(1 - rho**2) * _filtered(rho, drawn)


def _filtered(decay: float, shocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """x[t] = decay * x[t-1] + shocks[t]."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -decay], shocks))
