"""Data larger than memory: prepares and trains on many rows, and compares streaming with rows in memory.

    python -m benchmarks.large_data --rows=50000000 --compare-rows=1000000

Writes rows as the tutorial's generator draws them, as CSV; prepares them and trains one epoch, each in a process of its
own, and prints rows a second and the peak of resident memory as the kernel counts it, pages of mapped files included.
Then trains on a smaller file in turns, prepared and in memory, and prints the ratio of the rows a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxrnn.data import ball

BLOCK_ROWS = 200_000
EPOCHS = 6  # that are compared
RECIPE = ["--config=smoke", "--split-seed=0", "--checkpoint-seconds=3600"]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000, help="of the large file; 0 leaves it out")
    parser.add_argument("--compare-rows", type=int, default=1_000_000, help="of the small file; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--hidden-size", type=int, default=32)
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--directory", type=Path, help="where to write; a temporary one if left out")
    chosen = parser.parse_args()
    model = [f"--cell={chosen.cell}", f"--hidden-size={chosen.hidden_size}", f"--batch-size={chosen.batch_size}"]
    print(f"{os.cpu_count()} cores; {chosen.cell}, H = {chosen.hidden_size}, {chosen.batch_size:,} rows a batch")
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        directory = Path(name)
        if chosen.rows:
            measure_large(directory, chosen.rows, model)
        if chosen.compare_rows:
            compare(directory, chosen.compare_rows, chosen.rounds, model)


def write_rows(path: Path, num_rows: int) -> None:
    """Writes rows of the distribution of `jaxrnn.data.ball`: each of its distinct rows is as likely as any other."""
    lines = np.array(
        [
            (",".join(str(first + step * index) for index in range(length)) + "\n").encode()
            for length in ball.LENGTHS
            for first in ball.FIRST_POSITIONS
            for step in ball.STEPS
        ],
        dtype=object,
    )
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, num_rows, BLOCK_ROWS):
            file.write(b"".join(lines[generator.integers(len(lines), size=min(BLOCK_ROWS, num_rows - start))]))


def run(*arguments: str, directory: Path) -> tuple[float, float, str]:
    """Runs a command; returns its seconds, its peak memory in GiB, and its output."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(output)
    return seconds, usage.ru_maxrss / 2**20, output


def seconds_of(run_dir: Path) -> dict[str, float]:
    """Returns the seconds that a run says it took."""
    return json.loads((run_dir / "summary.json").read_text())["seconds"]


def measure_large(directory: Path, num_rows: int, model: list[str]) -> None:
    """Prepares and trains one epoch on a large file."""
    begin = time.perf_counter()
    write_rows(directory / "large.csv", num_rows)
    size = (directory / "large.csv").stat().st_size
    print(f"{num_rows:,} rows written, {size / 1e9:.2f} GB, in {time.perf_counter() - begin:.0f} s", flush=True)
    seconds, memory, output = run("jaxrnn.prepare", "large.csv", "--out=large", directory=directory)
    print(output.splitlines()[-2])
    print(f"prepare: {seconds:.1f} s, {num_rows / seconds:,.0f} rows/s, peak memory {memory:.2f} GiB", flush=True)
    (directory / "large.csv").unlink()
    command = ["jaxrnn.train", *RECIPE, *model, "--data=large", "--epochs=1", "--run-dir=run"]
    seconds, memory, _ = run(*command, directory=directory)
    parts = json.loads((directory / "large" / "dataset.json").read_text())["parts"]
    trained, own = parts["training"]["rows"], seconds_of(directory / "run")
    print(
        f"train: {trained:,} training rows, one epoch with its validation {own['train']:.1f} s,"
        f" {trained / own['train']:,.0f} training rows/s; whole command {seconds:.1f} s, peak memory {memory:.2f} GiB",
        flush=True,
    )


def compare(directory: Path, num_rows: int, rounds: int, model: list[str]) -> None:
    """Trains on the same rows, prepared and in memory, in turns."""
    write_rows(directory / "small.csv", num_rows)
    run("jaxrnn.prepare", "small.csv", "--out=small", directory=directory)
    sources = {"streamed": ["--data=small"], "in memory": ["--data=small.csv", "--split=hashed"]}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for number in range(rounds):
        for place, (name, flags) in enumerate(sources.items()):
            found = []
            for epochs in (1, 1 + EPOCHS):  # the difference leaves compilation out
                run_dir = f"run-{number}-{place}-{epochs}"
                command = ["jaxrnn.train", *RECIPE, *model, *flags, f"--epochs={epochs}", f"--run-dir={run_dir}"]
                _, memory, _ = run(*command, directory=directory)
                found.append(seconds_of(directory / run_dir)["train"])
            figures[name].append(((found[1] - found[0]) / EPOCHS, memory))
    lines = [(directory / f"run-0-{place}-{1 + EPOCHS}" / "metrics.jsonl").read_text() for place in range(len(sources))]
    print(f"{num_rows:,} rows, {rounds} rounds in turns; figures of all epochs the same: {lines[0] == lines[1]}")
    trained = json.loads((directory / "small" / "dataset.json").read_text())["parts"]["training"]["rows"]
    rates = {}
    for name, values in figures.items():
        rates[name] = trained / statistics.median(seconds for seconds, _ in values)
        print(f"{name}: {rates[name]:,.0f} training rows/s, peak memory {max(m for _, m in values):.2f} GiB")
    ratios = [a / b for (b, _), (a, _) in zip(figures["streamed"], figures["in memory"], strict=True)]
    print(f"streamed / in memory: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
