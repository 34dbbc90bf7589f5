"""What is measured of columns of numbers, at once or in pieces."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.normalizer import Moments
from jaxrnn.data.sequences import Field


class ColumnMoments(NamedTuple):
    """A column of numbers.

    Attributes:
      name: The column's.
      num_values: How many there are.
      mean: Their mean, in the column's units.
      deviation: Their standard deviation.
      least: The least of them.
      greatest: The greatest.
    """

    name: str
    num_values: int = 0
    mean: float = 0.0
    deviation: float = 0.0
    least: float = 0.0
    greatest: float = 0.0

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> "ColumnMoments":
        """Measures a column, (count,)."""
        if not values.size:
            return cls(name)
        numbers = (values.mean(), values.std(), values.min(), values.max())
        return cls(name, values.size, *map(float, numbers))


def moments_of(field: Field | None) -> tuple[ColumnMoments, ...]:
    """Measures the columns of a field; none where there is no such field."""
    names = () if field is None else field.names
    return tuple(ColumnMoments.of(name, field.values[:, i]) for i, name in enumerate(names) if field is not None)


class _Collected:
    """A column of numbers that come in pieces."""

    def __init__(self, name: str):
        self._name, self._moments = name, Moments()
        self._least, self._greatest = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        self._moments.add(values)
        self._least = min(self._least, float(values.min(initial=np.inf)))
        self._greatest = max(self._greatest, float(values.max(initial=-np.inf)))

    def moments(self) -> ColumnMoments:
        found = self._moments
        if not found.count:
            return ColumnMoments(self._name)
        return ColumnMoments(self._name, found.count, found.mean, found.deviation, self._least, self._greatest)


class CollectedColumns:
    """The columns of a field of numbers that comes in pieces."""

    def __init__(self) -> None:
        self._columns: list[_Collected] = []

    def add(self, field: Field | None) -> None:
        """Takes a piece; None where there is no such field."""
        if field is not None:
            self._columns = self._columns or [_Collected(name) for name in field.names]
            for i, column in enumerate(self._columns):
                column.add(field.values[:, i])

    def moments(self) -> tuple[ColumnMoments, ...]:
        """Returns what all pieces measure."""
        return tuple(column.moments() for column in self._columns)


def as_moments(content: Mapping[str, Any]) -> ColumnMoments:
    """Returns the column that a description measures.

    Raises:
      ValueError, TypeError, KeyError: It does not.
    """
    name, count, *numbers = (content[key] for key in ColumnMoments._fields)
    if not isinstance(name, str) or type(count) is not int or not np.isfinite(numbers).all():
        raise ValueError("moments")
    return ColumnMoments(name, count, *map(float, numbers))
