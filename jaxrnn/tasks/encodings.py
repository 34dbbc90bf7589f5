"""Which encoding a task has."""

from collections.abc import Mapping
from typing import Any

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.settings.config import Config


def encoding_of(task: str) -> type[Encoding]:
    """Returns the encoding of a task."""
    return SeriesEncoding if task == "forecast" else Encoding


def fit_encoding(training: Sequences, config: Config) -> Encoding:
    """Fits the encoding of a configuration's task on the training sequences.

    Raises:
      DataError: What the task predicts is missing.
    """
    return encoding_of(config.task.task).fit(training, config)


def read_encoding(content: Mapping[str, Any], task: str) -> Encoding:
    """Returns the encoding that a checkpoint describes.

    Raises:
      ValueError, TypeError, KeyError: It is none.
    """
    return encoding_of(task).from_json(content)
