"""Parts of series: their ends test and validate a forecast; and series with steps ahead, to be forecast."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequence_parts import Part, SequenceParts, shares_of, split_sequences
from jaxrnn.data.sequences import INPUTS, KNOWN, TARGETS, TIMES, Field, Schedule, Sequences, mark_of
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.gaps import fill_gaps
from jaxrnn.data.series.levels import require_steps
from jaxrnn.data.series.series_encoding import FIRST_ORIGINS, horizon_of
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import Fractions

# Steps that are left to train on: fewer have no origin that trains.
LEAST_STEPS = FIRST_ORIGINS + 2


def told_apart(sequences: Sequences) -> Sequences:
    """Returns series with what is forecast alone, which tells whether two are the same."""
    field = sequences.steps.get(TARGETS)
    return sequences if field is None else dataclasses.replace(sequences, steps={TARGETS: field})


class SeriesParts(SequenceParts):
    """Parts of series, which are the same where what is forecast is."""

    def shared_rows(self) -> tuple[int, int]:
        """Counts the validation and test series that also stand, value for value, in the training part."""
        parts = (None if part is None else part._replace(sequences=told_apart(part.sequences)) for part in self)
        return SequenceParts(*parts).shared_rows()  # type: ignore[arg-type]  # there is a training part


class SeriesEnds(SeriesParts):
    """Parts that are the same series, up to earlier and later steps: none is a copy of another."""

    def overlapping(self) -> tuple[int, int]:
        """Counts nothing: that the parts begin alike is what they are for."""
        return 0, 0


class Ends(NamedTuple):
    """How many steps of each series a part has, counted from the first; 0 of a series that is not in it: (series,).

    Attributes:
      training: The steps that train.
      refit: Those that train where the validation steps do too.
      validation: Those up to the last one that validates.
      test: Those up to the last one that tests.
    """

    training: NDArray[np.int64]
    refit: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def cut_ends(lengths: NDArray[np.int64], shares: Fractions, *, horizon: int, origins: int) -> Ends:
    """Holds the last steps of each series out, of those that are long enough.

    Args:
      lengths: The steps of each series.
      shares: Of a part that is to be, more than 0.
      horizon: Steps ahead.
      origins: From how many steps of each series the test part forecasts.
    """
    held_out = horizon + origins - 1
    is_tested = (lengths >= held_out + LEAST_STEPS) & (shares.test > 0)
    refit = lengths - np.where(is_tested, held_out, 0)
    is_validated = (refit >= horizon + LEAST_STEPS) & (shares.validation > 0)
    training = refit - np.where(is_validated, horizon, 0)
    return Ends(training, refit, np.where(is_validated, refit, 0), np.where(is_tested, lengths, 0))


def require_ends(lengths: NDArray[np.int64], shares: Fractions, *, horizon: int, origins: int) -> None:
    """Complains where all series are too short for a part that is to be; as `cut_ends`, also of distinct lengths.

    Raises:
      DataError: They are.
    """
    ends = cut_ends(lengths, shares, horizon=horizon, origins=origins)
    for name, chosen, before, held_out in (
        ("test", ends.test, lengths, horizon + origins - 1),
        ("validation", ends.validation, ends.refit, horizon),
    ):
        if getattr(shares, name) > 0 and not chosen.any():
            raise DataError(
                f"found series of at most {before.max(initial=0)} steps, whose last {held_out} are to be the {name}"
                f" part; expected one of {held_out + LEAST_STEPS} or more; give a smaller --horizon, or by"
                " --split-fractions a share of 0 for that part"
            )


def without_gaps(config: Config, sequences: Sequences) -> tuple[Sequences, Frequency]:
    """Returns series whose gaps are filled as the configuration says, and how far apart their steps are.

    Raises:
      DataError: Steps are missing and are not to be, or are irregularly apart.
    """
    frequency = Frequency.of(sequences)
    if frequency.unit == "business_day":  # a week of steps, which may be all that trains, looks like days
        schedule = Schedule(frequency="business_daily", horizon=horizon_of(config, sequences))
        sequences = dataclasses.replace(sequences, schedule=schedule)
    return fill_gaps(sequences, frequency, config.columns.missing), frequency


def split_parts(
    config: Config,
    sequences: Sequences,
    *,
    validation: Sequences | None = None,
    test: Sequences | None = None,
    whole: bool = False,
    refit: bool = False,
) -> SequenceParts:
    """Draws the parts of a run: of sequences, or the ends of series.

    Args:
      config: Says how.
      sequences: What the data's file holds.
      validation: What the validation file holds, if there is one.
      test: What the test file holds, if there is one.
      whole: All of the data trains.
      refit: Leave out the validation part, and train on its steps.

    Raises:
      DataError: A part whose share is not 0 would be empty.
    """
    if config.task.task == "forecast":
        sequences, frequency = without_gaps(config, sequences)
        missing = config.columns.missing
        validation, test = (
            None if part is None else fill_gaps(part, frequency, missing) for part in (validation, test)
        )
    if whole:
        given = (None if part is None else Part(part, np.arange(len(part))) for part in (validation, test))
        return SequenceParts(Part(sequences, np.arange(len(sequences))), *given)
    if config.data.split == "time":
        return _split_ends(config, sequences, validation, test, refit=refit)
    is_forecast = config.task.task == "forecast"
    alike = told_apart(sequences) if is_forecast else None
    parts = split_sequences(config, sequences, validation=validation, test=test, alike=alike)
    parts = SeriesParts(*parts) if is_forecast else parts
    if refit and validation is None and parts.validation is not None:
        both = np.sort(np.concatenate([parts.training.numbers, parts.validation.numbers]))
        parts = parts._replace(training=Part(sequences.take(both), both))
    return parts._replace(validation=None) if refit else parts


def _split_ends(
    config: Config, sequences: Sequences, validation: Sequences | None, test: Sequences | None, *, refit: bool
) -> SequenceParts:
    shares = shares_of(config.data)
    shares = shares._replace(
        validation=0.0 if refit or validation is not None else shares.validation,
        test=0.0 if test is not None else shares.test,
    )
    lengths, span = sequences.lengths, {"horizon": horizon_of(config, sequences), "origins": config.task.origins}
    require_ends(lengths, shares, **span)
    ends = cut_ends(lengths, shares, **span)

    def part(given: Sequences | None, steps: NDArray[np.int64]) -> Part | None:
        if given is not None:
            return Part(given, np.arange(len(given)))
        chosen = np.flatnonzero(steps)
        return Part(first_steps(sequences.take(chosen), steps[chosen]), chosen) if len(chosen) else None

    return SeriesEnds(
        Part(first_steps(sequences, ends.training), np.arange(len(sequences))),
        None if refit else part(validation, ends.validation),
        part(test, ends.test),
    )


def first_steps(sequences: Sequences, lengths: NDArray[np.int64]) -> Sequences:
    """Returns the first so many steps of each sequence.

    Args:
      sequences: The sequences.
      lengths: (sequences,), each at most as many as there are.
    """
    owner = sequences.owners()
    kept = np.flatnonzero(np.arange(sequences.num_steps) - sequences.offsets[owner] < lengths[owner])
    steps = {name: field.take(kept) for name, field in sequences.steps.items()}
    return dataclasses.replace(sequences, offsets=np.concatenate([[0], np.cumsum(lengths)]), steps=steps)


def extend_series(
    sequences: Sequences, frequency: Frequency, horizon: int, known: NDArray[np.float64] | None = None
) -> Sequences:
    """Adds the steps to be forecast behind each series; their times go on, their values are missing.

    Args:
      sequences: The series.
      frequency: How their times go on.
      horizon: How many steps are added.
      known: What is known ahead, (sequences * horizon, columns); needed where the series have such columns.

    Raises:
      DataError: A series is empty, its times cannot go on, or what is known ahead is not given.
    """
    count = len(require_steps(sequences.offsets))
    last = sequences.offsets[1:] - 1
    place = np.concatenate([np.arange(sequences.num_steps), np.repeat(last, horizon)])
    is_added = np.arange(place.size) >= sequences.num_steps
    owner = np.concatenate([sequences.owners(), np.repeat(np.arange(count), horizon)])
    order = np.argsort(owner, kind="stable")
    steps: dict[str, Field] = {}
    for name, field in sequences.steps.items():
        values = field.values[place]  # seen so far: the last one stays
        if name == TIMES:
            ids = sequences.ids()
            values[is_added, 0] = frequency.continue_each(
                sequences.steps[TIMES].values[:, 0], sequences.offsets, horizon, ids
            ).ravel()
        elif name == KNOWN:
            if known is None:
                marks = {mark_of(column) for column in field.names}
                named = ", ".join(escape(shorten(column)) for column in field.names if column not in marks)
                raise DataError(
                    f"found nothing known ahead of {named}; expected values of {horizon} steps behind each series;"
                    " name their file by --known-data"
                )
            values[is_added] = known
        elif name == TARGETS:
            values = values.astype(np.float64)
            values[is_added] = np.nan
        elif name == INPUTS and TARGETS not in sequences.steps:
            values = _unknown(values, field.names, is_added)
        steps[name] = Field(field.names, values[order], field.vocabulary)
    offsets = sequences.offsets + horizon * np.arange(count + 1)
    return dataclasses.replace(sequences, offsets=offsets, steps=steps)


def _unknown(values: NDArray[Any], names: tuple[str, ...], is_added: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns inputs that are forecast themselves, those of added steps missing: marked, where they have marks."""
    values = values.astype(np.float64)
    marks = {mark_of(name) for name in names}
    for column, name in enumerate(names):
        values[is_added, column] = 1.0 if name in marks else (0.0 if mark_of(name) in names else np.nan)
    return values
