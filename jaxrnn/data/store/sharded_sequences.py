"""Prepared sequences: random access to their shards."""

import copy
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import GROUPS, IDS, TIMES, Field, Sequences, encode
from jaxrnn.data.store.form import ENDS, FieldForm, Form
from jaxrnn.data.store.shards import Shard, ShardFiles
from jaxrnn.foundation.errors import DataError

# What training does not look at.
NOT_TRAINED_ON = frozenset((IDS, TIMES, GROUPS))


class _Chosen(NamedTuple):
    """Some of the sequences: their numbers, and how many of their first steps, (count,)."""

    numbers: NDArray[np.integer]
    steps: NDArray[np.int32]


class ShardedSequences:
    """The sequences of one part, in the order of the source.

    Args:
      paths: Shards, in the order of their sequences.
      form: The fields that they hold.

    Raises:
      DataError: A shard is not one, or holds other fields.
    """

    def __init__(self, paths: list[Path], form: Form):
        self.form = form
        names = [field.key for field in form.steps], [field.key for field in form.rows]
        shards = [Shard(path, *names) for path in paths]
        for path, shard in zip(paths, shards, strict=True):
            other = next((field.key for field in form.fields if not field.fits(shard.columns[field.key])), None)
            if other is not None:
                raise DataError(f"{path}: its {other} are not as described; expected a shard; prepare the data again")
        self._files = ShardFiles(shards)
        self._chosen: _Chosen | None = None

    def cut(self, numbers: NDArray[np.integer], steps: NDArray[np.integer]) -> "ShardedSequences":
        """Returns the first steps of some of the sequences, which stay where they are.

        Args:
          numbers: Which, (count,).
          steps: How many of each, (count,); at most as many as it has.
        """
        assert self._chosen is None
        fewer = copy.copy(self)
        fewer._chosen = _Chosen(numbers.astype(np.int32 if len(self) < 2**31 else np.int64), steps.astype(np.int32))
        return fewer

    def read_rows(self, name: str) -> NDArray[Any]:
        """Returns a field of rows of all sequences, (sequences, columns)."""
        field = next(field for field in self.form.rows if field.name == name)
        columns = [self._read(field, shard, slice(0, len(shard.offsets) - 1)) for shard in self._files.shards]
        return np.concatenate([field.empty(0), *columns])

    def __len__(self) -> int:
        return len(self._files) if self._chosen is None else len(self._chosen.numbers)

    @property
    def num_steps(self) -> int:
        """The steps of all sequences together."""
        return self._files.num_steps if self._chosen is None else int(self._chosen.steps.sum(dtype=np.int64))

    @property
    def num_values(self) -> int:
        """The values of all steps together."""
        return self.num_steps * self.form.width

    def lengths(self) -> Iterator[NDArray[np.int32]]:
        """Yields the lengths of the sequences, in their order, many at a time."""
        return self._files.lengths() if self._chosen is None else iter([self._chosen.steps])

    def take(self, numbers: NDArray[np.integer], *, without: Collection[str] = ()) -> Sequences:
        """Copies the sequences of some numbers, in their order.

        Args:
          numbers: Which, (taken,).
          without: Fields that are left out.
        """
        chosen = self._chosen
        if chosen is None:
            lengths, found = self._files.gather(numbers)
        else:
            lengths, found = self._files.gather(chosen.numbers[numbers], chosen.steps[numbers])
        fields = [field for field in self._fields() if field.name not in without]
        held = {field.key: field.empty(int(lengths.sum()) if field.of == "steps" else len(numbers)) for field in fields}
        for one in found:
            for field in fields:
                to, where = (one.to_steps, one.steps) if field.of == "steps" else (one.to_rows, one.rows)
                held[field.key][to] = field.read(one.shard.columns[field.key], where)
        self._files.release_pages()
        return self._sequences(lengths, fields, held)

    def blocks(self, num_values: int) -> Iterator[Sequences]:
        """Yields all sequences in their order, in blocks of about so many values, a long one by itself."""
        fields, num_steps = self._fields(), max(num_values // self.form.width, 1)
        if self._chosen is not None:
            ends = np.cumsum(self._chosen.steps, dtype=np.int64)
            first = 0
            while first < len(ends):
                limit = num_steps + (int(ends[first - 1]) if first else 0)
                end = max(int(np.searchsorted(ends, limit, side="right")), first + 1)
                yield self.take(np.arange(first, end))
                first = end
            return
        for shard, rows, steps in self._files.places(num_steps):
            held = {field.key: self._read(field, shard, steps if field.of == "steps" else rows) for field in fields}
            yield self._sequences(np.diff(shard.offsets[rows.start : rows.stop + 1]), fields, held)

    def whole(self, *, without: Collection[str] = ()) -> Sequences:
        """Copies all of them."""
        return self.take(np.arange(len(self)), without=without)

    def _fields(self) -> list[FieldForm]:
        return [field for field in self.form.fields if field.name != ENDS]

    def _read(self, field: FieldForm, shard: Shard, places: slice) -> NDArray[Any]:
        values = field.read(shard.columns[field.key], places)
        return values if values.dtype == object else values.astype(field.type)

    def _sequences(self, lengths: NDArray[Any], fields: Collection[FieldForm], held: dict[str, Any]) -> Sequences:
        made: dict[str, dict[str, Field]] = {"steps": {}, "rows": {}}
        for form in fields:
            values = held[form.key]
            if form.name == GROUPS:
                codes, texts = encode(values[:, 0])
                made[form.of][form.name] = Field(form.columns, codes[:, None], (texts,))
                continue
            for column, texts in enumerate(form.vocabulary):
                if len(values) and not 0 <= values[:, column].min() <= values[:, column].max() < len(texts):
                    raise DataError(f"prepared data: {form.key} hold what stands for no text; prepare the data again")
            made[form.of][form.name] = Field(form.columns, values, form.vocabulary)
        return Sequences.from_lengths(lengths, made["steps"], made["rows"])
