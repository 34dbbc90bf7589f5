"""Forecasts from every step of a series: their loss, and how far they are off in the units of the series."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.foundation.array_types import Array
from jaxrnn.settings.task_config import FIGURES_OF_TASK
from jaxrnn.tasks.metrics import MetricSums, elementwise_loss
from jaxrnn.tasks.readout import Readout


class ForecastTallies(NamedTuple):
    """Sums over origins, steps ahead and targets.

    Attributes:
      absolute: The absolute errors of the medians, in the units of MASE.
      count: How many there are of series that have such units.
    """

    absolute: Any
    count: Any


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Forecasts the next steps of a series; methods as those of `jaxrnn.tasks.task.SequenceTask`.

    A forecast is the level at its origin, and the output times the scale there. What a batch has as targets is, of
    each target, its level and the scale, both in the units that losses are counted in, whether the value is known, and
    these units in those of MASE; and at last whether the step is an origin.

    Attributes:
      horizon: Steps ahead.
      num_targets: How many numbers are forecast.
      loss: "pinball", "mae" or "mse".
      quantiles: The levels of loss = pinball; 0.5 alone for the others.
    """

    horizon: int
    num_targets: int = 1
    loss: str = "pinball"
    quantiles: tuple[float, ...] = (0.5,)
    reads: Readout = "every"

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK["forecast"]

    def zero(self, num_rows: int) -> MetricSums:
        del num_rows
        zero = np.float32(0)
        return MetricSums(zero, zero, ForecastTallies(zero, zero), np.zeros(2, np.float32))

    def measure(self, outputs: Array, targets: Array, lengths: Array, told: Any) -> Any:
        segment_ids = (jnp.arange(targets.shape[1])[None] < lengths[:, None]).astype(jnp.int32)
        return self.measure_packed(outputs, targets, segment_ids, told)

    def measure_packed(self, outputs: Array, targets: Array, segment_ids: Array, told: Any) -> Any:
        del told
        number, steps = self.num_targets, targets.shape[1]
        outputs = outputs.reshape(*outputs.shape[:2], self.horizon, number, len(self.quantiles))
        levels, scales, is_known, units = (targets[..., i * number : (i + 1) * number] for i in range(4))
        behind = [(0, 0), (0, self.horizon)]

        def ahead(values: Array) -> Array:
            """The values of the next steps: (batch, time, horizon, ..)."""
            padded = jnp.pad(values, behind + [(0, 0)] * (values.ndim - 2))
            return padded[:, np.arange(steps)[:, None] + np.arange(1, self.horizon + 1)]

        is_same = (ahead(segment_ids) == segment_ids[..., None]) & (segment_ids > 0)[..., None]
        counts = ahead(is_known) * (is_same * targets[..., -1:])[..., None]  # (batch, time, horizon, targets)
        wanted = ahead(levels) - levels[:, :, None]
        forecasts = outputs * scales[:, :, None, :, None]
        each = self.losses(wanted[..., None] - forecasts)
        loss = jnp.sum(counts * each), jnp.sum(counts)
        middle = self.quantiles.index(0.5)
        error = abs(wanted - lax.stop_gradient(forecasts[..., middle]))
        absolute = jnp.sum(counts * error * units[:, :, None])
        count = jnp.sum(counts * (units > 0)[:, :, None])
        return loss, MetricSums(*loss, ForecastTallies(absolute, count))

    def losses(self, errors: Any) -> Any:
        """Returns the loss of each forecast from (.., quantiles) errors: actual minus forecast."""
        if self.loss == "pinball":
            return pinball(errors, self.quantiles)
        return elementwise_loss(self.loss, errors, 0.0)[..., 0]

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        del told
        return {"loss": sums.mean_loss(), "mase": sums.rows.absolute / sums.rows.count}


def pinball(errors: Any, quantiles: tuple[float, ...]) -> Any:
    """Returns the mean over quantiles of twice the pinball loss: of the median alone the absolute error.

    Source: Koenker and Bassett, "Regression quantiles", 1978; twice, as in the M5 and in GluonTS's weighted quantile
    loss.

    Args:
      errors: (.., quantiles): actual minus forecast.
      quantiles: The levels.
    """
    levels = np.asarray(quantiles, np.float32)
    return 2 * (levels * errors).clip((levels - 1) * errors).mean(axis=-1)
