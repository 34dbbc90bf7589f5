"""Between the data's units and the network's."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """normalised = (value - offset) / scale.

    Attributes:
      offset: In the data's units.
      scale: In the data's units, positive.
    """

    offset: float = 0.0
    scale: float = 1.0

    @classmethod
    def fit(cls, kind: Literal["standard", "divide", "none"], training: Ragged, *, divisor: float) -> "Normalizer":
        """Fits a normaliser on the training rows alone.

        Args:
          kind: "standard" for mean and standard deviation, "divide" for a fixed divisor, or "none".
          training: The training rows.
          divisor: Of "divide".
        """
        if kind == "none":
            return cls()
        if kind == "divide":
            return cls(0.0, divisor)
        deviation = float(np.std(training.values))
        usable = math.isfinite(deviation) and deviation > 0
        return cls(float(np.mean(training.values)), deviation if usable else 1.0)

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
