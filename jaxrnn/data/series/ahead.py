"""What forecasts read and are made of, besides what other tasks know of sequences."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def a_season_before(step: int, season: int) -> int:
    """Returns how many steps from an origin on the last known one lies that is whole seasons before a step ahead: 0 or
    less.

    Example:
      >>> [a_season_before(step, 4) for step in range(1, 7)]
      [-3, -2, -1, 0, -3, -2]
    """
    return step - season * -(-step // season)


class Ahead(NamedTuple):
    """What a network that forecasts reads of other steps.

    Attributes:
      horizon: Steps ahead.
      known: Numbers of every step that are known ahead; those of the next `horizon` steps are read.
      lags: Levels, each with its scale, that are read a season before the steps ahead.
      season: Steps of a season.
    """

    horizon: int
    known: int = 0
    lags: int = 0
    season: int = 1

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where the levels a season before the steps ahead stand: steps back, below 0."""
        season = self.season if self.lags else 1
        return tuple(sorted({a_season_before(step, season) for step in range(1, self.horizon + 1)} - {0}))

    @property
    def width(self) -> int:
        """Numbers that are read of other steps."""
        return self.known * self.horizon + self.lags * len(self.offsets)


class Series(NamedTuple):
    """Series to forecast, in the units of their transform.

    Attributes:
      levels: The last value known at each step, (steps, targets).
      scales: The units of a forecast from each step, (steps, targets).
      is_known: Whether the value itself is known, (steps, targets).
    """

    levels: NDArray[np.float64]
    scales: NDArray[np.float64]
    is_known: NDArray[np.bool_]
