"""metrics.jsonl: a line an epoch, each read strictly; all that are readable are kept, and the others are said."""

import bisect
from pathlib import Path
from typing import Any, NamedTuple

from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.runs.run_files import MAX_REASON, as_figures, parse_json, place_of, read_bytes, reason_of, shown_value
from jaxrnn.settings.limits import MAX_COUNT

PARTS = ("training", "validation")
MAX_COMPLAINTS = 3  # about single lines; more are counted


class MetricsLine(NamedTuple):
    """A readable line of metrics.jsonl.

    Attributes:
      text: The line, without its end.
      content: What it holds, with NaN for figures that were not finite.
    """

    text: str
    content: dict[str, Any]

    @property
    def epoch(self) -> int:
        return self.content["epoch"]


class Metrics(NamedTuple):
    """What metrics.jsonl holds.

    Attributes:
      lines: All readable lines, by rising epoch.
      damaged: The numbers of the other lines, from 1, each with what was found there.
      path: The file.
    """

    lines: list[MetricsLine]
    damaged: dict[int, str]
    path: Path

    def complaints(self, last_epoch: int | None = None) -> list[str]:
        """Describes what is damaged or missing; an empty list is a whole file.

        Args:
          last_epoch: The epoch up to which every one needs a line; None for that of the last line.
        """
        said = [
            f"{place_of(self.path, number)}: found {found}; expected the figures of an epoch; the other lines are kept"
            for number, found in list(self.damaged.items())[:MAX_COMPLAINTS]
        ]
        if len(self.damaged) > MAX_COMPLAINTS:
            more = len(self.damaged) - MAX_COMPLAINTS
            place = place_of(self.path)
            said.append(f"{place}: found {more} more damaged lines; expected none; the others are kept")
        epochs = [line.epoch for line in self.lines]
        last = (epochs[-1] if epochs else 0) if last_epoch is None else last_epoch
        gaps = _gaps(epochs, last)
        num_missing = sum(end - begin + 1 for begin, end in gaps)
        if num_missing > len(self.damaged):
            listed = ", ".join(f"{begin}" if begin == end else f"{begin} to {end}" for begin, end in gaps[:10])
            missing = shorten(listed)
            said.append(
                f"{place_of(self.path)}: found no line of epoch {missing}; expected one for each of 1 to {last};"
                " put back a copy of the file if there is one, or go on without them"
            )
        return said


def read_metrics(path: Path) -> Metrics:
    """Reads all readable lines of metrics.jsonl; of those that contradict each other the most that rise.

    A last line without its end that does not parse was cut off by a kill and says nothing.

    Raises:
      MissingRunFileError: There is none.
      RunFileError: It is no file, or may not be read.
    """
    pieces = read_bytes(path).split(b"\n")
    read: dict[int, MetricsLine] = {}
    damaged: dict[int, str] = {}
    for number, piece in enumerate(pieces, start=1):
        is_unended = number == len(pieces)
        if is_unended and not piece:
            break
        try:
            text = piece.decode("utf-8")
            read[number] = MetricsLine(text, _epoch_of(text))
        except (ValueError, OverflowError, RecursionError) as error:
            if not is_unended:
                damaged[number] = shorten(escape(reason_of(error)), MAX_REASON)
    kept = _longest_rise({number: line.epoch for number, line in read.items()})
    for number in read.keys() - kept:
        damaged[number] = f"epoch {read[number].epoch} out of its order"
    return Metrics([read[number] for number in sorted(kept)], dict(sorted(damaged.items())), path)


def _epoch_of(text: str) -> dict[str, Any]:
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"{type(content).__name__} in place of an object")
    epoch, rate = content.get("epoch"), content.get("learning_rate", 0.0)
    if type(epoch) is not int or not 1 <= epoch <= MAX_COUNT:
        raise ValueError(f"epoch: {shown_value(epoch)}")
    if type(rate) not in (int, float):
        raise ValueError(f"learning_rate: {shown_value(rate)}")
    spreads = [key for key in content if key in [f"{part}_std" for part in PARTS]]
    return content | {key: as_figures(content.get(key)) for key in (*PARTS, *spreads)}


def _longest_rise(epochs: dict[int, int]) -> set[int]:
    """Returns the numbers of the most lines whose epochs rise; of two of the same epoch the first."""
    tails: list[int] = []  # the lowest last epoch of a rise of each length
    ends: list[int] = []  # the line that it ends with
    before: dict[int, int | None] = {}
    for number, epoch in epochs.items():
        place = bisect.bisect_left(tails, epoch)
        before[number] = ends[place - 1] if place else None
        if place == len(tails):
            tails.append(epoch)
            ends.append(number)
        elif tails[place] != epoch:
            tails[place], ends[place] = epoch, number
    kept: set[int] = set()
    number_or_none = ends[-1] if ends else None
    while number_or_none is not None:
        kept.add(number_or_none)
        number_or_none = before[number_or_none]
    return kept


def _gaps(epochs: list[int], last: int) -> list[tuple[int, int]]:
    """Returns the first and the last of every stretch of epochs up to `last` that are not among those that rise."""
    found, expected = [], 1
    for epoch in [*(epoch for epoch in epochs if epoch <= last), last + 1]:
        if epoch > expected:
            found.append((expected, epoch - 1))
        expected = epoch + 1
    return found
