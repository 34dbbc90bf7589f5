"""What is measured of training series: all that their encoding is made from, but for the settings of a run."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.columns import CollectedColumns, ColumnMoments, as_moments, moments_of
from jaxrnn.data.sequences import INPUTS, KNOWN, STATICS, TARGETS, Field, Sequences, mark_of
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.levels import Levels, measure_levels
from jaxrnn.data.statistics import CollectedCategories, Statistics, count_categories
from jaxrnn.foundation.errors import DataError


@dataclasses.dataclass(frozen=True)
class SeriesStatistics:
    """What `jaxrnn.data.series.series_encoding.SeriesEncoding` needs to know of training series.

    Attributes:
      columns: What is measured of the columns that any task reads; the targets are the levels, in the units of the
        transform, their medians and means those of the values that are known.
      known: The numbers that are known ahead.
      frequency: How far apart the steps are.
      longest: The steps of the longest series.
      global_scales: The mean change of a step over all series, of each target.
      first_scales: The usual change of a step against the size of the values.
    """

    columns: Statistics
    known: tuple[ColumnMoments, ...]
    frequency: Frequency
    longest: int
    global_scales: tuple[float, ...]
    first_scales: tuple[float, ...]

    @classmethod
    def of(cls, training: Sequences, transform: str) -> "SeriesStatistics":
        """Measures series.

        Args:
          training: The training series.
          transform: "none" or "log".

        Raises:
          DataError: There is nothing to forecast, or values do not go with the transform.
        """
        sizes = _Sizes()
        levels = sizes.add(training, transform)
        has_inputs = TARGETS in training.steps
        return sizes.finish(
            Statistics(
                inputs=moments_of(training.steps.get(INPUTS) if has_inputs else None),
                statics=moments_of(training.rows.get(STATICS)),
                targets=moments_of(Field(sizes.names, levels.values)),
                categories=tuple(count_categories(training)),
            ),
            known=moments_of(training.steps.get(KNOWN)),
            frequency=Frequency.of(training),
        )

    @classmethod
    def of_blocks(cls, blocks: Iterable[Sequences], transform: str) -> "SeriesStatistics":
        """Measures series that come in pieces; of all of them it holds the values to forecast alone.

        Args:
          blocks: The training series; columns and vocabularies of all blocks are the same, and so is their frequency.
          transform: "none" or "log".

        Raises:
          DataError: As `of`, or two blocks have different frequencies.
        """
        inputs, statics, known, targets = (CollectedColumns() for _ in range(4))
        categories, sizes, frequency = CollectedCategories(), _Sizes(), Frequency("unknown")
        for block in blocks:
            levels = sizes.add(block, transform)
            inputs.add(block.steps.get(INPUTS) if TARGETS in block.steps else None)
            statics.add(block.rows.get(STATICS))
            known.add(block.steps.get(KNOWN))
            targets.add(Field(sizes.names, levels.values))
            categories.add(block)
            frequency = frequency.joined(Frequency.of(block))
        return sizes.finish(
            Statistics(inputs.moments(), statics.moments(), targets.moments(), categories.counted()),
            known=known.moments(),
            frequency=frequency,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return {
            "columns": self.columns.to_json(),
            "known": [column._asdict() for column in self.known],
            "frequency": self.frequency.to_json(),
            "longest": self.longest,
            "global_scales": list(self.global_scales),
            "first_scales": list(self.first_scales),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SeriesStatistics":
        """Returns what a prepared data set describes.

        Raises:
          ValueError, TypeError, KeyError: It does not.
        """
        columns = Statistics.from_json(content["columns"])
        scales = [as_scales(content[key], len(columns.targets)) for key in ("global_scales", "first_scales")]
        if type(content["longest"]) is not int or not 1 <= content["longest"] < 2**62 or not columns.targets:
            raise ValueError("longest")
        return cls(
            columns,
            tuple(as_moments(column) for column in content["known"]),
            Frequency.from_json(content["frequency"]),
            content["longest"],
            *scales,
        )


class _Collected(NamedTuple):
    """What is kept of some series: of each its last scale and the mean size of its values, (series, targets); and the
    values that are known of each target."""

    scales: NDArray[np.float64]
    sizes: NDArray[np.float64]
    known: list[NDArray[np.float64]]


class _Sizes:
    """How large series are, and how much they change."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._longest = 0
        self._pieces: list[_Collected] = []

    def add(self, sequences: Sequences, transform: str) -> Levels:
        """Takes series; returns their levels, in the units of the transform."""
        self.names, values = series_values(sequences)
        offsets, lengths = sequences.offsets, sequences.lengths
        levels = measure_levels(self.names, transform_values(self.names, values, transform), offsets)
        self._longest = max(self._longest, int(lengths.max(initial=0)))
        known = [levels.values[levels.is_known[:, i], i] for i in range(len(self.names))]
        sizes = np.add.reduceat(np.abs(levels.values), offsets[:-1]) / lengths[:, None]
        self._pieces.append(_Collected(levels.scales[offsets[1:] - 1], sizes, known))
        return levels

    def finish(self, columns: Statistics, **fields: Any) -> SeriesStatistics:
        """Returns what all of them measure.

        Args:
          columns: The columns, without medians and means.
          **fields: Further fields of the statistics.
        """
        scales, sizes = (np.concatenate([piece[place] for piece in self._pieces]) for place in range(2))
        moves = (scales > 0) & (sizes > 0)
        targets = range(len(self.names))
        known = [np.concatenate([piece.known[i] for piece in self._pieces]) for i in targets]
        return SeriesStatistics(
            dataclasses.replace(
                columns,
                means=tuple(float(values.mean()) for values in known),
                medians=tuple(float(np.median(values)) for values in known),
            ),
            longest=self._longest,
            global_scales=tuple(_mean(scales[moves[:, i], i]) for i in targets),
            first_scales=tuple(_mean(scales[moves[:, i], i] / sizes[moves[:, i], i]) for i in targets),
            **fields,
        )


def series_values(sequences: Sequences) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Returns the numbers to forecast and their names: the targets, or without any the inputs.

    Returns:
      ``(names, values)``: (steps, targets) float64, NaN where missing.
    """
    field = sequences.steps.get(TARGETS)
    if field is not None:
        return field.names, np.asarray(field.values, np.float64)
    field = sequences.steps.get(INPUTS)
    if field is None:
        raise DataError("found no number of a step; expected one to forecast; name columns by --target-columns")
    names = unmarked(field.names)
    values = np.array(field.values[:, [field.names.index(name) for name in names]], np.float64)
    for column, name in enumerate(names):
        if mark_of(name) in field.names:
            values[field.values[:, field.names.index(mark_of(name))] == 1, column] = np.nan
    return names, values


def unmarked(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of columns that are no marks of missing values."""
    marks = {mark_of(name) for name in names}
    return tuple(name for name in names if name not in marks)


def transform_values(names: tuple[str, ...], values: NDArray[Any], transform: str) -> NDArray[np.float64]:
    """Takes (steps, targets) values to the units in which they are forecast.

    Args:
      names: What each target is called.
      values: The values, NaN where missing.
      transform: "none" or "log".

    Raises:
      DataError: A value has no logarithm.
    """
    values = np.asarray(values, np.float64)
    if transform == "none":
        return values
    is_wrong = values <= 0
    if is_wrong.any():
        step, column = np.argwhere(is_wrong)[0]
        raise DataError(
            f"column {names[column]!r}: found {values[step, column]:g}; expected positive numbers"
            " with transform = log; give --transform=none"
        )
    return np.log(values)


def as_scales(content: Any, count: int) -> tuple[float, ...]:
    """Returns the scales of so many targets that were written down.

    Raises:
      ValueError, TypeError: They are none.
    """
    values = tuple(map(float, content))
    if len(values) != count or not all(0 < value < np.inf for value in values):
        raise ValueError("scales")
    return values


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 1.0
