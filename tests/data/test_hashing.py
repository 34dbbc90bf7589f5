"""The hash of a data file is that of the very bytes that were parsed, and is compared before they are."""

import gzip
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrnn.data.readers import loading, reader, sources
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.data_config import ReaderConfig


def write(path: Path, kind: str) -> Path:
    text = b"1,2,3\n4,5\n" * 1000
    if kind == "text":
        path.write_bytes(text)
    elif kind == "gzip":
        path.write_bytes(gzip.compress(text))
    elif kind == "zstd":
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(text)
    else:
        pq.write_table(pa.table({"values": [[1.0, 2.0, 3.0], [4.0, 5.0]] * 1000}), path)
    return path


@pytest.mark.parametrize("kind", ["text", "gzip", "zstd", "parquet"])
def test_it_is_the_files(tmp_path, kind):
    path, seen = write(tmp_path / "rows", kind), []
    rows, sha256 = loading.load_hashed_rows(str(path), ReaderConfig(), min_length=2, check=seen.append)
    assert len(rows) == 2000
    assert seen == [sha256] == [hashlib.sha256(path.read_bytes()).hexdigest()]
    assert loading.load_hashed_rows(str(path), ReaderConfig(), min_length=2) == (rows, sha256)


def test_a_file_that_is_replaced_while_it_is_read_has_the_hash_of_what_was_read(tmp_path, monkeypatch):
    path = write(tmp_path / "rows", "text")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    read_text = reader.read_text

    def replace_behind(*arguments, **options):
        found = read_text(*arguments, **options)
        (tmp_path / "other").write_text("7,8\n")
        (tmp_path / "other").replace(path)
        return found

    monkeypatch.setattr(reader, "read_text", replace_behind)
    rows, sha256 = loading.load_hashed_rows(str(path), ReaderConfig(), min_length=2)
    assert len(rows) == 2000
    assert sha256 == before


def test_a_file_that_is_written_to_between_its_hash_and_its_reading_is_refused(tmp_path):
    path = write(tmp_path / "rows", "text")

    def change(sha256):
        with path.open("ab") as file:
            file.write(b"7,8\n")

    with pytest.raises(DataError, match="found a file that changed while it was read; expected one that stays"):
        loading.load_hashed_rows(str(path), ReaderConfig(), min_length=2, check=change)


def test_the_check_comes_before_the_parser_and_the_limit_before_the_hash(tmp_path, monkeypatch):
    (tmp_path / "rows").write_text("secret\n" * 10)

    def refuse(sha256):
        raise UserError("another file")

    with pytest.raises(UserError, match="another file"):
        loading.load_hashed_rows(str(tmp_path / "rows"), ReaderConfig(), min_length=2, check=refuse)
    monkeypatch.setattr(sources.HashingFile, "read", None)
    with pytest.raises(DataError, match="found more than 5 bytes"):
        loading.load_hashed_rows(str(tmp_path / "rows"), ReaderConfig(max_bytes=5), min_length=2, check=refuse)
