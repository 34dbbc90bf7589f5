"""Which sequences train, validate and test: shares of one file, or files of their own."""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.overlap import count_overlapping
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.split import draw_split
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import DataConfig, Fractions


class Part(NamedTuple):
    """Some of the sequences of a file.

    Attributes:
      sequences: The sequences.
      numbers: Where they stand in the file, counted from 0.
    """

    sequences: Sequences
    numbers: NDArray[np.int64]


class SequenceParts(NamedTuple):
    """The sequences of a run.

    Attributes:
      training: Those that train.
      validation: Those that say which epoch is best; None if there are none.
      test: Those that are measured at the end; None if there are none.
    """

    training: Part
    validation: Part | None
    test: Part | None

    def shared_rows(self) -> tuple[int, int]:
        """Counts the validation and the test sequences that also stand, value for value, in the training part."""
        seen = set(self.training.sequences.contents())
        validation, test = (
            0 if part is None else sum(content in seen for content in part.sequences.contents())
            for part in (self.validation, self.test)
        )
        return validation, test

    def overlapping(self) -> tuple[int, int]:
        """Counts the validation and the test sequences that overlap with training sequences."""
        training = self.training.sequences
        validation, test = (
            0 if part is None else count_overlapping(training, part.sequences) for part in (self.validation, self.test)
        )
        return validation, test


def shares_of(data: DataConfig) -> Fractions:
    """Returns the shares of the data's file; those of parts that have files of their own are 0.

    Where a file is given and no shares are asked for, the whole data trains.
    """
    shares, is_given = data.split_fractions, data.validation_data is not None or data.test_data is not None
    is_default = tuple(shares) == DataConfig().split_fractions
    if data.split == "given" or (is_given and is_default):
        return Fractions(1.0, 0.0, 0.0)
    validation = 0.0 if data.validation_data is not None else shares.validation
    test = 0.0 if data.test_data is not None else shares.test
    total = shares.training + validation + test
    return Fractions(shares.training / total, validation / total, test / total)


def split_sequences(
    config: Config,
    sequences: Sequences,
    *,
    validation: Sequences | None = None,
    test: Sequences | None = None,
    alike: Sequences | None = None,
) -> SequenceParts:
    """Draws the parts of a run.

    Args:
      config: Says how.
      sequences: What the data's file holds.
      validation: What the validation file holds, if there is one.
      test: What the test file holds, if there is one.
      alike: As many sequences, that tell which ones are the same; None for the sequences themselves.

    Raises:
      DataError: A part whose share is not 0 would be empty.
    """
    data = dataclasses.replace(config.data, split_fractions=shares_of(config.data))
    split = draw_split(dataclasses.replace(config, data=data), sequences if alike is None else alike)
    parts = [
        Part(given, np.arange(len(given))) if given is not None else Part(sequences.take(numbers), numbers)
        for given, numbers in zip((None, validation, test), split, strict=True)
    ]
    return SequenceParts(parts[0], *[part if len(part.sequences) else None for part in parts[1:]])
