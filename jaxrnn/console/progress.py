"""How training and reading go: a bar on a terminal, plain lines now and then elsewhere."""

import math
import sys
import time
from typing import Any

from jaxrnn.foundation.messages import is_muted, say

PLAIN_LINE_SECONDS = 2.0
SHOWN = ("accuracy", "mae", "macro_f1", "r2")  # beside the loss, as far as a task has them


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
        if (sys.stderr.isatty() or _is_notebook()) and not is_muted():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("epoch"),
                MofNCompleteColumn(),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console() if _is_notebook() else Console(stderr=True),
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
        training, validation = epoch["training"], epoch["validation"]
        note = f"training loss {training['loss']:.3g}"
        if all(map(math.isnan, validation.values())):  # there are no validation rows
            note += _shown(training)
        else:
            note += f"  validation loss {validation['loss']:.3g}{_shown(validation)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch["epoch"], note=note)
            return
        now = time.monotonic()
        if final or now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            width = len(str(self._total))
            say(f"epoch {epoch['epoch']:{width}}/{self._total}  {note}")


def _is_notebook() -> bool:
    """Whether this is a notebook's process, in which rich shows a bar of its own."""
    kernel = sys.modules.get("IPython")
    shell = kernel.get_ipython() if kernel is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _shown(figures: dict[str, float]) -> str:
    return "".join(f"  {name} {figures[name]:.4f}" for name in SHOWN if name in figures)


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
