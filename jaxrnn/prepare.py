"""Prepares rows or sequences for training on more of them than the memory holds.

    python -m jaxrnn.prepare big.csv --out=prepared
    python -m jaxrnn.prepare 'parts/*.csv.gz' more.parquet --out=prepared --split-seed=1
    python -m jaxrnn.train --data=prepared
    python -m jaxrnn.prepare TRAIN.ts --task=classify --test-data=TEST.ts --out=prepared
    python -m jaxrnn.train --task=classify --data=prepared
    python -m jaxrnn.prepare panel.csv --task=forecast --id-column=shop --time-column=month --horizon=6 --out=prepared
    python -m jaxrnn.train --task=forecast --data=prepared

Reads the files once, with the rules and the messages of training itself, splits the rows into training, validation and
test, and writes a directory of shards, which training maps into memory piece by piece.
"""

from jaxrnn.console import signals

if __name__ == "__main__":
    signals.end_at_once_on_signal()  # while the rest is imported

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.settings.checking import SettingError, require
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import Fractions, ReaderConfig, require_fractions
from jaxrnn.settings.limits import MAX_COUNT
from jaxrnn.settings.task_config import OF_SERIES, TaskConfig, TaskName

PROGRAM = "python -m jaxrnn.prepare"
# A bound against compressed files that inflate without end; what is read is not held.
MAX_BYTES = 2**44


@dataclasses.dataclass(frozen=True)
class PrepareCommand:
    """Splits rows into training, validation and test, and writes them as shards for `jaxrnn.train --data=DIR`."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Files of rows or sequences, or patterns such as 'parts/*.csv', which are sorted; read one after the other."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """New directory."""
    task: TaskName = "next"
    """What the sequences are for: training has the same task."""
    validation_data: Annotated[Optional[str], tyro.conf.arg(metavar="FILE")] = None
    """File of validation sequences, in place of a share of the inputs; not of rows of one number."""
    test_data: Annotated[Optional[str], tyro.conf.arg(metavar="FILE")] = None
    """File of test sequences, in place of a share of the inputs; not of rows of one number."""
    split: Optional[Literal["hashed", "given", "time"]] = None
    """hashed: a hash of each row decides, identical ones or those of a group on one side; given: all inputs train;
    time: the ends of every series test and validate a forecast. hashed if left out; time to forecast."""
    split_fractions: Fractions = Config().data.split_fractions
    """Shares of training, validation and test rows."""
    split_seed: int = 0
    """Seed of the split, which a hash of each row decides: identical rows stay on one side."""
    horizon: int = TaskConfig.horizon
    """Steps ahead to forecast; 0 for what a .tsf file says."""
    origins: int = TaskConfig.origins
    """Origins that split = time tests each series at: its last horizon + origins - 1 steps do not train."""
    season: int = TaskConfig.season
    """Steps of a season; 0 for the usual one of the times' frequency."""
    scaling: Literal["series", "global", "none"] = TaskConfig.scaling
    """Units that a series is read and forecast in: its own mean change of a step, that of all series, or none."""
    transform: Literal["none", "log"] = TaskConfig.transform
    """log forecasts the logarithm of positive values."""
    calendar: str = TaskConfig.calendar
    """What is read off the times, for steps ahead too: month, quarter, week, weekday, day, dayofyear, hour, minute."""
    shard_rows: int = 1 << 20
    """Rows of a shard at most; long rows make smaller ones."""
    reader: ReaderConfig = dataclasses.field(default_factory=lambda: ReaderConfig(max_bytes=MAX_BYTES))
    columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)

    def __post_init__(self) -> None:
        require_fractions(self.split_fractions)
        require(0 <= self.split_seed < 2**32, "split_seed", self.split_seed, "0 to 4294967295")
        require(1 <= self.shard_rows <= MAX_COUNT, "shard_rows", self.shard_rows, f"1 to {MAX_COUNT}")
        tokens, is_default = self.columns.max_tokens, self.columns.max_tokens == ColumnsConfig().max_tokens
        require(is_default, "max_tokens", tokens, "none: all are written; give it to jaxrnn.train")

    @property
    def config(self) -> Config:
        """The settings that training has in common with this.

        Raises:
          SettingError: They do not go together.
        """
        config = Config().replace_flat({"task": self.task, **{key: getattr(self, key) for key in OF_SERIES}})
        data = dataclasses.replace(
            config.data,
            validation_data=self.validation_data,
            test_data=self.test_data,
            split=self.split or ("time" if self.task == "forecast" else "hashed"),
            split_fractions=Fractions(*self.split_fractions),
            split_seed=self.split_seed,
        )
        return dataclasses.replace(config, data=data, reader=self.reader, columns=self.columns)


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _prepare(argv), own_process=own_process)


def _prepare(argv: Sequence[str] | None) -> None:
    command = command_line.parse(PrepareCommand, argv, program=PROGRAM)

    from jaxrnn.commands import preparation  # NumPy is imported from here on, so that --help need not wait for it

    try:
        config = command.config
    except SettingError as error:
        raise error.renamed(f"--{error.key.replace('_', '-')}") from error
    preparation.prepare(command.inputs, command.out, config, shard_rows=command.shard_rows)


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
