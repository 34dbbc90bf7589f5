"""Sequences of any lengths, with everything that is known of their steps and of each of them as a whole."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxrnn.data.ragged import Ragged

# The fields that readers fill in; a file may have any of them.
INPUTS, CATEGORIES, TARGETS, TIMES = "inputs", "categories", "targets", "times"  # of every step; targets of rows too
KNOWN = "known"  # of every step: numbers that are known ahead
LABELS, STATICS, IDS, GROUPS = "labels", "statics", "ids", "groups"  # of a sequence; labels of every step too
_MANY_TEXTS = 1000
_COUNTED = (INPUTS, KNOWN, TARGETS, CATEGORIES, STATICS)


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """Columns that belong together.

    Args:
      names: What each column is called, (columns,).
      values: (count, columns): numbers, times or text; int32 where there is a vocabulary.
      vocabulary: The texts that the numbers 0, 1, .. of each column stand for; none of columns of plain values.

    Raises:
      ValueError: The values are no table of so many columns, or two columns have one name.
    """

    names: tuple[str, ...]
    values: NDArray[Any]
    vocabulary: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise ValueError(f"values: got shape {values.shape}; expected (count, {len(self.names)}), as many as names")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names: got {', '.join(self.names)}; expected names that differ")
        if self.vocabulary and len(self.vocabulary) != len(self.names):
            raise ValueError(f"vocabulary: got {len(self.vocabulary)}; expected one a column, {len(self.names)}")
        values = values.view()
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def take(self, indices: ArrayLike) -> "Field":
        """Returns the entries at `indices`, in their order."""
        return dataclasses.replace(self, values=self.values[np.asarray(indices)])

    def texts(self, column: int = 0) -> list[str]:
        """Returns a column as text: what its numbers stand for, if it has a vocabulary."""
        values = self.values[:, column].tolist()
        return [self.vocabulary[column][value] for value in values] if self.vocabulary else list(map(str, values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Field):
            return NotImplemented
        mine, others = self.values, other.values
        same = mine.dtype == other.values.dtype and mine.shape == others.shape
        kind = {"equal_nan": True} if mine.dtype.kind == "f" else {}
        return bool(
            same
            and (self.names, self.vocabulary) == (other.names, other.vocabulary)
            and np.array_equal(mine, others, **kind)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How far apart the steps of forecasting series are, and how far ahead they are to be forecast.

    Args:
      frequency: The word that the file has for it, such as "monthly" or "4_seconds".
      horizon: Steps ahead.
    """

    frequency: str | None = None
    horizon: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences one after the other: what is known of every step, and of every sequence.

    Args:
      offsets: Where each sequence starts among the steps, and after the last their number: int64, (sequences + 1,).
      steps: Fields of (num_steps, columns): ``inputs``, ``categories``, ``targets``, ``labels``, ``times``, and the
        ``known`` numbers that are known ahead of their steps.
      rows: Fields of (sequences, columns): ``labels``, ``targets``, ``statics``, ``ids``, and the ``categories`` of
        whole sequences.
      schedule: Frequency and horizon, if the file says them.
      tokens: What the steps of texts are: "character", "word" or "byte"; None of what was no text.

    Raises:
      ValueError: The offsets do not rise from 0, or a field has another number of steps or sequences.

    Example:
      >>> import jaxrnn
      >>> sequences = jaxrnn.read([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], labels=["left", "right"])
      >>> sequences
      Sequences(2, of 1 to 2 steps: 2 inputs; labels)
      >>> jaxrnn.pad_sequences(sequences.arrays("inputs")).values.shape
      (2, 2, 2)
    """

    offsets: NDArray[np.int64]
    steps: Mapping[str, Field]
    rows: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    schedule: Schedule | None = None
    tokens: str | None = None

    def __post_init__(self) -> None:
        offsets = np.array(self.offsets, np.int64)
        if offsets.ndim != 1 or not offsets.size or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("offsets: expected 1-D integers that rise from 0")
        offsets.flags.writeable = False
        object.__setattr__(self, "offsets", offsets)
        for part, count in (("steps", int(offsets[-1])), ("rows", offsets.size - 1)):
            fields = dict(getattr(self, part))
            for name, field in fields.items():
                if len(field.values) != count:
                    raise ValueError(f"{part}: {name} has {len(field.values)} entries; expected {count}")
            object.__setattr__(self, part, MappingProxyType(fields))

    @classmethod
    def from_lengths(
        cls, lengths: ArrayLike, steps: Mapping[str, Field], rows: Mapping[str, Field] | None = None
    ) -> "Sequences":
        """Makes sequences of fields and the number of steps of each, (sequences,)."""
        return cls(np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]), steps, rows or {})

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many steps each sequence has, (sequences,)."""
        return np.diff(self.offsets)

    @property
    def num_steps(self) -> int:
        """How many steps all sequences have together."""
        return int(self.offsets[-1])

    def owners(self) -> NDArray[np.int64]:
        """Returns the number of the sequence that each step belongs to, (num_steps,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> "Sequences":
        """Returns one sequence."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        return self.take([index % len(self)])

    def __iter__(self) -> Iterator["Sequences"]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequences):
            return NotImplemented
        told = (self.schedule, self.tokens) == (other.schedule, other.tokens)
        same = told and np.array_equal(self.offsets, other.offsets)
        return same and dict(self.steps) == dict(other.steps) and dict(self.rows) == dict(other.rows)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "Sequences(0)"
        said = [
            f"{len(field.names)} {name}" if name in _COUNTED else name
            for fields in (self.steps, self.rows)
            for name, field in fields.items()
        ]
        return f"Sequences({len(self)}, of {self.lengths.min()} to {self.lengths.max()} steps: {'; '.join(said)})"

    def take(self, indices: ArrayLike) -> "Sequences":
        """Copies the sequences at `indices`, integers of shape (num_taken,), in their order.

        Raises:
          TypeError: The indices are not integers.
          IndexError: An index is not that of a sequence.
        """
        # The positions of the steps, gathered as a row of numbers would be.
        positions = Ragged(np.arange(self.num_steps, dtype=np.float64), self.offsets).take(indices)
        chosen = positions.values.astype(np.int64)
        return Sequences(
            positions.offsets,
            {name: field.take(chosen) for name, field in self.steps.items()},
            {name: field.take(np.asarray(indices, np.int64)) for name, field in self.rows.items()},
            self.schedule,
            self.tokens,
        )

    def ids(self) -> list[str] | None:
        """Returns the ids of the sequences as texts; None where they have none."""
        return self.rows[IDS].texts() if IDS in self.rows else None

    def group_ids(self) -> NDArray[np.int64]:
        """Returns a number for every sequence, the same for those that belong together, (sequences,).

        Those are the sequences of a group, or where there are no groups those that hold the same.
        """
        if GROUPS in self.rows:
            return self.rows[GROUPS].values[:, 0].astype(np.int64)
        seen: dict[bytes, int] = {}
        return np.array([seen.setdefault(content, len(seen)) for content in self.contents()], np.int64)

    def row_hashes(self, seed: int) -> NDArray[np.uint64]:
        """Returns a hash of the seed and of each sequence's group, or of what it holds, uint64 (sequences,)."""
        key = int(seed).to_bytes(8, "little")
        contents: Iterable[bytes] = self.contents()
        if GROUPS in self.rows:
            contents = [text.encode() for text in self.rows[GROUPS].texts()]
        digests = [hashlib.blake2b(content, digest_size=8, key=key).digest() for content in contents]
        return np.frombuffer(b"".join(digests), np.uint64)

    def contents(self) -> Iterator[bytes]:
        """Yields what the steps of each sequence hold, numbers and texts, as bytes to compare."""
        parts = []
        has_any = any(name in self.steps for name in (INPUTS, CATEGORIES))
        for name in (INPUTS, KNOWN, CATEGORIES) if has_any else (KNOWN, TARGETS):
            field = self.steps.get(name)
            if field is not None and field.vocabulary:  # codes mean something in their own file only
                hashes = [
                    np.array([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts])
                    for texts in field.vocabulary
                ]
                parts.append(np.stack([table[codes] for table, codes in zip(hashes, field.values.T, strict=True)], 1))
            elif field is not None:
                parts.append(np.ascontiguousarray(field.values + 0.0))  # -0 is 0
        for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield b"".join(values[start:end].tobytes() for values in parts)

    def arrays(self, field: str = INPUTS) -> list[NDArray[Any]]:
        """Returns the steps of every sequence: a list of (length, columns) arrays, as `pad_sequences` takes them.

        Raises:
          KeyError: There is no such field.
        """
        values = self.steps[field].values
        return [values[start:end] for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    def ragged(self, field: str = INPUTS) -> Ragged:
        """Returns a field of one column as rows of numbers.

        Raises:
          KeyError: There is no such field.
          ValueError: It has several columns.
        """
        names, values = self.steps[field].names, self.steps[field].values
        if len(names) != 1:
            raise ValueError(f"{field}: got {len(names)} columns ({', '.join(names)}); expected one")
        return Ragged(np.ascontiguousarray(values[:, 0], np.float64), self.offsets)


def mark_of(name: str) -> str:
    """Returns the name of the column that is 1 where a value of another is missing."""
    return f"{name} is missing"


def ids_of(sequences: Sequences) -> list[Any]:
    """Returns the sequences' ids; their numbers from 0 where they have none."""
    field = sequences.rows.get(IDS)
    return list(range(len(sequences))) if field is None else field.texts()


def encode(texts: Iterable[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Numbers texts in sorted order, whole numbers by their size.

    Returns:
      (count,) int32, and the text that each number stands for.
    """
    listed = list(texts)
    if len(listed) >= _MANY_TEXTS and (order := _order_by_size(listed)) is not None:
        codes = np.empty(len(listed), np.int32)
        codes[order] = np.arange(len(listed), dtype=np.int32)
        return codes, tuple(map(listed.__getitem__, order.tolist()))
    words = sort_texts(set(listed))
    numbers = {text: number for number, text in enumerate(words)}
    return np.array([numbers[text] for text in listed], np.int32), tuple(words)


def _order_by_size(texts: list[str]) -> NDArray[np.int64] | None:
    """Returns the order of texts that are whole numbers as `str` writes them, none twice; None if some are not."""
    import pyarrow as pa

    try:
        written = pa.array(texts, pa.large_string())
        numbers = written.cast(pa.int64())
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None
    values = numbers.to_numpy()
    if not values.size or values.min() <= -(10**18):  # `sort_texts` takes texts of fewer than 20 characters
        return None
    order = np.argsort(values, kind="stable")
    is_once = bool(np.all(np.diff(values[order]) > 0))
    return order if is_once and numbers.cast(pa.large_string()).equals(written) else None


def sort_texts(texts: Iterable[str]) -> list[str]:
    """Sorts texts: by size if all are whole numbers as `str` writes them, else letter by letter."""
    listed = list(texts)
    try:
        numbers = {text: int(text) for text in listed if len(text) < 20}
    except ValueError:
        return sorted(listed)
    if len(numbers) == len(set(listed)) and all(str(number) == text for text, number in numbers.items()):
        return sorted(listed, key=numbers.__getitem__)
    return sorted(listed)
