"""Compressed files, columnar files, and paths that name no regular file."""

import gzip
import io
import os
import stat
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.reader import read_sequences, read_stream
from jaxrnn.foundation.errors import DataError

TEXT = b"1,2\n3,4,5\n"
EXPECTED = Ragged.from_rows([[1, 2], [3, 4, 5]])


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def read(content: bytes, **options: object) -> Ragged:
    return read_stream(io.BytesIO(content), name="FILE", **options)


def refusal(content: bytes, **options: object) -> str:
    with pytest.raises(DataError) as error_info:
        read(content, **options)
    assert str(error_info.value).isprintable()
    return str(error_info.value)


COMPRESSORS = pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
COLUMNAR = pytest.mark.parametrize(
    "write", [parquet, arrow_file, arrow_stream], ids=["parquet", "arrow_file", "arrow_stream"]
)


@COMPRESSORS
def test_compressed_text(compress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "no_extension"
    path.write_bytes(compress(TEXT))
    assert read_sequences(path) == EXPECTED
    # Several members, as `cat a.gz b.gz` gives them, with a row across the seam.
    assert read(compress(TEXT[:5]) + compress(TEXT[5:])) == EXPECTED


@COMPRESSORS
def test_messages_count_lines_of_the_inflated_text(compress) -> None:  # type: ignore[no-untyped-def]
    assert refusal(compress(TEXT + b"6,x\n")).startswith("FILE:3:3: found 'x'")
    assert "an empty file" in refusal(compress(b""))


@COMPRESSORS
def test_a_damaged_file_is_refused(compress) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    text = b"".join(b"%d,%d\n" % tuple(pair) for pair in rng.integers(0, 9999, (20_000, 2)))
    content = compress(text)
    for damaged in (content[:-1], content[: len(content) // 2], content[:6]):
        message = refusal(damaged)
        assert message.startswith("FILE: found data that cannot be read on (")
        assert "damaged or cut short" in message
    # Changed bytes may inflate to text of another kind, and that is then what is refused.
    refusal(content[: len(content) // 2] + bytes(64) + content[len(content) // 2 + 64 :])


def test_a_gzip_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(gzip.compress(TEXT))
    content[-8] ^= 1
    assert "CRC" in refusal(bytes(content))


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = zlib.compressobj(wbits=31)
    piece = b"1,2\n" * (1 << 18)
    bomb = b"".join(compressor.compress(piece) for _ in range(100)) + compressor.flush()
    assert len(bomb) < 1 << 20
    inflated = 0
    read_gzip = gzip.GzipFile.read

    def count(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal inflated
        content = read_gzip(self, size)
        inflated += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", count)
    message = refusal(bomb, max_bytes=2_000_000)
    assert message.startswith("FILE: found more than 2000000 bytes")
    assert "--max-bytes" in message
    assert inflated == 2_000_001


def test_a_zstd_bomb_is_not_inflated() -> None:
    bomb = zstd(b"1,2\n" * (1 << 24))
    assert len(bomb) < 1 << 17
    peak = pa.default_memory_pool().max_memory()
    assert "--max-bytes" in refusal(bomb, max_bytes=2_000_000)
    assert pa.default_memory_pool().max_memory() - peak < 1 << 24


@COLUMNAR
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "in_gzip"])
@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int8()), pa.list_(pa.float32()), pa.large_list(pa.float64()),
     pa.list_(pa.uint64()), pa.list_(pa.float16())],
    ids=str,
)  # fmt: skip
def test_list_columns(write, compress, kind: pa.DataType) -> None:  # type: ignore[no-untyped-def]
    rows = [[1, 2], [3, 4, 5], [6, 7]]
    table = pa.table({"id": [1, 2, 3], "rows": pa.array(rows, kind)})
    assert read(compress(write(table))) == Ragged.from_rows(rows)


@COLUMNAR
def test_fixed_size_lists_and_slices(write) -> None:  # type: ignore[no-untyped-def]
    fixed = pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2))
    assert read(write(pa.table({"x": fixed}))) == Ragged.from_rows([[1, 2], [3, 4], [5, 6]])
    assert read(write(pa.table({"x": fixed.slice(1)}))) == Ragged.from_rows([[3, 4], [5, 6]])
    ragged = pa.array([[1, 2], [3, 4, 5], [6, 7]]).slice(1)
    assert read(write(pa.table({"x": ragged}))) == Ragged.from_rows([[3, 4, 5], [6, 7]])


GOOD = [[1.0, 2.0]] * 5  # three batches of Arrow's, with the bad row
REFUSALS = {
    "null_row": ([*GOOD, None], {}, ":6: found null in place of a row", "remove the row"),
    "null_element": ([*GOOD, [1.0, None]], {}, ":6:2: found null; expected", "mend"),
    "empty_list": ([*GOOD, []], {}, ":6:1: found a row of 0 values", "remove the row"),
    "short_row": ([*GOOD, [1.0], []], {}, ":6:2: found a row of 1 value;", "remove the row"),
    "nan": ([*GOOD, [1.0, 2.0, float("nan")]], {}, ":6:3: found 'nan'; expected a finite", "mend"),
    "inf": ([[float("-inf"), 1.0], *GOOD], {}, ":1:1: found '-inf'; expected a finite", "mend"),
    "beyond_float32": ([[1.0, 1e39]], {}, ":1:2: found '1e+39'; expected a number that", "mend"),
    "first_fault_wins": ([[1.0], [float("nan")]], {}, ":1:2: found a row of 1 value;", "remove"),
    "long_row": (
        [[1.0] * 9], {"max_row_length": 8}, ":1:9: found a row of 9 values", "--max-row-length",
    ),
    "no_rows": ([], {}, ": found no rows", "right file"),
    "no_such_column": ([[1.0]], {"column": "y"}, ": found no columns named 'y'", "--column"),
    "max_bytes": ([[1.0] * 2] * 500, {"max_bytes": 600}, ": found more than 600", "--max-bytes"),
}  # fmt: skip


@COLUMNAR
@pytest.mark.parametrize(("rows", "options", "start", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_refused_columns(write, rows, options, start, remedy) -> None:  # type: ignore[no-untyped-def]
    message = refusal(write(pa.table({"x": pa.array(rows, pa.list_(pa.float64()))})), **options)
    assert message.startswith(f"FILE{start}")
    assert remedy in message


@COLUMNAR
def test_the_column_must_be_clear(write) -> None:  # type: ignore[no-untyped-def]
    lists = pa.array([[1, 2]])
    both = write(pa.table({"a": lists, "b": pa.array([[3, 4]])}))
    assert read(both, column="b") == Ragged.from_rows([[3, 4]])
    assert "found 2 columns of lists; expected one; give --column with one of 'a', 'b'" in refusal(both)
    other = write(pa.table({"s": ["x"], "n": [1], "l": pa.array([["x"]])}))
    assert "found only columns of other types ('s' 'string'" in refusal(other)
    assert "the column 'n' of type 'int64'" in refusal(other, column="n")


def test_a_run_length_bomb_is_refused() -> None:
    zeros = pa.ListArray.from_arrays([0, 1_000_000], pa.array(np.zeros(1_000_000)))
    content = parquet(pa.table({"x": zeros}), compression="zstd")
    assert len(content) < 100_000
    assert "--max-bytes" in refusal(content, max_bytes=4_000_000)


ONE_ROW_OF_ZEROS = pa.table({"x": pa.ListArray.from_arrays([0, 20_000_000], pa.array(np.zeros(20_000_000)))})


def arrow_zstd(new: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> bytes:
    sink = io.BytesIO()
    with new(sink, ONE_ROW_OF_ZEROS.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(ONE_ROW_OF_ZEROS)
    return sink.getvalue()


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: parquet(ONE_ROW_OF_ZEROS, compression="zstd"),
        lambda: parquet(ONE_ROW_OF_ZEROS, use_dictionary=False, compression="zstd", data_page_version="2.0"),
        lambda: arrow_zstd(pa.ipc.new_file),
        lambda: arrow_zstd(pa.ipc.new_stream),
    ],
    ids=["parquet_run_length", "parquet_pages", "arrow_file", "arrow_stream"],
)
def test_one_hostile_batch_is_refused_before_it_is_inflated(bomb) -> None:  # type: ignore[no-untyped-def]
    content = bomb()
    assert len(content) < 200_000
    pool = pa.default_memory_pool()
    tracemalloc.start()
    before = pool.total_bytes_allocated()  # in all, so that what made the bomb hides nothing
    try:
        assert "found more than 8000000 bytes" in refusal(content, max_bytes=8_000_000)
        assert pool.total_bytes_allocated() - before < 1 << 22
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_parquet_index_that_claims_less_than_its_pages_hold_is_refused() -> None:
    content = parquet(ONE_ROW_OF_ZEROS, compression="zstd")
    varint = bytes([0x80, 0xB4, 0x89, 0x13])  # zigzag of 20,000,000
    index = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert varint in content[:index]
    assert varint in content[index:]
    claimed = content[index:].replace(varint, bytes([0x94, 0x80, 0x80, 0x00]))  # 10, in as many bytes
    assert "found more than 8000000 bytes" in refusal(content[:index] + claimed, max_bytes=8_000_000)


def test_narrow_values_count_by_what_they_become() -> None:
    table = pa.table({"x": pa.array([[1] * 1000] * 1000, pa.list_(pa.int8()))})
    for write in (parquet, arrow_file, arrow_stream):
        content = write(table)
        assert len(read(content, max_bytes=8_100_000)) == 1000
        assert "found more than 2000000 bytes" in refusal(content, max_bytes=2_000_000)


@pytest.mark.parametrize("write", [arrow_file, arrow_stream])
def test_offsets_past_the_end_are_refused(write) -> None:  # type: ignore[no-untyped-def]
    offsets = np.array([0, 2, 5], "<i4").tobytes()
    content = write(pa.table({"x": pa.array([[1, 2], [3, 4, 5]])}))
    assert content.count(offsets) == 1
    damaged = content.replace(offsets, np.array([0, 1 << 20, 5], "<i4").tobytes())
    assert "a columnar file that cannot be read" in refusal(damaged)


@COLUMNAR
def test_damaged_columnar_files_raise_nothing_else(write) -> None:  # type: ignore[no-untyped-def]
    content = write(pa.table({"x": pa.array([[1, 2], [3, 4, 5], [6, 7]])}))
    for length in range(4, len(content) - 12, 17):
        refusal(content[:length])

    @settings(max_examples=80, deadline=None)
    @given(st.integers(6, len(content) - 1), st.integers(1, 255))
    def check(position: int, change: int) -> None:
        damaged = bytearray(content)
        damaged[position] ^= change
        message = ""
        try:
            read(bytes(damaged), max_bytes=1 << 20)
        except DataError as error:
            message = str(error)
        assert message.isprintable()

    check()


def path_refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(DataError) as error_info:
        read_sequences(path, **options)
    message = str(error_info.value)
    assert "; expected " in message
    return message


def test_path_directory(tmp_path: Path) -> None:
    assert path_refusal(tmp_path).startswith(f"{tmp_path}: found a directory; ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_path_fifo_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "found a named pipe" in path_refusal(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_path_that_becomes_a_fifo_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    regular = os.stat(tmp_path / "file")
    assert stat.S_ISREG(regular.st_mode)
    monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
    assert "found a named pipe" in path_refusal(tmp_path / "pipe")


def test_path_character_device() -> None:
    assert "found a character device" in path_refusal("/dev/null")


def test_path_symlink_loop(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be opened (too many levels of symbolic links)" in path_refusal(tmp_path / "loop")


def test_path_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "found no such file; expected a data file; check" in path_refusal(tmp_path / "x.csv")
    monkeypatch.chdir(tmp_path)
    assert "write it with `python -m jaxrnn.data.ball`" in path_refusal("ball.csv")
    assert "`python -m jaxrnn.data.ball --out=a/ball.csv`" in path_refusal("a/ball.csv")


def test_path_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.csv"
    path.write_bytes(TEXT)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser reads everything

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    assert "cannot be opened (permission denied)" in path_refusal(path)


def test_path_that_no_file_can_have() -> None:
    assert "found a path that cannot be opened" in path_refusal("a\0b")
    assert path_refusal("a\x1b[31m").startswith(r"a\x1b[31m: ")
    assert "too long" in path_refusal("x" * 5000)


def test_path_size_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.csv"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert "--max-bytes" in path_refusal(path)
