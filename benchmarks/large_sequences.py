"""Sequences on the disk: prepares a set of two features, a category and a class, and trains on it and in memory.

    python -m benchmarks.large_sequences --steps=2000000

Writes a Parquet file of sequences of 5 to 150 steps; prepares it, trains on it from disk and in memory, in turns, each
in a process of its own, and prints the seconds of preparing, the steps a second of training and the peaks of resident
memory as the kernel counts them, pages of mapped files included. Steps a second are those of the epochs that a long run
has more than a short one: what compiles in the first epoch is not among them.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.large_data import run

BLOCK_STEPS = 2_000_000
LENGTHS = (5, 150)
COLUMNS = [
    "--id-column=unit", "--time-column=day", "--input-columns=speed,load", "--category-columns=gear",
    "--label-column=side",
]  # fmt: skip
EPOCHS = (1, 6)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000, help="of all sequences together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batching", action="append", choices=["pad", "bucket", "pack"], help="all if left out")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--hidden-size", type=int, default=32)
    parser.add_argument("--only-disk", action="store_true", help="leave out training in memory")
    parser.add_argument("--directory", type=Path, help="where to write; a temporary one if left out")
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores; gru, H = {chosen.hidden_size}, {chosen.batch_size:,} sequences a batch")
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        directory = Path(name)
        number = write_table(directory / "table.parquet", chosen.steps)
        size = (directory / "table.parquet").stat().st_size
        print(f"{number:,} sequences, {chosen.steps:,} steps, {size / 1e6:,.1f} MB of Parquet")
        seconds, peak, _ = run(
            "jaxrnn.prepare", "table.parquet", "--task=classify", *COLUMNS, "--out=prepared", directory=directory
        )
        print(f"prepare   {seconds:6.1f} s  {chosen.steps / seconds:12,.0f} steps/s  peak {peak:.2f} GiB", flush=True)
        model = ["--cell=gru", f"--hidden-size={chosen.hidden_size}", f"--batch-size={chosen.batch_size}"]
        for batching in chosen.batching or ["pad", "bucket", "pack"]:
            compare(directory, [*model, f"--batching={batching}"], chosen.rounds, only_disk=chosen.only_disk)


def write_table(path: Path, num_steps: int) -> int:
    """Writes sequences whose class shows in the slope of their speed; returns how many there are."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(*LENGTHS, size=2 * num_steps // sum(LENGTHS) + 1000, endpoint=True)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), num_steps) + 1]
    lengths[-1] -= lengths.sum() - num_steps
    units = np.repeat(np.arange(len(lengths)), lengths)
    days = np.arange(num_steps) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    side = units % 2
    gears = pa.DictionaryArray.from_arrays(
        pa.array(generator.integers(0, 6, num_steps, np.int8)), pa.array(list("abcdef"))
    )
    sides = pa.DictionaryArray.from_arrays(pa.array(side.astype(np.int8)), pa.array(["left", "right"]))
    table = pa.table(
        {
            "unit": units,
            "day": days,
            "speed": (1 - 2 * side) * days / LENGTHS[1] + generator.normal(size=num_steps),
            "load": generator.normal(size=num_steps),
            "gear": gears.cast(pa.string()),
            "side": sides.cast(pa.string()),
        }
    )
    pq.write_table(table, path)
    return len(lengths)


def compare(directory: Path, flags: list[str], rounds: int, *, only_disk: bool) -> None:
    """Trains in turns from disk and in memory, and prints steps a second and peaks."""
    data = {
        "disk": ["--data=prepared"],
        "memory": ["--data=table.parquet", "--split=hashed", "--split-seed=0", *COLUMNS],
    }
    found: dict[str, list[tuple[float, float]]] = {"disk": [], "memory": []}
    kinds = ["disk"] if only_disk else ["disk", "memory"]
    shared = ["--task=classify", "--checkpoint-seconds=3600", *flags]
    for number in range(rounds):
        for kind in kinds:
            seconds, peak = [], 0.0
            for epochs in EPOCHS:
                run_dir = directory / f"{kind}-{flags[-1]}-{number}-{epochs}"
                given = [f"--epochs={epochs}", *data[kind], f"--run-dir={run_dir}"]
                _, peak, _ = run("jaxrnn.train", *shared, *given, directory=directory)
                seconds.append(json.loads((run_dir / "summary.json").read_text())["seconds"]["train"])
            found[kind].append((seconds[1] - seconds[0], peak))
    described = json.loads((directory / "prepared" / "dataset.json").read_text())
    of_epoch = described["parts"]["training"]["values"] + described["parts"]["validation"]["values"]
    steps = (EPOCHS[1] - EPOCHS[0]) * of_epoch
    rates = {kind: [steps / seconds for seconds, _ in found[kind]] for kind in kinds}
    for kind in kinds:
        peak = max(peak for _, peak in found[kind])
        each = " ".join(f"{rate:,.0f}" for rate in rates[kind])
        median = statistics.median(rates[kind])
        print(f"{flags[-1]:18} {kind:6} {median:12,.0f} steps/s ({each})  peak {peak:.2f} GiB", flush=True)
    if not only_disk:
        ratio = statistics.median(rates["disk"]) / statistics.median(rates["memory"])
        print(f"{flags[-1]:18} disk / memory {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
