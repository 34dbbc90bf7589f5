"""Makes the small files in examples/data, from seeds: sales of shops by month, and gestures of a hand.

python examples/make_data.py [--directory=examples/data]
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

MONTHS = np.arange("2019-01", "2025-01", dtype="M8[M]")
KINDS = ("circle", "line", "wave")


def main(directory: str | Path) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    for name, columns in {"shops": shops(24), "gestures": gestures(120)}.items():
        path = Path(directory) / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        print(f"wrote {path}")


def shops(number: int) -> dict[str, list[Any]]:
    """A row for each month of shops that sell tens to tens of thousands of things, each with its own season."""
    generator = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {"shop": [], "month": [], "sales": []}
    for shop in range(number):
        length = int(generator.integers(36, 73))
        months = MONTHS[-length:]
        season = 0.3 * np.sin(2 * np.pi * (months.astype(int) / 12 + generator.uniform(0, 1)))
        trend = generator.normal(0, 0.01) * np.arange(length)
        noise = generator.normal(0, 0.05, size=length)
        size = 10 ** generator.uniform(1, 4)
        columns["shop"] += [f"shop{shop:02}"] * length
        columns["month"] += months.astype("M8[D]").tolist()
        columns["sales"] += (size * np.exp(season + trend + noise)).round(1).tolist()
    return columns


def gestures(number: int) -> dict[str, list[Any]]:
    """A row for each moment of a hand's way, as far as it went since the moment before; the kind of gesture in each."""
    generator = np.random.default_rng(1)
    columns: dict[str, list[Any]] = {"gesture": [], "moment": [], "right": [], "up": [], "kind": []}
    for gesture in range(number):
        kind = KINDS[gesture % len(KINDS)]
        length = int(generator.integers(12, 31))
        place = np.linspace(0, 1, length + 1)
        turn = 2 * np.pi * place * generator.uniform(0.7, 1.0)
        way = {
            "circle": np.stack([np.cos(turn), np.sin(turn)]),
            "line": np.stack([2 * place, 0 * place]),
            "wave": np.stack([2 * place, 0.3 * np.sin(3 * turn)]),
        }[kind]
        tilt, size = generator.uniform(-0.5, 0.5), generator.uniform(0.5, 2)
        turned = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) @ way * size
        steps = np.diff(turned, axis=1) + generator.normal(0, 0.06 * size, size=(2, length))
        columns["gesture"] += [f"g{gesture:03}"] * length
        columns["moment"] += range(length)
        columns["right"] += steps[0].round(3).tolist()
        columns["up"] += steps[1].round(3).tolist()
        columns["kind"] += [kind] * length
    return columns


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", default="examples/data", help="where to write")
    main(parser.parse_args().directory)
