"""Sequences out of lists in memory: of arrays, or of texts."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxrnn.data.readers.options import FLOAT32_OVERFLOW
from jaxrnn.data.readers.tokens import tokenise
from jaxrnn.data.sequences import CATEGORIES, IDS, INPUTS, LABELS, Field, Sequences, encode
from jaxrnn.data.tables.columns import Tokens
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.checking import require

_LOST = ("nan", "NaT", "<NA>")  # how numpy and pandas print what is missing


def read_arrays(
    arrays: Sequence[Any], *, labels: Sequence[Any] | None = None, ids: Sequence[Any] | None = None
) -> Sequences:
    """Makes sequences of arrays.

    Args:
      arrays: Of real numbers: (length, features) each, or (length,) for one feature.
      labels: One each; they become classes, or are read as numbers by a task that wants some.
      ids: One each.

    Raises:
      UserError: An array is of something else or has other features; or there are as many labels or ids no arrays.
    """
    found = []
    for number, array in enumerate(arrays):
        name, expected = f"array {number}", "(length, features) or (length,) real numbers"
        try:
            values = np.asarray(array)
        except ValueError as error:  # lists of different lengths in it
            raise UserError(f"{name}: got lists of different lengths; expected {expected}") from error
        require(values.dtype.kind in "fiu" or not values.size, name, values.dtype, expected)
        values = values[:, None] if values.ndim == 1 else values
        require(values.ndim == 2, name, f"shape {values.shape}", expected)
        found.append(values.astype(np.float64))
        require(bool(np.isfinite(found[-1]).all()), name, "NaN or infinite values", "finite ones")
        require(not np.ma.is_masked(array), name, "masked values", "values at every step")
        is_small = bool((np.abs(found[-1]) < FLOAT32_OVERFLOW).all())
        require(is_small, name, "values beyond float32", "magnitudes below 3.4028236e38; use other units")
        features = found[0].shape[1]
        require(values.shape[1] == features, name, f"{values.shape[1]} features", f"{features}, as the first has")
    require(bool(found), "source", "no arrays", "at least one")
    names = tuple(str(number) for number in range(found[0].shape[1]))
    return Sequences.from_lengths(
        [len(values) for values in found], {INPUTS: Field(names, np.concatenate(found))}, _rows(labels, ids, len(found))
    )


def read_text_list(
    texts: Sequence[Any], tokens: Tokens, *, labels: Sequence[Any] | None = None, ids: Sequence[Any] | None = None
) -> Sequences:
    """Makes sequences of texts, whose tokens are categories of the steps.

    Args:
      texts: One a sequence.
      tokens: What a token is.
      labels: One each.
      ids: One each.

    Raises:
      UserError: One of them is no text, or has no tokens; or there are as many labels or ids no texts.
    """
    import pyarrow as pa

    for number, text in enumerate(texts):
        require(isinstance(text, str), f"text {number}", type(text).__name__, "a text, since tokens are asked for")
    require(len(texts) > 0, "source", "no texts", "at least one")
    try:
        array = pa.array(texts, pa.large_string())
    except UnicodeEncodeError as error:
        number = next(number for number, text in enumerate(texts) if not _is_unicode(text))
        raise UserError(f"text {number}: got half of a surrogate pair; expected Unicode") from error
    codes, vocabulary, lengths = tokenise(array, tokens)
    for number in np.flatnonzero(lengths == 0)[:1].tolist():
        require(False, f"text {number}", texts[number][:40], f"one {tokens} at least")
    steps = {CATEGORIES: Field(("text",), codes[:, None], (vocabulary,))}
    sequences = Sequences.from_lengths(lengths, steps, _rows(labels, ids, len(texts)))
    return dataclasses.replace(sequences, tokens=tokens)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _rows(labels: Sequence[Any] | None, ids: Sequence[Any] | None, count: int) -> dict[str, Field]:
    rows: dict[str, Field] = {}
    for field, given in ((LABELS, labels), (IDS, ids)):
        if given is None:
            continue
        expected = f"{count}, one for each array or text"
        require(isinstance(given, Collection), field, type(given).__name__, expected)
        require(len(given) == count, field, f"{len(given)}", expected)
        texts = [_as_text(field, number, value) for number, value in enumerate(given)]
        if field == LABELS:
            codes, vocabulary = encode(texts)
            rows[field] = Field(("label",), codes[:, None], (vocabulary,))
        else:
            rows[field] = Field(("id",), np.array(texts, object)[:, None])
    return rows


def _as_text(field: str, number: int, value: Any) -> str:
    """Returns a label or an id as the cell of a DataFrame becomes one, so that each finds the other's classes."""
    name = f"{field} {number}"
    if not isinstance(value, str):
        require(not isinstance(value, bytes), name, "bytes", "a text or a number; decode them")
        require(np.ndim(value) == 0, name, type(value).__name__, "a text or a number")
        if isinstance(value, bool | np.bool_):
            return str(value).lower()
        if isinstance(value, float | np.floating) and np.isfinite(value) and value == int(value):
            return str(int(value))
    text = str(value)
    is_lost = value is None or (not isinstance(value, str) and text in _LOST) or not text.strip()
    require(not is_lost, name, "nothing" if value is None else text, "a text or a number; leave what has none out")
    return text
