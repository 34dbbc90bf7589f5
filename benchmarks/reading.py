"""Times reading ragged text against the csv module and float.

    python -m benchmarks.reading [--rows=10000000] [--rounds=3] [--loop-rows=1000000]

Writes rows of 5 to 10 small integers to a temporary file. The loop reads the first `--loop-rows` of
them and its time is scaled to all, since all 10 million would keep it busy for half a minute and
gigabytes of lists. The two take turns, so that a slower moment of the machine meets both.
"""

import argparse
import csv
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jaxrnn.data.ball import generate
from jaxrnn.data.readers.reader import read_sequences

_DISTINCT_ROWS = 10_000


def write_rows(path: Path, num_rows: int) -> int:
    """Writes `num_rows` rows and returns how many values they hold."""
    rows = generate(_DISTINCT_ROWS, seed=0)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    num_repeats, num_left = divmod(num_rows, _DISTINCT_ROWS)
    with open(path, "w", encoding="ascii", newline="") as file:
        for _ in range(num_repeats):
            file.write(text)
        file.writelines(",".join(map(str, row)) + "\n" for row in rows[:num_left])
    values_per_repeat = sum(map(len, rows))
    return num_repeats * values_per_repeat + sum(map(len, rows[:num_left]))


def time_reader(path: Path) -> float:
    """Seconds that `read_sequences` takes."""
    start = time.perf_counter()
    rows = read_sequences(path)
    seconds = time.perf_counter() - start
    assert rows.num_values
    return seconds


def time_loop(path: Path, num_rows: int) -> float:
    """Seconds that csv.reader and float take for the first `num_rows` rows."""
    start = time.perf_counter()
    with open(path, encoding="utf-8", newline="") as file:
        rows = [list(map(float, row)) for row in itertools.islice(csv.reader(file), num_rows)]
    seconds = time.perf_counter() - start
    assert len(rows) == num_rows
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description="Time reading ragged text.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows in the file")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each reader")
    parser.add_argument("--loop-rows", type=int, default=1_000_000, help="rows the loop reads")
    arguments = parser.parse_args(argv)
    num_loop_rows = min(arguments.loop_rows, arguments.rows)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "rows.csv")
        num_values = write_rows(path, arguments.rows)
        num_bytes = path.stat().st_size
        print(f"{arguments.rows} rows, {num_values} values, {num_bytes / 1e6:.0f} MB")
        print(f"{os.cpu_count()} processors, {arguments.rounds} rounds")
        seconds: dict[str, list[float]] = {"read_sequences": [], "csv.reader and float": []}
        for _ in range(arguments.rounds):
            seconds["read_sequences"].append(time_reader(path))
            loop_seconds = time_loop(path, num_loop_rows) * arguments.rows / num_loop_rows
            seconds["csv.reader and float"].append(loop_seconds)
    for statistic, choose in (("median", statistics.median), ("minimum", min)):
        for name, times in seconds.items():
            best = choose(times)
            print(
                f"{statistic:8} {name:21} {best:7.2f} s {arguments.rows / best:12.3g} rows/s "
                f"{num_values / best:10.3g} values/s {num_bytes / best / 1e6:8.1f} MB/s"
            )
        ours, loop = (choose(times) for times in seconds.values())
        print(f"{statistic:8} ratio {loop / ours:.1f}")


if __name__ == "__main__":
    main()
