"""Times reading a long table, a line a step, against pandas.

    python -m benchmarks.long_tables [--rows=10000000] [--rounds=3]

Writes lines of a series' name, a time and two numbers, series after series, to a temporary file. Both read it into an
array of numbers a series, by name and time: `jaxrnn.read`, and pandas with `read_csv`, a stable sort and a cut where
the name changes. They take turns, and what they read is compared first.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

import jaxrnn

STEPS = 100  # of a series
ROWS_AT_ONCE = 1_000_000


def write_table(path: Path, num_rows: int) -> int:
    """Writes a table of so many lines and a header; returns how many series it holds."""
    generator = np.random.default_rng(0)
    with csv.CSVWriter(
        path, pa.schema([("id", "int64"), ("time", "int64"), ("x", "float64"), ("y", "float64")])
    ) as file:
        for begin in range(0, num_rows, ROWS_AT_ONCE):
            places = np.arange(begin, min(begin + ROWS_AT_ONCE, num_rows))
            x, y = np.round(generator.normal(size=(2, len(places))), 4)
            file.write_table(pa.table({"id": places // STEPS, "time": places % STEPS, "x": x, "y": y}))
    return -(-num_rows // STEPS)


def read_ours(path: Path) -> list[np.ndarray]:
    """Reads it as this project does."""
    return jaxrnn.read(path, id_column="id", time_column="time", input_columns=["x", "y"]).arrays()


def read_pandas(path: Path) -> list[np.ndarray]:
    """Reads it as users of pandas do."""
    import pandas as pd

    frame = pd.read_csv(path).sort_values(["id", "time"], kind="stable")
    names, values = frame["id"].to_numpy(), frame[["x", "y"]].to_numpy()
    return np.split(values, np.flatnonzero(names[1:] != names[:-1]) + 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="lines of the table")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each reader")
    arguments = parser.parse_args(argv)
    readers = {"jaxrnn.read": read_ours, "pandas": read_pandas}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "table.csv")
        number = write_table(path, arguments.rows)
        size = path.stat().st_size / 1e6
        print(f"{arguments.rows:,} lines, {number:,} series, {size:,.0f} MB; {os.cpu_count()} processors")
        for turn in range(arguments.rounds):
            read = {}
            for name, reader in readers.items():
                begin = time.perf_counter()
                read[name] = reader(path)
                seconds[name].append(time.perf_counter() - begin)
            if turn == 0:
                ours, theirs = read.values()
                assert len(ours) == len(theirs) == number
                assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(ours, theirs, strict=True))
            del read
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:12} median {median:6.2f} s, least {min(found):6.2f} s  {arguments.rows / median:12,.0f} lines/s")
    ours, theirs = seconds.values()
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(f"pandas' time over ours: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
