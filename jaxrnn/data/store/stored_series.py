"""Series to forecast as a prepared data set holds them: each once, with the number of its steps that each part has."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.data.sequences import Field, Sequences
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.gaps import fill_gaps
from jaxrnn.data.series.parts import Ends, cut_ends, require_ends, told_apart, without_gaps
from jaxrnn.data.series.series_encoding import horizon_of
from jaxrnn.data.split import PART_NAMES, part_of_rows
from jaxrnn.data.store.form import ENDS
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.config import Config

STORED = "series"  # what the shards of all series are called
REFIT = "refit"  # the part that trains where the validation steps do too


class SeriesCutter:
    """Fills the gaps of the series of several files, and says which of their steps are of which part.

    Args:
      config: How the files are read, and how series are split.
    """

    def __init__(self, config: Config):
        self._config = config
        self._frequency = Frequency("unknown")
        self._lengths: set[int] = set()
        self.schedule: Any = None  # what the first file says, or what is told of its times
        self.horizon = 0

    def cut(self, file: str, sequences: Sequences, part: str | None) -> tuple[Sequences, Ends]:
        """Takes the series of a file.

        Args:
          file: Its name, for messages.
          sequences: What it holds.
          part: The part that all of them are of; None to split them.

        Returns:
          The series without gaps, and how many of their steps each part has.

        Raises:
          DataError: Steps are missing, or are apart otherwise than those of the files before.
        """
        config = self._config
        if part is not None:
            filled = fill_gaps(sequences, self._frequency, config.columns.missing)
            is_of = np.full(len(filled), PART_NAMES.index(part))
            return filled, _whole_ends(filled, is_of)._replace(refit=np.zeros(len(filled), np.int64))
        filled, frequency = without_gaps(config, sequences)
        horizon = horizon_of(config, sequences)
        self._frequency = self._frequency.joined(frequency)
        if self.horizon not in (0, horizon):
            raise DataError(
                f"found a horizon of {horizon}; expected {self.horizon}, as the files before have; give --horizon"
            )
        self.horizon = horizon
        self.schedule = filled.schedule if self.schedule is None else self.schedule
        shares = shares_of(config.data)
        if config.data.split == "time":
            self._lengths |= set(filled.lengths.tolist())
            span = {"horizon": horizon, "origins": config.task.origins}
            return filled, cut_ends(filled.lengths, shares, **span)
        numbers = part_of_rows(told_apart(filled), fractions=shares, seed=config.split_seed)
        return filled, _whole_ends(filled, numbers)

    def require(self) -> None:
        """Complains where all series are too short for a part that is to be.

        Raises:
          DataError: They are.
        """
        if self._config.data.split == "time":
            span = {"horizon": self.horizon, "origins": self._config.task.origins}
            require_ends(np.array(sorted(self._lengths), np.int64), shares_of(self._config.data), **span)


def with_ends(sequences: Sequences, ends: Ends) -> Sequences:
    """Returns series with a field that says how many of their steps each part has."""
    field = Field(Ends._fields, np.stack(ends, axis=1).astype(np.int64))
    return Sequences(sequences.offsets, sequences.steps, {**sequences.rows, ENDS: field}, sequences.schedule)


def parts_of(stored: ShardedSequences) -> dict[str, ShardedSequences]:
    """Returns the parts of stored series by their names, "refit" among them.

    Raises:
      ValueError: A part is said to have more steps of a series than there are.
    """
    ends = stored.read_rows(ENDS)
    lengths = np.concatenate([np.zeros(0, np.int64), *stored.lengths()])
    if ends.shape[1] != len(Ends._fields) or (ends < 0).any() or (ends > lengths[:, None]).any():
        raise ValueError(ENDS)
    return {
        name: stored.cut(np.flatnonzero(steps), steps[steps > 0])
        for name, steps in zip(Ends._fields, ends.T, strict=True)
    }


def require_encoded(
    parts: Mapping[str, ShardedSequences], encoding: Encoding, num_values: int, between: Callable[[], None]
) -> None:
    """Encodes all series once: what is wrong with one is said before anything is trained.

    Args:
      parts: The parts by their names.
      encoding: That of the training part.
      num_values: Of a block, about.
      between: Called between two blocks; it may raise.

    Raises:
      DataError: A series is too short, or a value is beyond float32.
    """
    for name, part in parts.items():
        for block in part.blocks(num_values):
            between()
            if name in ("training", REFIT):
                encoding.encode_training(block, "forecast")
            else:
                encoding.encode(block, "forecast")


def _whole_ends(sequences: Sequences, part_of: np.ndarray) -> Ends:
    lengths = sequences.lengths
    training, validation, test = (np.where(part_of == number, lengths, 0) for number in range(len(PART_NAMES)))
    return Ends(training, np.maximum(training, validation), validation, test)
