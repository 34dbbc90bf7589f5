"""The one door to a run's files: each is read strictly, named where it is wrong, and kept as far as it is readable.

Every message has one form: ``FILE[:LINE]: what was found; what was expected; what to do``.
"""

import json
import math
import os
import stat
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.files import write_atomically
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import FIGURES_OF_TASK, FURTHER_FIGURES, task_of_figures
from jaxrnn.settings.toml_files import read_toml

MAX_REASON = 100  # characters of what a parser says
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WRITTEN_BY_RUN = "a file as jaxrnn.train writes it"


class RunFileError(UserError):
    """A file of a run that cannot be read, or that holds something else."""


class MissingRunFileError(RunFileError):
    """A file of a run that is not there."""


def complaint(path: Path, line: int | None = None, *, found: str, expected: str, remedy: str) -> RunFileError:
    """Makes the error ``FILE[:LINE]: found ..; expected ..; remedy``."""
    return RunFileError(f"{place_of(path, line)}: found {found}; expected {expected}; {remedy}")


def place_of(path: Path, line: int | None = None) -> str:
    """Writes a file's name, shortened and escaped, and the line."""
    return escape(shorten(str(path))) + ("" if line is None else f":{line}")


def require_file_or_nothing(path: Path) -> None:
    """Refuses what stands where a run writes a file, and is none.

    Raises:
      RunFileError: There is a directory, or something else.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(path, error) from error
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
            f"{place_of(path)}: No such file; expected {WRITTEN_BY_RUN}; put back a copy if there is one"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RunFileError:
    found = f"a file that cannot be read ({error.strerror})"
    return complaint(path, found=found, expected=WRITTEN_BY_RUN, remedy="mend its permissions, or move it away")


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "no regular file"


def read_config(path: Path) -> dict[str, Any]:
    """Returns every key of a run's config.toml and its value.

    Raises:
      UserError: It is missing, no TOML, or no configuration; names the line.
    """
    read_bytes(path)  # says what is wrong with the file itself
    return Config().replace_flat(read_toml(path)).to_flat()


def require_whole_config(path: Path, known: Callable[[], Collection[str] | None]) -> None:
    """Refuses a config.toml that lacks a key: what is left of one that was cut would go on as another run.

    Args:
      path: The file.
      known: Returns the keys that the run's version of jaxrnn knew, as its checkpoint has them, None where there is no
        checkpoint. What an earlier version did not know has its default.

    Raises:
      UserError: A key is missing, or it cannot be read.
    """
    read = read_toml(path)
    missing = [key for key, value in Config().to_flat().items() if value is not None and key not in read]
    if missing:
        keys = known()
        missing = [key for key in missing if keys is None or key in keys]
    if missing:
        found, expected = f"no {shorten(', '.join(missing), 100)}", "every key, as the run wrote it"
        raise complaint(
            path, found=found, expected=expected, remedy="put back a copy of the file, or add what is missing"
        )


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
    """Returns what summary.json holds, with NaN for figures that were not finite; none of a part without rows.

    Raises:
      MissingRunFileError: There is none.
      RunFileError: It is damaged.
    """
    content = _read_object(path)
    baselines = _require_object(path, content, "baselines")
    named = {key: _require_object(path, content, key) for key in ("validation", "test")}
    try:
        content |= {key: as_figures(figures) if figures else {} for key, figures in named.items()}
        content["baselines"] = {name: as_figures(figures) for name, figures in baselines.items()}
    except ValueError as error:
        raise _damaged(path, error) from error
    return content


def is_whole_png(path: Path) -> bool:
    """Whether a file is a PNG picture from its first byte to its last: every chunk of one has a sum."""
    try:
        content = read_bytes(path)
    except RunFileError:
        return False
    if not content.startswith(PNG_SIGNATURE):
        return False
    place, kind = len(PNG_SIGNATURE), b""
    while place + 12 <= len(content) and kind != b"IEND":
        size = int.from_bytes(content[place : place + 4])
        kind, chunk = content[place + 4 : place + 8], content[place + 4 : place + 8 + size]
        if int.from_bytes(content[place + 8 + size : place + 12 + size]) != zlib.crc32(chunk):
            return False
        place += 12 + size
    return kind == b"IEND" and place == len(content)


def as_figures(figures: Any) -> dict[str, float]:
    """Checks figures that were read, and puts NaN where JSON has null.

    Raises:
      ValueError: They are none.
    """
    if not isinstance(figures, dict):
        raise ValueError(f"{shown_value(figures)} in place of figures")
    read = {}
    task = task_of_figures(figures)
    further = [name for name in FURTHER_FIGURES[task] if name in figures]
    for name in (*FIGURES_OF_TASK[task], *further):
        value = figures.get(name)
        if value is not None and type(value) not in (int, float):
            raise ValueError(f"{name}: {shown_value(value)} in place of a number")
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


def parse_json(text: str) -> Any:
    """Parses JSON without NaN and infinity, and without numbers beyond any float.

    Raises:
      ValueError: It is none.
      RecursionError: Its brackets are too deep.
    """
    return _DECODER.decode(text)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} in place of a number")


def _parse_finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{shorten(digits, 40)}, beyond any number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_parse_finite)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path).decode("utf-8"))
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
    found, remedy = f"{escape(key)}: {shown_value(value)}", "put back a copy of the file if there is one"
    return complaint(path, found=found, expected=expected, remedy=remedy)


def _damaged(path: Path, error: Exception) -> RunFileError:
    found = f"a damaged file ({shorten(escape(reason_of(error)), MAX_REASON)})"
    return complaint(path, found=found, expected=WRITTEN_BY_RUN, remedy="put back a copy of it if there is one")


def reason_of(error: Exception) -> str:
    """Says in a few words why something could not be parsed."""
    if isinstance(error, UnicodeDecodeError):
        return "bytes that are not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at column {error.colno}"
    return "brackets without end" if isinstance(error, RecursionError) else str(error)


def shown_value(value: Any) -> str:
    """Writes a value for a message: of a long one its two ends."""
    try:
        return shorten(repr(value), 40)
    except (ValueError, RecursionError):  # Python writes no number of more than some thousand digits
        return "something huge"
