"""Plain text read by compiled code is what float() and a plain split read; whatever is not plain is left to others."""

import gzip
import itertools
import os
import random
import shutil
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from benchmarks import sanitize
from jaxrnn.data import sequences
from jaxrnn.data.readers import gathering, large_columns, sources
from jaxrnn.data.readers.delimited_text import Text, text_of
from jaxrnn.data.readers.native import plain_text, records
from jaxrnn.data.readers.native.records import DECIMAL, WHOLE
from jaxrnn.data.readers.options import FLOAT32_OVERFLOW, MAX_FIELD_LENGTH

needs_library = pytest.mark.skipif(plain_text.library() is None, reason="the reader of plain text is not built here")


def test_it_is_built_where_there_is_a_compiler():
    if not any(shutil.which(command) for command in ("c++", "g++", "clang++")):
        pytest.skip("there is no compiler here")
    assert plain_text.library() is not None


def bits(values):
    return [struct.pack("<d", value) for value in values]


def decimal_of(text: str) -> float | None:
    """The number that a field is, if digits, a point, an exponent and signs are all it has."""
    if not text or set(text) - set("0123456789.eE+-"):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < FLOAT32_OVERFLOW else None


numbers = (
    st.floats(-3.4e38, 3.4e38).map(repr)
    | st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(10**20), 10**20).map(str)
    | st.integers(-999, 999).map(str)
    | st.decimals(-1000, 1000, places=4).map(str)
    | st.from_regex(r"[+-]?[0-9]{0,24}\.?[0-9]{0,24}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
odd_fields = st.text('0123456789+-.eE nx_a"', max_size=8) | st.sampled_from(["nan", "inf", "0x10", "1_0", "", "-0"])


@needs_library
@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=5))
def test_rows_of_numbers_are_those_of_float(rows):
    read = plain_text.read_rows("".join(",".join(row) + "\n" for row in rows).encode(), b",", 1, 100)
    wanted = [decimal_of(field) for row in rows for field in row]
    if read is None:  # what underflows, and what has more digits of an exponent, is left to others
        assert any(value is None or abs(value) < 1e-300 for value in wanted)
        return
    values, lengths = read
    assert lengths.tolist() == [len(row) for row in rows]
    assert bits(values.astype(float)) == bits(wanted)
    is_short = [
        field.removeprefix("-").isdigit() and len(field.removeprefix("-")) <= 8 for row in rows for field in row
    ]
    assert (values.dtype == np.int32) == (all(is_short) and not any(bits([-0.0]) == bits([value]) for value in wanted))


@needs_library
@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(numbers | odd_fields, min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_is_read_is_always_what_float_reads(rows):
    read = plain_text.read_rows("".join(",".join(row) + "\n" for row in rows).encode(), b",", 1, 100)
    if read is not None:
        wanted = [decimal_of(field.strip(" ")) for row in rows for field in row]
        assert bits(read[0].astype(float)) == bits(wanted)


@needs_library
@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in b",\n"])
def test_every_byte_at_every_place_of_a_field(byte):
    for field in (b"12345678", b"1.25e-10"):
        for place in range(8):
            changed = bytearray(field)
            changed[place] = byte
            read = plain_text.read_rows(b"7," + bytes(changed) + b",-3\n", b",", 1, 9)
            wanted = decimal_of(changed.decode("latin-1").strip(" "))
            assert (None if read is None else read[0].tolist()) == (None if wanted is None else [7, wanted, -3])


@needs_library
@pytest.mark.parametrize("odd", ["", "-", "-0", "--1", "1-", "+1", " 1", "1.5", "123456789", "-12345678", "\x001", "a"])
def test_short_whole_numbers_and_one_that_is_something_else(odd):
    """They are looked at 64 characters at a time: the one stands anywhere among them."""
    draw = random.Random(0)
    for place in range(80):
        rows = [["1"] * (1 + place), *([str(draw.randint(-999999, 9999999))] for _ in range(9)), ["-9", "7"]]
        read = plain_text.read_rows("".join(",".join(row) + "\n" for row in rows).encode(), b",", 1, 100)
        assert read[0].dtype == np.int32
        assert read[0].tolist() == [int(field) for row in rows for field in row]
        row = draw.choice(rows)
        row.insert(draw.randint(0, len(row)), odd)
        text = "".join(",".join(row) + "\n" for row in rows).encode()
        read = plain_text.read_rows(text, b",", 1, 100)
        try:
            values = [float(field) for row in rows for field in row]
        except ValueError:
            assert read is None, text
            continue
        assert bits(read[0]) == bits(values)
        assert read[1].tolist() == [len(row) for row in rows]


@needs_library
def test_lengths_of_rows_of_short_numbers_wherever_they_end():
    for number in range(1, 150):
        text = b"1," * number + b"2\n" + b"3,4\n" * 3
        values, lengths = plain_text.read_rows(text, b",", 2, number + 1)
        assert lengths.tolist() == [number + 1, 2, 2, 2]
        assert values.sum() == number + 2 + 3 * 7
        assert plain_text.read_rows(text, b",", 3, number + 1) is None
        if number > 1:
            assert plain_text.read_rows(text, b",", 2, number) is None


@needs_library
def test_limits_of_rows_and_fields():
    def lengths(text: bytes, least: int = 2, most: int = 3) -> list[int] | None:
        read = plain_text.read_rows(text, b",", least, most)
        return None if read is None else read[1].tolist()

    assert lengths(b"1,2\n3,4,5\n") == [2, 3]
    for text in (b"", b"1,2", b"1\n", b"1,2,3,4\n", b"\n1,2\n", b"1,2\n\n", b"1,2,\n", b",1\n", b"1,2\r\n", b"1,2\n3"):
        assert lengths(text) is None, text
    for size, taken in ((MAX_FIELD_LENGTH - 1, True), (MAX_FIELD_LENGTH, False)):
        for field in ("1".rjust(size, "0"), "1".rjust(size), "1".ljust(size), "0." + "0" * (size - 2)):
            assert (lengths(f"2,{field}\n".encode()) is not None) == taken, field
    assert plain_text.read_rows(b"1 2\n3 4\n", b" ", 2, 2)[0].tolist() == [1, 2, 3, 4]
    assert plain_text.read_rows(b"1  2\n", b" ", 2, 2) is None
    assert plain_text.read_rows(b"3.4028235677973366e38,1\n", b",", 2, 2) is None
    assert plain_text.read_rows(b"-3.4028235677973362e38,1\n", b",", 2, 2)[0][0] == -3.4028235677973362e38


def test_without_the_library_the_same_is_read(tmp_path, monkeypatch):
    path, table = tmp_path / "rows.csv", tmp_path / "table.csv"
    path.write_text("1,2,3\n4.5, -6 \n-0,1e3\n")
    table.write_text("id,t,x,y,side\n" + "".join(f"{n // 3},{n % 3},{n / 7},{-n},s{n // 6}\n" for n in range(30)))
    roles = {"id_column": "id", "time_column": "t", "input_columns": ["x", "y"], "label_column": "side"}
    found = jaxrnn.read_sequences(path), jaxrnn.read(table, **roles)
    monkeypatch.setattr(plain_text, "LIBRARY", tmp_path / "libnone.so")
    plain_text.library.cache_clear()
    try:
        assert plain_text.library() is None
        assert plain_text.read_rows(b"1\n", b",", 1, 1) is None
        assert records.read_records(b"1\n", 0, [WHOLE], ",") is None
        assert bits(jaxrnn.read_sequences(path).values) == bits(found[0].values)
        assert jaxrnn.read(table, **roles) == found[1]
    finally:
        monkeypatch.undo()
        plain_text.library.cache_clear()


def test_blocks_are_gathered_whatever_room_there_was(tmp_path, monkeypatch):
    rng = random.Random(0)
    rows = [[float(rng.randint(-99, 99)) for _ in range(rng.randint(2, 5))] for _ in range(400)]
    text = "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows).encode()
    (tmp_path / "rows.csv").write_bytes(text)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(text))
    monkeypatch.setattr("jaxrnn.data.readers.text_reader.BLOCK_BYTES", 64)
    monkeypatch.setattr(gathering, "_FIRST_VALUES", 3)
    wanted = jaxrnn.Ragged.from_rows(rows)
    for name in ("rows.csv", "rows.csv.gz"):
        found = jaxrnn.read_sequences(tmp_path / name)
        assert found == wanted
        assert not found.values.flags.writeable
    real = gathering.Gathered._make_room

    def refuse(self, num_values, num_offsets):
        if num_values > len(text) // 2:
            raise MemoryError
        real(self, num_values, num_offsets)

    monkeypatch.setattr(gathering.Gathered, "_make_room", refuse)
    assert jaxrnn.read_sequences(tmp_path / "rows.csv") == wanted


def test_order_and_columns_some_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(large_columns, "ROWS_AT_ONCE", 4)
    generator = np.random.default_rng(0)
    in_order = 0
    for number in range(300):
        size = number % 14
        codes = np.sort(generator.integers(0, 3, size))
        times = generator.integers(-9, 9, 3)[codes] + (
            np.arange(size) if number % 3 else np.cumsum(generator.integers(0, 2, size))
        )
        pairs = list(zip(codes.tolist(), times.tolist(), strict=True))
        ends = np.cumsum(np.unique(codes, return_counts=True)[1])
        assert large_columns.rise_within(times, ends) == all(a < b for a, b in itertools.pairwise(pairs))
        in_order += large_columns.rise_within(times, ends)
        columns = [generator.normal(size=size) for _ in range(1 + number % 3)]
        np.testing.assert_array_equal(large_columns.side_by_side(columns), np.stack(columns, axis=1))
    assert 50 < in_order < 290
    assert not large_columns.rise_within(np.array([1.0, np.nan]), np.array([2]))


def test_many_whole_numbers_are_numbered_as_few_are(monkeypatch):
    cases = [
        [str(number) for number in (5, -3, 10, 2, 100)],
        ["5", "05", "7"],
        ["5", "07", "10"],
        ["0", "-1000000000000000000", "7", "-999999999999999999"],
        ["5", "5", "7"],
        ["5", "-0", "7"],
        ["5", "9" * 19, "7"],
        ["5", " 7"],
        ["5", "+7"],
        ["5", "x"],
        ["\ud800", "5"],
        [],
    ]
    expected = [sequences.encode(texts) for texts in cases]
    monkeypatch.setattr(sequences, "_MANY_TEXTS", 0)
    for texts, (codes, vocabulary) in zip(cases, expected, strict=True):
        found = sequences.encode(texts)
        assert (found[0].tolist(), found[1]) == (codes.tolist(), vocabulary), texts


def test_a_long_first_line_is_looked_for_once():
    """From every place of it, it would take minutes."""
    text = text_of(b"name," * 60_000, "x")
    assert text.first_line() == text.header() == "name," * 60_000


def test_ids_of_a_dictionary_of_any_numbers():
    pa = pytest.importorskip("pyarrow")
    for kind in (pa.uint64(), pa.int8(), pa.uint32()):
        ids = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], kind), pa.array(["a", "b"]))
        read = jaxrnn.read(pa.table({"id": ids, "x": [1.0, 2.0, 3.0]}), id_column="id")
        assert [values.tolist() for values in read.arrays()] == [[[2.0]], [[1.0], [3.0]]]


def test_ids_of_runs_and_of_parts_of_them():
    pa = pytest.importorskip("pyarrow")
    ids = pa.RunEndEncodedArray.from_arrays(pa.array([2, 4, 5, 7]), pa.array(["b", "a", "a", "b"]))
    whole = pa.table({"id": ids, "x": np.arange(7.0)})
    for begin, end in ((0, 7), (1, 7), (0, 6), (1, 4), (2, 3)):
        part = whole.slice(begin, end - begin)
        plain = part.set_column(0, "id", pa.array(part.column("id").to_pylist()))
        assert jaxrnn.read(part, id_column="id") == jaxrnn.read(plain, id_column="id")
        options = {"input_columns": "x", "category_columns": "id"}
        assert jaxrnn.read(part, **options) == jaxrnn.read(plain, **options)


@needs_library
def test_numbers_of_every_width():
    """Before a delimiter, a line's end and an exponent; in the midst of a text and at its end."""
    written = [
        sign + whole[:before] + point + fraction[:after]
        for sign in ("", "-", "+")
        for whole, fraction in (("120345678", "987065432"), ("000000000", "000000000"))
        for before in range(10)
        for point in (".", "")
        for after in (range(10) if point else (0,))
    ]
    number_of = {text: float(text) for text in written if any(map(str.isdigit, text))}
    for behind in ("", "e2", "E-1", " "):
        for text in number_of:
            for more in ("", ",7\n12345678,9\n"):
                found = plain_text.read_rows(f"{text}{behind}{more or chr(10)}".encode(), b",", 1, 9)
                assert found is not None, text
                wanted = float(text + behind)
                assert (found[0][0], np.signbit(found[0][0])) == (wanted, np.signbit(wanted)), text + behind
    for text in set(written) - set(number_of):
        assert plain_text.read_rows(f"{text}\n".encode(), b",", 1, 9) is None, text
    rows = "".join(f"{text},{number!r}\n" for text, number in number_of.items() if "+" not in text)
    found = records.read_records(rows.encode(), 0, [DECIMAL, DECIMAL], ",")
    np.testing.assert_array_equal(*found.columns)
    whole = [text for text in number_of if "." not in text and "+" not in text]
    found = records.read_records("".join(f"{text}\n" for text in whole).encode(), 0, [WHOLE], ",")
    np.testing.assert_array_equal(found.columns[0], [int(text) for text in whole])


def test_a_text_is_looked_through_in_pieces(monkeypatch):
    monkeypatch.setattr(plain_text, "_SURVEYED_BYTES", 7)
    generator = np.random.default_rng(0)
    found = set()
    for number in range(400):
        text = generator.choice([65, 66, 10], number % 40).astype(np.uint8)
        for byte in (0, 34, 34, 200, 127):
            if text.size and generator.random() < 0.2:
                text[generator.integers(text.size)] = byte
        content = text.tobytes()
        survey = plain_text.survey(content)
        assert survey == (content.isascii(), b"\0" in content, content.rfind(b'"'))
        found.add((survey.is_ascii, survey.has_nul, survey.last_quote < 0))
    assert len(found) == 8


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="the system does not read in parts")
def test_a_large_file_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PART_BYTES", 1000)
    content = np.random.default_rng(0).bytes(12_345)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        assert sources.read_at_once(file, len(content)) is None  # small
        monkeypatch.setattr(sources, "LARGE_BYTES", 0)
        assert sources.read_at_once(file, len(content)) == content
        assert sources.read_at_once(file, len(content) + 1) is None  # shrunk since
        assert sources.read_at_once(file, len(content) - 1) is None  # grown
        assert sources.read_at_once(file, 0) is None
        read = os.preadv
        monkeypatch.setattr(os, "preadv", lambda *given: 0 if given[2] == 4000 else read(*given))
        assert sources.read_at_once(file, len(content)) is None  # shorter for a while
    closed = os.open(tmp_path / "file", os.O_WRONLY)
    with os.fdopen(closed, "wb") as file:
        assert sources.read_at_once(file, len(content)) is None  # cannot be read


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="the system does not read in parts")
def test_a_process_may_have_no_more_threads(tmp_path, monkeypatch):
    content = b'"a"\n' * 1000
    (tmp_path / "file").write_bytes(content)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sources, "LARGE_BYTES", 0)
    monkeypatch.setattr(plain_text, "_SURVEYED_BYTES", 1000)
    with open(tmp_path / "file", "rb") as file:
        assert sources.read_at_once(file, len(content)) is None
    assert plain_text.survey(content) == (True, False, len(content) - 2)


@pytest.mark.parametrize("delimiter", ["-", "e", "+", "."])
def test_a_delimiter_that_numbers_hold_is_left_to_others(delimiter):
    assert records.read_records(f"3{delimiter}4\n".encode(), 0, [WHOLE, WHOLE], delimiter) is None


def test_columns_that_nobody_reads_and_those_that_are_yet_to_be_found(tmp_path):
    """Cells of the first are passed over; the second are read as they were, since they may be inputs."""
    lines = [f"{n // 3},{n % 3},{n / 7!r},{'left' if n % 2 else 'right'},2024-01-{n + 1:02d}" for n in range(20)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["id,t,x,side,day", *lines]) + "\n")
    roles = {"id_column": "id", "time_column": "t"}
    known = jaxrnn.read(path, input_columns="x", **roles)
    assert known == jaxrnn.read(path, input_columns="x", time_column="t", id_column="id", category_columns=())
    assert [values[:, 0].tolist() for values in known.arrays()][1] == [3 / 7, 4 / 7, 5 / 7]
    dated = jaxrnn.read(path, input_columns="x", id_column="id", time_column="day", category_columns="side")
    assert dated.steps["categories"].texts()[:3] == ["right", "left", "right"]
    assert dated.steps["times"].values[4, 0] == np.datetime64("2024-01-05")
    path.write_text(
        "\n".join(["id,t,x", *(line[: line.index("l" if "l" in line else "r") - 1] for line in lines)]) + "\n"
    )
    assert jaxrnn.read(path, **roles) == known
    path.write_text("\n".join(["id,t,x,side,day", *lines]).replace("2024-01-07", '"2024-01-07"') + "\n")
    assert jaxrnn.read(path, input_columns="x", **roles) == known


@pytest.mark.parametrize("beginning", [1, 2, 3, 5, 1 << 16])
def test_the_first_lines_of_bytes_are_those_of_the_text(beginning, monkeypatch):
    monkeypatch.setattr("jaxrnn.data.readers.delimited_text._BEGINNING", beginning)
    for content in (
        "",
        "a,b",
        "a,b\n1,2\n",
        "a,b\r\n1,2\r\n",
        "a\rb\r",
        '"a\r\nc",b\r\n1,2',
        '"a\n\nc",b\n1',
        "\r\n",
        "\n\na",
    ):
        found, wanted = text_of(content.encode(), "x", comment=None, skip_lines=0), Text("x", content)
        assert (found.header(), found.first_line()) == (wanted.header(), wanted.first_line()), content
        assert found.header().encode() == content.encode()[: len(found.header())]
        assert (found.content, found.encoded()) == (content, content.encode())


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["address"])
def test_sanitizers_report_nothing(tool):
    if (reason := sanitize.missing_for(tool)) is not None:
        pytest.skip(reason)
    done = sanitize.sanitize(tool, 20_000, seed=1, driver=sanitize.READER_DRIVER)
    assert not done.stderr
    assert "20000 texts" in done.stdout
    assert done.returncode == 0
