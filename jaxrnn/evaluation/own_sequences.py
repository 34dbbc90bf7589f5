"""The sequences that a model is evaluated on: a file's, or the test part of its run, found again by its checkpoint."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.sources import open_file
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.store.dataset import EXACT_VALUES, Dataset, is_dataset
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.data.tables.loading import load_hashed_sequences
from jaxrnn.evaluation.own_rows import described_data, open_own_dataset
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.messages import say

_NO_TEST_ROWS = "the run has no test rows: all of its data trains or validates; give a file with --data"


class OpenedSequences(NamedTuple):
    """Sequences to evaluate.

    Attributes:
      sequences: The sequences.
      numbers: Where they stand in their file, or in the test part of a prepared data set, counted from 0.
      shared: How many validation and test sequences stand in the training part too; None of a file that was named.
      overlapping: How many of them look like windows of training ones; 0 of a file that was named.
      path: The file's, or the prepared data set's.
    """

    sequences: Sequences | ShardedSequences
    numbers: NDArray[np.int64]
    shared: tuple[int, int] | None
    overlapping: tuple[int, int]
    path: str


def open_sequences(model: TrainedModel, path: str | None, given: Mapping[str, Any] = {}) -> OpenedSequences:
    """Reads a file's sequences, or the test sequences of a model's run.

    Args:
      model: A model whose task reads sequences.
      path: A file; None for the run's own test sequences.
      given: Settings of columns and files that take the place of the run's, by name.

    Raises:
      UserError: Bad data; or the run's has changed, is damaged, or is not for this run to name.
    """
    if path is None:
        return _open_own(model)
    sequences: Sequences | ShardedSequences
    if is_dataset(path):
        dataset = Dataset(path)
        sequences, sha256 = _sequences_of(dataset).all_rows(), dataset.sha256
        assert dataset.sequences is not None
        prepared, task = dataset.sequences.task, model.config.task.task
        if prepared != task:
            raise UserError(
                f"--data: {escape(path)} was prepared for task = {prepared}; expected {task}, the model's; give the"
                " files themselves"
            )
    else:
        sequences, sha256 = load_hashed_sequences(
            path, model.config.replace_flat(dict(given)), encoding=model.encoding, given=given
        )
    described = model.metadata.get("data")
    if described is not None and described["sha256"] == sha256:
        say(
            f"warning: {path} is the data that the model was trained on, and its training rows are evaluated too: the"
            " figures below flatter the model; leave --data out to evaluate the run's test rows alone"
        )
    return OpenedSequences(sequences, np.arange(len(sequences)), None, (0, 0), path)


def take_sequences(sequences: Sequences | ShardedSequences) -> tuple[Sequences, NDArray[np.int64]]:
    """Returns all sequences in memory, or some at equal distances if very many are on the disk; and their numbers."""
    total = len(sequences)
    if isinstance(sequences, Sequences):
        return sequences, np.arange(total)
    count = min(total, max(1, EXACT_VALUES * total // max(sequences.num_values, 1)))
    numbers = np.arange(count) * total // count
    return sequences.take(numbers), numbers


def _open_own(model: TrainedModel) -> OpenedSequences:
    """Reads the run's files again. Nothing is parsed before its hash is that of the training data."""
    dataset = open_own_dataset(model)
    if dataset is not None:
        described_sequences = _sequences_of(dataset).sequences
        assert described_sequences is not None
        test = dataset.parts["test"]
        if not len(test):
            raise UserError(_NO_TEST_ROWS)
        counts = described_sequences.shared_rows, described_sequences.overlapping
        return OpenedSequences(test, np.arange(len(test)), *counts, str(dataset.path))
    described = described_data(model)
    if described is None:
        raise UserError("the checkpoint comes from no run here: it has no test rows; give a file with --data")
    files = described.get("given", {})
    given = {name: _read_unchanged(model, file["path"], file["sha256"]) for name, file in files.items()}
    parts = split_parts(
        model.config,
        _read_unchanged(model, described["path"], described["sha256"]),
        validation=given.get("validation"),
        test=given.get("test"),
    )
    if parts.test is None:
        raise UserError(_NO_TEST_ROWS)
    return OpenedSequences(
        parts.test.sequences,
        parts.test.numbers,
        parts.shared_rows(),
        parts.overlapping(),
        files.get("test", described)["path"],
    )


def _sequences_of(dataset: Dataset) -> Dataset:
    if dataset.sequences is None:
        raise UserError(
            f"{escape(str(dataset.path))}: holds rows of numbers; expected sequences of the columns that the model was"
            " trained on"
        )
    return dataset


def _read_unchanged(model: TrainedModel, path: str, expected: str) -> Sequences:
    name = escape(shorten(path))

    def check(sha256: str) -> None:
        if sha256 != expected:
            raise UserError(
                f"{name}: has changed since training (SHA-256 differs), so the run's test rows are gone; expected"
                f" SHA-256 {escape(expected[:12])}..; give a file with --data"
            )

    open_file(path).close()  # says what is wrong with the path itself
    try:
        return load_hashed_sequences(path, model.config, check=check)[0]
    except DataError:
        raise UserError(
            f"{name}: found no sequences as the run read them; expected the run's data; give it with --data, which says"
            " what is wrong"
        ) from None
