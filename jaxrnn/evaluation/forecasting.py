"""Forecasts of a trained model: from the ends of series on, and from earlier steps, to be measured."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded, Sizes
from jaxrnn.data.sequences import GROUPS, Sequences
from jaxrnn.data.series.gaps import fill_gaps
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.step_batches import StepBatch
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation, chunk_sequences
from jaxrnn.models.model_state import abstract_model, program_config, split_model
from jaxrnn.settings.config import Config
from jaxrnn.tasks import forecast_figures
from jaxrnn.tasks.bootstrap import mean_error_interval
from jaxrnn.tasks.forecast import Forecast
from jaxrnn.tasks.forecast_figures import Answers, rolling_origins
from jaxrnn.tasks.judgement import compare_with_baselines, describe_interval
from jaxrnn.tasks.task import sequence_task_of
from jaxrnn.tasks.verdict import MAIN_FIGURE, Verdict

MODEL = "model"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ForecastEvaluation(SequenceEvaluation):
    """Figures of forecasts, and what they are made from; `predicted` is (series, origins, horizon, targets, quantiles).

    Attributes:
      answers: What they are measured against.
      origins: The steps they start from, (series, origins), -1 where a series has no such.
      quantiles: The levels; 0.5 alone of forecasts of points.
      by_step: The figures of each step ahead, of the model and of the baselines: lists, the first step first.
      by_series: The figures of each series, (series,) each.
      baselines_by_series: Those of the baselines.
      sequences: The series as they were measured, gaps filled.
    """

    answers: Answers
    origins: NDArray[np.int64]
    quantiles: tuple[float, ...]
    by_step: dict[str, dict[str, list[float]]]
    by_series: dict[str, NDArray[np.float64]]
    baselines_by_series: dict[str, dict[str, NDArray[np.float64]]]
    sequences: Sequences


def evaluate_forecasts(
    config: Config,
    encoding: SeriesEncoding,
    params: Any,
    other: Any,
    sequences: Sequences,
    *,
    origins: int | None = None,
) -> ForecastEvaluation:
    """Measures a model on series whose last steps are known.

    Args:
      config: The run's configuration.
      encoding: What its training steps say.
      params: The parameters; of an ensemble with a leading axis of members.
      other: The rest of the model's state.
      sequences: The series.
      origins: How many steps of each series forecasts start from: the last one that has all steps ahead, and those
        before it; None for as many as the run tests.

    Raises:
      DataError: A series is too short, a column is missing, or a value is too large.
      ValueError: There are no series.
    """
    if not len(sequences):
        raise ValueError("rows: got no series; expected at least one")
    sequences = fill_gaps(sequences, encoding.frequency, config.columns.missing)
    rows = encoding.encode(sequences, config.task.task)
    assert rows.series is not None
    starts = rolling_origins(rows.lengths, encoding.horizon, origins or config.task.origins)
    outputs = forecast_members(config, encoding, params, other, rows, starts)
    task = _task_of(config, encoding)
    span = {"horizon": encoding.horizon, "season": encoding.season}
    values = encoding.restored(rows.series.levels)
    answers = forecast_figures.collect_answers(values, rows.series.is_known, rows.offsets, starts, **span)

    def measured(outputs: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, float]]:
        forecasts = np.sort(encoding.restored(outputs), axis=-1)
        figures = forecast_figures.mean_figures(forecasts, answers, task.quantiles)
        return forecasts, {"loss": _loss(task, outputs, rows, starts, answers), **figures}

    forecasts, figures = measured(outputs.mean(axis=0))
    each = [measured(member)[1] for member in outputs] if len(outputs) > 1 else [figures]
    plain = forecast_figures.baseline_forecasts(values, rows.offsets, starts, **span)
    against = {name: forecast_figures.mean_figures(given, answers, (0.5,)) for name, given in plain.items()}
    by_step = {MODEL: forecast_figures.figures_by_step(forecasts, answers, task.quantiles)}
    by_step |= {name: forecast_figures.figures_by_step(given, answers, (0.5,)) for name, given in plain.items()}
    by_series = forecast_figures.measure_forecasts(forecasts, answers, task.quantiles)
    each_plain = {name: forecast_figures.measure_forecasts(given, answers, (0.5,)) for name, given in plain.items()}
    groups = sequences.group_ids() if GROUPS in sequences.rows else np.arange(len(sequences))
    verdict = _judge(figures, by_series, against, groups)
    return ForecastEvaluation(
        figures, forecasts, rows, each, against, verdict,
        answers=answers, origins=starts, quantiles=task.quantiles, by_step=by_step, by_series=by_series,
        baselines_by_series=each_plain, sequences=sequences,
    )  # fmt: skip


def forecast_ahead(
    config: Config, encoding: SeriesEncoding, params: Any, other: Any, extended: Sequences
) -> NDArray[np.float64]:
    """Forecasts the last steps of series that were extended by as many.

    Returns:
      (series, horizon, targets, quantiles), in the data's units; quantiles never cross.
    """
    rows = encoding.encode(extended, config.task.task)
    starts = rolling_origins(rows.lengths, encoding.horizon, 1)
    outputs = forecast_members(config, encoding, params, other, rows, starts).mean(axis=0)[:, 0]
    return np.sort(encoding.restored(outputs), axis=-1)


def forecast_members(
    config: Config, encoding: SeriesEncoding, params: Any, other: Any, rows: Encoded, origins: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Forecasts with every member of an ensemble.

    Args:
      config: The run's configuration.
      encoding: What its training steps say.
      params: The parameters.
      other: The rest of the model's state.
      rows: Encoded series.
      origins: (series, origins): the steps to start from; anything is returned where it is -1.

    Returns:
      (members, series, origins, horizon, targets, quantiles), in the units of the transform.
    """
    assert rows.series is not None
    sizes, members, program = encoding.sizes, config.training.ensemble, program_config(config)
    found = np.zeros((members, *origins.shape, sizes.outputs))
    places = np.maximum(origins, 0)
    for indices, chunk in chunk_sequences(rows, sizes.read + config.model.hidden_size, members):
        chosen = np.zeros((len(chunk.lengths), origins.shape[1]), np.int32)
        chosen[: len(indices)] = places[indices]
        outputs = _run_at(program, sizes, params, other, chunk, chosen)
        found[:, indices] = np.asarray(outputs, np.float64)[:, : len(indices)]
    shape = (*found.shape[:3], encoding.horizon, len(encoding.targets.names), encoding.levels)
    at = rows.offsets[:-1, None] + places
    level, scale = (values[at][None, :, :, None, :, None] for values in (rows.series.levels, rows.series.scales))
    return level + scale * found.reshape(shape)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_at(config: Config, sizes: Sizes, params: Any, other: Any, batch: StepBatch, places: jax.Array) -> jax.Array:
    graphdef = split_model(abstract_model(config, sizes))[0]

    def use_one(params: Any, other: Any) -> jax.Array:
        model = nnx.merge(graphdef, params, other)
        model.eval()
        return model.at(batch.inputs, batch.categories, batch.statics, batch.lengths, jnp.asarray(places))

    return jax.vmap(use_one)(params, other) if config.training.ensemble > 1 else use_one(params, other)[None]


def _task_of(config: Config, encoding: SeriesEncoding) -> Forecast:
    task = sequence_task_of(config, encoding.sizes)
    assert isinstance(task, Forecast)
    return task


def _loss(
    task: Forecast, outputs: NDArray[np.float64], rows: Encoded, origins: NDArray[np.int64], answers: Answers
) -> float:
    """Returns what training minimises, of (series, origins, horizon, targets, quantiles), in the units it counts in."""
    assert rows.series is not None
    at = rows.offsets[:-1, None] + np.maximum(origins, 0)
    ahead = np.minimum(at[:, :, None] + np.arange(1, task.horizon + 1), len(rows.series.levels) - 1)
    units = rows.series.scales[at][:, :, None]
    counts = answers.is_known & (units > 0)
    errors = (rows.series.levels[ahead][..., None] - outputs) / np.where(units > 0, units, 1)[..., None]
    return float(task.losses(errors)[counts].mean()) if counts.any() else float("nan")


def _judge(
    figures: dict[str, float],
    by_series: dict[str, NDArray[np.float64]],
    against: dict[str, dict[str, float]],
    groups: NDArray[np.int64],
) -> Verdict:
    figure = MAIN_FIGURE["forecast"]
    each = by_series[figure]
    is_there = ~np.isnan(each)
    interval = mean_error_interval(each[is_there], groups[is_there])
    others = {name: found[figure] for name, found in against.items()}
    compared = compare_with_baselines(figures[figure], others, figure=figure)
    if not is_there.any():
        compared = {"better_than": [], "worse_than": [], "equal_to": [], "sentence": f"no series has a {figure}"}
    notes = [describe_interval(interval, figure=figure), compared["sentence"]]
    if not is_there.all():
        left_out = int((~is_there).sum())
        why = "do not change before they are forecast, or end in unknown values"
        notes.append(f"{left_out:,} series {why}: {figure} leaves them out")
    if "coverage" in figures:
        notes.append(f"{figures['coverage']:.1%} of the values lie between the outermost quantiles")
    return Verdict(interval, compared, notes)
