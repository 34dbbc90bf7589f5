"""What protection costs: the tutorial's run as it is, and with everything that only protects taken out, in turn.

    python -m benchmarks.overhead [--rounds=7]

Taken out are: syncing of files, the sums of a checkpoint's files, the look at the disk's free space and at the memory,
the lock, the handlers of signals, the hash of the data file, the count of rows that stand in several parts, and the
bootstrap interval. Each round runs both as processes of their own, from start to end, in an order that changes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
AS_IT_IS = """
import sys
from jaxrnn import train
from jaxrnn.console.command_line import leave
"""
WITHOUT = (
    AS_IT_IS
    + """
import contextlib, os
from jaxrnn.commands import train_run, training_data
from jaxrnn.console import command_line
from jaxrnn.foundation import files
from jaxrnn.parallel import device_memory
from jaxrnn.runs import checkpoint, step_files
from jaxrnn.tasks import judgement
from jaxrnn.training import run_opening

os.fsync = lambda file: None
files.sync_directory = step_files.sync_directory = lambda directory: None
step_files._sha256 = lambda path: ""
checkpoint.Checkpointer._require_space = lambda *arguments: None
device_memory.device_bytes = lambda device: None
run_opening.RunLock = lambda path: contextlib.nullcontext()
command_line.EndOnSignal = lambda last_words: contextlib.nullcontext()
class NoSignals:
    received, unsaved = None, False
    __enter__ = lambda self: self
    __exit__ = lambda self, *exception: None
train_run.NoteSignal = NoSignals
training_data.count_shared_rows = lambda rows, split: (0, 0)
nothing = {"low": 0.0, "high": 0.0, "confidence": 0.95, "resamples": 0, "distinct_rows": 2}
judgement.mean_error_interval = lambda *arguments, **options: dict(nothing)
"""
)
RUN = "leave(train.main(sys.argv[1:], own_process=True))\n"


def time_run(code: str) -> float:
    """Returns the seconds of a whole process."""
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--config=tutorial", f"--data={REPOSITORY / 'ball.csv'}", f"--run-dir={directory}/run"]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code + RUN, *flags], cwd=REPOSITORY, check=True, capture_output=True)
        return time.perf_counter() - begin


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args(argv)
    seconds: dict[str, list[float]] = {"as it is": [], "without protection": []}
    codes = {"as it is": AS_IT_IS, "without protection": WITHOUT}
    for number in range(arguments.rounds):
        for name in list(codes)[:: 1 if number % 2 else -1]:
            seconds[name].append(time_run(codes[name]))
        print(f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:.2f} s" for name, found in seconds.items()))
    for name, found in seconds.items():
        print(f"{name:20} median {statistics.median(found):.2f} s, minimum {min(found):.2f} s")
    pairs = [a / b - 1 for a, b in zip(*seconds.values(), strict=True)]
    print(
        f"overhead: median of the rounds {statistics.median(pairs):+.1%}, of the medians"
        f" {statistics.median(seconds['as it is']) / statistics.median(seconds['without protection']) - 1:+.1%}, of the"
        f" minima {min(seconds['as it is']) / min(seconds['without protection']) - 1:+.1%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
