"""The exact, slow reading of text rows, which says where and why a row is refused.

This pass defines what the reader accepts; the fast path in text_reader.py hands over whatever it
does not recognise at once. It reads about a million values a second.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW, MAX_FIELD_LENGTH, ReadOptions
from jaxrnn.foundation.errors import DataError

# A part of what float() takes: no underscores, no digits but ASCII's, no nan, no infinity.
HEADER_REMEDY = "if the first line is a header"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NON_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]")
_BLANK = " \t\v\f"
_OTHER_DELIMITERS = (";", "\t", "|", ",", ":", " ")
_BESIDE_DECIMAL_COMMAS = (";", "\t", "|")
# Advice looks at this much of a line, however long it is.
_ADVICE_LENGTH = 10_000


def parse_line(
    text: str,
    *,
    name: str = "<stdin>",
    line_number: int = 1,
    delimiter: str = ReadOptions.delimiter,
    min_length: int = 1,
    max_row_length: int = ReadOptions.max_row_length,
) -> NDArray[np.float64]:
    """Reads one typed row, with the checks and messages of `jaxrnn.read_sequences`.

    Args:
      text: The row; a line ending is ignored.
      name: What messages call the place the text comes from.
      line_number: The row's line there, counted from 1.
      delimiter: The character between two values.
      min_length: The fewest values the row may have.
      max_row_length: The most values the row may have.

    Returns:
      float64, (num_values,).

    Raises:
      DataError: The text is not a row of decimal numbers.
      UserError: An option is not one of its values.
    """
    # With a header no message suggests that a typed line might be one.
    options = ReadOptions(delimiter=delimiter, min_length=min_length, max_row_length=max_row_length, header=True)
    line = text.rstrip("\r\n")
    if is_blank(line):
        raise blank_line(name, line_number, options)
    return np.array(parse_row(line, name=name, line_number=line_number, options=options))


def parse_row(line: str, *, name: str, line_number: int, options: ReadOptions) -> list[float]:
    """Reads a line, without its end, that is not blank.

    Undecodable bytes in it are the lone surrogates that decoding with surrogateescape leaves.

    Raises:
      DataError: The first field that is no number, or a row too short or too long.
    """
    row: list[float] = []
    for start, field in _fields(line, options.delimiter):
        if len(row) == options.max_row_length:
            raise complaint(
                name, line_number, start + 1,
                found=f"more than {options.max_row_length} values in a row",
                expected=f"at most {options.max_row_length}",
                remedy="check that lines end where rows end, or raise --max-row-length",
            )  # fmt: skip
        number = field.strip(" ")
        value = float(number) if _NUMBER.fullmatch(number) else np.nan
        if len(field) > MAX_FIELD_LENGTH or not abs(value) < FLOAT32_OVERFLOW:
            column = start + len(field) - len(field.lstrip(" ")) + 1
            raise _bad_field(field, line, name, line_number, column, options)
        row.append(value)
    if len(row) < options.min_length:
        raise complaint(
            name, line_number, 1,
            found=f"a row of {len(row)} value{'s' if len(row) > 1 else ''}, {quote(line)}",
            expected=f"at least {options.min_length}, the last to be predicted from the others",
            remedy=_short_row_remedy(line, options),
        )  # fmt: skip
    return row


def is_blank(line: str) -> bool:
    """Whether a line holds nothing but white space."""
    return not line.strip(_BLANK)


def blank_line(name: str, line_number: int, options: ReadOptions) -> DataError:
    """The error for a blank line."""
    return complaint(
        name, line_number, 1,
        found="a blank line",
        expected=f"a row of at least {options.min_length} "
        f"number{'s' if options.min_length > 1 else ''}",
        remedy="remove the line, or skip all blank lines with --blank-lines=skip",
    )  # fmt: skip


def _fields(line: str, delimiter: str) -> Iterator[tuple[int, str]]:
    """Each field and where it starts; lazy, since a line may hold far too many."""
    start = 0
    while True:
        end = line.find(delimiter, start)
        if end < 0:
            yield start, line[start:]
            return
        yield start, line[start:end]
        start = end + 1


def _bad_field(field: str, line: str, name: str, line_number: int, column: int, options: ReadOptions) -> DataError:
    """Says what is wrong with a field that is refused, and what would mend it."""
    number = field.strip(" ")
    found, expected = quote(number or field), "a decimal number"
    if len(field) > MAX_FIELD_LENGTH:
        expected = f"a decimal number of at most {MAX_FIELD_LENGTH} characters"
        remedy = "check that the file is text with a delimiter between its numbers"
    elif not number:
        found, remedy = "an empty field", _empty_field_remedy(line, column, options)
    elif _NUMBER.fullmatch(number):
        expected = "a number that float32 can hold, of magnitude below 3.4028236e38"
        remedy = "rescale the data, or remove the row"
    elif _NON_FINITE.fullmatch(number):
        expected, remedy = "a finite decimal number", "remove the row, or mend the value"
    else:
        remedy = _remedy(number, line, line_number, options)
    return complaint(name, line_number, column, found=found, expected=expected, remedy=remedy)


def _remedy(number: str, line: str, line_number: int, options: ReadOptions) -> str:
    if "\0" in number:
        return "if the file is UTF-16, save it as UTF-8; else it is no text"
    if any("\udc80" <= character <= "\udcff" for character in number):
        return "save the file as UTF-8: these bytes are not"
    if number.startswith("#"):
        return "remove the line: comments are never dropped in silence"
    delimiter_remedy = _delimiter_remedy(number, line, options)
    if delimiter_remedy:
        return delimiter_remedy
    if number.startswith(('"', "'")):
        return "remove the quotes" + _header_remedy(line, line_number, options)
    if _WORD.search(number) or "_" in number:
        return "write it in digits, such as -1.5 or 2e3" + _header_remedy(line, line_number, options)
    return "write it in ASCII digits, such as -1.5 or 2e3"


def _header_remedy(line: str, line_number: int, options: ReadOptions) -> str:
    """Suggests --header for a first line without a single number in it."""
    fields = line[:_ADVICE_LENGTH].split(options.delimiter)
    if line_number > 1 or options.header or any(_is_number(field) for field in fields):
        return ""
    return f"; {HEADER_REMEDY}, give --header, or of a table the columns, such as --input-columns"


def _short_row_remedy(line: str, options: ReadOptions) -> str:
    return _delimiter_remedy(line, line, options) or "remove the row"


def _delimiter_remedy(number: str, line: str, options: ReadOptions) -> str:
    """Suggests the delimiter that cuts the line into numbers, or nothing."""
    head = line[:_ADVICE_LENGTH]
    for other in _OTHER_DELIMITERS:
        if other == options.delimiter or other not in number.strip(" "):
            continue
        fields = head.split() if other == " " else head.split(other)
        spelled = {"\t": r"'\t'", " ": "' '"}.get(other, f"'{other}'")
        if all(_is_number(field) for field in fields):
            return f"if {spelled} separates the values, give --delimiter={spelled}"
        if other in _BESIDE_DECIMAL_COMMAS and all(_is_number(field.replace(",", ".")) for field in fields):
            return f"write decimals with a point in place of the comma, and give --delimiter={spelled}"
    if "," in number and _is_number(number.replace(",", ".")):
        return (
            "write decimals with a point in place of the comma, or, if ',' separates the values, give --delimiter=','"
        )
    return ""


def _empty_field_remedy(line: str, column: int, options: ReadOptions) -> str:
    if options.delimiter == " ":
        return "put a single space between two values and none at the ends"
    if column > len(line.rstrip(" ")):
        return f"remove the {quote(options.delimiter)} at the end of the line"
    return "write the missing value, or remove the delimiter"


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field.strip(_BLANK)) is not None
