"""What a checkpoint's metadata tells of its run: data that anybody may have written, so it is checked."""

import math
from typing import Any

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.runs.checkpoint import CheckpointError
from jaxrnn.settings.config import Config


def read_settings(metadata: dict[str, Any], place: str) -> tuple[Config, Normalizer]:
    """Returns a run's configuration and its normaliser.

    Args:
      metadata: Of a step.
      place: The step's directory, for the complaint.

    Raises:
      CheckpointError: It is not the metadata of a run.
      UserError: A setting is unknown or out of its range.
    """
    try:
        flat, numbers, data = dict(metadata["config"]), dict(metadata["normalizer"]), metadata["data"]
        normalizer = Normalizer(**numbers)
        is_usable = all(type(number) in (int, float) and math.isfinite(number) for number in numbers.values())
        # A converted model has seen no file.
        is_described = data is None or all(isinstance(data[key], str) for key in ("path", "sha256"))
        if not (is_usable and is_described and normalizer.scale > 0):
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place}: its metadata is not that of a run: expected a configuration, a normaliser with a finite offset"
            " and a positive scale, and the path and hash of a data file; use a checkpoint that jaxrnn has written"
        ) from error
    return Config().replace_flat(flat), normalizer
