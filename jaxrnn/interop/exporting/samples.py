"""Random sequences in the units of a model's data, and the same as an exported model takes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.scaling import Scaling, columns_of
from jaxrnn.data.sequences import CATEGORIES, INPUTS, KNOWN, STATICS, TARGETS, TIMES, Field, Sequences, mark_of
from jaxrnn.data.series.series_encoding import SeriesEncoding, series_values
from jaxrnn.data.statistics import category_columns
from jaxrnn.evaluation.forecasting import forecast_ahead
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.interop.exporting import signature
from jaxrnn.interop.exporting.signature import signature_of, unmarked

UNSEEN = "a text that training has not seen"
_SHARE_MISSING = 0.2
_LAST_MICROSECOND = 4 * 10**15  # in the year 2096
_RELATIVE = 1e-300


def draw_rows(model: TrainedModel, lengths: NDArray[np.int64], generator: np.random.Generator) -> Ragged | Sequences:
    """Draws random rows or sequences that a model can read.

    Args:
      model: The model.
      lengths: The steps of each. Series to forecast get as many again as the horizon, of which values are missing.
      generator: Where they are drawn from.
    """
    encoding = model.encoding
    if encoding is None:
        values = generator.normal(size=int(lengths.sum())) * model.normalizer.scale + model.normalizer.offset
        return Ragged.from_lengths(values, lengths)
    series = encoding if isinstance(encoding, SeriesEncoding) else None
    whole = lengths + (0 if series is None else series.horizon)
    offsets = np.concatenate([[0], np.cumsum(whole)])
    steps: dict[str, Field] = {}
    if encoding.inputs.names:
        steps[INPUTS] = _draw_columns(encoding.inputs, int(offsets[-1]), generator)
    if series is not None:
        values = _draw_series(model, series, whole, generator)
        values[np.arange(len(values)) >= np.repeat(offsets[:-1] + lengths, whole)] = np.nan
        steps[TARGETS] = Field(series.targets.names, values)
        if series.known.names:
            steps[KNOWN] = _draw_columns(series.known, len(values), generator)
        if series.calendar:
            times = generator.integers(-_LAST_MICROSECOND, _LAST_MICROSECOND, len(values)).astype("M8[us]")
            steps[TIMES] = Field(("time",), times[:, None])
    if encoding.categories:
        words = tuple((*texts, UNSEEN) for _, texts in encoding.categories)
        codes = np.stack([generator.integers(len(texts), size=int(offsets[-1])) for texts in words], axis=1)
        steps[CATEGORIES] = Field(tuple(name for name, _ in encoding.categories), codes.astype(np.int32), words)
    rows = {}
    if encoding.statics.names:
        rows[STATICS] = _draw_columns(encoding.statics, len(lengths), generator)
    return Sequences(offsets, steps, rows)


def feeds_of(model: TrainedModel, rows: Ragged | Sequences, *, codes: bool = False) -> dict[str, NDArray[Any]]:
    """Returns rows or sequences as the inputs of an exported model.

    Args:
      model: The model.
      rows: As `draw_rows` draws them; or as `jaxrnn.read` reads them, but for series to forecast, which also have the
        steps ahead.
      codes: Whether categories are codes; else they are texts.
    """
    encoding, offsets = model.encoding, np.asarray(rows.offsets)
    series = encoding if isinstance(encoding, SeriesEncoding) else None
    horizon = 0 if series is None else series.horizon
    whole = np.diff(offsets)
    feeds: dict[str, NDArray[Any]] = {signature.LENGTHS: whole - horizon}
    if encoding is None:
        assert isinstance(rows, Ragged)
        return feeds | {signature.VALUES: _pad(rows.values, offsets, whole)}
    assert isinstance(rows, Sequences)
    count = rows.num_steps
    if series is not None:
        held, values = series_values(rows)
        flat = columns_of(Field(held, values), series.targets.names, count, "target")
        feeds[signature.VALUES] = _pad(flat, offsets, whole - horizon)
        if series.known.names:
            feeds[signature.KNOWN] = _pad(_with_nan(rows.steps[KNOWN], series.known), offsets, whole)
        if series.calendar:
            feeds[signature.TIMES] = _pad(rows.steps[TIMES].values[:, 0].astype(np.int64), offsets, whole)
    if encoding.inputs.names:
        feeds[signature.INPUTS] = _pad(_with_nan(rows.steps[INPUTS], encoding.inputs), offsets, whole - horizon)
    if encoding.categories:
        feeds[signature.CATEGORIES] = _pad(_categories(model, rows, codes=codes), offsets, whole - horizon)
    if encoding.statics.names:
        feeds[signature.STATICS] = np.asarray(
            columns_of(rows.rows[STATICS], encoding.statics.names, len(rows), "static"), np.float64
        )
    return {port.name: feeds[port.name] for port in signature_of(model, has_texts=not codes).inputs}


def predictions_of(model: TrainedModel, rows: Ragged | Sequences) -> NDArray[np.float64]:
    """Returns what the model itself predicts, as the first output of an exported one; of tags the steps in a row."""
    if isinstance(model.encoding, SeriesEncoding):
        assert isinstance(rows, Sequences)
        return forecast_ahead(model.config, model.encoding, model.params, model.other, rows)
    if model.classes:
        found = model.predict_proba(rows)
        return np.concatenate(found) if model.config.task.task == "tag" else np.asarray(found)
    return np.asarray(model.predict(rows)).reshape(len(rows), -1)


def greatest_difference(
    model: TrainedModel, expected: NDArray[np.float64], found: NDArray[Any], lengths: NDArray[np.int64]
) -> float:
    """Returns how far outputs are from the model's own predictions, at most.

    Probabilities are compared as they are. Numbers are divided by their size, or by the standard deviation of their
    target where that is more.

    Args:
      model: The model.
      expected: As `predictions_of` returns them.
      found: The exported model's first output.
      lengths: The steps of each sequence.
    """
    if model.config.task.task == "tag":
        found = np.concatenate([row[:length] for row, length in zip(found, lengths, strict=True)])
    if found.shape != expected.shape:
        raise ValueError(f"found outputs of shape {found.shape}; expected {expected.shape}")
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    difference = np.abs(found - expected)
    if not model.classes:
        scales = np.array([model.normalizer.scale]) if model.encoding is None else model.encoding.targets.scales
        if expected.ndim == 4:  # forecasts: targets are not the last axis
            is_log = isinstance(model.encoding, SeriesEncoding) and model.encoding.transform == "log"
            scales = np.array([_RELATIVE]) if is_log else scales[:, None]
        difference = difference / np.maximum(np.abs(expected), scales)
    return float(np.nanmax(difference, initial=0.0))


def _draw_columns(scaling: Scaling, count: int, generator: np.random.Generator) -> Field:
    """Draws numbers of each column around its mean; where some are marked as missing, these are 0."""
    values = generator.normal(size=(count, len(scaling.names))) * scaling.scales + scaling.offsets
    for name in unmarked(scaling.names):
        mark = mark_of(name)
        if mark in scaling.names:
            is_missing = generator.random(count) < _SHARE_MISSING
            values[is_missing, scaling.names.index(name)] = 0
            values[:, scaling.names.index(mark)] = is_missing
    return Field(scaling.names, values)


def _draw_series(
    model: TrainedModel, series: SeriesEncoding, lengths: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draws random walks from the mean of each target, positive ones for logarithms; some values may be missing."""
    targets = series.targets
    units = np.array(series.global_scales)
    walks = [np.cumsum(generator.normal(size=(length, len(units))) * units, axis=0) for length in lengths]
    values = np.concatenate(walks) + targets.offsets
    if series.transform == "log":
        values = np.exp(values)
    if model.config.columns.missing == "mask":
        is_missing = generator.random(values.shape) < _SHARE_MISSING
        is_missing[np.cumsum(lengths) - lengths] = False  # a series must have a value
        values[is_missing] = np.nan
    return values


def _with_nan(field: Field, scaling: Scaling) -> NDArray[np.float64]:
    """Returns the columns of a field without marks: NaN where these say that a value is missing."""
    values = np.array(columns_of(field, scaling.names, len(field.values), "input"), np.float64)
    plain = unmarked(scaling.names)
    for name in plain:
        if mark_of(name) in scaling.names:
            values[values[:, scaling.names.index(mark_of(name))] == 1, scaling.names.index(name)] = np.nan
    return values[:, [scaling.names.index(name) for name in plain]]


def _categories(model: TrainedModel, rows: Sequences, *, codes: bool) -> NDArray[Any]:
    assert model.encoding is not None
    held = {name: (field, column, owner) for name, field, column, owner in category_columns(rows)}
    found = []
    for name, texts in model.encoding.categories:
        field, column, owner = held[name]
        own = np.array(field.vocabulary[column], object)[field.values[:, column]]
        own = own if owner is None else own[owner]
        numbers = {text: number for number, text in enumerate(texts, 1)}
        found.append(np.array([numbers.get(text, 0) for text in own], np.int64) if codes else own)
    return np.stack(found, axis=1)


def _pad(values: NDArray[Any], offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Returns the first steps of each row side by side: (rows, most steps, ..); what fills them up is 0, or no text."""
    blank: Any = "" if values.dtype == object else 0
    padded = np.full((len(lengths), int(lengths.max(initial=0)), *values.shape[1:]), blank, values.dtype)
    for row, (start, length) in enumerate(zip(offsets[:-1], lengths, strict=True)):
        padded[row, :length] = values[start : start + length]
    return padded
