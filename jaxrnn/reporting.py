"""What a person sees: a banner, progress, results. Progress goes to stderr, results to stdout."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from jaxrnn.config import FIGURE_NAMES
from jaxrnn.escaping import printable

PLAIN_LINE_SECONDS = 2.0
ACCURACY_NOTE = (
    "accuracy is the tutorial's, 1 - mean(|y - p| / (|y| + {epsilon:g})): rows whose last value is near 0 rule it;"
    " mae and rmse are in the data's units, within_half is the share of rows off by at most 0.5"
)


_is_muted = False  # in all of several processes but one


def mute() -> None:
    """Keeps this process from writing to the console: of several that train one model, one tells."""
    global _is_muted
    _is_muted = True


def say(text: str = "", *, always: bool = False) -> None:
    """Writes a line to stderr.

    Args:
      text: The line.
      always: Even where the process was told to be mute.
    """
    if always or not _is_muted:
        print(printable(text), file=sys.stderr, flush=True)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lays out columns, the first to the left and the others to the right."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = []
    for line in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def format_figure(name: str, value: float) -> str:
    """Formats a figure of merit for people."""
    if name == "loss":
        return f"{value:.3g}"
    return f"{value:.2%}" if name == "within_half" else f"{value:.4f}"


def figures_table(rows: dict[str, dict[str, float]]) -> str:
    """Lays out figures, a line for every model or baseline."""
    body = [[name, *[format_figure(key, figures[key]) for key in FIGURE_NAMES]] for name, figures in rows.items()]
    return table(["", *FIGURE_NAMES], body)


def print_figures(
    figures: dict[str, dict[str, float]],
    baselines: dict[str, dict[str, float]],
    *,
    accuracy_epsilon: float,
    notes: list[str],
) -> None:
    """Prints a model's figures with the baselines' beside them, what the accuracy is, and further notes."""
    named = {f"baseline {name}": values for name, values in baselines.items()}
    print(figures_table({**figures, **named}))
    for note in [ACCURACY_NOTE.format(epsilon=accuracy_epsilon), *notes]:
        print(note)


def spread_rows(name: str, spread: dict[str, dict[str, float]], members: int) -> dict[str, dict[str, float]]:
    """Returns the lines of a table of figures that say how the members of an ensemble differ."""
    return {f"{name}, {key} of {members} members": spread[key] for key in ("mean", "std")}


def parameter_table(named: dict[str, Any]) -> str:
    """Lays out the parameters' names, shapes and sizes."""
    rows = [[name, str(tuple(leaf.shape)), f"{leaf.size:,}"] for name, leaf in named.items()]
    total = sum(leaf.size for leaf in named.values())
    return table(["parameter", "shape", "values"], [*rows, ["total", "", f"{total:,}"]])


def gpu_without_support(backend: str) -> str | None:
    """Returns a warning where there is a GPU that this JAX cannot use."""
    if backend != "cpu":
        return None
    seen = next((path for path in ("/dev/nvidia0", "/dev/kfd") if Path(path).exists()), None)
    seen = seen or shutil.which("nvidia-smi")
    if seen is None:
        return None
    bar = "!" * 78
    return (
        f"{bar}\n!! THIS MACHINE HAS A GPU ({seen}) BUT JAX RUNS ON THE CPU: jaxlib is the CPU-only build.\n"
        f"!! Install the GPU build:  python -m pip install -e '.[cuda]'\n{bar}"
    )


class Progress:
    """Shows how training goes: a bar on a terminal, plain lines now and then elsewhere.

    Args:
      total: Epochs at most.
      start: Epochs done before.
    """

    def __init__(self, total: int, *, start: int = 0):
        self._total = total
        self._last_line = float("-inf")
        self._begin: tuple[int, float, int] | None = None  # of an epoch: its number, when, and after how many rows
        self._bar: Any = None
        if sys.stderr.isatty() and not _is_muted:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("epoch"),
                MofNCompleteColumn(),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=total, completed=start, note="compiling")
            self._bar.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def within(self, epoch: int, share: float, num_rows: int) -> None:
        """Shows how far a long epoch is.

        Args:
          epoch: Its number.
          share: How much of it is done.
          num_rows: How many rows.
        """
        now = time.monotonic()
        if self._begin is None or self._begin[0] != epoch:
            self._begin = (epoch, now, num_rows)
        _, begin, rows_before = self._begin
        rate = (num_rows - rows_before) / (now - begin) if now > begin else 0.0
        note = f"epoch {epoch}/{self._total}  {share:.0%}, {num_rows:,} rows" + f", {rate:,.0f} rows/s" * (rate > 0)
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch - 1 + share, note=note)
        elif now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            say(note)

    def update(self, epoch: dict[str, Any], *, final: bool) -> None:
        """Shows the figures of the latest epoch.

        Args:
          epoch: As a line of metrics.jsonl.
          final: Whether it is the last one, which is always shown.
        """
        validation = epoch["validation"]
        note = (
            f"training loss {epoch['training']['loss']:.3g}  validation"
            f" loss {validation['loss']:.3g}  accuracy {validation['accuracy']:.4f}  mae {validation['mae']:.4f}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch["epoch"], note=note)
            return
        now = time.monotonic()
        if final or now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            width = len(str(self._total))
            say(f"epoch {epoch['epoch']:{width}}/{self._total}  {note}")


class ReadingProgress:
    """Shows how reading files goes, by their bytes: a bar on a terminal, plain lines now and then elsewhere.

    Args:
      total: Bytes of all files.
    """

    def __init__(self, total: int):
        self._total = total
        self._rows = 0
        self._begin = self._last_line = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("reading"),
                DownloadColumn(),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=total, note="")
            self._bar.start()

    def __enter__(self) -> "ReadingProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, num_bytes: int, num_rows: int) -> None:
        """Counts rows.

        Args:
          num_bytes: Read so far.
          num_rows: Read since the last call.
        """
        self._rows += num_rows
        now = time.monotonic()
        rate = self._rows / max(now - self._begin, 1e-9)
        note = f"{self._rows:,} rows, {rate:,.0f} rows/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=num_bytes, note=note)
        elif now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            left = (now - self._begin) * (self._total / max(num_bytes, 1) - 1)
            share = f"{num_bytes / max(self._total, 1):.0%}, {left:,.0f} s left" if num_bytes else "reading"
            say(f"{share}: {note}")
