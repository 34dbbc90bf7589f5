"""The sequences that a model is evaluated on: a file's, or the test part of its run, found again by its checkpoint."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.sources import open_file
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.tables.loading import load_hashed_sequences
from jaxrnn.evaluation.own_rows import described_data
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.messages import say


class OpenedSequences(NamedTuple):
    """Sequences to evaluate.

    Attributes:
      sequences: The sequences.
      numbers: Where they stand in their file, counted from 0.
      shared: How many validation and test sequences stand in the training part too; None of a file that was named.
      overlapping: How many of them look like windows of training ones; 0 of a file that was named.
      path: The file's.
    """

    sequences: Sequences
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
    sequences, sha256 = load_hashed_sequences(path, model.config.replace_flat(dict(given)))
    described = model.metadata.get("data")
    if described is not None and described["sha256"] == sha256:
        say(
            f"warning: {path} is the data that the model was trained on, and its training rows are evaluated too: the"
            " figures below flatter the model; leave --data out to evaluate the run's test rows alone"
        )
    return OpenedSequences(sequences, np.arange(len(sequences)), None, (0, 0), path)


def _open_own(model: TrainedModel) -> OpenedSequences:
    """Reads the run's files again. Nothing is parsed before its hash is that of the training data."""
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
        raise UserError("the run has no test rows: all of its data trains or validates; give a file with --data")
    return OpenedSequences(
        parts.test.sequences,
        parts.test.numbers,
        parts.shared_rows(),
        parts.overlapping(),
        files.get("test", described)["path"],
    )


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
