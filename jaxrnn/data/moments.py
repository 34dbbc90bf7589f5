"""Mean and variance of numbers that come in pieces."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
