"""What each task measures of its training sequences, and which encoding it makes of that."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.series.series_statistics import SeriesStatistics
from jaxrnn.data.statistics import Statistics
from jaxrnn.settings.config import Config

AnyStatistics = Statistics | SeriesStatistics


def encoding_of(task: str) -> type[Encoding]:
    """Returns the encoding of a task."""
    return SeriesEncoding if task == "forecast" else Encoding


def fit_encoding(training: Sequences, config: Config) -> Encoding:
    """Fits the encoding of a configuration's task on the training sequences.

    Raises:
      DataError: What the task predicts is missing.
    """
    return encoding_of(config.task.task).fit(training, config)


def make_encoding(measured: AnyStatistics, config: Config) -> Encoding:
    """Makes the encoding of a configuration's task of what was measured of the training sequences.

    Raises:
      DataError: It cannot be learnt from; says why.
    """
    if isinstance(measured, SeriesStatistics):
        return SeriesEncoding.of_series(measured, config)
    return Encoding.of(measured, config)


def measure(training: Sequences, config: Config) -> AnyStatistics:
    """Measures the training sequences of a configuration's task.

    Raises:
      DataError: What the task predicts is missing.
    """
    task = config.task
    if task.task == "forecast":
        return SeriesStatistics.of(training, task.transform)
    return Statistics.of(training, task.task)


def measure_blocks(blocks: Iterable[Sequences], config: Config) -> AnyStatistics:
    """Measures training sequences that come in pieces, as `measure` does but for the last bits.

    Raises:
      DataError: What the task predicts is missing.
    """
    task = config.task
    if task.task == "forecast":
        return SeriesStatistics.of_blocks(blocks, task.transform)
    return Statistics.of_blocks(blocks, task.task)


def read_encoding(content: Mapping[str, Any], task: str) -> Encoding:
    """Returns the encoding that a checkpoint describes.

    Raises:
      ValueError, TypeError, KeyError: It is none.
    """
    return encoding_of(task).from_json(content)


def read_statistics(content: Mapping[str, Any], task: str) -> AnyStatistics:
    """Returns what a prepared data set says was measured.

    Raises:
      ValueError, TypeError, KeyError: It says something else.
    """
    return SeriesStatistics.from_json(content) if task == "forecast" else Statistics.from_json(content)
