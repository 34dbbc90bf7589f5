"""What a checkpoint's metadata tells of its run: data that anybody may have written, so it is checked."""

import math
from typing import Any

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.series.encodings import read_encoding
from jaxrnn.foundation.errors import UserError
from jaxrnn.runs.checkpoint import CheckpointError
from jaxrnn.settings.config import Config

PARTS_WITH_FILES = ("validation", "test")
MAX_PATH = 4096  # characters, as many bytes as Linux takes


def read_settings(metadata: dict[str, Any], place: str) -> tuple[Config, Normalizer, Encoding | None]:
    """Returns a run's configuration, its normaliser, and with another task than next its encoding.

    Args:
      metadata: A step's metadata.
      place: The step's directory, for the complaint.

    Raises:
      CheckpointError: It is not the metadata of a run, or a setting is unknown or out of its range.
    """
    try:
        flat, numbers, data = dict(metadata["config"]), dict(metadata["normalizer"]), metadata["data"]
        is_usable = all(type(number) in (int, float) and math.isfinite(number) for number in numbers.values())
        normalizer = Normalizer(**{name: float(number) for name, number in numbers.items()})
        # A converted model has seen no file.
        is_described = data is None or (
            all(isinstance(data[key], str) and len(data[key]) <= MAX_PATH for key in ("path", "sha256"))
            and all(type(data[key]) is int for key in ("rows", "values"))
            and all(
                name in PARTS_WITH_FILES
                and all(isinstance(file[key], str) and len(file[key]) <= MAX_PATH for key in ("path", "sha256"))
                for name, file in data.get("given", {}).items()
            )
        )
        best = metadata.get("best_epoch", 0)
        counts = [metadata.get("epoch", 0), metadata.get("batch", 0), *(best if isinstance(best, list) else [best])]
        is_numbered = all(type(count) is int for count in counts)
        if not (is_usable and is_described and is_numbered and normalizer.is_usable):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(
            f"{place}: its metadata is not that of a run: expected a configuration, a normaliser with a finite offset"
            " and a positive scale, and the path, hash and size of a data file; use a checkpoint that jaxrnn has"
            " written"
        ) from error
    try:
        config = Config().replace_flat(flat)
    except UserError as error:
        raise CheckpointError(f"{place}: its metadata: {error}; use a checkpoint that jaxrnn has written") from error
    return config, normalizer, _read_encoding(metadata.get("encoding"), config, place)


def _read_encoding(content: Any, config: Config, place: str) -> Encoding | None:
    task = config.task.task
    try:
        if content is None and task == "next":
            return None
        encoding, has_classes = read_encoding(content, task), task in ("classify", "tag")
        if bool(encoding.classes) != has_classes or encoding.sizes.outputs < 1 + has_classes:
            raise ValueError("outputs")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(
            f"{place}: its metadata has no columns and classes of a run with task = {task}; use a checkpoint that"
            " jaxrnn has written"
        ) from error
    return encoding
