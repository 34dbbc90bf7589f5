"""Tables of series to forecast for the tests: texts as ids, months or numbers as times, columns of every kind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

HORIZON = 3
ROLES = ["--id-column=shop", "--time-column=month", "--target-columns=sales"]
COLUMNS = [
    *ROLES,
    "--input-columns=visits",
    "--known-columns=price",
    "--static-columns=area",
    "--category-columns=kind",
]
LENGTHS = (5, 9, 14, 14, 22)


def write_series(
    path: Path,
    number: int = 40,
    *,
    first: int = 0,
    seed: int = 0,
    lengths: Sequence[int] = LENGTHS,
    missing: float = 0.0,
    gaps: float = 0.0,
    shuffled: bool = False,
) -> Path:
    """Writes monthly series whose season is of four months, with ids from `first` on.

    Args:
      path: The file.
      number: How many series.
      first: The number in the first one's id.
      seed: Of all that is drawn.
      lengths: Months of a series, drawn.
      missing: The share of sales that are empty, but for the first of each series.
      gaps: The share of months that are left out, but for the first three and the last of each series.
      shuffled: Whether rows stand in any order.
    """
    generator = np.random.default_rng(seed)
    lines = []
    for shop in range(first, first + number):
        level, size = float(generator.integers(500, 5000)), generator.integers(1, 9)
        kind, length = ("street", "mall", "web")[shop % 3], int(generator.choice(lengths))
        start = np.datetime64("2019-01", "M") + np.timedelta64(int(generator.integers(12)), "M")
        price = generator.integers(5, 12, length)
        for place in range(length):
            level += float(generator.normal()) * level / 20
            sales = level * (1 + 0.2 * (place % 4)) - 10 * price[place]
            is_inner = 2 < place < length - 1
            drawn = generator.random(2)
            if is_inner and drawn[0] < gaps:
                continue
            shown = "" if place and drawn[1] < missing else f"{sales:.3f}"
            visits = int(generator.integers(100, 999))
            lines.append(
                f"shop {shop},{start + np.timedelta64(place, 'M')},{shown},{visits},{price[place]},{size},{kind}"
            )
    if shuffled:
        lines = [lines[place] for place in generator.permutation(len(lines))]
    path.write_text("\n".join(["shop,month,sales,visits,price,area,kind", *lines]) + "\n")
    return path
