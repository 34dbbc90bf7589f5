"""Text rows: everything accepted equals float(), everything else is refused at its place."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers import text_reader
from jaxrnn.data.readers.complaints import MAX_QUOTED_LENGTH, quote
from jaxrnn.data.readers.reader import parse_line, read_sequences, read_sequences_with_report, read_stream
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, printable

FLOAT32_MAX = float(np.finfo(np.float32).max)


def read(content: bytes, **options: object) -> list[list[float]]:
    return [row.tolist() for row in read_stream(io.BytesIO(content), name="FILE", **options)]


def refusal(content: bytes, **options: object) -> str:
    with pytest.raises(DataError) as error_info:
        read_stream(io.BytesIO(content), name="FILE", **options)
    message = str(error_info.value)
    assert re.fullmatch(r"FILE(:\d+:\d+)?: found .+; expected .+; .+", message), message
    assert message.isprintable()
    return message


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", 7)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"1,2\n3,4,5\n", id="lf"),
        pytest.param(b"1,2\r\n3,4,5\r\n", id="crlf"),
        pytest.param(b"1,2\r3,4,5\r", id="lone_cr"),
        pytest.param(b"1,2\r\n3,4,5", id="no_newline_at_the_end"),
        pytest.param(b"1,2\n3,4,5\r", id="mixed_newlines"),
        pytest.param(b"\xef\xbb\xbf1,2\n3,4,5\n", id="byte_order_mark"),
        pytest.param(b" 1 ,2  \n3, 4,   5 \n", id="spaces_around_numbers"),
        pytest.param(b"+1,2.\n3e0,.4E+1,+0005\n", id="every_spelling_of_a_number"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 1 << 18])
def test_accepted(content: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
    assert read(content) == [[1.0, 2.0], [3.0, 4.0, 5.0]]


# (content, options, place, what was found, what the remedy must name)
REFUSALS = {
    "blank_line": (b"1,2\n\n3,4\n", {}, "2:1", "a blank line", "--blank-lines=skip"),
    "white_space_line": (b"1,2\n \t \n", {}, "2:1", "a blank line", "--blank-lines=skip"),
    "blank_last_line": (b"1,2\r\n\r\n", {}, "2:1", "a blank line", "--blank-lines=skip"),
    "blank_line_of_a_lone_cr": (b"1,2\n\r", {}, "2:1", "a blank line", "--blank-lines=skip"),
    "empty_field": (b"1,2\n1,,2\n", {}, "2:3", "an empty field", "write the missing value"),
    "empty_first_field": (b"  ,2\n", {}, "1:3", "an empty field", "write the missing value"),
    "trailing_comma": (b"1,2,\n", {}, "1:5", "an empty field", "remove the ',' at the end"),
    "double_space": (b"1  2\n", {"delimiter": " "}, "1:3", "an empty field", "single space"),
    "nan": (b"1,nan\n", {}, "1:3", "'nan'; expected a finite", "mend the value"),
    "inf": (b"1,2\n-Infinity,1\n", {}, "2:1", "'-Infinity'; expected a finite", "mend"),
    "overflow_1e999": (b"1,1e999\n", {}, "1:3", "'1e999'; expected a number that", "rescale"),
    "beyond_float32": (b"1,-3.5e38\n", {}, "1:3", "'-3.5e38'; expected a number", "rescale"),
    "underscore": (b"1,1_000\n", {}, "1:3", "'1_000'", "write it in digits"),
    "hexadecimal": (b"1,0x10\n", {}, "1:3", "'0x10'", "write it in digits"),
    "fortran_exponent": (b"1,1d0\n", {}, "1:3", "'1d0'", "write it in digits"),
    "full_width_digits": ("1,\uff11\uff12\n".encode(), {}, "1:3", "'\uff11\uff12'", "ASCII digits"),
    "arabic_digits": ("1,\u0661\n".encode(), {}, "1:3", "'\u0661'", "ASCII digits"),
    "boolean": (b"1,True\n", {}, "1:3", "'True'", "write it in digits"),
    "formula": (b"1,=A1+2\n", {}, "1:3", "'=A1+2'", "write it in digits"),
    "nul": (b"1,2\x003\n", {}, "1:3", r"'2\x003'", "UTF-16"),
    "utf_16_with_mark": ("1,2\n".encode("utf-16"), {}, "1:1", r"'\xff\xfe', the mark", "UTF-8"),
    "utf_16_without_mark": ("1,2\n".encode("utf-16-le"), {}, "1:1", r"'1\x00'", "UTF-16"),
    "latin_1": (b"1,2\n3,\xe94\n", {}, "2:3", r"'\xe94'", "save the file as UTF-8"),
    "inner_space": (b"1,2 3\n", {}, "1:3", "'2 3'", "ASCII digits"),
    "no_break_space": ("1,\xa02\n".encode(), {}, "1:3", r"'\xa02'", "ASCII digits"),
    "vertical_tab": (b"1,2\x0b\n", {}, "1:3", r"'2\x0b'", "ASCII digits"),
    "bare_sign": (b"1,  -\n", {}, "1:5", "'-'", "ASCII digits"),
    "bare_exponent": (b"1,2e\n", {}, "1:3", "'2e'", "write it in digits"),
    "quoted_number": (b'1,"2"\n', {}, "1:3", "'\"2\"'", "remove the quotes"),
    "semicolons": (b"1;2;3\n", {}, "1:1", "'1;2;3'", "--delimiter=';'"),
    "tabs": (b"1\t2\n", {}, "1:1", r"'1\t2'", r"--delimiter='\t'"),
    "blanks_for_commas": (b"1 2  3\n", {}, "1:1", "'1 2  3'", "--delimiter=' '"),
    "decimal_commas": (b"1,5;2,5\n", {}, "1:3", "'5;2'", "--delimiter=';'"),
    "decimal_comma_point": (b"1,5;2,5\n", {}, "1:3", "'5;2'", "decimals with a point"),
    "decimal_comma_in_semicolons": (
        b"1,5;2,5\n", {"delimiter": ";"}, "1:1", "'1,5'", "decimals with a point",
    ),
    "commas_in_semicolons": (b"1,2\n", {"delimiter": ";"}, "1:1", "'1,2'", "--delimiter=','"),
    "header_row": (b"first,second\n1,2\n", {}, "1:1", "'first'", "--header"),
    "quoted_header_row": (b'"a","b"\n1,2\n', {}, "1:1", "'\"a\"'", "--header"),
    "short_row": (b"1,2\n3\n4,5\n", {}, "2:1", "a row of 1 value, '3'", "remove the row"),
    "comment_line": (b"1,2\n# note\n", {}, "2:1", "'# note'", "never dropped"),
    "empty_file": (b"", {}, "", "an empty file", "right file"),
    "only_a_mark": (b"\xef\xbb\xbf", {}, "", "an empty file", "right file"),
    "all_lines_blank": (
        b"\n\r\n", {"blank_lines": "skip"}, "", "no rows, only 2 blank lines", "right file",
    ),
    "only_a_header": (b"a,b\n", {"header": True}, "", "no rows, only a header", "--header"),
    "long_row": (
        b"1,2\n10,20,30,40\n", {"max_row_length": 3}, "2:10", "more than 3 values",
        "--max-row-length",
    ),
    "max_bytes": (b"1,2\n3,4\n", {"max_bytes": 7}, "", "more than 7 bytes", "--max-bytes"),
    "long_field": (b"1," + b"0" * 4097 + b"\n", {}, "1:3", "'0000", "delimiter"),
    "long_first_field": (b"0" * 4097 + b",1\n", {}, "1:1", "'0000", "delimiter"),
    "text_with_column": (b"1,2\n", {"column": "x"}, "", "a text file", "leave out --column"),
}  # fmt: skip


@pytest.mark.parametrize("block_bytes", [3, 1 << 18])
@pytest.mark.parametrize(("content", "options", "place", "found", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_refused(
    content: bytes, options: dict, place: str, found: str, remedy: str, block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", block_bytes)
    message = refusal(content, **options)
    assert message.startswith(f"FILE:{place}: found {found}" if place else f"FILE: found {found}")
    assert remedy in message.split("; ", 2)[2]


def test_the_first_bad_line_of_many_blocks_is_the_one_named(tiny_blocks: None) -> None:
    good = b"1,2,3\r\n" * 500
    assert refusal(good + b"1,x\n" + b"y,2\n" * 50).startswith("FILE:501:3: found 'x'")
    assert refusal(b"1,2\n" * 10 + b"\n" * 3, blank_lines="error").startswith("FILE:11:1: ")
    message = refusal(b"1,2\n\n \n" * 40 + b"1,?\n", blank_lines="skip")
    assert message.startswith("FILE:121:3: found '?'")


def test_one_value_is_enough_where_one_is_asked_for() -> None:
    assert read(b"1\n2,3\n", min_length=1) == [[1.0], [2.0, 3.0]]


def test_a_short_row_that_another_delimiter_would_cut_says_so() -> None:
    assert "row of 1 value" in refusal(b"1.5\n")
    assert "--delimiter" not in refusal(b"1.5\n")


@pytest.mark.parametrize("delimiter", [";", "\t", r"\t", " ", "|", ":", ","])
def test_delimiters(delimiter: str) -> None:
    separator = "\t" if delimiter == r"\t" else delimiter
    content = separator.join(["1", "2.5", "-3"]).encode() + b"\n"
    assert read(content * 3, delimiter=delimiter) == [[1.0, 2.5, -3.0]] * 3


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"delimiter": ""}, "delimiter: got"),
        ({"delimiter": ",,"}, "delimiter: got"),
        ({"delimiter": "e"}, "delimiter: got"),
        ({"delimiter": "."}, "delimiter: got"),
        ({"delimiter": "\n"}, "delimiter: got"),
        ({"delimiter": "\u2028"}, "delimiter: got"),
        ({"blank_lines": "drop"}, "blank_lines: got"),
        ({"min_length": 0}, "min_length"),
        ({"max_row_length": 1}, "max_row_length: got"),
        ({"max_bytes": 0}, "max_bytes: got"),
    ],
)
def test_options_are_checked(options: dict, flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        read(b"1,2\n", **options)


@pytest.mark.parametrize("header", [b"a,b\n", b"\xef\xbb\xbfa\r\n", b"\xff\x00\r", b"\n"])
@pytest.mark.usefixtures("tiny_blocks")
def test_a_header_is_skipped_whatever_it_holds(header: bytes) -> None:
    if not header.startswith(b"\xff"):
        assert read(header + b"1,2\n3,4\n", header=True) == [[1.0, 2.0], [3.0, 4.0]]
    assert refusal(b"h" + header + b"1,2\n3,x\n", header=True).startswith("FILE:3:3: ")


def test_an_endless_header_is_refused() -> None:
    assert "leave out --header" in refusal(b"h" * (1 << 21), header=True)


def test_skipped_blank_lines_are_counted(tiny_blocks: None) -> None:
    content = b"\n1,2\n\n \t\n3,4\n" + b"\n" * 20 + b"+5,6\n \r\n  "
    report = read_sequences_with_report(io.BytesIO(content), blank_lines="skip")
    assert report.sequences == Ragged.from_rows([[1, 2], [3, 4], [5, 6]])
    assert report.num_blank_lines == 25


def test_limits_are_inclusive() -> None:
    assert read(b"1,2,3\n", max_row_length=3, max_bytes=6) == [[1.0, 2.0, 3.0]]
    field = b"0" * 4095 + b"7"
    for content in (field + b",1\n", b"1," + field + b"\n"):
        assert sorted(read(content)[0]) == [1.0, 7.0]


class Endless(io.RawIOBase):
    """A line that never ends; counts what was read of it."""

    def __init__(self, piece: bytes):
        self.piece, self.num_bytes = piece, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        self.num_bytes += size
        return (self.piece * (size // len(self.piece) + 1))[:size]


@pytest.mark.parametrize(
    ("piece", "found"),
    [(b"1,", "more than 1000000 values"), (b"1", "'1111"), (b" ", "found '   ")],
)
def test_an_endless_row_is_refused_before_it_fills_the_memory(piece: bytes, found: str) -> None:
    stream = Endless(piece)
    with pytest.raises(DataError, match=found):
        read_stream(stream)  # type: ignore[arg-type]
    assert stream.num_bytes < 4_000_000


def test_a_stream_that_gives_a_byte_at_a_time_is_read_whole() -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(1, -1 if size is None else size))

    assert read_stream(Dribble(b"\xef\xbb\xbf1,2\r\n3,4")) == Ragged.from_rows([[1, 2], [3, 4]])


def test_the_largest_float32_is_taken_and_what_rounds_past_it_is_not() -> None:
    assert read(f"{FLOAT32_MAX!r},-3.40282347e38\n".encode()) == [[FLOAT32_MAX, -3.40282347e38]]
    refusal(b"1,3.4028235677973366e38\n")


spellings = st.sampled_from([repr, "{:g}".format, "{:+.17e}".format, "{:.3f}".format])
numbers = st.one_of(st.floats(-FLOAT32_MAX, FLOAT32_MAX), st.integers(-99, 99).map(float), st.just(-0.0))
fields = st.builds(
    lambda number, spell, before, after: " " * before + spell(number) + " " * after,
    numbers, spellings, st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 13, 1 << 18])
def test_rows_read_back_bit_for_bit(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", block_bytes)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.lists(fields, min_size=2, max_size=5), min_size=1, max_size=6),
        st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=6, max_size=6),
        st.booleans(),
    )
    def check(rows: list[list[str]], newlines: list[str], ends: bool) -> None:
        lines = [",".join(row) + end for row, end in zip(rows, newlines, strict=False)]
        text = "".join(lines) if ends else "".join(lines).rstrip("\r\n")
        found = read_stream(io.BytesIO(text.encode()))
        expected = Ragged.from_rows([[float(field) for field in row] for row in rows])
        assert found.offsets.tolist() == expected.offsets.tolist()
        assert found.values.tobytes() == expected.values.tobytes()  # -0.0 is not 0.0 here

    check()


@pytest.mark.usefixtures("tiny_blocks")
@settings(
    max_examples=300, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    st.one_of(
        st.text("0123456789+-.eE,;\n\r \t", max_size=24),
        st.text("01e.,-\n\rnaif_x\u0661#", max_size=16),
    ),
    st.sampled_from(["error", "skip"]),
)
def test_accepted_text_is_what_float_reads(text: str, blank_lines: str) -> None:
    try:
        found = read(text.encode(), blank_lines=blank_lines, min_length=1)
    except DataError:
        return
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    kept = [line for line in lines if line.strip() or blank_lines == "error"]
    expected = [[float(field) for field in line.split(",")] for line in kept]
    assert repr(found) == repr(expected)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf", b"1,2\n"]),
    st.binary(max_size=40),
    st.booleans(),
)
def test_random_bytes_raise_nothing_else(start: bytes, content: bytes, header: bool) -> None:
    message = ""
    try:
        read(start + content, header=header)
    except DataError as error:
        message = str(error)
    assert message.isprintable()


def test_plain_rows_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the exact pass was called")

    monkeypatch.setattr(text_reader, "_parse_exactly", fail)
    assert len(read(b"1,-2.5\r\n 3e5 ,4\n\n" * 1000, blank_lines="skip")) == 2000


def test_parse_line_has_the_same_checks_and_messages() -> None:
    assert parse_line("1, 2.5,-3\n").tolist() == [1.0, 2.5, -3.0]
    assert parse_line("7").tolist() == [7.0]
    assert parse_line("1;2", delimiter=";").dtype == np.float64
    with pytest.raises(DataError, match=r"^<stdin>:4:3: found 'x'; expected a decimal number; "):
        parse_line("1,x", line_number=4)
    for text, message in (
        ("", "a blank line"),
        ("hello", "'hello'"),
        ("1 2", "--delimiter=' '"),
        ("1,\ud800", r"\\ud800"),
        ("1,2,3", "--max-row-length"),
    ):
        with pytest.raises(DataError, match=message) as error_info:
            parse_line(text, max_row_length=2)
        assert "--header" not in str(error_info.value)


def test_quoted_text_is_short_and_harmless() -> None:
    assert quote("a\x1b[2J\r\n") == r"'a\x1b[2J\r\n'"
    assert quote("\u202e\u200b\udcff'\\") == r"'\u202e\u200b\xff\'\\'"
    for text in ("x" * 41, "\x1b" * 41, "\U000e0001" * 5):
        inside = quote(text)[1:-1]
        assert len(inside) <= MAX_QUOTED_LENGTH
        assert inside.endswith("...")
    assert quote("x" * 40) == f"'{'x' * 40}'"
    assert escape("C:\\data\x07.csv\n") == r"C:\data\x07.csv\n"
    assert printable("\u202ea\n\tb\n") == "\\u202ea\n\\tb\n"


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"1,2\n")
    assert read_sequences(path) == read_sequences(str(path)) == Ragged.from_rows([[1, 2]])
