"""Between series as they were read and what a network takes to forecast them: every step an origin, in one pass."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded, Encoding, Sizes
from jaxrnn.data.scaling import Scaling, as_texts, columns_of
from jaxrnn.data.sequences import KNOWN, TIMES, Field, Sequences, ids_of
from jaxrnn.data.series.ahead import Ahead, Series
from jaxrnn.data.series.calendar import calendar_features
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.levels import Levels, cumulate, mean_changes, measure_levels, naive_errors, power_of_two_below
from jaxrnn.data.series.series_statistics import SeriesStatistics, as_scales, series_values, transform_values
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config
from jaxrnn.settings.limits import MAX_COUNT
from jaxrnn.settings.task_config import CALENDAR, SCALINGS, TRANSFORMS

MAX_CHANGE = 5.0  # changes of more scales are read as so many
RECENT_STEPS = 4
FIRST_ORIGINS = 3  # too early to learn to forecast from
AGE_UNIT = 3.0


@dataclasses.dataclass(frozen=True)
class SeriesEncoding(Encoding):
    """What the training series say, besides what other tasks know of columns.

    Attributes:
      horizon: Steps ahead.
      season: Steps of a season; 1 for none.
      known: The numbers that are known ahead.
      calendar: What is read off the times.
      frequency: How far apart the steps are.
      scaling: "series", "global" or "none".
      transform: "none" or "log".
      is_marked: Whether missing values are marked.
      levels: How many numbers the head gives for a step ahead of a target: its quantiles.
      global_scales: The mean change of a step over all series, of each target.
      first_scales: The usual change of a step against the size of the values: the units at a first step.
    """

    horizon: int = 1
    season: int = 1
    known: Scaling = dataclasses.field(default_factory=Scaling)
    calendar: tuple[str, ...] = ()
    frequency: Frequency = dataclasses.field(default_factory=Frequency)
    scaling: str = "series"
    transform: str = "none"
    is_marked: bool = False
    levels: int = 1
    global_scales: tuple[float, ...] = ()
    first_scales: tuple[float, ...] = ()

    @classmethod
    def fit(cls, training: Sequences, config: Config) -> "SeriesEncoding":
        """Fits everything on the training steps.

        Raises:
          DataError: There is nothing to forecast, its horizon is not said, or all series are too short to learn from.
        """
        _require_length(int(training.lengths.max(initial=0)))
        horizon = horizon_of(config, training)
        return cls.of_series(SeriesStatistics.of(training, config.task.transform), config, horizon=horizon)

    @classmethod
    def of_series(cls, training: SeriesStatistics, config: Config, *, horizon: int | None = None) -> "SeriesEncoding":
        """Makes the encoding of what was measured of the training steps.

        Args:
          training: What was measured.
          config: Says how series are read and forecast.
          horizon: Steps ahead; None for what is configured.

        Raises:
          DataError: All series are too short to learn from, or a column varies by less, or more, than float32 holds.
        """
        _require_length(training.longest)
        task, columns, limit = config.task, training.columns, config.columns.max_tokens
        return cls(
            inputs=Scaling.of(columns.inputs, config),
            statics=Scaling.of(columns.statics, config),
            categories=tuple((counted.name, counted.most_frequent(limit)) for counted in columns.categories),
            targets=Scaling.of(columns.targets, config),
            target_means=columns.means,
            target_medians=columns.medians,
            known=Scaling.of(training.known, config),
            calendar=task.calendar_names,
            horizon=horizon or task.horizon,
            season=season_of(config, training.frequency),
            frequency=training.frequency,
            scaling=task.scaling,
            transform=task.transform,
            is_marked=config.columns.missing == "mask",
            levels=len(task.quantile_levels) if config.training.loss == "pinball" else 1,
            global_scales=training.global_scales,
            first_scales=training.first_scales,
        )

    @property
    def reads_times(self) -> bool:
        return bool(self.calendar)

    @property
    def step_width(self) -> int:
        return self.sizes.inputs + len(self.categories) + 4 * len(self.targets.names) + 1  # four of a target

    @property
    def sizes(self) -> Sizes:
        """What the network's shapes depend on."""
        targets, known = len(self.targets.names), len(self.known.names) + 2 * len(self.calendar)
        lags = targets if self.season > 1 else 0
        own = targets * (3 + (self.scaling != "series") + self.is_marked) + 1 + len(self.inputs.names)
        return Sizes(
            inputs=own + known + 2 * lags,
            categories=super().sizes.categories,
            statics=len(self.statics.names),
            outputs=targets * self.horizon * self.levels,
            ahead=Ahead(self.horizon, known, lags, self.season),
        )

    def encode_training(self, sequences: Sequences, task: str, *, every: bool = False) -> Encoded:
        """Encodes series each step of which is an origin, but the first few."""
        del task, every
        return self._encode(sequences, answers=0)

    def encode(self, sequences: Sequences, task: str, *, with_targets: bool = True, every: bool = False) -> Encoded:
        """Encodes series whose last `horizon` steps are forecast from the one before them.

        Args:
          sequences: As they were read; to look ahead, with steps behind their last ones, as `extend_series` adds them.
          task: "forecast".
          with_targets: Of no account: the values of the last steps may be missing.
          every: Of no account.

        Raises:
          DataError: A series has no step before, a column is missing, or a value is beyond float32.
        """
        del task, with_targets
        short = np.flatnonzero(sequences.lengths <= self.horizon)
        if len(short):
            raise DataError(
                f"series {escape(shorten(str(ids_of(sequences)[short[0]])))!r}: found"
                f" {sequences.lengths[short[0]]} steps; expected more than the horizon of"
                f" {self.horizon}: its last {self.horizon} are forecast from those before"
            )
        return self._encode(sequences, answers=self.horizon)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        own = {"known": self.known.to_json(), "frequency": self.frequency.to_json()}
        return super().to_json() | own

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SeriesEncoding":
        """Returns the encoding that a checkpoint describes.

        Raises:
          ValueError, TypeError, KeyError: It is none.
        """
        base = Encoding.from_json(content)
        fields: dict[str, Any] = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        counts = {key: content[key] for key in ("horizon", "season", "levels")}
        if any(type(count) is not int or not 1 <= count <= MAX_COUNT for count in counts.values()):
            raise ValueError("horizon")
        keys, count = ("global_scales", "first_scales"), len(base.targets.names)
        numbers: dict[str, Any] = {key: as_scales(content[key], count) for key in keys}
        calendar = as_texts(content["calendar"])
        is_known = content["scaling"] in SCALINGS and content["transform"] in TRANSFORMS
        if not is_known or not set(calendar) <= set(CALENDAR) or type(content["is_marked"]) is not bool:
            raise ValueError("scaling")
        return cls(
            **fields,
            **counts,
            **numbers,
            calendar=calendar,
            known=Scaling.from_json(content["known"]),
            frequency=Frequency.from_json(content["frequency"]),
            scaling=content["scaling"],
            transform=content["transform"],
            is_marked=content["is_marked"],
        )

    def levels_of(self, sequences: Sequences) -> Levels:
        """Returns the levels of the targets, in the units of the transform."""
        names = self.targets.names
        held, values = series_values(sequences)
        values = columns_of(Field(held, values), names, sequences.num_steps, "target")
        return measure_levels(names, self.transformed(values), sequences.offsets)

    def transformed(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Takes (steps, targets) values to the units in which they are forecast."""
        return transform_values(self.targets.names, values, self.transform)

    def restored(self, forecasts: NDArray[Any]) -> NDArray[np.float64]:
        """Takes forecasts back to the data's units."""
        return np.exp(forecasts) if self.transform == "log" else np.asarray(forecasts, np.float64)

    def _encode(self, sequences: Sequences, *, answers: int) -> Encoded:
        offsets, owner = sequences.offsets, sequences.owners()
        levels = self.levels_of(sequences)
        units = self._units(levels, owner)
        place = np.arange(sequences.num_steps) - offsets[owner]
        origin = (sequences.lengths - answers - 1)[owner]  # the last step whose value is seen
        whole = self._encode_steps(sequences)
        limit = MAX_CHANGE if self.scaling == "series" else np.inf
        slopes = (mean_changes(levels.values, offsets, most) for most in (None, RECENT_STEPS))
        read = [_divide(changes, units).clip(-limit, limit) for changes in (levels.changes, *slopes)]
        if self.scaling != "series":
            read.append(self.targets.normalize(levels.values))
        read.append(np.log1p(place)[:, None] / AGE_UNIT)
        if self.is_marked:
            read.append(~levels.is_known)
        read += [whole.inputs, self._known(sequences)]
        # Errors are counted in the units of the series as a whole, which only the loss knows.
        loss_units = units[offsets[owner] + origin]
        since_first = levels.values - levels.first[owner]
        if self.season > 1:
            power = power_of_two_below(loss_units)
            read += [since_first / power, _divide(power, units)]
        moves = loss_units > 0
        # Before its first value a series has nothing to forecast from.
        has_value = (cumulate(levels.is_known.astype(np.float64), offsets) > 0).all(axis=1)
        is_origin = (place == origin if answers else place >= FIRST_ORIGINS) & has_value
        # MASE counts in other units: the error of the (seasonal) naive forecast over the steps that are seen.
        is_seen = place <= origin
        bounds = np.concatenate([[0], np.cumsum(sequences.lengths - answers)])
        naive = naive_errors(levels.values[is_seen], levels.is_known[is_seen], bounds, self.season)[owner]
        targets = [
            _divide(since_first, loss_units),
            _divide(units, loss_units),
            levels.is_known & moves,
            _divide(loss_units, naive),
        ]
        return Encoded(
            offsets,
            _as_float32(np.concatenate(read, axis=1)),
            whole.categories,
            whole.statics,
            _as_float32(np.concatenate([*targets, is_origin[:, None]], axis=1)),
            every=True,
            series=Series(levels.values, units, levels.is_known),
        )

    def _units(self, levels: Levels, owner: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the units of each step, which depend on no later one."""
        if self.scaling == "none":
            return np.ones_like(levels.scales)
        if self.scaling == "global":
            return np.tile(np.array(self.global_scales), (len(levels.scales), 1))
        with np.errstate(over="ignore"):  # of a forged description: what is no number is refused where it is encoded
            guessed = np.abs(levels.values) * np.array(self.first_scales)
        return np.where(levels.num_changes > 0, levels.scales, guessed)

    def _known(self, sequences: Sequences) -> NDArray[np.float64]:
        """Returns what is known ahead: columns, and what is read off the times."""
        names = self.known.names
        columns = columns_of(sequences.steps.get(KNOWN), names, sequences.num_steps, "known")
        held = self.known.normalize(columns)
        if not self.calendar:
            return held
        if TIMES not in sequences.steps:
            raise DataError(f"found no times; expected them with calendar = {','.join(self.calendar)}")
        return np.concatenate([held, calendar_features(sequences.steps[TIMES].values[:, 0], self.calendar)], axis=1)


def _require_length(longest: int) -> None:
    if longest < FIRST_ORIGINS + 2:
        raise DataError(
            f"found series of at most {longest} steps to train on; expected one of {FIRST_ORIGINS + 2} or more: the"
            f" first {FIRST_ORIGINS} are no origins, and a step ahead is to be known"
        )


def horizon_of(config: Config, sequences: Sequences) -> int:
    """Returns how many steps ahead are forecast: what is configured, or what the file says.

    Raises:
      UserError: Neither says it.
    """
    schedule = sequences.schedule
    found = config.task.horizon or (schedule.horizon if schedule is not None else None)
    if not found:
        raise UserError("--horizon: got none; expected the number of steps to forecast, such as --horizon=12")
    return found


def season_of(config: Config, frequency: Frequency) -> int:
    """Returns the steps of a season: what is configured, or the usual one; 1 for none."""
    return config.task.season or frequency.season


def _divide(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divides; 0 where the divisor is 0."""
    return np.divide(values, by, out=np.zeros(np.broadcast_shapes(values.shape, by.shape)), where=by > 0)


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if not np.isfinite(small).all():
        raise DataError("found changes beyond float32 in the units of their series; expected smaller ones")
    return small
