"""Records read by compiled code are those of a plain split, of a file as it comes from the disk too."""

import contextlib
import itertools
import os
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn.data.readers import sources
from jaxrnn.data.readers.native import plain_text, records
from jaxrnn.data.readers.native.records import DECIMAL, TEXT, UNREAD, WHOLE
from jaxrnn.data.tables import files
from jaxrnn.foundation.errors import DataError, UserError

needs_library = pytest.mark.skipif(plain_text.library() is None, reason="the reader of plain text is not built here")
needs_preadv = pytest.mark.skipif(not hasattr(os, "preadv"), reason="the system does not read in parts")


@contextlib.contextmanager
def blocks_of(num_bytes, *, line_bytes=records._MOST_LINE_BYTES):
    """Blocks of so many bytes, and any file a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", num_bytes)
        patch.setattr(records, "FILE_BLOCK_BYTES", num_bytes)
        patch.setattr(records, "_MOST_LINE_BYTES", line_bytes)
        patch.setattr(sources, "LARGE_BYTES", 0)
        yield


def records_of_file(text, begin, kinds, delimiter):
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.flush()
        return records.read_records_of_file(file, len(text), begin, kinds, delimiter)


def columns_of(read):
    """The cells of records, columns of texts too."""
    found = []
    for column in read.columns:
        if column is None or isinstance(column, np.ndarray):
            found.append([None] * sum(read.block_rows) if column is None else column.tolist())
            continue
        texts = []
        for block, rows in zip(column, read.block_rows, strict=True):
            ends = [0, *block.ends.tolist()]
            words = [bytes(block.characters[a:b]).decode() for a, b in itertools.pairwise(ends)]
            texts += np.repeat(np.array(words, object), np.diff([*block.rows, rows])).tolist()
        found.append(texts)
    return found


@needs_library
@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=True), st.sampled_from([1, 30, 1 << 20]), st.sampled_from(["\n", "\r\n"]))
def test_records_are_those_of_a_plain_split(rng, block_bytes, ending):
    kinds = [rng.choice([TEXT, DECIMAL, WHOLE, UNREAD]) for _ in range(rng.randint(1, 4))]
    cells = {
        TEXT: lambda: rng.choice(["unit 1", "unit 12", "unit", "Ä", "", "-3"]),
        DECIMAL: lambda: repr(rng.uniform(-9, 9)) if rng.random() < 0.5 else str(rng.randint(-9, 9)),
        WHOLE: lambda: str(rng.randint(-(10**17), 10**17)),
        UNREAD: lambda: rng.choice(["1,5", "nan", "", "x y"]),
    }
    table = [[cells[kind]() for kind in kinds] for _ in range(rng.randint(1, 30))]
    if len(kinds) == 1 and kinds[0] in (TEXT, UNREAD):
        table = [[cell or "x"] for (cell,) in table]
    text = ("head" + ending + "".join(";".join(row) + ending for row in table)).encode()
    text = text.removesuffix(b"\n") if ending == "\n" and rng.random() < 0.3 and table[-1] != [""] else text
    make = {TEXT: str, DECIMAL: float, WHOLE: int, UNREAD: lambda cell: None}
    wanted = [[make[kind](row[number]) for row in table] for number, kind in enumerate(kinds)]
    with blocks_of(block_bytes):
        found = records.read_records(text, len("head" + ending), kinds, ";")
        assert columns_of(found) == wanted
        assert sum(found.block_rows) == len(table)
        found = records_of_file(text, len("head" + ending), kinds, ";")
        if text.isascii():
            assert columns_of(found) == wanted
            assert sum(found.block_rows) == len(table)
        else:
            assert found is None


@needs_library
def test_records_that_are_not_plain_are_left_to_others():
    kinds = [TEXT, WHOLE, DECIMAL]
    plain = b"a,1,2.5\nb,2,3.5\nb,3,4.5\n"
    for old, new in (
        (b"b,2,", b"b,,"),
        (b"b,2,", b'"b",2,'),
        (b"b,2,", b'b"c,2,'),
        (b"b,2,", b"b,2.0,"),
        (b"b,2,", b"b, 2,"),
        (b"b,2,", b"b,0x2,"),
        (b"b,2,", b"b,1234567890123456789,"),
        (b"b,2,", b"b\r,2,"),
        (b"b,2,", b"b,2,1,"),
        (b"b,2,", b"b,"),
        (b"b,2,", b"\nb,2,"),
        (b"b,2,", b"\r\nb,2,"),
        (b"3.5", b"nan"),
        (b"3.5", b"3.5 "),
        (b"3.5", b"1e39"),
        (b"3.5", b""),
        (b"3.5", b"3.5\r5"),
    ):
        assert plain.count(old) == 1
        for read in (records.read_records, records_of_file):
            assert read(plain.replace(old, new), 0, kinds, ",") is None, new
    for read in (records.read_records, records_of_file):
        assert columns_of(read(plain, 0, kinds, ",")) == [["a", "b", "b"], [1, 2, 3], [2.5, 3.5, 4.5]]
        for begin, delimiter in ((len(plain), ","), (0, "ä"), (0, ";")):
            assert read(plain, begin, kinds, delimiter) is None
        assert read(b"1,2\n", 0, [WHOLE] * 65, ",") is None


@needs_library
@needs_preadv
def test_a_long_line_of_a_file_is_left_to_others():
    with blocks_of(20, line_bytes=8):
        for length in range(1, 60):
            lines = [b"7", b"1" * 5, b"x" * length, *[b"22"] * 9]
            found = records_of_file(b"\n".join(lines), 0, [TEXT], ",")
            if found is None:
                assert length > 8
            else:
                assert columns_of(found) == [[line.decode() for line in lines]]
        assert records_of_file(b"x" * 29 + b"\n" * 2, 0, [TEXT], ",") is None
        assert columns_of(records_of_file(b"x" * 27, 0, [TEXT], ",")) == [["x" * 27]]


@needs_library
@needs_preadv
def test_a_file_that_changes_or_cannot_be_read_is_left_to_others(tmp_path, monkeypatch):
    text = b"1,2\n" * 100
    path = tmp_path / "table.csv"
    path.write_bytes(text)

    def read(more=0):
        with open(path, "rb") as file:
            return records.read_records_of_file(file, len(text) + more, 0, [WHOLE, WHOLE], ",")

    with blocks_of(64):
        assert columns_of(read()) == [[1] * 100, [2] * 100]
        assert read(1) is None  # shrunk since
        assert read(-4) is None  # grown
        plain, lock = os.preadv, threading.Lock()
        for change in (b"1,\n2" * 100, b"1,22" * 100, b"1,2\n" * 50 + b"\n" * 200):  # once its lines are counted
            turns = itertools.count()

            def change_then_read(*given, turns=turns, change=change):
                with lock:
                    if next(turns) == 7:
                        path.write_bytes(change)
                return plain(*given)

            monkeypatch.setattr(os, "preadv", change_then_read)
            assert read() is None
            monkeypatch.undo()
            path.write_bytes(text)

        def fail(*given):
            raise OSError("no longer there")

        monkeypatch.setattr(os, "preadv", fail)
        assert read() is None
        monkeypatch.undo()
        monkeypatch.setattr(np, "empty", lambda *given: (_ for _ in ()).throw(MemoryError()))
        assert read() is None
        monkeypatch.undo()

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert read() is None
    with blocks_of(1000):
        monkeypatch.undo()
        assert columns_of(read()) == [[1] * 100, [2] * 100]
        monkeypatch.delattr(os, "preadv")
        assert read() is None


ROLES = {"id_column": "id", "time_column": "t", "input_columns": ["x", "y"]}
LINES = [f"unit {n // 3},{n % 3},{n / 7!r},{-n}" for n in range(30)]


def both_ways(path, **options):
    """What comes of a file in parts, and whether it was read so; and of the whole of it, which has to be the same."""
    taken = []

    def note(*given):
        taken.append(plain(*given))
        return taken[-1]

    plain = files.read_plain_file
    found = []
    for is_large in (True, False):
        with contextlib.ExitStack() as stack:
            if is_large:
                stack.enter_context(blocks_of(50, line_bytes=100))
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(files, "read_plain_file", note)
            try:
                found.append(jaxrnn.read(path, **options))
            except UserError as error:
                found.append(str(error))
    assert found[0] == found[1]
    return found[0], any(table is not None for table in taken)


@needs_library
@needs_preadv
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("header", "is_plain"),
    [
        ("id,t,x,y", True),
        ('"id","t","x","y"', True),
        ('id,"t","x",y', True),
        ('"id",t,x,"y\n"', True),  # no such column
        ('i"d",t,x,y', True),
        ("\ufeffid,t,x,y", False),
        ("", False),
    ],
)
def test_a_large_table_is_read_in_parts(tmp_path, ending, header, is_plain):
    path = tmp_path / "table.csv"
    for last in ("", ending):
        path.write_bytes((ending.join([header, *LINES]) + last).encode())
        found, was_read_in_parts = both_ways(path, **ROLES)
        assert was_read_in_parts == is_plain
        if header.replace('"', "").removeprefix("\ufeff") == "id,t,x,y" and header[1] != '"':
            assert [array.tolist() for array in found.arrays()][4] == [[n / 7, -n] for n in (12, 13, 14)]
            assert found.rows["ids"].texts()[:2] == ["unit 0", "unit 1"]


@needs_library
@needs_preadv
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unit 7", '"unit 7"'),
        ("unit 7", "unit\xa07"),
        ("unit 7", "unit\x007"),
        (",2,", ",1,"),  # a time twice
        (",-22", ","),
        (",-22", ",-22,"),
        (",-22", ",-22\n"),
        (",-22", ",-22\r"),
        (",-22", ",nan"),
        (",-22", ", -22"),
        ("unit 7,1", "u" * 200 + ",1"),
    ],
)
def test_what_is_wrong_with_a_large_table_is_said_as_of_a_small_one(tmp_path, old, new):
    path = tmp_path / "table.csv"
    text = "\n".join(["id,t,x,y", *LINES]) + "\n"
    place = text.index(old, text.index("unit 7"))
    path.write_text(text[:place] + new + text[place + len(old) :], newline="")
    both_ways(path, **ROLES)


@needs_library
@needs_preadv
def test_a_complaint_about_a_large_table_names_the_line(tmp_path):
    path = tmp_path / "table.csv"
    for header, first in (("id,t,x,y", 2), ('id,t,x,"y\n\nz"', 4)):
        lines = [*LINES, "unit 3,1,5,5"]
        path.write_text("\n".join([header, *lines]) + "\n")
        roles = ROLES | {"input_columns": ["x"]}
        found, was_read_in_parts = both_ways(path, **roles)
        assert was_read_in_parts
        assert f"table.csv:{first + 30}:2: " in found
        assert f" as in line {first + 10};" in found


@needs_library
@needs_preadv
@pytest.mark.parametrize(
    "options",
    [
        {"decimal": ","},
        {"comment": "#"},
        {"skip_lines": 1},
        {"header": False},
        {"delimiter": ";"},
        {"input_columns": ()},
        {"input_columns": ["x", "none"]},
        {"time_column": None, "id_column": None},
        {"missing": "forward"},
    ],
)
def test_options_of_a_large_table(tmp_path, options):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["id,t,x,y", *LINES]) + "\n")
    both_ways(path, **ROLES | options)


@needs_library
@needs_preadv
@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=True), st.integers(1, 80), st.integers(1, 40))
def test_damaged_tables_are_read_in_parts_as_they_are_whole(rng, block_bytes, line_bytes):
    ending = rng.choice(["\n", "\r\n"])
    text = bytearray((ending.join(["id,t,x,y", *rng.sample(LINES, 12)]) + ending).encode())
    for _ in range(rng.randint(0, 2)):
        at = rng.randrange(len(text))
        what = rng.choice(["change", "cut", "double"])
        if what == "change":
            text[at] = rng.choice(b'0,\n\r" .-x\x00\xff')
        elif what == "cut":
            del text[at : at + rng.randint(1, 20)]
        else:
            text[at:at] = text[at : at + rng.randint(1, 20)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "table.csv")
        with open(path, "wb") as file:
            file.write(text)
        found = []
        for is_large in (True, False):
            with blocks_of(block_bytes, line_bytes=line_bytes) if is_large else contextlib.nullcontext():
                try:
                    found.append(jaxrnn.read(path, **ROLES))
                except DataError as error:
                    found.append(str(error))
        assert found[0] == found[1]
