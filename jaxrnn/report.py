"""Writes one HTML page about one run, or about several side by side.

    python -m jaxrnn.report runs/lstm
    python -m jaxrnn.report runs/lstm runs/gru --out=both.html

The page needs nothing but itself: no script, no network. It can be written while a run is still going, and says what
it could not show.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxrnn.console import command_line

PROGRAM = "python -m jaxrnn.report"


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Writes one self-contained HTML page about one run, or about several side by side."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")] = ()
    """Run directories, such as runs/lstm."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "report.html"
    """The page; an earlier report there is replaced, any other file is not."""


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _report(argv), own_process=own_process)


def _report(argv: Sequence[str] | None) -> None:
    command = command_line.parse(ReportCommand, argv, program=PROGRAM)

    from jaxrnn.commands import run_report  # JAX is imported from here on, so that --help need not wait for it

    run_report.report(command.runs, Path(command.out))


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
