"""What a prepared data set says of its sequences: how they were read, their fields, and what training rows measure."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.series.encodings import AnyStatistics, make_encoding, read_statistics
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.store.form import Form
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.settings.columns_config import NOT_OF_READING, ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import OF_SERIES, TASKS

_OF_THE_READER = ("delimiter", "header")


class Measured(NamedTuple):
    """What is measured of the sequences that train.

    Attributes:
      statistics: What they measure.
      shared_rows: How many validation and test sequences stand among them too.
      overlapping: How many of those look like windows of them.
    """

    statistics: AnyStatistics
    shared_rows: tuple[int, int] = (0, 0)
    overlapping: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        counts = {"shared_rows": list(self.shared_rows), "overlapping": list(self.overlapping)}
        return {"statistics": self.statistics.to_json(), **counts}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], task: str) -> "Measured":
        """Returns what a description says.

        Raises:
          ValueError, TypeError, KeyError: It says something else.
        """
        shared, overlapping = (
            (int(pair[0]), int(pair[1])) for pair in (content["shared_rows"], content["overlapping"])
        )
        return cls(read_statistics(content["statistics"], task), shared, overlapping)


@dataclasses.dataclass(frozen=True)
class SequenceDescription:
    """What dataset.json holds of sequences.

    Attributes:
      task: What they were prepared for.
      settings: How their files were read: settings of columns and of files, and of series to forecast, by name.
      form: The fields of the shards.
      ranges: Of each field of numbers the least and the greatest of each column, in all parts.
      statistics: What the training sequences measure.
      shared_rows: How many validation and test sequences stand in the training part too.
      overlapping: How many of them look like windows of training ones.
      refit: What is measured where the validation steps train too, of series to forecast.
    """

    task: str
    settings: dict[str, Any]
    form: Form
    ranges: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    statistics: AnyStatistics
    shared_rows: tuple[int, int] = (0, 0)
    overlapping: tuple[int, int] = (0, 0)
    refit: Measured | None = None

    def refitted(self) -> "SequenceDescription":
        """Returns the description of series whose validation steps train too."""
        assert self.refit is not None
        return dataclasses.replace(self, **self.refit._asdict(), refit=None)

    @property
    def target_steps(self) -> int:
        """How many steps at the end of a sequence are predicted and not read."""
        return 1 if self.task == "next" else 0

    def adapt(self, config: Config, where: str) -> Config:
        """Returns a configuration that reads other files as these were read.

        Args:
          config: The run's.
          where: The data set's path, for messages.

        Raises:
          UserError: It has another task, or reads other columns.
        """
        if config.task.task != self.task:
            raise UserError(
                f"--task: got {config.task.task!r}; expected {self.task!r}, for which {where} was prepared; give"
                f" --task={self.task}, or prepare the data once more"
            )
        flat, default = config.to_flat(), Config().to_flat()
        for key, value in self.settings.items():
            if flat[key] not in (default[key], value):
                name, given = f"--{key.replace('_', '-')}", flat[key]
                flag = name if given is True else f"{name}={shlex.quote(escape(str(given)))}"
                raise UserError(
                    f"{name}: got {given!r}; expected {value!r}, with which {where} was prepared; leave it out, or"
                    f" prepare the data once more with {flag}"
                )
        return config.replace_flat(self.settings)

    def fit_encoding(self, config: Config) -> Encoding:
        """Makes the encoding of a configuration from what the training sequences measure.

        Raises:
          DataError: There is one class only, or a normalised value of any part is beyond float32; names its column.
        """
        encoding = make_encoding(self.statistics, config)
        checked = [("steps.inputs", encoding.inputs), ("rows.statics", encoding.statics)]
        if isinstance(encoding, SeriesEncoding):
            checked.append(("steps.known", encoding.known))
        else:
            of_targets = "steps.targets" if "steps.targets" in self.ranges else "steps.inputs"
            checked.append((of_targets if self.task == "next" else "rows.targets", encoding.targets))
        for key, scaling in checked:
            if scaling.names and key in self.ranges:
                scaling.normalize(np.array(self.ranges[key]))
        return encoding

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return {
            "task": self.task,
            "settings": self.settings,
            "fields": self.form.to_json(),
            "ranges": self.ranges,
            **Measured(self.statistics, self.shared_rows, self.overlapping).to_json(),
            **({} if self.refit is None else {"refit": self.refit.to_json()}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SequenceDescription":
        """Returns what a description says.

        Raises:
          ValueError, TypeError, KeyError, UserError: It says something else.
        """
        task, settings = content["task"], dict(content["settings"])
        if task not in TASKS or settings.keys() != reading_settings(Config().replace_flat({"task": task})).keys():
            raise ValueError("settings")
        config = Config().replace_flat({"task": task, **settings})
        if task == "forecast" and config.task.horizon < 1:
            raise ValueError("horizon")
        form = Form.from_json(content["fields"])
        widths = {field.key: len(field.columns) for field in form.fields}
        ranges = {}
        for key, (least, greatest) in content["ranges"].items():
            ranges[key] = tuple(map(float, least)), tuple(map(float, greatest))
            if [len(bounds) for bounds in ranges[key]] != [widths[key]] * 2:
                raise ValueError("ranges")
        measured = Measured.from_json(content, task)
        refit = Measured.from_json(content["refit"], task) if task == "forecast" else None
        return cls(task, settings, form, ranges, *measured, refit)


def reading_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that say how files of sequences are read, and how series are cut and measured, by name."""
    columns, task = dataclasses.asdict(config.columns), config.task
    reader = {key: getattr(config.reader, key) for key in _OF_THE_READER}
    series = {key: getattr(task, key) for key in OF_SERIES} if task.task == "forecast" else {}
    return (
        {key: columns[key] for key in ColumnsConfig.__dataclass_fields__ if key not in NOT_OF_READING} | reader | series
    )
