"""The one door to a run's files: each is read strictly, named where it is wrong, and kept as far as it is readable.

Every message has one form: ``FILE[:LINE]: what was found; what was expected; what to do``.
"""

import bisect
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.files import write_atomically
from jaxrnn.settings.config import FIGURE_NAMES, MAX_COUNT, Config
from jaxrnn.settings.toml_files import read_toml

PARTS = ("training", "validation")
MAX_COMPLAINTS = 3  # about single lines; more are counted
MAX_REASON = 100  # characters of what a parser says
WRITTEN_BY_RUN = "a file as jaxrnn.train writes it"


class RunFileError(UserError):
    """A file of a run that cannot be read, or that holds something else."""


class MissingRunFileError(RunFileError):
    """A file of a run that is not there."""


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
            f"{_place(self.path, number)}: found {found}; expected the figures of an epoch; the other lines are kept"
            for number, found in list(self.damaged.items())[:MAX_COMPLAINTS]
        ]
        if len(self.damaged) > MAX_COMPLAINTS:
            more = len(self.damaged) - MAX_COMPLAINTS
            said.append(f"{_place(self.path)}: found {more} more damaged lines; expected none; the others are kept")
        epochs = [line.epoch for line in self.lines]
        last = (epochs[-1] if epochs else 0) if last_epoch is None else last_epoch
        gaps = _gaps(epochs, last)
        num_missing = sum(end - begin + 1 for begin, end in gaps)
        if num_missing > len(self.damaged):
            listed = ", ".join(f"{begin}" if begin == end else f"{begin} to {end}" for begin, end in gaps[:10])
            said.append(
                f"{_place(self.path)}: found no line of epoch {shorten(listed)}; expected one for each of 1 to {last};"
                " put back a copy of the file if there is one, or go on without them"
            )
        return said


def complaint(path: Path, line: int | None = None, *, found: str, expected: str, remedy: str) -> RunFileError:
    """Makes the error ``FILE[:LINE]: found ..; expected ..; remedy``."""
    return RunFileError(f"{_place(path, line)}: found {found}; expected {expected}; {remedy}")


def _place(path: Path, line: int | None = None) -> str:
    return escape(shorten(str(path))) + ("" if line is None else f":{line}")


def require_file_or_nothing(path: Path) -> None:
    """Refuses what stands where a run writes a file, and is none.

    Raises:
      RunFileError: There is a directory, or something else.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise complaint(path, found=_kind(status.st_mode), expected=WRITTEN_BY_RUN, remedy="move it away")


def read_bytes(path: Path) -> bytes:
    """Returns a file's content; waits for no pipe.

    Raises:
      MissingRunFileError: There is none.
      RunFileError: It is no file, or may not be read.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise complaint(path, found=_kind(mode), expected=WRITTEN_BY_RUN, remedy="move it away")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingRunFileError(
            f"{_place(path)}: No such file; expected {WRITTEN_BY_RUN}; put back a copy if there is one"
        ) from error
    except OSError as error:
        what = f"a file that cannot be read ({error.strerror})"
        raise complaint(path, found=what, expected=WRITTEN_BY_RUN, remedy="mend its permissions") from error


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "no regular file"


def read_config(path: Path) -> dict[str, Any]:
    """Returns every key of a run's config.toml and its value.

    Raises:
      UserError: It is missing, no TOML, or no configuration; names the line.
    """
    read_bytes(path)  # says what is wrong with the file itself
    return Config().replace_flat(read_toml(path)).to_flat()


def read_environment(path: Path) -> dict[str, Any]:
    """Returns what environment.json holds: versions, data and machine.

    Raises:
      MissingRunFileError: There is none.
      RunFileError: It is damaged.
    """
    content = _read_object(path)
    versions, data = (_require_object(path, content, key) for key in ("versions", "data"))
    for key in ("path", "sha256"):
        if not isinstance(data.get(key), str):
            raise _unexpected(path, f"data.{key}", data.get(key), "a text")
    for key in ("rows", "values"):
        if type(data.get(key)) is not int:
            raise _unexpected(path, f"data.{key}", data.get(key), "a whole number")
    for name, version in versions.items():
        if not isinstance(version, str):
            raise _unexpected(path, f"versions.{shorten(name, 40)}", version, "a text")
    return content


def read_summary(path: Path) -> dict[str, Any]:
    """Returns what summary.json holds, with NaN for figures that were not finite.

    Raises:
      MissingRunFileError: There is none.
      RunFileError: It is damaged.
    """
    content = _read_object(path)
    baselines = _require_object(path, content, "baselines")
    named = {key: _require_object(path, content, key) for key in ("validation", "test")}
    try:
        content |= {key: as_figures(figures) for key, figures in named.items()}
        content["baselines"] = {name: as_figures(figures) for name, figures in baselines.items()}
    except ValueError as error:
        raise _damaged(path, error) from error
    return content


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
                damaged[number] = shorten(escape(_reason(error)), MAX_REASON)
    kept = _longest_rise({number: line.epoch for number, line in read.items()})
    for number in read.keys() - kept:
        damaged[number] = f"epoch {read[number].epoch} out of its order"
    return Metrics([read[number] for number in sorted(kept)], dict(sorted(damaged.items())), path)


def as_figures(figures: Any) -> dict[str, float]:
    """Checks figures that were read, and puts NaN where JSON has null.

    Raises:
      ValueError: They are none.
    """
    if not isinstance(figures, dict):
        raise ValueError(f"{_shown(figures)} in place of figures")
    read = {}
    for name in FIGURE_NAMES:
        value = figures.get(name)
        if value is not None and type(value) not in (int, float):
            raise ValueError(f"{name}: {_shown(value)} in place of a number")
        try:
            read[name] = math.nan if value is None else float(value)
        except OverflowError as error:
            raise ValueError(f"{name}: a huge number") from error
    return read


def set_aside(path: Path) -> Path:
    """Copies a damaged file to ``NAME.damaged``, or with a number behind if that holds something else."""
    content, target, number = path.read_bytes(), path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(target):
        if target.is_file() and target.read_bytes() == content:  # of an earlier attempt
            return target
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    write_atomically(target, content)
    return target


def _epoch_of(text: str) -> dict[str, Any]:
    content = _parse(text)
    if not isinstance(content, dict):
        raise ValueError(f"{type(content).__name__} in place of an object")
    epoch, rate = content.get("epoch"), content.get("learning_rate", 0.0)
    if type(epoch) is not int or not 1 <= epoch <= MAX_COUNT:
        raise ValueError(f"epoch: {_shown(epoch)}")
    if type(rate) not in (int, float):
        raise ValueError(f"learning_rate: {_shown(rate)}")
    spreads = [key for key in content if key in [f"{part}_std" for part in PARTS]]
    return content | {key: as_figures(content.get(key)) for key in (*PARTS, *spreads)}


def _parse(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} in place of a number")

    def as_float(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{shorten(digits, 40)}, beyond any number")
        return value

    return json.loads(text, parse_constant=refuse, parse_float=as_float)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = _parse(read_bytes(path).decode("utf-8"))
    except RunFileError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, ValueError(f"{type(content).__name__} in place of an object"))
    return content


def _require_object(path: Path, content: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content.get(key), dict):
        raise _unexpected(path, key, content.get(key), "an object")
    return content[key]


def _unexpected(path: Path, key: str, value: Any, expected: str) -> RunFileError:
    found, remedy = f"{escape(key)}: {_shown(value)}", "put back a copy of the file if there is one"
    return complaint(path, found=found, expected=expected, remedy=remedy)


def _damaged(path: Path, error: Exception) -> RunFileError:
    found = f"a damaged file ({shorten(escape(_reason(error)), MAX_REASON)})"
    return complaint(path, found=found, expected=WRITTEN_BY_RUN, remedy="put back a copy of it if there is one")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "bytes that are not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at column {error.colno}"
    return "brackets without end" if isinstance(error, RecursionError) else str(error)


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value), 40)
    except (ValueError, RecursionError):  # Python writes no number of more than some thousand digits
        return "something huge"


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
