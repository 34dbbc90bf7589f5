"""Forecasts to be drawn, without a model: levels at the origin, with noise, take the place of what one would say."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxrnn.data.sequences import IDS, TARGETS, TIMES, Field, Sequences
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation import forecasting
from jaxrnn.evaluation.forecasting import ForecastEvaluation, evaluate_forecasts
from jaxrnn.pages.predictions import TestedSequences
from jaxrnn.settings.config import Config


def make_series(
    values: list[np.ndarray], *, times: list[np.ndarray] | None = None, ids: list[str] | None = None
) -> Sequences:
    """Makes series of (steps,) or (steps, targets) values, with times and ids if they are given."""
    table = np.concatenate([np.reshape(one, (len(one), -1)) for one in values]).astype(np.float64)
    steps = {TARGETS: Field(tuple(f"y{number}" for number in range(table.shape[1])), table)}
    if times is not None:
        steps[TIMES] = Field(("when",), np.concatenate(times)[:, None])
    rows = {} if ids is None else {IDS: Field(("id",), np.array(ids, object)[:, None])}
    return Sequences.from_lengths([len(one) for one in values], steps, rows)


def make_forecasts(
    sequences: Sequences, *, horizon: int, seed: int = 0, **settings: Any
) -> tuple[ForecastEvaluation, SeriesEncoding]:
    """Measures forecasts that are the level at the origin, and quantiles around it that differ by a scale."""
    given = {"task": "forecast", "loss": "pinball", "split": "time", "horizon": horizon, **settings}
    config = Config().replace_flat(given)
    encoding = SeriesEncoding.fit(sequences, config)

    def stand_in(config, encoding, params, other, rows, origins):
        del config, params, other
        at = rows.offsets[:-1, None] + np.maximum(origins, 0)
        level, scale = (values[at][None, :, :, None, :, None] for values in (rows.series.levels, rows.series.scales))
        shape = (1, *origins.shape, encoding.horizon, level.shape[4], encoding.levels)
        noise = np.random.default_rng(seed).normal(size=shape)
        return level + scale * (noise + np.linspace(-1, 1, encoding.levels) if encoding.levels > 1 else noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecasting, "forecast_members", stand_in)
        return evaluate_forecasts(config, encoding, None, None, sequences), encoding


def as_tested(evaluation: ForecastEvaluation, encoding: SeriesEncoding) -> TestedSequences:
    """Returns forecasts as the report's sections take them."""
    config = SimpleNamespace(task=SimpleNamespace(task="forecast"))
    model: Any = SimpleNamespace(encoding=encoding, config=config, classes=(), num_members=1)
    numbers = np.arange(len(evaluation.sequences)) + 1
    return TestedSequences(model, evaluation.sequences, numbers, evaluation, (0, 0), (0, 0), 1)
