"""Tables of texts, a row of which is a sequence of tokens, with a label, an id and numbers of its own perhaps."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from jaxrnn.data.readers.complaints import quote
from jaxrnn.data.readers.tokens import tokenise
from jaxrnn.data.sequences import CATEGORIES, Field, Sequences
from jaxrnn.data.tables import cells
from jaxrnn.data.tables.columns import Columns
from jaxrnn.data.tables.step_tables import Arranged, Table, arrange, read_rows, require_columns
from jaxrnn.data.tables.wide_tables import require_each_id_once

if TYPE_CHECKING:
    import pyarrow as pa


def read_texts(table: Table, columns: Columns) -> Sequences:
    """Reads a table of texts; the tokens are categories of the steps.

    Args:
      table: A text a row.
      columns: Which column has the texts, and what the others are.

    Raises:
      DataError: A column is missing or of no use in its role, a text has no tokens, or an id is there twice.
    """
    require_columns(table, columns)
    name = str(columns.text_column)
    texts = _texts(table, name)
    if columns.id_column is not None:
        require_each_id_once(table, columns.id_column)
    kind = columns.tokens or "character"
    order, _, ids, _ = arrange(table, columns)
    codes, vocabulary, lengths = tokenise(texts if order is None else texts.take(order), kind)
    order = np.arange(lengths.size) if order is None else order
    if (lengths == 0).any():
        row = int(order[lengths == 0].min())
        table.refuse(
            row,
            name,
            found=f"no {kind} in {quote(texts[row].as_py())}",
            expected="a text",
            remedy="fill it in, or remove the row",
        )
    rows = read_rows(Arranged(table, order, np.ones(order.size, np.int64)), columns, ids)
    sequences = Sequences.from_lengths(lengths, {CATEGORIES: Field((name,), codes[:, None], (vocabulary,))}, rows)
    return dataclasses.replace(sequences, tokens=kind)


def _texts(table: Table, name: str) -> "pa.Array":
    """Returns a column of texts."""
    import pyarrow as pa

    array = cells.column_of(table, name)
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if not is_text and array.null_count < len(array):
        found = f"the column {quote(name)} of type {quote(str(array.type))}"
        table.refuse_whole(found=found, expected="texts", remedy="mend --text-column")
    if array.null_count:
        row = int(np.argmax(np.asarray(array.is_null())))
        table.refuse(row, name, found="no text", expected="one", remedy="fill it in, or remove the row")
    texts = array.cast(pa.large_string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        table.refuse_whole(found=f"text that is not UTF-8 in {quote(name)}", expected="UTF-8", remedy="encode it anew")
    return texts
