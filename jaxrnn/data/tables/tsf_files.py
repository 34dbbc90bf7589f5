"""The ``.tsf`` files of Monash's forecasting archive: a series a line behind its attributes, apart by colons.

Format: https://github.com/rakshitha123/TSForecasting (Godahewa et al. 2021, Monash Time Series Forecasting Archive)
"""

import dataclasses
import re
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers import plain_numbers
from jaxrnn.data.readers.complaints import complaint, naming, quote
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.readers.sources import decode
from jaxrnn.data.sequences import Schedule
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.tables.columns import Names
from jaxrnn.data.tables.step_tables import Table

VALUES, TIMES, NAME = "values", "times", "series_name"
_TAG = re.compile(rb"^\s*@(relation|attribute)\b", re.MULTILINE | re.IGNORECASE)
_DATA = re.compile(rb"^\s*@data\b", re.MULTILINE | re.IGNORECASE)
_START = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)[-:](\d\d)[-:](\d\d))?", re.ASCII)
_KINDS = ("string", "numeric", "date")
_MEND = "mend the line"


def is_tsf(head: bytes) -> bool:
    """Whether the tags of a file are those of a ``.tsf`` file."""
    head = head.replace(b"\r", b"\n")
    data = _DATA.search(head)
    return _TAG.search(head[: data.start() if data else len(head)]) is not None


def read_tsf(content: bytes, *, name: str) -> Table:
    """Reads a ``.tsf`` file: a column ``values`` of lists, one of ``times`` if a start and a frequency give them.

    ``series_name``, or the first text that differs in every series, has the ids; numbers are what belongs to a series
    as a whole, and so are other texts, as categories.

    Args:
      content: UTF-8.
      name: What messages call it.

    Raises:
      DataError: The first line that is not as the tags say; names it and the part between colons.
    """
    import pyarrow as pa

    file = _File(name)
    for number, line in enumerate(decode(content, name=name).replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith(("#", "%")):
            file.take(stripped, number)
    if not file.lines:
        raise complaint(name, found="no series", expected="@data and a line a series", remedy="check the path")
    values, lengths = file.values()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]))
    columns: dict[str, Any] = {}
    own_roles: dict[str, Names] = {"input_columns": VALUES}
    for (attribute, kind), texts in zip(file.attributes.items(), zip(*file.cells, strict=True), strict=True):
        if kind == "date":
            times = file.times(texts, lengths)
            if times is not None:
                columns[TIMES] = pa.LargeListArray.from_arrays(offsets, pa.array(times))
                own_roles["time_column"] = TIMES
        else:
            columns[attribute] = pa.array(texts)
    columns[VALUES] = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    places = {attribute: number for number, attribute in enumerate(file.attributes, 1)}
    places |= {VALUES: len(places) + 1, TIMES: file.date_column()}
    own_roles |= _roles(file)
    return Table(name, pa.table(columns), lambda row: file.lines[row], places, "a .tsf file", own_roles, file.schedule)


def _roles(file: "_File") -> dict[str, Names]:
    texts = [attribute for attribute, kind in file.attributes.items() if kind == "string"]
    ids = NAME if NAME in texts else None
    for attribute in texts:
        if ids is None and len(set(file.column(attribute))) == len(file.lines):
            ids = attribute
    numbers = tuple(attribute for attribute, kind in file.attributes.items() if kind == "numeric")
    own: dict[str, Names] = {"id_column": ids} if ids else {}
    return own | {"static_columns": numbers, "static_category_columns": tuple(texts)}  # those that are not the ids


@dataclasses.dataclass
class _File:
    """What the lines of a file have said so far."""

    name: str
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    schedule: Schedule = Schedule()  # noqa: RUF009  it is frozen
    frequency: Frequency | None = None
    may_miss: bool = True
    is_equal_length: bool = False
    is_data: bool = False
    lines: list[int] = dataclasses.field(default_factory=list)
    cells: list[list[str]] = dataclasses.field(default_factory=list)
    series: list[str] = dataclasses.field(default_factory=list)

    def refuse(self, line: int, *column: int, found: str, expected: str, remedy: str = _MEND) -> NoReturn:
        raise complaint(self.name, line, *column, found=found, expected=expected, remedy=remedy)

    def take(self, line: str, number: int) -> None:
        """Takes a line."""
        if self.is_data:
            *attributes, series = line.split(":")
            if len(attributes) != len(self.attributes):
                expected = f"{len(self.attributes)}, as there are @attribute tags, before the values"
                self.refuse(number, found=f"{len(attributes)} attributes", expected=expected)
            self.lines.append(number)
            self.cells.append([cell.strip() for cell in attributes])
            self.series.append(series)
            return
        tag, *words = line.split()
        if not tag.startswith("@"):
            self.refuse(number, found=quote(line), expected="a tag, or @data before the first series")
        self._take_tag(tag[1:].lower(), words, number)

    def _take_tag(self, tag: str, words: list[str], number: int) -> None:
        if tag == "data":
            self.is_data = True
        elif tag == "attribute":
            self._take_attribute(words, number)
        elif tag == "frequency":
            self.schedule = dataclasses.replace(self.schedule, frequency=" ".join(words))
            self.frequency = self._frequency_of(" ".join(words), number)
        elif tag == "horizon":
            if len(words) != 1 or not words[0].isdecimal() or not 0 < int(words[0][:9]) == int(words[0]):
                self.refuse(number, found=quote(" ".join(words)), expected="a whole number from 1")
            self.schedule = dataclasses.replace(self.schedule, horizon=int(words[0]))
        elif tag in ("missing", "equallength"):
            if [word.lower() for word in words] not in (["true"], ["false"]):
                self.refuse(number, found=quote(" ".join(words)), expected="true or false")
            is_true = words[0].lower() == "true"
            self.may_miss = is_true if tag == "missing" else self.may_miss
            self.is_equal_length = is_true if tag == "equallength" else self.is_equal_length
        elif tag != "relation":
            expected = "@relation, @attribute, @frequency, @horizon, @missing, @equallength or @data"
            self.refuse(number, found=quote(f"@{tag}"), expected=expected, remedy="mend the tag, or remove it")

    def _take_attribute(self, words: list[str], number: int) -> None:
        if len(words) != 2 or words[1] not in _KINDS:
            found, expected = quote(" ".join(words)), "a name and a kind: string, numeric or date"
            self.refuse(number, found=found, expected=expected, remedy="mend the tag; files of ARFF are not read")
        if words[0] in (*self.attributes, VALUES, TIMES):
            self.refuse(number, found=f"the attribute {quote(words[0])} again", expected="names that differ")
        if words[1] == "date" and "date" in self.attributes.values():
            self.refuse(number, found=f"a second date, {quote(words[0])}", expected="one, the start of the series")
        self.attributes[words[0]] = words[1]

    def _frequency_of(self, word: str, number: int) -> Frequency:
        frequency = Frequency.from_word(word)
        if frequency is None:
            expected = "such as yearly, monthly, daily, half_hourly or 10_minutes"
            self.refuse(number, found=quote(word.lower()), expected=expected, remedy="mend the tag, or remove it")
        return frequency

    def date_column(self) -> int:
        kinds = list(self.attributes.values())
        return kinds.index("date") + 1 if "date" in kinds else len(kinds) + 1

    def column(self, attribute: str) -> list[str]:
        place = list(self.attributes).index(attribute)
        return [row[place] for row in self.cells]

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the numbers of all series, NaN where one is missing, and the lengths of the series."""
        import pyarrow as pa
        import pyarrow.compute as pc

        pieces = pc.split_pattern(pa.array(self.series, pa.large_string()), ",")
        fields = pc.ascii_trim_whitespace(pieces.flatten())
        lengths = np.asarray(pc.list_value_length(pieces)).astype(np.int64)
        is_lost = np.asarray(pc.equal(fields, "?"))
        numbers, is_bad = plain_numbers.parse_numbers(pc.if_else(pa.array(is_lost), "nan", fields))
        is_bad |= ~is_lost & ~(np.abs(numbers) < FLOAT32_OVERFLOW)
        is_bad |= is_lost & (not self.may_miss)
        if is_bad.any():
            place = int(np.argmax(is_bad))
            row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
            expected = "a finite number, or ? for a missing one"
            if is_lost[place]:
                expected = "a number, since @missing is false"
            found = f"{quote(fields[place].as_py())} at step {place - int(lengths[:row].sum()) + 1}"
            self.refuse(self.lines[row], len(self.attributes) + 1, found=found, expected=expected)
        if self.is_equal_length and (lengths != lengths[0]).any():
            row = int(np.argmax(lengths != lengths[0]))
            expected = f"{lengths[0]} as in line {self.lines[0]}, since @equallength is true"
            self.refuse(self.lines[row], found=f"{lengths[row]} values", expected=expected)
        return numbers, lengths

    def times(self, starts: tuple[str, ...], lengths: NDArray[np.int64]) -> NDArray[np.datetime64] | None:
        """Returns the time of every step, if the file has said how far apart they are."""
        if self.frequency is None:
            return None
        found = []
        for line, text, length in zip(self.lines, starts, lengths.tolist(), strict=True):
            start = _start(text)
            if start is None:
                self.refuse(line, self.date_column(), found=quote(text), expected="a time such as 2024-05-31 14-00-00")
            with naming(self.name):
                found.append(self.frequency.count_from(start, length))
        return np.concatenate(found)


def _start(text: str) -> np.datetime64 | None:
    match = _START.fullmatch(text)
    if match is None:
        return None
    day, *clock = match.groups(default="00")
    try:
        return np.datetime64(f"{day}T{':'.join(clock)}", "us")
    except ValueError:  # a month 13
        return None
