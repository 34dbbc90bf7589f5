"""Files to tables: the format is told from the content, and several files of one format are one table."""

import dataclasses
import glob
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from jaxrnn.data.readers.columnar_reader import is_columnar
from jaxrnn.data.readers.complaints import complaint, quote
from jaxrnn.data.readers.delimited_text import Text, text_of
from jaxrnn.data.readers.sources import (
    decompressed,
    limited,
    open_file,
    read_at_once,
    require_size,
    too_many_bytes,
)
from jaxrnn.data.tables.columnar_tables import read_columnar
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.delimited import read_delimited, read_plain_file
from jaxrnn.data.tables.json_lines import is_json_lines, read_json_lines, refuse_json_list
from jaxrnn.data.tables.ragged_rows import holds_rows, read_rows
from jaxrnn.data.tables.step_tables import Table
from jaxrnn.data.tables.ts_files import is_ts, read_ts
from jaxrnn.data.tables.tsf_files import is_tsf, read_tsf
from jaxrnn.data.tables.wide_tables import is_wide
from jaxrnn.settings.checking import require

if TYPE_CHECKING:
    import pyarrow as pa

_HEAD_BYTES = 1 << 16
_FILE = "file"  # the ids of tables that have none, a sequence a file


def paths_of(source: Any) -> list[str] | None:
    """Returns the paths that a source means: itself, those of a list, or the sorted matches of a pattern.

    A path with ``*``, ``?`` or ``[`` is a pattern where no file has that very name; ``**`` goes through folders.

    Returns:
      The paths; None if the source is no path, and no list of them.

    Raises:
      DataError: A pattern has no match, or a file is named twice.
    """
    if isinstance(source, str | os.PathLike):
        return _matches(os.fspath(source))
    if not isinstance(source, list | tuple) or not any(isinstance(path, str | os.PathLike) for path in source):
        return None
    paths: list[str] = []
    for number, path in enumerate(source):
        require(isinstance(path, str | os.PathLike), f"source {number}", type(path).__name__, "a path, as others are")
        paths += _matches(os.fspath(path))
    for path in paths:
        if paths.count(path) > 1:
            raise complaint(path, found="the file twice", expected="each once", remedy="mend the list or the pattern")
    return paths


def _matches(path: str) -> list[str]:
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True))
    if not matches:
        remedy = "check the pattern and the folder it starts from"
        raise complaint(path, found="no file that matches", expected="one at least", remedy=remedy)
    return matches


def read_files(paths: Sequence[str], columns: Columns, options: TextOptions, *, max_bytes: int) -> Table:
    """Reads files of one format and the same columns as one table.

    A table of steps without an id column gets one of the names of the files.

    Args:
      paths: The files, in their order.
      columns: What each column is.
      options: How texts are cut.
      max_bytes: The most bytes of data in all files, after decompression.

    Raises:
      DataError: A file is not what it should be, or unlike the first.
      UserError: An option does not fit the format.
    """
    tables: list[Table] = []
    num_bytes = 0
    for path in paths:
        table, size = _read_file(path, columns, options, max_bytes, is_only=len(paths) == 1)
        num_bytes += size
        if num_bytes > max_bytes:
            raise too_many_bytes(path, max_bytes)
        tables.append(table)
        _require_alike(tables[0], table)
    return tables[0] if len(tables) == 1 else _joined(tables, columns)


def _read_file(
    path: str, columns: Columns, options: TextOptions, max_bytes: int, *, is_only: bool
) -> tuple[Table, int]:
    """Returns the table of a file, and how many bytes it has."""
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        require_size(path, status, max_bytes)
        raw = limited(file, name=path, max_bytes=max_bytes)
        stream = decompressed(raw, name=path, max_bytes=max_bytes)
        is_table = is_columnar(stream)
        head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        is_delimited = not (is_table or is_json_lines(head) or is_ts(head))
        refuse_json_list(head, path)
        if is_delimited and stream is raw and is_only:
            table = _read_plain_file(file, status.st_size, head, path, columns, options)
            if table is not None:
                return table, status.st_size
        content = read_at_once(file, status.st_size) if stream is raw else None
        if content is None:
            if stream is raw:  # once more from its begin, in one piece that is not copied
                file.seek(0)
                stream = limited(file, name=path, max_bytes=max_bytes, expected_bytes=status.st_size)
            content = stream.read()
    if is_delimited:
        text = text_of(content, path, comment=options.comment, skip_lines=options.skip_lines)
        is_rows = holds_rows(text, columns, options)
        if is_rows:
            return read_rows(text, columns, options), len(content)
        return read_delimited(text, options, columns, is_only=is_only), len(content)
    options.refuse_for(path)
    if is_table:
        table = read_columnar(content, name=path, max_bytes=max_bytes)
    elif is_json_lines(head):
        table = read_json_lines(content, name=path)
    else:
        table = (read_tsf if is_tsf(head) else read_ts)(content, name=path)
    return table, len(content)


def _read_plain_file(
    file: BinaryIO, num_bytes: int, head: bytes, path: str, columns: Columns, options: TextOptions
) -> Table | None:
    lines = head[: head.rfind(b"\n") + 1]
    if not lines or not lines.isascii() or b"\0" in lines:
        return None
    text = Text(path, lines)
    return None if holds_rows(text, columns, options) else read_plain_file(file, num_bytes, text, options, columns)


def _require_alike(first: Table, table: Table) -> None:
    if table.form != first.form:
        expected, remedy = f"{first.form}, as {quote(first.name)} is", "read files of one format at a time"
        raise complaint(table.name, found=table.form, expected=expected, remedy=remedy)
    names, others = first.content.column_names, table.content.column_names
    if sorted(names) != sorted(others):
        odd = [name for name in (*others, *names) if (name in others) != (name in names)]
        listed = ", ".join(map(quote, odd[:4])) or "a name twice"
        raise complaint(
            table.name,
            found=f"other columns than in {quote(first.name)} ({listed})",
            expected="the same in every file",
            remedy="rename them, or leave the file out",
        )
    for part in ("frequency", "horizon"):
        mine, others = getattr(first.schedule, part, None), getattr(table.schedule, part, None)
        if mine != others:
            found = f"the {part} {quote(str(others))}" if others else f"no {part}"
            expected, remedy = f"{quote(str(mine)) if mine else 'none'}, as in {quote(first.name)}", "read them apart"
            raise complaint(table.name, found=found, expected=expected, remedy=remedy)


def _joined(tables: Sequence[Table], columns: Columns) -> Table:
    """Puts tables one below the other; every row keeps its file and line."""
    first = tables[0]
    ends = np.cumsum([table.content.num_rows for table in tables])

    def part(row: int) -> tuple[Table, int]:
        number = int(np.searchsorted(ends, row, side="right"))
        return tables[number], row - int(ends[number]) + tables[number].content.num_rows

    def line_of(row: int) -> int:
        table, own = part(row)
        return table.line_of(own)

    content, own_roles = _concatenated(tables), first.own_roles
    if columns.id_column is None and columns.text_column is None and not is_wide(first):
        content, name = _with_files(content, tables)
        own_roles = {"id_column": name}
    return dataclasses.replace(
        first,
        name=", ".join([table.name for table in tables[:3]] + [".."] * (len(tables) > 3)),
        content=content,
        line_of=line_of,
        own_roles=own_roles,
        part_of=part,
        column_of=None,
    )


def _concatenated(tables: Sequence[Table]) -> "pa.Table":
    import pyarrow as pa

    names = tables[0].content.column_names
    contents = [table.content.select(names) if len(set(names)) == len(names) else table.content for table in tables]
    try:
        return pa.concat_tables(contents, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        for table, content in zip(tables[1:], contents[1:], strict=True):
            for name, kind, other in zip(names, contents[0].schema.types, content.schema.types, strict=True):
                if not _may_join(kind, other):
                    found = f"the column {quote(name)} of type {quote(str(other))}"
                    expected = f"{quote(str(kind))}, as in {quote(tables[0].name)}"
                    remedy = "give the column one type"
                    raise complaint(table.name, found=found, expected=expected, remedy=remedy) from error
        raise


def _may_join(kind: "pa.DataType", other: "pa.DataType") -> bool:
    import pyarrow as pa

    try:
        pa.unify_schemas([pa.schema({"a": kind}), pa.schema({"a": other})], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _with_files(content: "pa.Table", tables: Sequence[Table]) -> tuple["pa.Table", str]:
    """Appends a column of the names of the files; returns its name too."""
    import pyarrow as pa

    name = _FILE
    while name in content.column_names:
        name += "_"
    counts = [table.content.num_rows for table in tables]
    places = pa.array(np.repeat(np.arange(len(tables)), counts).astype(np.int32))
    files = pa.DictionaryArray.from_arrays(places, pa.array([table.name for table in tables]))
    return content.append_column(name, files), name
