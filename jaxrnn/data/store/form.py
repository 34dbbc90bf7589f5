"""The form of prepared sequences: which fields their shards hold, and how each is written."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import CATEGORIES, GROUPS, INPUTS, LABELS, STATICS, TARGETS, Field, Sequences
from jaxrnn.data.store.shards import Block

TEXT = "text"
# Of series to forecast, how many of their first steps each part has: a field that only the store knows.
ENDS = "ends"
# The kinds of NumPy's types that a field's values may have, of texts objects; those of other fields may be any.
_KINDS = {INPUTS: "f", TARGETS: "f", STATICS: "f", CATEGORIES: "i", LABELS: "i", GROUPS: "O", ENDS: "i"}


@dataclasses.dataclass(frozen=True)
class FieldForm:
    """A field of sequences.

    Attributes:
      of: Whether it is known of every "steps" or of whole "rows".
      name: Its name among the fields, such as "inputs".
      columns: Its columns' names.
      type: The type of its values as they were read, as NumPy calls it; or "text".
      vocabulary: The texts that the numbers of each column stand for; none of plain values.
    """

    of: Literal["steps", "rows"]
    name: str
    columns: tuple[str, ...]
    type: str
    vocabulary: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of_field(cls, of: Literal["steps", "rows"], name: str, field: Field) -> "FieldForm":
        """Returns the form of a field."""
        is_text = field.values.dtype.kind in "OU"
        return cls(of, name, field.names, TEXT if is_text else field.values.dtype.name, field.vocabulary)

    @property
    def key(self) -> str:
        """The column's name in the shards."""
        return f"{self.of}.{self.name}"

    def written(self, field: Field) -> NDArray[Any]:
        """Returns a field's values as shards hold them: texts (count,), all else (count, columns)."""
        if self.type == TEXT:
            return np.array(field.texts(), object)
        return field.values.view(np.int64) if field.values.dtype.kind in "mM" else field.values

    def empty(self, count: int) -> NDArray[Any]:
        """Returns an array for values, (count, columns)."""
        return np.empty((count, len(self.columns)), object if self.type == TEXT else np.dtype(self.type))

    def read(self, column: Any, places: Any) -> NDArray[Any]:
        """Returns the values at some places of a shard's column, (count, columns).

        Args:
          column: As a `Shard` has it.
          places: A slice, or (count,) integers.
        """
        if self.type == TEXT:
            taken = column[places] if isinstance(places, slice) else column.take(places)
            return np.array(taken.to_pylist(), object)[:, None]
        return column[places]

    def fits(self, column: Any) -> bool:
        """Whether a shard's column is one of this form."""
        if self.type == TEXT:
            return not isinstance(column, np.ndarray) and len(self.columns) == 1
        return isinstance(column, np.ndarray) and column.ndim == 2 and column.shape[1] == len(self.columns)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FieldForm":
        """Returns what a description says of a field.

        Raises:
          ValueError, TypeError, KeyError: It says something else.
        """
        form = cls(
            content["of"],
            content["name"],
            tuple(content["columns"]),
            content["type"],
            tuple(map(tuple, content["vocabulary"])),
        )
        texts = [form.name, form.type, *form.columns, *(text for column in form.vocabulary for text in column)]
        is_plain = form.of in ("steps", "rows") and all(isinstance(text, str) for text in texts)
        kind = "O" if form.type == TEXT else np.dtype(form.type).kind
        is_known = kind in _KINDS.get(form.name, "iufmMO")
        wanted = len(form.columns) if form.name in (CATEGORIES, LABELS) else 0
        if not is_plain or not is_known or len(form.vocabulary) != wanted:
            raise ValueError("fields")
        return form


@dataclasses.dataclass(frozen=True)
class Form:
    """All fields of some sequences."""

    fields: tuple[FieldForm, ...]

    @classmethod
    def of_sequences(cls, sequences: Sequences) -> "Form":
        """Returns the form of sequences."""
        steps = [FieldForm.of_field("steps", name, field) for name, field in sequences.steps.items()]
        return cls((*steps, *(FieldForm.of_field("rows", name, field) for name, field in sequences.rows.items())))

    @property
    def steps(self) -> tuple[FieldForm, ...]:
        """The fields of every step."""
        return tuple(field for field in self.fields if field.of == "steps")

    @property
    def rows(self) -> tuple[FieldForm, ...]:
        """The fields of whole sequences."""
        return tuple(field for field in self.fields if field.of == "rows")

    @property
    def width(self) -> int:
        """How many values a step has."""
        return sum(len(field.columns) for field in self.steps)

    def names(self) -> list[tuple[str, tuple[str, ...], bool]]:
        """Returns what two files must have in common: each field's name, its columns, and whether they are texts."""
        return sorted((field.key, field.columns, bool(field.vocabulary)) for field in self.fields)

    def block(self, sequences: Sequences) -> Block:
        """Returns sequences of this form as shards hold them."""
        return Block(
            sequences.lengths,
            {field.key: field.written(sequences.steps[field.name]) for field in self.steps},
            {field.key: field.written(sequences.rows[field.name]) for field in self.rows},
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Returns what `from_json` takes, in types that JSON has."""
        return [field.to_json() for field in self.fields]

    @classmethod
    def from_json(cls, content: Iterable[Mapping[str, Any]]) -> "Form":
        """Returns the form that a description states.

        Raises:
          ValueError, TypeError, KeyError: It states none.
        """
        form = cls(tuple(FieldForm.from_json(field) for field in content))
        if not form.steps or len({field.key for field in form.fields}) < len(form.fields):
            raise ValueError("fields")
        return form
