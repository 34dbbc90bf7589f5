"""Between the data's units and the network's."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DataError

FLOAT32_MIN, FLOAT32_MAX = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """normalised = (value - offset) / scale.

    Attributes:
      offset: In the data's units.
      scale: In the data's units, positive.
    """

    offset: float = 0.0
    scale: float = 1.0

    @property
    def is_usable(self) -> bool:
        """Whether both numbers are ones that float32 holds; those of a foreign checkpoint may be any."""
        return FLOAT32_MIN <= self.scale <= FLOAT32_MAX and abs(self.offset) <= FLOAT32_MAX

    @classmethod
    def fit(cls, kind: Literal["standard", "divide", "none"], training: Ragged, *, divisor: float) -> "Normalizer":
        """Fits a normaliser on the training rows alone.

        Args:
          kind: "standard" for mean and standard deviation, "divide" for a fixed divisor, or "none".
          training: The training rows.
          divisor: The divisor of "divide".
        """
        if kind == "none":
            return cls()
        if kind == "divide":
            return cls(0.0, divisor)
        least, greatest = float(training.values.min()), float(training.values.max())
        return cls.standard(float(np.mean(training.values)), float(np.std(training.values)), least, greatest)

    @classmethod
    def standard(cls, mean: float, deviation: float, least: float, greatest: float) -> "Normalizer":
        """Returns the normaliser of values with some mean and standard deviation; of equal values the scale is 1.

        Args:
          mean: The training values' mean, in the data's units.
          deviation: Their standard deviation.
          least: The least of them.
          greatest: The greatest.

        Raises:
          DataError: They differ by less, or by more, than float32 holds.
        """
        if least == greatest:
            return cls(mean, 1.0)
        if not FLOAT32_MIN <= deviation <= FLOAT32_MAX:
            raise DataError(
                f"found training values from {least:.3g} to {greatest:.3g}, of standard deviation {deviation:.3g};"
                f" expected one of {FLOAT32_MIN:.3g} to {FLOAT32_MAX:.3g}, as float32 holds them; use other units"
            )
        return cls(mean, deviation)

    def normalize(self, values: Any) -> Any:
        return (values - self.offset) / self.scale

    def normalize_rows(self, rows: Ragged) -> Ragged:
        """Normalises every value of ragged rows.

        Raises:
          DataError: A normalised value is beyond float32, in which the network computes.
        """
        return Ragged.from_lengths(self.require_float32(rows.values), rows.lengths)

    def require_parts(self, rows: Ragged) -> None:
        """Refuses rows of any part, test rows included, before anything is trained.

        Raises:
          DataError: A normalised value is beyond float32, in which the network computes.
        """
        self.require_float32(np.array([rows.values.min(initial=0.0), rows.values.max(initial=0.0)]))

    def require_float32(self, values: np.ndarray) -> np.ndarray:
        """Normalises values.

        Raises:
          DataError: A normalised value is beyond float32, in which the network computes.
        """
        normalized = self.normalize(values)
        largest = float(np.abs(normalized).max(initial=0.0))
        if not largest <= FLOAT32_MAX:
            raise DataError(
                f"found a value of {largest:.3g} once normalised by (x - {self.offset:g}) / {self.scale:g}; expected at"
                f" most {FLOAT32_MAX:.3g}, what float32 holds; use another --normalizer or --divisor, or smaller units"
            )
        return normalized

    def denormalize(self, values: Any) -> Any:
        return values * self.scale + self.offset


class Moments:
    """Number, mean, and sum of squared deviations from it, of all values added so far.

    Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Adds values, (num_values,)."""
        if not values.size:
            return
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        count, shift = self.count + values.size, mean - self.mean
        self.mean += shift * values.size / count
        self.squares += squares + shift * shift * self.count * values.size / count
        self.count = count

    @property
    def deviation(self) -> float:
        """The standard deviation, of the values themselves and not of a sample."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan
