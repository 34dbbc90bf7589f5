"""Columns of numbers, each with its own normaliser."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.columns import ColumnMoments
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.sequences import Field
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config

MAX_NAMES_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Columns of numbers, each with its normaliser."""

    names: tuple[str, ...] = ()
    normalizers: tuple[Normalizer, ...] = ()

    @classmethod
    def of(cls, columns: Sequence[ColumnMoments], config: Config) -> "Scaling":
        """Makes a normaliser for each column.

        Args:
          columns: What was measured of the training values.
          config: Says which normaliser.

        Raises:
          DataError: A column varies by less, or by more, than float32 holds; names it.
        """
        return cls(tuple(column.name for column in columns), tuple(_fit_column(column, config) for column in columns))

    @classmethod
    def unscaled(cls, names: tuple[str, ...]) -> "Scaling":
        """Returns columns that stay as they are."""
        return cls(names, tuple(Normalizer() for _ in names))

    def normalize(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Normalises (count, columns) values, to what float32 holds.

        Raises:
          DataError: A value is beyond float32; names its column.
        """
        normalized = np.empty(values.shape, np.float64)
        for i, (name, normalizer) in enumerate(zip(self.names, self.normalizers, strict=True)):
            with naming_column(name):
                normalized[:, i] = normalizer.require_float32(np.asarray(values[:, i], np.float64))
        return normalized

    def denormalize(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Takes (.., columns) normalised values back to the columns' units."""
        return np.asarray(values, np.float64) * self.scales + self.offsets

    @property
    def offsets(self) -> NDArray[np.float64]:
        """What is subtracted from each column, in its units."""
        return np.array([normalizer.offset for normalizer in self.normalizers])

    @property
    def scales(self) -> NDArray[np.float64]:
        """What each column is then divided by."""
        return np.array([normalizer.scale for normalizer in self.normalizers])

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        return {"names": list(self.names), "offsets": self.offsets.tolist(), "scales": self.scales.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scaling":
        """Returns the columns that a checkpoint describes.

        Raises:
          ValueError, TypeError, KeyError: They are none.
        """
        names, offsets, scales = (tuple(content[key]) for key in ("names", "offsets", "scales"))
        if not len(names) == len(offsets) == len(scales):
            raise ValueError("names")
        numbers = [Normalizer(float(offset), float(scale)) for offset, scale in zip(offsets, scales, strict=True)]
        if not all(normalizer.is_usable for normalizer in numbers):
            raise ValueError("scales")
        return cls(as_texts(names), tuple(numbers))


def _fit_column(column: ColumnMoments, config: Config) -> Normalizer:
    data = config.data
    if not column.num_values:
        raise DataError(f"column {escape(shorten(column.name))!r}: found no training values; expected one at least")
    if data.normalizer == "none":
        return Normalizer()
    if data.normalizer == "divide":
        return Normalizer(0.0, data.divisor)
    with naming_column(column.name):
        return Normalizer.standard(column.mean, column.deviation, column.least, column.greatest)


@contextlib.contextmanager
def naming_column(name: str) -> Iterator[None]:
    """Puts a column's name before a complaint about its values."""
    try:
        yield
    except DataError as error:
        raise DataError(f"column {escape(shorten(name))!r}: {error}") from error


def as_text(value: Any) -> str:
    """Refuses what is no text.

    Raises:
      TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def as_texts(values: Any) -> tuple[str, ...]:
    """Refuses what is no list of texts.

    Raises:
      TypeError: It is none.
    """
    if isinstance(values, str):
        raise TypeError("expected a list of texts")
    return tuple(map(as_text, values))


def columns_of(field: Field | None, names: tuple[str, ...], count: int, what: str) -> NDArray[Any]:
    """Returns the columns of these names, in this order."""
    if not names:
        return np.zeros((count, 0))
    held = () if field is None else field.names
    unnamed = tuple(map(str, range(len(names))))
    if field is not None and held == tuple(map(str, range(len(held)))):  # arrays: their features are only counted
        if len(held) == len(names):
            return field.values
        if names == unnamed:
            raise DataError(f"found {len(held)} features a step; expected {len(names)}, as the model was trained")
    for name in names:
        if name not in held:
            raise DataError(missing_column(name, held, what))
    assert field is not None
    return field.values[:, [held.index(name) for name in names]]


def missing_column(name: str, held: tuple[str, ...], what: str) -> str:
    """Returns the complaint about a column that is not among those that there are."""
    shown = ", ".join(escape(shorten(other)) for other in held[:MAX_NAMES_SHOWN]) or "none"
    more = f" and {len(held) - MAX_NAMES_SHOWN} more" if len(held) > MAX_NAMES_SHOWN else ""
    return f"found the {what} columns {shown}{more}; expected {escape(shorten(name))!r} too, as the model was trained"
