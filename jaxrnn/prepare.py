"""Prepares rows for training on more of them than the memory holds.

    python -m jaxrnn.prepare big.csv --out=prepared
    python -m jaxrnn.prepare 'parts/*.csv.gz' more.parquet --out=prepared --split-seed=1
    python -m jaxrnn.train --data=prepared

Reads the files once, with the rules and the messages of training itself, splits the rows into training, validation and
test, and writes a directory of shards, which training maps into memory piece by piece.
"""

from jaxrnn.console import signals

if __name__ == "__main__":
    signals.end_at_once_on_signal()  # while the rest is imported

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from jaxrnn.console import command_line
from jaxrnn.settings.checking import require
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import Fractions, ReaderConfig, require_fractions
from jaxrnn.settings.limits import MAX_COUNT

PROGRAM = "python -m jaxrnn.prepare"
# A bound against compressed files that inflate without end; what is read is not held.
MAX_BYTES = 2**44


@dataclasses.dataclass(frozen=True)
class PrepareCommand:
    """Splits rows into training, validation and test, and writes them as shards for `jaxrnn.train --data=DIR`."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files of rows, or patterns such as 'parts/*.csv', which are sorted; read one after the other."""
    out: str
    """New directory."""
    split_fractions: Fractions = Config().data.split_fractions
    """Shares of training, validation and test rows."""
    split_seed: int = 0
    """Seed of the split, which a hash of each row decides: identical rows stay on one side."""
    shard_rows: int = 1 << 20
    """Rows of a shard at most; long rows make smaller ones."""
    reader: ReaderConfig = dataclasses.field(default_factory=lambda: ReaderConfig(max_bytes=MAX_BYTES))

    def __post_init__(self) -> None:
        require_fractions(self.split_fractions)
        require(0 <= self.split_seed < 2**32, "split_seed", self.split_seed, "0 to 4294967295")
        require(1 <= self.shard_rows <= MAX_COUNT, "shard_rows", self.shard_rows, f"1 to {MAX_COUNT}")


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _prepare(argv), own_process=own_process)


def _prepare(argv: Sequence[str] | None) -> None:
    command = command_line.parse(PrepareCommand, argv, program=PROGRAM)

    from jaxrnn.commands import preparation  # NumPy is imported from here on, so that --help need not wait for it

    preparation.prepare(
        command.inputs,
        command.out,
        command.reader,
        fractions=command.split_fractions,
        seed=command.split_seed,
        shard_rows=command.shard_rows,
    )


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
