"""Texts of delimited cells: their lines, and where quotes are as RFC 4180 has them.

A pattern that counts lines goes through a text cell by cell, to say where a fault is. (Python's csv module takes no
cell of more than 131,072 characters.)
"""

import codecs
import collections
import io
import itertools
import re
from collections.abc import Iterator

import numpy as np

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.native.plain_text import survey
from jaxrnn.data.readers.sources import decode
from jaxrnn.foundation.errors import DataError

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_WHOLE_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r(?!\Z))")  # one that is not cut
_LINE_END = re.compile(r"\r\n|\n|\r")
_MOST_HEADER_LINES = 1000
_BEGINNING = 1 << 16


class Text:
    """A text without the lines that are left out.

    Args:
      name: What messages call it.
      content: Its lines; bytes of ASCII become text when somebody asks for it.
      numbers: The number of each of them in the file; None if they count from 1.
      source: The content as bytes, where it is at hand.
      last_quote: The place of its last quote among the bytes, -1 without one, where it is known.
    """

    def __init__(
        self,
        name: str,
        content: str | bytes,
        numbers: list[int] | None = None,
        source: bytes | None = None,
        last_quote: int | None = None,
    ):
        self.name = name
        self._last_quote = last_quote
        self._content = content if isinstance(content, str) else None
        self._source = source if isinstance(content, str) else content
        self._numbers = numbers

    @property
    def content(self) -> str:
        """The text itself."""
        if self._content is None:
            self._content = (self._source or b"").decode("ascii")
        return self._content

    def encoded(self) -> bytes:
        """Returns the text as UTF-8."""
        if self._source is None:
            self._source = self.content.encode()
        return self._source

    def last_quote(self) -> int:
        """Returns the place of the last quote among the bytes, -1 if there is none."""
        if self._last_quote is None:
            self._last_quote = self.encoded().rfind(b'"')
        return self._last_quote

    def let_go(self) -> None:
        """Keeps one of the text and its bytes, for what finds lines later."""
        if self._content is not None:
            self._source = None

    def line(self, number: int) -> int:
        """Returns the number in the file of a line of the content, counted from 1."""
        return number if not self._numbers else self._numbers[min(number, len(self._numbers)) - 1]

    def first_line(self) -> str:
        """Returns the first line."""
        return next(self._first_lines(), "").rstrip("\r\n")

    def header(self) -> str:
        """Returns the header's text, which may have quoted line ends."""
        header = ""
        for line in itertools.islice(self._first_lines(), _MOST_HEADER_LINES):
            header += line
            if header.count('"') % 2 == 0:
                break
        return header

    def _first_lines(self) -> Iterator[str]:
        """Yields lines with their ends; of bytes, those that begin with so many alone, if the caller needs no more."""
        place = 0
        if self._content is None and self._source is not None:
            beginning = self._source[:_BEGINNING].decode("ascii")
            while match := _WHOLE_LINE.match(beginning, place):
                yield match[0]
                place = match.end()
        for match in _LINE.finditer(self.content, place):
            yield match[0]


def names_of(text: Text) -> list[str]:
    """Returns the names that the first line has if it is a header, whatever stands between them."""
    return [cell.strip('"') for cell in re.split(r"[,;\t]", text.header().strip())]


def text_of(content: bytes, name: str, *, comment: str | None = None, skip_lines: int = 0) -> Text:
    """Takes the lines of a text that are not left out: those before `skip_lines`, and those that begin with `comment`.

    Raises:
      DataError: It is no UTF-8, or has a NUL byte.
    """
    if comment is None and not skip_lines:
        found = survey(content)
        if found.is_ascii and not found.has_nul:
            return Text(name, content, last_quote=found.last_quote)
    text = decode(content, name=name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise complaint(name, line, found="a NUL byte", expected="text", remedy="check that it is the right file")
    if comment is None and not skip_lines:
        return Text(name, text, None, None if content.startswith(codecs.BOM_UTF8) else content)
    kept: list[tuple[int, str]] = []
    is_quoted = False  # a line that goes on with a cell is no comment
    for number, one in enumerate(io.StringIO(text, newline=""), 1):
        if number > skip_lines and (is_quoted or not (comment and one.startswith(comment))):
            kept.append((number, one))
            is_quoted ^= one.count('"') % 2 == 1
    return Text(name, "".join(line for _, line in kept), [number for number, _ in kept])


def records_of(text: Text, delimiter: str, part: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yields every record, of a part that the text begins with if one is given, with the number of its first line.

    A blank line has no cells.
    """
    cell = _cell_pattern(delimiter)
    content, place, line, first_line = text.content if part is None else part, 0, 1, 1
    record: list[str] = []
    has_more = bool(content)
    while has_more:
        match = cell.match(content, place)
        if match is None:
            raise _bad_cell(text.name, text.line(line), content[place : place + 60])
        written, ending = match.groups()
        record.append(written[1:-1].replace('""', '"') if written.startswith('"') else written)
        place = match.end()
        line += len(_LINE_END.findall(match[0]))
        if ending != delimiter:
            yield text.line(first_line), record if written or len(record) > 1 else []
            record, first_line = [], line
        has_more = place < len(content) or ending == delimiter


def end_of_first(text: str, delimiter: str) -> int:
    """Returns where the first record ends, with its line end: a quote within an unquoted cell is one like others."""
    cell, place = _cell_pattern(delimiter), 0
    while match := cell.match(text, place):
        place = match.end()
        if match[2] != delimiter:
            break
    return place


def _cell_pattern(delimiter: str) -> re.Pattern[str]:
    """Makes a pattern of a cell, quoted or not, and of what ends it."""
    end = re.escape(delimiter)
    quoted = rf'"[^"]*(?:""[^"]*)*"(?=[{end}\r\n]|\Z)'
    return re.compile(rf'({quoted}|[^"{end}\r\n][^{end}\r\n]*|)({end}|\r\n|\n|\r|\Z)')


def _bad_cell(name: str, line: int, reason: str) -> DataError:
    return complaint(
        name,
        line,
        found=f"a cell that cannot be read ({quote(reason)})",
        expected='cells quoted with " and "" for a quote in them',
        remedy="mend the quotes",
    )


def require_closed_cells(text: Text, delimiter: str) -> None:
    """Refuses a cell that begins with a quote and goes on behind its closing one.

    Readers of CSV differ in what they make of it, and pyarrow drops the quotes without a word.

    Raises:
      DataError: There is such a cell; names its line.
    """
    last = text.last_quote()  # often of the header
    if last < 0:
        return
    codes = np.frombuffer(text.encoded()[: last + 2], np.uint8)
    quotes = np.flatnonzero(codes == ord('"'))
    ends = np.array([ord(delimiter), ord("\n"), ord("\r"), ord('"')], np.uint8)
    padded = np.concatenate([ends[1:2], codes, ends[1:2]])
    # Of well-formed cells every other quote opens, and stands before or behind what may stand there.
    if (
        quotes.size % 2 == 0
        and np.isin(padded[quotes[::2]], ends).all()
        and np.isin(padded[quotes[1::2] + 2], ends).all()
    ):
        return
    collections.deque(records_of(text, delimiter), maxlen=0)
