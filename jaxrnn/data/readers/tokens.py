"""Texts to tokens: characters, words or bytes, numbered by a vocabulary of all that occur."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import encode

if TYPE_CHECKING:
    import pyarrow as pa

Tokens = Literal["character", "word", "byte"]

_CODE_POINTS = 0x110000
# Punctuation and symbols of Unicode: each is a word of its own.
_APART = r"([\p{P}\p{S}])"


def tokenise(texts: "pa.Array", kind: Tokens) -> tuple[NDArray[np.int32], tuple[str, ...], NDArray[np.int64]]:
    """Cuts texts into tokens.

    - ``character``: the code points of Unicode; the vocabulary is in their order.
    - ``byte``: the bytes of UTF-8; the vocabulary has all 256, written as ``0x41``.
    - ``word``: every character of Unicode's classes P (punctuation) and S (symbols) is a word, and so is what stands
      between these and white space. Nothing is changed: upper case stays, "don't" is three words.

    Args:
      texts: Texts, (texts,), in Arrow's type large_string; none missing.
      kind: What a token is.

    Returns:
      The tokens of all texts, (tokens,) int32; what each number stands for; how many tokens each text has, (texts,).
    """
    if kind == "word":
        return _words(texts)
    return _bytes(texts) if kind == "byte" else _characters(texts)


def _content(texts: "pa.Array") -> tuple[memoryview, NDArray[np.int64]]:
    """Returns the bytes of all texts, and how many each has."""
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(content or b"")[ends[0] : ends[-1]], np.diff(ends)


def _bytes(texts: "pa.Array") -> tuple[NDArray[np.int32], tuple[str, ...], NDArray[np.int64]]:
    content, lengths = _content(texts)
    return np.frombuffer(content, np.uint8).astype(np.int32), tuple(f"0x{byte:02x}" for byte in range(256)), lengths


def _characters(texts: "pa.Array") -> tuple[NDArray[np.int32], tuple[str, ...], NDArray[np.int64]]:
    import pyarrow.compute as pc

    content, _ = _content(texts)
    points = np.frombuffer(str(content, "utf-8").encode("utf-32-le"), np.uint32)
    is_used = np.zeros(_CODE_POINTS, bool)
    is_used[points] = True
    numbers = (np.cumsum(is_used) - 1).astype(np.int32)
    vocabulary = tuple(map(chr, np.flatnonzero(is_used).tolist()))
    return numbers[points], vocabulary, np.asarray(pc.utf8_length(texts)).astype(np.int64)


def _words(texts: "pa.Array") -> tuple[NDArray[np.int32], tuple[str, ...], NDArray[np.int64]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    apart = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, _APART, r" \1 "))
    words = pc.utf8_split_whitespace(apart)
    is_empty = np.asarray(pc.equal(pc.binary_length(apart), 0))  # these are split into one word of nothing
    lengths = np.where(is_empty, 0, np.asarray(pc.list_value_length(words)).astype(np.int64))
    kept = words.filter(pa.array(~is_empty)) if is_empty.any() else words
    coded = kept.flatten().dictionary_encode()
    codes, vocabulary = encode(coded.dictionary.to_pylist())
    return codes[np.asarray(coded.indices)], vocabulary, lengths
