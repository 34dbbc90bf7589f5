"""How long a person waits for the first epoch: from the start of the process until its figures are written.

    python -m benchmarks.startup [--rounds=5]

In turn: ``python -m jaxrnn.train --config=tutorial``; the same with ``--compilation-cache``, filled by a run before;
and the tutorial's training in PyTorch, a process that imports torch, writes its files and trains an epoch. Needs the
[torch] extra.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tutorial import REPOSITORY

TORCH_CODE = (
    "from pathlib import Path; from benchmarks.tutorial_torch import time_epochs;"
    f"time_epochs(Path({str(REPOSITORY / 'ball.csv')!r}), 'rnn', 1)"
)


def time_first_epoch(cache: Path | None) -> tuple[float, float]:
    """Returns the seconds until metrics.jsonl has a line, and until a run of one epoch has ended."""
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory) / "run"
        flags = ["--config=tutorial", "--epochs=1", f"--data={REPOSITORY / 'ball.csv'}", f"--run-dir={run_dir}"]
        environment = dict(os.environ)
        if cache is not None:
            flags.append("--compilation-cache")
            environment["XDG_CACHE_HOME"] = str(cache)
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxrnn.train", *flags],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        metrics = run_dir / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.005)
        first = time.perf_counter() - begin
        if process.wait():
            raise RuntimeError(f"jaxrnn.train ended with {process.returncode}")
        return first, time.perf_counter() - begin


def time_torch() -> tuple[float, float]:
    """Returns the seconds of a PyTorch process that trains one epoch, twice."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", TORCH_CODE], cwd=REPOSITORY, check=True)
    seconds = time.perf_counter() - begin
    return seconds, seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory)
        time_first_epoch(cache)
        contestants = {
            "jaxrnn": lambda: time_first_epoch(None),
            "jaxrnn, programs kept": lambda: time_first_epoch(cache),
            "PyTorch": time_torch,
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, run in contestants.items():
                found[name].append(run())
    print(f"{'seconds, median (minimum)':28} {'first epoch':>14} {'whole process':>16}")
    for name, times in found.items():
        columns = [f"{statistics.median(column):.2f} ({min(column):.2f})" for column in zip(*times, strict=True)]
        print(f"{name:28} {columns[0]:>14} {columns[1]:>16}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
