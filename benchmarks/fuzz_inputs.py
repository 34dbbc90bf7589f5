"""Inputs for the reader, drawn from a random number generator, and what must come of them.

An input is a valid file of rows, drawn from a grammar that crosses the reader's inner borders, and then perhaps
damaged. What must come of text is said by `expected_rows`, which shares no code with the reader: Python's own float,
field by field, of what a regular expression lets through.
"""

import gzip
import io
import math
import random
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxrnn.data.readers import text_reader
from jaxrnn.data.readers.reader import read_sequences_with_report
from jaxrnn.foundation.errors import DataError

# Of a block, in bytes: the reader cuts files at these places, wherever they fall in a number.
BLOCK_SIZES = (1, 2, 3, 5, 8, 13, 64, 1 << 19)
NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
BLANK = b" \t\v\f"
LIMIT = 4096
FORM = re.compile(r"FILE(?::(\d+):(\d+))?: found .+; expected .+; .+", re.DOTALL)
TOKENS = (
    b"nan", b"inf", b"-Infinity", b"1e999", b"1_000", b"0x10", b"1d0", b"True", b"=1+2", b"\x00", b"#", b'"', b";",
    b"\t", b",", b",,", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"  ", b"-", b"+", b".", b"e", b"E5", b"--1",
    b"+-1", b"-0", b"\xef\xbb\xbf", b"\xff\xfe", "\uff11".encode(), "\u0661".encode(), "\xa0".encode(), b"\xe9",
    b"\x1b[2J", b"\x0b", b"\x0c",
    b"\x1c", b"\x85", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"99999999", b"-99999999",
    b"100000000", b"/", b":",
)  # fmt: skip


class Failed(AssertionError):
    """What the reader did is not what it promises."""


@dataclass
class Input:
    """Bytes to read, how, and what is known of them.

    Attributes:
      content: The file.
      kind: text, gzip, zstd, parquet, arrow_file or arrow_stream.
      text: What compressed text holds; None where the compressed bytes were damaged, or there is no text.
      rows: Of a columnar file: its rows; None where the bytes were damaged.
      options: The reader's.
      block: The reader's `BLOCK_BYTES`.
    """

    content: bytes
    kind: str
    text: bytes | None = None
    rows: list[list[float]] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    block: int = 1 << 19


def draw_number(rng: random.Random) -> bytes:
    """Draws a spelling of a number."""
    kind = rng.randrange(12)
    if kind < 5:  # the borders of the fast paths: 7, 8, 9 digits, signs, zeros in front
        digits = rng.choice((1, 1, 2, 3, 6, 7, 8, 9, 10, 16, 17))
        text = "".join(rng.choices("0123456789", k=digits))
        return (rng.choice(("", "", "-", "-", "+")) + text).encode()
    if kind == 5:
        return rng.choice((b"0", b"-0", b"+0", b"00", b"-00", b"000000000", b"-00000001", b"-0.0", b"0e5", b"-.0"))
    if kind == 6:  # the borders of float32
        largest = (3.4028234e38, 3.4028235e38, 3.4028235677973362e38, 3.4028235677973366e38, 3.5e38)
        return repr(math.copysign(rng.choice((*largest, 1.17549435e-38, 1e-45, 1e-46)), rng.random() - 0.5)).encode()
    if kind == 7:  # halves of a float64's last place need all their digits
        bits = rng.getrandbits(52) | 1 << 52
        return f"{bits}.5{'0' * rng.randrange(30)}{rng.choice(('', '1'))}".encode()
    if kind == 8:
        digits = "0" * rng.choice((0, 1, 9, 300)) + str(rng.getrandbits(200))
        return f"{rng.choice(('', '-', '+'))}{digits}e{rng.randint(-340, 10)}".encode()
    if kind == 9:
        return rng.choice((b".5", b"5.", b"-.5", b"+5.", b"1e5", b"1E+5", b".5e1", b"5.e1", b"1e-400", b"1e0005"))
    value = draw_float(rng)
    return rng.choice((repr, "{:g}".format, "{:.17e}".format, "{:.3f}".format))(value).encode()


def draw_float(rng: random.Random) -> float:
    """Draws a float64 by its magnitude, within float32's range."""
    return math.copysign(10 ** rng.uniform(-44, 38), rng.random() - 0.5)


def draw_text(rng: random.Random, options: dict[str, Any]) -> bytes:
    """Draws rows that are right, in one of the ways in which they may be written."""
    delimiter = options["delimiter"].encode()
    spaces = rng.random() < 0.2 and delimiter != b" "
    plain = rng.random() < 0.5  # short integers alone take a path of their own
    ends = rng.choice(([b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n", b"\r"]))
    pieces = [b"\xef\xbb\xbf"] if rng.random() < 0.1 else []
    if options["header"]:
        pieces += [rng.choice((b"a,b", b"", b"\xff", b"1,2")), rng.choice(ends)]
    for _ in range(rng.randint(1, 8)):
        fields = []
        for _ in range(rng.choice((1, 2, 2, 3, 5, 9))):
            integer = rng.randint(-(10**9), 10**9) // 10 ** rng.randrange(10)
            number = str(integer).encode() if plain else draw_number(rng)
            fields.append(b" " * rng.randrange(3) + number + b" " * rng.randrange(3) if spaces else number)
        pieces += [delimiter.join(fields), rng.choice(ends)]
        if rng.random() < 0.05:
            pieces += [rng.choice((b"", b" ", b"\t \x0b\x0c")), rng.choice(ends)]
    return b"".join(pieces if rng.random() < 0.7 else pieces[:-1])


def damage(rng: random.Random, content: bytes, times: int) -> bytes:
    """Changes, inserts, removes and moves bytes."""
    data = bytearray(content)
    for _ in range(times):
        start, end = sorted((rng.randrange(len(data) + 1), min(len(data), rng.randrange(len(data) + 1))))
        end = min(end, start + rng.choice((1, 1, 1, 4, 20)))
        kind = rng.randrange(5)
        if kind == 0:
            data[start:start] = rng.choice(TOKENS)
        elif kind == 1:
            del data[start:end]
        elif kind == 2:
            data[start:end] = rng.randbytes(end - start)
        elif kind == 3:
            data[start:start] = data[start:end] * rng.choice((1, 2, 50))
        elif start < len(data):
            data[start] ^= 1 << rng.randrange(8)
    return bytes(data)


def compress(kind: str, content: bytes) -> bytes:
    """Compresses as gzip or zstd."""
    if kind == "gzip":
        return gzip.compress(content, mtime=0)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def draw_columnar(rng: random.Random, kind: str) -> Input:
    """Draws a Parquet or Arrow file of a list column, now and then beside another column."""
    value_type = rng.choice((pa.int8(), pa.int32(), pa.float32(), pa.float64()))
    draw = (lambda: rng.randint(-100, 100)) if pa.types.is_integer(value_type) else (lambda: rng.uniform(-1e6, 1e6))
    column = pa.array(
        [[draw() for _ in range(rng.randint(2, 6))] for _ in range(rng.randint(1, 6))],
        rng.choice((pa.list_, pa.large_list))(value_type),
    )
    columns = {"x": column} | ({"id": pa.array(range(len(column)))} if rng.random() < 0.3 else {})
    table, sink = pa.table(columns), io.BytesIO()
    if kind == "parquet":
        pq.write_table(
            table, sink, compression=rng.choice(("none", "snappy", "zstd", "gzip")), use_dictionary=rng.random() < 0.5,
            data_page_version=rng.choice(("1.0", "2.0")), row_group_size=rng.choice((2, 100)),
        )  # fmt: skip
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice((None, "zstd", "lz4")))
        new = pa.ipc.new_file if kind == "arrow_file" else pa.ipc.new_stream
        with new(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=2)
    content = sink.getvalue()
    if rng.random() < 0.15:
        return Input(content, kind, rows=[[float(value) for value in row] for row in column.to_pylist()])
    return Input(damage(rng, content, rng.randint(1, 4)), kind, options={"max_bytes": 1 << 24})


def draw_input(rng: random.Random) -> Input:
    """Draws a file, and how to read it."""
    kind = rng.choices(
        ("text", "gzip", "zstd", "parquet", "arrow_file", "arrow_stream"), (70, 6, 6, 8, 5, 5)
    )[0]  # fmt: skip
    if kind not in ("text", "gzip", "zstd"):
        return draw_columnar(rng, kind)
    options = {
        "delimiter": rng.choice((",", ",", ",", ";", "\t", " ", "|")),
        "header": rng.random() < 0.1,
        "blank_lines": rng.choice(("error", "skip")),
        "min_length": rng.choice((1, 2)),
        "max_row_length": rng.choice((5, 1_000_000)),
    }
    text = draw_text(rng, options)
    if rng.random() < 0.6:
        text = damage(rng, text, rng.choice((1, 1, 2, 4)))
    drawn = Input(text, kind, text=text, options=options, block=rng.choice(BLOCK_SIZES))
    if kind != "text":
        drawn.content = compress(kind, text)
        if rng.random() < 0.3:
            drawn.content, drawn.text = damage(rng, drawn.content, 1), None
    return drawn


def expected_rows(text: bytes, options: dict[str, Any]) -> tuple[list[list[float]], int | None]:
    """Says what text holds: its rows, and the line of the first fault, or None.

    Line 0 stands for a fault of the file as a whole.
    """
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return [], 1
    lines = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if number == 1 and options["header"]:
            continue
        if not line.strip(BLANK) and len(line) <= LIMIT:
            if options["blank_lines"] == "error":
                return rows, number
            continue
        row = []
        for text_field in line.split(options["delimiter"].encode()):
            stripped = text_field.strip(b" ")
            if len(text_field) > LIMIT or len(row) == options["max_row_length"] or not NUMBER.fullmatch(stripped):
                return rows, number
            value = float(stripped)
            with np.errstate(over="ignore"):
                if not np.isfinite(np.float32(value)):
                    return rows, number
            row.append(value)
        if len(row) < options["min_length"]:
            return rows, number
        rows.append(row)
    return rows, None if rows else 0


def check(drawn: Input) -> str:
    """Reads an input and compares what comes of it with what must.

    Returns:
      "accepted" or "refused".

    Raises:
      Failed: It is something else. Any other exception is a failure as well.
    """
    text_reader.BLOCK_BYTES = drawn.block
    try:
        report = read_sequences_with_report(io.BytesIO(drawn.content), name="FILE", **drawn.options)
    except DataError as error:
        match = FORM.fullmatch(str(error))
        if not match or not str(error).isprintable():
            raise Failed(f"a message of another form: {error}") from error
        line = int(match[1] or 0)
        if drawn.rows is not None:
            raise Failed(f"a whole file was refused: {error}") from error
        if drawn.text is not None and not _is_other_format(drawn.text):
            wanted = expected_rows(drawn.text, drawn.options)[1]
            if wanted != line:
                raise Failed(f"the fault is in line {wanted}, got: {error}") from error
        return "refused"
    finally:
        text_reader.BLOCK_BYTES = 1 << 19
    found = [row.tolist() for row in report.sequences]
    if drawn.text is not None:
        rows, fault = expected_rows(drawn.text, drawn.options)
        if fault is not None:
            raise Failed(f"line {fault} was accepted")
        if repr(found) != repr(rows):  # -0.0 is not 0.0 here
            raise Failed(f"read {found}, expected {rows}")
    if drawn.rows is not None and repr(found) != repr(drawn.rows):
        raise Failed(f"read {found}, expected {drawn.rows}")
    with np.errstate(over="ignore"):
        if not np.isfinite(report.sequences.values.astype(np.float32)).all() or not len(found):
            raise Failed(f"accepted what float32 cannot hold, or nothing: {found}")
    return "accepted"


def _is_other_format(text: bytes) -> bool:
    """Whether damage has given text the first bytes of another format."""
    return text.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"))
