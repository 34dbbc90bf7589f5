"""Predicts the values that follow each row.

    python -m jaxrnn.predict --checkpoint=runs/lstm rows.csv
    echo 1,3,5,7 | python -m jaxrnn.predict --checkpoint=runs/lstm --horizon=3 -
    python -m jaxrnn.predict --checkpoint=runs/lstm

Prints one line per row, in the order of the rows. On a terminal and without a file it asks for rows.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.settings.checking import require
from jaxrnn.settings.config import ReaderConfig

PROGRAM = "python -m jaxrnn.predict"


@dataclasses.dataclass(frozen=True)
class PredictCommand:
    """Predicts the values that follow each row of a file, of standard input, or of what is typed."""

    checkpoint: str
    """Run directory (its best parameters), DIR/best, DIR/latest, or the directory of a step."""
    file: Annotated[Optional[str], tyro.conf.Positional] = None
    """Rows of one value or more; - for standard input."""
    horizon: int = 1
    """How many values to predict; each from those before it, predictions included."""
    std: bool = False
    """With an ensemble: behind the values of a row, the standard deviation of each over the members."""
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)

    def __post_init__(self) -> None:
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _predict(argv), own_process=own_process)


def _predict(argv: Sequence[str] | None) -> None:
    command = command_line.parse(PredictCommand, argv, program=PROGRAM)

    from jaxrnn.commands import prediction

    if command.file is None and sys.stdin is not None and sys.stdin.isatty():
        prediction.converse(command.checkpoint, command.reader, horizon=command.horizon)
    else:
        prediction.predict_file(
            command.checkpoint,
            "-" if command.file is None else command.file,
            command.reader,
            horizon=command.horizon,
            std=command.std,
        )


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
