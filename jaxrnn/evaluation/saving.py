"""A model without a run, written as a run directory that can be loaded."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.foundation.versions import versions
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import Config


def save_model(
    directory: str | Path,
    config: Config,
    normalizer: Normalizer,
    params: Any,
    other: Any,
    *,
    encoding: Encoding | None = None,
) -> RunDirectory:
    """Writes a configuration and a checkpoint.

    Args:
      directory: Where to; it may be there, but empty.
      config: The model's configuration.
      normalizer: The normaliser of next values.
      params: The parameters.
      other: The rest of the model's state.
      encoding: What the training rows say of columns and classes; None with task = next.

    Raises:
      UserError: The directory holds something, or cannot be written.
    """
    run_dir = RunDirectory.choose(os.fspath(directory), name="", resume=False)
    run_dir.create(config)
    metadata = {
        "config": config.to_flat(),
        "normalizer": dataclasses.asdict(normalizer),
        "encoding": None if encoding is None else encoding.to_json(),
        "data": None,
        "versions": versions(),
        "epoch": 0,
        "best_epoch": 0,
    }
    with Checkpointer(run_dir.checkpoints) as checkpointer:
        checkpointer.save(0, {"params": params, "best_params": params, "other": other}, metadata)
    return run_dir
