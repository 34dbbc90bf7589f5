"""Forecasts of an exported model: what `SeriesEncoding`, `read_ahead` and `forecast_ahead` compute, in one program."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.series.ahead import Ahead
from jaxrnn.data.series.series_encoding import AGE_UNIT, MAX_CHANGE, RECENT_STEPS, SeriesEncoding
from jaxrnn.interop.exporting import calendar_program, network, signature
from jaxrnn.interop.exporting.array_ops import Member
from jaxrnn.models.forecast_model import LAG_UNIT, MAX_LAG


class Levels(NamedTuple):
    """Values of series, (batch, time, targets) each; as `data.series.levels.Levels`.

    Attributes:
      values: The value, or where it is missing the last one before; before the first one, that one.
      is_known: Whether it is there.
      changes: What it has changed by since the step before; 0 at the first.
      units: The units of a forecast from each step.
      first: The first value, (batch, 1, targets).
    """

    values: Any
    is_known: Any
    changes: Any
    units: Any
    first: Any


def forecast(ops: Any, encoding: SeriesEncoding, members: Sequence[Member], encoded: Mapping[str, Any]) -> Any:
    """Returns (batch, horizon, targets, quantiles) forecasts from the last step of each series, in the data's units.

    Args:
      ops: The operations of a format.
      encoding: The model's.
      members: Its members.
      encoded: Its inputs by name: the values as they are, the other numbers normalised.
    """
    lengths = encoded[signature.LENGTHS]
    ahead = encoding.sizes.ahead
    assert ahead is not None
    levels = _measure(ops, encoding, encoded[signature.VALUES], lengths)
    plain = _own_steps(ops, encoding, levels, encoded)
    known = _known(ops, encoding, encoded)
    if known is not None:
        plain = ops.concat([plain, ops.pick_steps(known, ops.positions(plain))])
    skipped = _of_other_steps(ops, ahead, levels, known)
    read = plain if skipped is None else ops.concat([plain, skipped])
    last = ops.maximum(lengths - np.int64(1), np.int64(0))
    each: list[Any] = []
    for member in members:
        hidden = ops.last_state(network.read_steps(ops, member, encoded, read), lengths, member)
        if skipped is not None:
            hidden = ops.concat([hidden, ops.pick_one(skipped, last)])
        each.append(ops.cast(ops.linear(hidden, member), np.float64))
    outputs = ops.reshape(network.mean(each), (encoding.horizon, len(encoding.targets.names), max(encoding.levels, 1)))
    level, unit = (
        ops.unsqueeze(ops.unsqueeze(ops.pick_one(values, last), 1), 3) for values in (levels.values, levels.units)
    )
    forecasts = level + unit * outputs
    return ops.sort(ops.exp(forecasts) if encoding.transform == "log" else forecasts)


def _measure(ops: Any, encoding: SeriesEncoding, values: Any, lengths: Any) -> Levels:
    """Finds levels and units; `measure_levels` and `SeriesEncoding` do so for flat rows."""
    place = ops.positions(values)
    within = ops.unsqueeze(place < ops.unsqueeze(lengths, 1), 2)
    is_known = within & ~ops.is_nan(values)
    if encoding.transform == "log":
        values = ops.log(values)
    filled = network.fill_forward(ops, values, is_known)
    before = ops.pick_steps(filled, ops.maximum(place - np.int64(1), np.int64(0)))
    changes = filled - before
    first = ops.pick_steps(filled, np.zeros((1, 1), np.int64))
    numbers = ops.maximum(ops.cumsum(ops.cast(is_known, np.float64)) - 1.0, np.float64(0))
    if encoding.scaling == "series":
        scales = ops.cumsum(abs(changes)) / ops.maximum(numbers, np.float64(1))
        guessed = abs(filled) * np.array(encoding.first_scales)
        units = ops.where(numbers > np.float64(0), scales, guessed)
    else:
        units = ops.expand_like(
            np.array(encoding.global_scales) if encoding.scaling == "global" else np.ones(1), filled
        )
    return Levels(filled, is_known, changes, units, first)


def _own_steps(ops: Any, encoding: SeriesEncoding, levels: Levels, encoded: Mapping[str, Any]) -> Any:
    """Returns what each step reads of itself and of those before, without what is known ahead: float32."""
    values, place = levels.values, ops.positions(levels.values)
    parts = []
    for changes in (levels.changes, *(_slope(ops, values, most) for most in (None, RECENT_STEPS))):
        read = _divide(ops, changes, levels.units)
        if encoding.scaling == "series":
            read = ops.minimum(ops.maximum(read, np.float64(-MAX_CHANGE)), np.float64(MAX_CHANGE))
        parts.append(read)
    if encoding.scaling != "series":
        parts.append((values - encoding.targets.offsets) / encoding.targets.scales)
    age = ops.log(ops.cast(place, np.float64) + 1.0) / AGE_UNIT
    parts.append(ops.expand_like(ops.unsqueeze(age, 2), ops.columns(values, 0, 1)))
    if encoding.is_marked:
        parts.append(ops.cast(~levels.is_known, np.float64))
    own = [ops.cast(part, np.float32) for part in parts]
    return ops.concat([*own, encoded[signature.INPUTS]] if signature.INPUTS in encoded else own)


def _slope(ops: Any, values: Any, most: int | None) -> Any:
    """Returns the mean change of a step over so many steps before each, or over all."""
    back = ops.positions(values)
    if most is not None:
        back = ops.minimum(back, np.int64(most))
    before = ops.pick_steps(values, ops.positions(values) - back)
    return (values - before) / ops.cast(ops.unsqueeze(ops.maximum(back, np.int64(1)), 2), np.float64)


def _known(ops: Any, encoding: SeriesEncoding, encoded: Mapping[str, Any]) -> Any:
    """Returns what is known ahead at every step and at those behind the last: float32; None without any."""
    parts = [encoded[signature.KNOWN]] if signature.KNOWN in encoded else []
    if encoding.calendar:
        parts.append(calendar_program.calendar(ops, encoded[signature.TIMES], encoding.calendar))
    return ops.concat(parts) if parts else None


def _of_other_steps(ops: Any, ahead: Ahead, levels: Levels, known: Any) -> Any:
    """Returns what each step reads of others, as `read_ahead` does; None without any.

    Levels are rounded to float32 before they are subtracted, as they are where a model is trained.
    """
    place = ops.positions(levels.values)
    parts = []
    if known is not None:
        parts += [ops.pick_steps(known, place + np.int64(step)) for step in range(1, ahead.horizon + 1)]
    if ahead.lags:
        since_first = ops.cast(levels.values - levels.first, np.float32)
        factors = ops.cast(_divide(ops, ops.expand_like(np.float64(1), levels.units), levels.units), np.float32)
        for offset in ahead.offsets:
            before = ops.pick_steps(since_first, ops.maximum(place + np.int64(offset), np.int64(0)))
            is_there = ops.unsqueeze(place + np.int64(offset) >= np.int64(0), 2)
            change = ops.where(is_there, before - since_first, np.float32(0)) * factors
            bounded = ops.minimum(ops.maximum(change, np.float32(-MAX_LAG)), np.float32(MAX_LAG))
            parts.append(bounded / np.float32(LAG_UNIT))
    return ops.concat(parts) if parts else None


def _divide(ops: Any, values: Any, by: Any) -> Any:
    """Divides; 0 where the divisor is 0."""
    moves = by > np.float64(0)
    return ops.where(moves, values, np.float64(0)) / ops.where(moves, by, np.float64(1))
