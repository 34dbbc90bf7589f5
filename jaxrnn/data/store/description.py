"""What a prepared data set says of its sequences: how they were read, their fields, and what training rows measure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.statistics import Statistics
from jaxrnn.data.store.form import Form
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.columns_config import NOT_OF_READING, ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import TASKS

_OF_THE_READER = ("delimiter", "header")


@dataclasses.dataclass(frozen=True)
class SequenceDescription:
    """What dataset.json holds of sequences.

    Attributes:
      task: What they were prepared for.
      settings: How their files were read: settings of columns and of files, by name.
      form: The fields of the shards.
      ranges: Of each field of numbers the least and the greatest of each column, in all parts.
      statistics: What the training sequences measure.
      shared_rows: How many validation and test sequences stand in the training part too.
      overlapping: How many of them look like windows of training ones.
    """

    task: str
    settings: dict[str, Any]
    form: Form
    ranges: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    statistics: Statistics
    shared_rows: tuple[int, int] = (0, 0)
    overlapping: tuple[int, int] = (0, 0)

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
                raise UserError(
                    f"--{key.replace('_', '-')}: got {flat[key]!r}; expected {value!r}, with which {where} was"
                    " prepared; leave it out"
                )
        for part in ("validation_data", "test_data"):
            if flat[part] is not None:
                raise UserError(
                    f"--{part.replace('_', '-')}: got {flat[part]!r}; expected none with prepared data: give it to"
                    " jaxrnn.prepare"
                )
        return config.replace_flat(self.settings)

    def fit_encoding(self, config: Config) -> Encoding:
        """Makes the encoding of a configuration from what the training sequences measure.

        Raises:
          DataError: There is one class only, or a normalised value of any part is beyond float32; names its column.
        """
        encoding = Encoding.of(self.statistics, config)
        of_targets = ("steps.targets" if "steps.targets" in self.ranges else "steps.inputs",)
        for keys, scaling in (
            (("steps.inputs",), encoding.inputs),
            (("rows.statics",), encoding.statics),
            (of_targets if self.task == "next" else ("rows.targets",), encoding.targets),
        ):
            if scaling.names and keys[0] in self.ranges:
                scaling.normalize(np.array(self.ranges[keys[0]]))
        return encoding

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return {
            "task": self.task,
            "settings": self.settings,
            "fields": self.form.to_json(),
            "ranges": self.ranges,
            "statistics": self.statistics.to_json(),
            "shared_rows": list(self.shared_rows),
            "overlapping": list(self.overlapping),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SequenceDescription":
        """Returns what a description says.

        Raises:
          ValueError, TypeError, KeyError, UserError: It says something else.
        """
        task, settings = content["task"], dict(content["settings"])
        if task not in TASKS or settings.keys() != reading_settings(Config()).keys():
            raise ValueError("settings")
        Config().replace_flat({"task": task, **settings})
        form = Form.from_json(content["fields"])
        widths = {field.key: len(field.columns) for field in form.fields}
        ranges = {}
        for key, (least, greatest) in content["ranges"].items():
            ranges[key] = tuple(map(float, least)), tuple(map(float, greatest))
            if [len(bounds) for bounds in ranges[key]] != [widths[key]] * 2:
                raise ValueError("ranges")
        shared, overlapping = (
            (int(pair[0]), int(pair[1])) for pair in (content["shared_rows"], content["overlapping"])
        )
        return cls(task, settings, form, ranges, Statistics.from_json(content["statistics"]), shared, overlapping)


def reading_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that say how files of sequences are read, by name."""
    columns = dataclasses.asdict(config.columns)
    reader = {key: getattr(config.reader, key) for key in _OF_THE_READER}
    return {key: columns[key] for key in ColumnsConfig.__dataclass_fields__ if key not in NOT_OF_READING} | reader
