"""The rows that a model was trained on, found again by what its checkpoint says of them."""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.loading import load_hashed_rows
from jaxrnn.data.readers.sources import open_file
from jaxrnn.data.split import Split, count_shared_rows, draw_split
from jaxrnn.data.store.dataset import Dataset, is_dataset, read_sha256
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.data_config import ReaderConfig


class OwnRows(NamedTuple):
    """The test rows of the run that a model comes from.

    Attributes:
      rows: The test rows.
      numbers: Where they stand in the file, or in the test part of a prepared data set, counted from 0.
      shared: How many validation and test rows stand in the training part too.
      path: The file's, or the prepared data set's.
    """

    rows: Ragged | ShardedRows
    numbers: NDArray[np.int64]
    shared: tuple[int, int]
    path: str


def open_own_rows(model: TrainedModel, reader: ReaderConfig) -> OwnRows:
    """Finds the test rows of a model's run.

    Args:
      model: A run's model.
      reader: How to read the file, if it is one.

    Raises:
      UserError: The data has changed, is damaged, or is not for this run to name.
    """
    dataset = open_own_dataset(model)
    if dataset is not None:  # the split of prepared rows keeps identical ones on one side
        test = dataset.parts["test"]
        return OwnRows(test, np.arange(len(test)), (0, 0), str(dataset.path))
    rows, split, path = _load_own_rows(model, reader)
    return OwnRows(rows.take(split.test), split.test, count_shared_rows(rows, split), path)


def _load_own_rows(model: TrainedModel, reader: ReaderConfig) -> tuple[Ragged, Split, str]:
    """Reads the file that a model was trained on.

    A checkpoint names that file, and anybody may have written the checkpoint: nothing of what the file holds is shown,
    and nothing is parsed before its hash is that of the training data.

    Args:
      model: A run's model.
      reader: How to read it.

    Returns:
      All rows, their parts, and the file's path.

    Raises:
      UserError: There is no such file any more, it has changed, or it is not for this run to name.
    """
    described = described_data(model)
    if described is None:
        raise UserError("the checkpoint was converted, not trained here: it has no test rows; give a file with --data")
    path = described["path"]
    name = escape(shorten(path))

    def check(sha256: str) -> None:
        if sha256 != described["sha256"]:
            raise UserError(
                f"{name}: has changed since training (SHA-256 differs), so the run's test rows are gone; expected"
                f" {described['rows']} rows with SHA-256 {escape(described['sha256'][:12])}..; give a file with --data"
            )

    open_file(path).close()  # says what is wrong with the path itself
    try:
        rows, _ = load_hashed_rows(path, reader, min_length=2, check=check)
    except DataError:
        raise UserError(
            f"{name}: found no rows as the run read them; expected the run's data; give it with --data, which says what"
            " is wrong"
        ) from None
    return rows, draw_split(model.config, rows), path


def open_own_dataset(model: TrainedModel) -> Dataset | None:
    """Opens the prepared data set that a model was trained on; None if it was trained on a file.

    Raises:
      UserError: It has changed, is damaged, or is not for this run to name.
    """
    described = described_data(model)
    if described is None or not is_dataset(described["path"]):
        return None
    name = escape(shorten(described["path"]))
    another = UserError(
        f"{name}: is another data set than the run was trained on (SHA-256 differs), so the run's test"
        " rows are gone; give the data with --data"
    )
    if read_sha256(described["path"]) != described["sha256"]:
        raise another
    dataset = Dataset(described["path"])
    if dataset.sha256 != described["sha256"]:
        raise another
    return dataset


def described_data(model: TrainedModel) -> dict[str, Any] | None:
    """Returns what a checkpoint says of its run's data, if this user has written it.

    Raises:
      UserError: The run belongs to somebody else, or names a path that no run of this package would.
    """
    described = model.metadata["data"]
    if described is None:
        return None
    name = escape(shorten(described["path"]))
    named = [described["path"], *(file["path"] for file in described.get("given", {}).values())]
    if not all(map(os.path.isabs, named)):
        raise UserError(
            f"{name}: the checkpoint names its data by this path; expected an absolute one, as jaxrnn.train writes it;"
            " give the data with --data"
        )
    if model.directory is not None and hasattr(os, "getuid"):
        owner = model.directory.stat().st_uid
        if owner != os.getuid():
            raise UserError(
                f"{model.directory}: belongs to another user (uid {owner}); expected a run of this user's own before a"
                f" file that it names is read, {name}; give the data with --data"
            )
    return described
