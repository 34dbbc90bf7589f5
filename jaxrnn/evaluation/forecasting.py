"""Forecasts of a trained model: from the ends of series on, and from earlier steps, to be measured."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded, Sizes
from jaxrnn.data.sequences import GROUPS, IDS, Field, Sequences, encode
from jaxrnn.data.series.gaps import fill_gaps
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.step_batches import StepBatch
from jaxrnn.data.store.dataset import EXACT_VALUES
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.evaluation.sequence_evaluation import BLOCK_VALUES, SequenceEvaluation, chunk_sequences
from jaxrnn.models.model_state import abstract_model, program_config, split_model
from jaxrnn.settings.config import Config
from jaxrnn.tasks import forecast_figures
from jaxrnn.tasks.forecast import Forecast
from jaxrnn.tasks.forecast_figures import Answers, rolling_origins
from jaxrnn.tasks.judgement import compare_with_baselines, describe_interval
from jaxrnn.tasks.task import sequence_task_of
from jaxrnn.tasks.verdict import MAIN_FIGURE, Verdict, interval_of

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
      sequences: The series as they were measured, gaps filled; of very many without their steps.
    """

    answers: Answers
    origins: NDArray[np.int64]
    quantiles: tuple[float, ...]
    by_step: dict[str, dict[str, list[float]]]
    by_series: dict[str, NDArray[np.float64]]
    baselines_by_series: dict[str, dict[str, NDArray[np.float64]]]
    sequences: Sequences


class _Piece(NamedTuple):
    """Forecasts of some series, and what they are held against.

    Attributes:
      outputs: (members, series, origins, horizon, targets, quantiles), in the units of the transform.
      wanted: (series, origins, horizon, targets): what was to be forecast, in the units of the transform.
      units: (series, origins, targets): what errors are counted in.
      answers: What was to be forecast, in the data's units.
      origins: (series, origins).
      baselines: The forecasts without training.
      rows: The series, encoded.
      sequences: The series, gaps filled.
    """

    outputs: NDArray[np.float64]
    wanted: NDArray[np.float64]
    units: NDArray[np.float64]
    answers: Answers
    origins: NDArray[np.int64]
    baselines: dict[str, NDArray[np.float64]]
    rows: Encoded
    sequences: Sequences

    def without_steps(self) -> "_Piece":
        """Returns what the figures need: not what the network has read."""
        nothing: dict[str, Any] = {key: getattr(self.rows, key)[:0] for key in ("inputs", "categories", "statics")}
        rows = dataclasses.replace(self.rows, **nothing, targets=None, series=None)
        return self._replace(rows=rows, sequences=dataclasses.replace(self.sequences, steps={}))

    @classmethod
    def joined(cls, pieces: Sequence["_Piece"]) -> "_Piece":
        """Returns pieces without steps as one."""
        first = pieces[0]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([piece.rows.lengths for piece in pieces]))])
        rows: dict[str, Field] = {}
        for name in {IDS, GROUPS} & first.sequences.rows.keys():
            codes, texts = encode([text for piece in pieces for text in piece.sequences.rows[name].texts()])
            rows[name] = Field(first.sequences.rows[name].names, codes[:, None], (texts,))

        def all_of(key: str, axis: int = 0) -> Any:
            return np.concatenate([getattr(piece, key) for piece in pieces], axis=axis)

        return cls(
            all_of("outputs", axis=1),
            all_of("wanted"),
            all_of("units"),
            Answers(*map(np.concatenate, zip(*(piece.answers for piece in pieces), strict=True))),
            all_of("origins"),
            {name: np.concatenate([piece.baselines[name] for piece in pieces]) for name in first.baselines},
            dataclasses.replace(first.rows, offsets=offsets),
            Sequences(offsets, {}, rows),
        )


def evaluate_forecasts(
    config: Config,
    encoding: SeriesEncoding,
    params: Any,
    other: Any,
    sequences: Sequences | ShardedSequences,
    *,
    origins: int | None = None,
) -> ForecastEvaluation:
    """Measures a model on series whose last steps are known.

    Args:
      config: The run's configuration.
      encoding: What its training steps say.
      params: The parameters; of an ensemble with a leading axis of members.
      other: The rest of the model's state.
      sequences: The series. Of very many on the disk what the network reads is not held: then `rows` and `sequences`
        have no steps.
      origins: How many steps of each series forecasts start from: the last one that has all steps ahead, and those
        before it; None for as many as the run tests.

    Raises:
      DataError: A series is too short, a column is missing, or a value is too large.
      ValueError: There are no series.
    """
    if not len(sequences):
        raise ValueError("rows: got no series; expected at least one")
    given = (config, encoding, params, other, origins or config.task.origins)
    if isinstance(sequences, Sequences) or sequences.num_values <= EXACT_VALUES:
        piece = _forecast_piece(*given, sequences if isinstance(sequences, Sequences) else sequences.whole())
    else:
        blocks = sequences.blocks(BLOCK_VALUES)
        piece = _Piece.joined([_forecast_piece(*given, block).without_steps() for block in blocks])
    task, answers = _task_of(config, encoding), piece.answers

    def measured(outputs: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, float]]:
        forecasts = np.sort(encoding.restored(outputs), axis=-1)
        figures = forecast_figures.mean_figures(forecasts, answers, task.quantiles)
        return forecasts, {"loss": _loss(task, outputs, piece), **figures}

    forecasts, figures = measured(piece.outputs.mean(axis=0))
    each = [measured(member)[1] for member in piece.outputs] if len(piece.outputs) > 1 else [figures]
    plain = piece.baselines
    against = {name: forecast_figures.mean_figures(given, answers, (0.5,)) for name, given in plain.items()}
    by_step = {MODEL: forecast_figures.figures_by_step(forecasts, answers, task.quantiles)}
    by_step |= {name: forecast_figures.figures_by_step(given, answers, (0.5,)) for name, given in plain.items()}
    by_series = forecast_figures.measure_forecasts(forecasts, answers, task.quantiles)
    each_plain = {name: forecast_figures.measure_forecasts(given, answers, (0.5,)) for name, given in plain.items()}
    are_named = GROUPS in piece.sequences.rows
    groups = piece.sequences.group_ids() if are_named else np.arange(len(piece.sequences))
    verdict = _judge(figures, by_series, against, groups, are_named=are_named)
    return ForecastEvaluation(
        figures, forecasts, piece.rows, each, against, verdict,
        answers=answers, origins=piece.origins, quantiles=task.quantiles, by_step=by_step, by_series=by_series,
        baselines_by_series=each_plain, sequences=piece.sequences,
    )  # fmt: skip


def _forecast_piece(
    config: Config, encoding: SeriesEncoding, params: Any, other: Any, origins: int, sequences: Sequences
) -> _Piece:
    sequences = fill_gaps(sequences, encoding.frequency, config.columns.missing)
    rows = encoding.encode(sequences, config.task.task)
    assert rows.series is not None
    starts = rolling_origins(rows.lengths, encoding.horizon, origins)
    outputs = forecast_members(config, encoding, params, other, rows, starts)
    span = {"horizon": encoding.horizon, "season": encoding.season}
    values = encoding.restored(rows.series.levels)
    at = rows.offsets[:-1, None] + np.maximum(starts, 0)
    ahead = np.minimum(at[:, :, None] + np.arange(1, encoding.horizon + 1), len(values) - 1)
    return _Piece(
        outputs,
        rows.series.levels[ahead],
        rows.series.scales[at],
        forecast_figures.collect_answers(values, rows.series.is_known, rows.offsets, starts, **span),
        starts,
        forecast_figures.baseline_forecasts(values, rows.offsets, starts, **span),
        rows,
        sequences,
    )


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


def _loss(task: Forecast, outputs: NDArray[np.float64], piece: _Piece) -> float:
    """Returns what training minimises, of (series, origins, horizon, targets, quantiles), in the units it counts in."""
    units = piece.units[:, :, None]
    counts = piece.answers.is_known & (units > 0)
    errors = (piece.wanted[..., None] - outputs) / np.where(units > 0, units, 1)[..., None]
    return float(task.losses(errors)[counts].mean()) if counts.any() else float("nan")


def _judge(
    figures: dict[str, float],
    by_series: dict[str, NDArray[np.float64]],
    against: dict[str, dict[str, float]],
    groups: NDArray[np.int64],
    *,
    are_named: bool,
) -> Verdict:
    figure = MAIN_FIGURE["forecast"]
    each = by_series[figure]
    is_there = ~np.isnan(each)
    interval = interval_of(each[is_there], groups[is_there], are_named=are_named)
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
