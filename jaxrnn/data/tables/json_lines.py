"""JSON Lines: an object a line, each a sequence of its own, or a step."""

import json
import re
from typing import Any, NoReturn

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.tables.step_tables import Table

_KINDS = {
    "a number": "numbers",
    "a text": "texts",
    "true or false": "true or false",
    "an object": "objects",
    "nothing": "",
}
_OWN_ROLES = {"id_column": "id", "label_column": "label"}
_EXPECTED = 'an object such as {"id": "a", "values": [1, 2], "label": "x"}'


def is_json_lines(head: bytes) -> bool:
    """Whether a file begins as an object does."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def refuse_json_list(head: bytes, name: str) -> None:
    """Refuses a file that is one list of objects.

    Raises:
      DataError: It is.
    """
    if re.match(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{", head):
        remedy = "write one on each line, in pandas by to_json(path, orient='records', lines=True)"
        raise complaint(name, 1, found="a list of objects", expected="an object a line", remedy=remedy)


def read_json_lines(content: bytes, *, name: str) -> Table:
    """Reads an object a line, all with the same keys.

    Args:
      content: UTF-8.
      name: What messages call it.

    Raises:
      DataError: A line is no object, has other keys than the first, or a value of another kind; names the line.
    """
    import pyarrow as pa

    lines: list[int] = []
    columns: dict[str, list[Any]] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        row = _parse(line, name, number)
        if not lines:
            columns = {key: [] for key in row}
        if row.keys() != columns.keys():
            other = ", ".join(map(quote, sorted(row.keys() ^ columns.keys())[:4]))
            found = f"other keys than in line {lines[0]} ({other})"
            raise complaint(name, number, found=found, expected="the same in every line", remedy="mend the line")
        for key, value in row.items():
            columns[key].append(value)
        lines.append(number)
    arrays = {key: _array(values, key, name, lines) for key, values in columns.items()}
    return Table(name, pa.table(arrays), lambda row: lines[row], form="JSON Lines", own_roles=_OWN_ROLES)


def _parse(line: bytes, name: str, number: int) -> dict[str, Any]:
    def refuse(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number of JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        row = json.loads(line, parse_constant=refuse, object_pairs_hook=once)
        if b"\\u" in line:  # half of a surrogate pair
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError too
        reason = quote(str(error).partition(": line ")[0])
        raise complaint(
            name, number, found=f"no JSON ({reason})", expected=_EXPECTED, remedy="mend the line, or remove it"
        ) from error
    if not isinstance(row, dict) or not row:
        raise complaint(name, number, found=quote(line[:60].decode(errors="replace")), expected=_EXPECTED,
                        remedy="mend the line, or remove it")  # fmt: skip
    return row


def _array(values: list[Any], key: str, name: str, lines: list[int]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        kinds = [_kind(value) for value in values]
        row = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), 0)
        huge = next((number for number, value in enumerate(values) if _is_huge(value)), None)
    if huge is not None:
        found, expected = f"a huge whole number in {quote(key)}", "one that 64 bits hold, below 9223372036854775808"
        raise complaint(name, lines[huge], found=found, expected=expected, remedy="write it as a text, or as a decimal")
    # Outside of the clause: what pyarrow says names no line.
    raise complaint(
        name,
        lines[row],
        found=f"{quote(json.dumps(values[row]))} in {quote(key)}",
        expected=f"{kinds[0]}, as in line {lines[0]}" if row else "numbers, texts or lists of them",
        remedy="mend the line",
    )


def _is_huge(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_huge, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _kind(value: Any) -> str:
    """Says in words what a value is, lists by what they hold."""
    if isinstance(value, list):
        inner = {_KINDS.get(_kind(item), _kind(item)) for item in value} - {""}
        return f"a list of {' and '.join(sorted(inner)) or 'nothing'}"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a text" if isinstance(value, str) else "an object"
