"""The rows that a model was trained on, found again by what its checkpoint says of them."""

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.data.split import Split, draw_split
from jaxrnn.data.store.dataset import Dataset, is_dataset
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import hash_file
from jaxrnn.settings.config import ReaderConfig


def load_own_rows(model: TrainedModel, reader: ReaderConfig) -> tuple[Ragged, Split, str]:
    """Reads the file that a model was trained on.

    Args:
      model: Of a run.
      reader: How to read it.

    Returns:
      All rows, their parts, and the file's path.

    Raises:
      UserError: There is no such file any more, or it has changed.
    """
    described = model.metadata["data"]
    if described is None:
        raise UserError("the checkpoint was converted, not trained here: it has no test rows; give a file with --data")
    path = described["path"]
    rows = load_rows(path, reader, min_length=2)
    if hash_file(path) != described["sha256"]:
        raise UserError(
            f"{path}: has changed since training (SHA-256 differs), so the run's test rows are gone; expected"
            f" {described['rows']} rows with SHA-256 {described['sha256'][:12]}..; give a file with --data"
        )
    return rows, draw_split(model.config, rows), path


def open_own_dataset(model: TrainedModel) -> Dataset | None:
    """Opens the prepared data set that a model was trained on; None if it was trained on a file.

    Raises:
      UserError: It has changed, or is damaged.
    """
    described = model.metadata["data"]
    if described is None or not is_dataset(described["path"]):
        return None
    dataset = Dataset(described["path"])
    if dataset.sha256 != described["sha256"]:
        raise UserError(
            f"{dataset.path}: is another data set than the run was trained on (SHA-256 differs), so the run's test"
            " rows are gone; give the data with --data"
        )
    return dataset
