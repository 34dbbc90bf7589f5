"""Predicts the values that follow each row, the class or number of each sequence, or the next steps of each series.

    python -m jaxrnn.predict --checkpoint=runs/lstm rows.csv
    echo 1,3,5,7 | python -m jaxrnn.predict --checkpoint=runs/lstm --horizon=3 -
    python -m jaxrnn.predict --checkpoint=runs/lstm
    python -m jaxrnn.predict --checkpoint=runs/classify --probabilities sequences.ts
    python -m jaxrnn.predict --checkpoint=runs/forecast panel.csv

Prints one line per row, in the order of the rows. On a terminal and without a file it asks for rows. For tasks that
read sequences it prints CSV with a header: id and class; id and number; id, time and class of every step; or id, time,
step ahead and quantiles.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.settings.checking import require
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.data_config import ReaderConfig

PROGRAM = "python -m jaxrnn.predict"


@dataclasses.dataclass(frozen=True)
class PredictCommand:
    """Predicts the values that follow each row of a file, of standard input, or of what is typed."""

    checkpoint: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run directory (its best parameters), DIR/best, DIR/latest, or the directory of a step."""
    file: Annotated[Optional[str], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """Rows of one value or more, - for standard input; with other tasks than next a file of sequences."""
    horizon: Optional[int] = None
    """Values to predict, 1 if left out, each from those before it; of a forecast the steps ahead to print."""
    known_data: Annotated[Optional[str], tyro.conf.arg(metavar="FILE")] = None
    """With task = forecast: file of the known columns at the steps ahead, with their ids and times."""
    std: bool = False
    """With an ensemble: behind the values of a row, the standard deviation of each over the members."""
    probabilities: bool = False
    """Print the probability of each class too."""
    json: bool = False
    """Print JSON Lines."""
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)

    def __post_init__(self) -> None:
        require(self.horizon is None or self.horizon >= 1, "horizon", self.horizon, "at least 1")


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _predict(argv), own_process=own_process)


def _predict(argv: Sequence[str] | None) -> None:
    command = command_line.parse(PredictCommand, argv, program=PROGRAM)

    from jaxrnn.commands import prediction

    prediction.predict(
        command.checkpoint,
        command.file,
        prediction.Wishes(command.horizon, command.std, command.probabilities, command.json, command.known_data),
        reader=command.reader,
        given=command_line.given_settings(command_line.arguments(argv), command.reader, command.columns),
    )


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
