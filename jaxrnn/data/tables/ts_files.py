"""The ``.ts`` files of sktime and aeon: one sequence a line, dimensions apart by colons, and its class or target.

Format: https://www.aeon-toolkit.org/en/latest/api_reference/file_specifications/ts.html
"""

import re

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.readers.sources import decode
from jaxrnn.data.tables.step_tables import Table

_TAG = re.compile(rb"\s*@\w+")
_MISSING = ("?", "nan", "")
VALUES, LABEL = "values", "label"
_OWN_ROLES = {"label_column": LABEL}


def is_ts(head: bytes) -> bool:
    """Whether a file begins as a ``.ts`` file does, behind comments: with a tag such as ``@problemName``."""
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith((b"#", b"%"))), b"")
    return _TAG.match(first) is not None


def read_ts(content: bytes, *, name: str) -> Table:
    """Reads a ``.ts`` file without time stamps: a column ``values`` of lists of steps, and one ``label`` if it has any.

    Args:
      content: The file.
      name: What messages call it.

    Raises:
      DataError: It has time stamps, or the first line that is not as the tags say; names line and column.
    """
    import pyarrow as pa

    text = decode(content, name=name)

    tags: dict[str, list[str]] = {}
    sequences: list[NDArray[np.float64]] = []
    labels: list[str] = []
    lines: list[int] = []
    is_data = False
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "%")):
            continue
        if not is_data:
            if not stripped.startswith("@"):
                expected = "a tag, or @data before the first sequence"
                raise complaint(name, number, found=quote(stripped), expected=expected, remedy="mend the line")
            tag, *values = stripped[1:].split() or [""]
            is_data = tag.lower() == "data"
            tags[tag.lower()] = values
            if is_data:
                _require_no_times(tags, name, number)
            continue
        *dimensions, last = stripped.split(":") if _has_label(tags) else [*stripped.split(":"), ""]
        if _has_label(tags):
            labels.append(_label(last, tags, name, number, len(dimensions) + 1))
        lines.append(number)
        sequences.append(_steps(dimensions, sequences[0].shape[1] if sequences else None, tags, name, number))
    if not sequences:
        raise complaint(name, found="no sequences", expected="@data and a line a sequence", remedy="check the path")
    features = sequences[0].shape[1]
    steps = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(sequences).ravel()), features)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in sequences])])
    columns = {VALUES: pa.LargeListArray.from_arrays(pa.array(offsets), steps)}
    if labels:
        columns[LABEL] = pa.array(labels)
    return Table(name, pa.table(columns), lambda row: lines[row], form="a .ts file", own_roles=_OWN_ROLES)


def _is_true(tags: dict[str, list[str]], tag: str) -> bool:
    return [value.lower() for value in tags.get(tag, [])[:1]] == ["true"]


def _has_label(tags: dict[str, list[str]]) -> bool:
    return _is_true(tags, "classlabel") or _is_true(tags, "targetlabel")


def _require_no_times(tags: dict[str, list[str]], name: str, line: int) -> None:
    if _is_true(tags, "timestamps"):
        raise complaint(
            name,
            line,
            found="@timeStamps true",
            expected="values alone",
            remedy="write the data as a table with a column of times, and name it with --time-column",
        )


def _label(text: str, tags: dict[str, list[str]], name: str, line: int, column: int) -> str:
    label, classes = text.strip(), tags.get("classlabel", [])[1:]
    if not label or (_is_true(tags, "classlabel") and classes and label not in classes):
        listed = ", ".join(map(quote, classes[:8]))
        expected = f"a class of @classLabel: {listed}" if classes else "a class or a number"
        raise complaint(name, line, column, found=quote(label), expected=expected, remedy="mend the line")
    return label


def _steps(
    dimensions: list[str], features: int | None, tags: dict[str, list[str]], name: str, line: int
) -> NDArray[np.float64]:
    """Returns the steps of a line, (length, features)."""
    expected = features
    declared = (tags.get("dimensions") or [""])[0]
    if expected is None and declared.isascii() and declared.isdigit():
        expected = int(declared)
    if (expected is not None and len(dimensions) != expected) or not dimensions:
        raise complaint(
            name,
            line,
            found=f"{len(dimensions)} dimension{'' if len(dimensions) == 1 else 's'}",
            expected=f"{expected}, as @dimensions or the first sequence says" if expected else "one at least",
            remedy="mend the line",
        )
    columns = [_numbers(text, name, line, number) for number, text in enumerate(dimensions, 1)]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        listed = ", ".join(map(str, sorted(lengths)))
        raise complaint(name, line, found=f"dimensions of {listed} values", expected="all of one length",
                        remedy="mend the line")  # fmt: skip
    return np.stack(columns, axis=1)


def _numbers(text: str, name: str, line: int, dimension: int) -> NDArray[np.float64]:
    cells = ["nan" if cell.strip().lower() in _MISSING else cell for cell in text.split(",")]
    try:
        values = np.array([float(cell) for cell in cells])
        if "_" in text or not ((np.abs(values) < FLOAT32_OVERFLOW) | np.isnan(values)).all():
            raise ValueError
    except ValueError:
        bad = next(cell for cell in cells if not _is_finite(cell))
        raise complaint(
            name, line, dimension, found=quote(bad.strip()), expected="a finite number", remedy="mend the line"
        ) from None
    return values


def _is_finite(cell: str) -> bool:
    try:
        return "_" not in cell and (cell == "nan" or abs(float(cell)) < FLOAT32_OVERFLOW)
    except ValueError:
        return False
