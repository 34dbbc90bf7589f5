"""Evaluates a checkpoint, with trivial baselines beside it.

    python -m jaxrnn.eval --checkpoint=runs/lstm
    python -m jaxrnn.eval --checkpoint=runs/lstm --data=more.csv --json
    python -m jaxrnn.eval --checkpoint=runs/lstm --plots

Architecture and normalisation come from the checkpoint. Without --data it evaluates the run's own test rows.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.data_config import ReaderConfig

PROGRAM = "python -m jaxrnn.eval"


@dataclasses.dataclass(frozen=True)
class EvalCommand:
    """Evaluates a checkpoint; architecture and normalisation come from it."""

    checkpoint: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run directory (its best parameters), DIR/best, DIR/latest, or the directory of a step."""
    data: Annotated[Optional[str], tyro.conf.arg(metavar="FILE")] = None
    """File whose rows are evaluated; the run's own test rows if left out."""
    origins: Optional[int] = None
    """With task = forecast: from how many steps of each series to forecast; as many as the run tests if left out."""
    json: bool = False
    """Print one JSON object."""
    plots: bool = False
    """Draw what the model makes of the rows, and its errors."""
    plots_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = "plots"
    """Where --plots draws."""
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _evaluate(argv), own_process=own_process)


def _evaluate(argv: Sequence[str] | None) -> None:
    command = command_line.parse(EvalCommand, argv, program=PROGRAM)
    given = command_line.arguments(argv)
    if command.data is None:
        command_line.refuse_reader_settings(given, "without --data: the run's own rows are read as in training")

    from jaxrnn.data.store.dataset import is_dataset

    if command.data is not None and is_dataset(command.data):
        command_line.refuse_reader_settings(given, "with prepared data, whose rows jaxrnn.prepare has read")

    from jaxrnn.commands import evaluation

    evaluation.evaluate(
        command.checkpoint,
        command.data,
        command.reader if command.data is not None else None,
        given=command_line.given_settings(given, command.reader, command.columns),
        as_json=command.json,
        origins=command.origins,
        plots_dir=command.plots_dir if command.plots else None,
    )


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
