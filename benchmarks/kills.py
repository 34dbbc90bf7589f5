"""Kills training at random moments, resumes it until it is done, and compares it with the unbroken run.

    python -m benchmarks.kills --kills=200 [--recipe=lstm ...] [--seed=0] [--keep=DIR]

Every run is a real ``python -m jaxrnn.train``. It is sent SIGKILL, SIGINT, SIGTERM or two of them in a row, at a moment
drawn at random: some time after it started, or just as something appears on disk (a step, the last epoch, curves.png).
In the end its checkpoint, metrics.jsonl and summary.json must be those of the unbroken run, bit for bit. Prints how
many kills fell into which phase, how soon the process was gone, and how many runs differed; exits with 1 if any did.
"""

import argparse
import collections
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import kill_run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the kills and prints the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many at least")
    parser.add_argument("--recipe", action="append", choices=sorted(kill_run.RECIPES), help="all if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    parser.add_argument("--keep", type=Path, help="where runs that differ are left to look at")
    arguments = parser.parse_args(argv)
    draw = random.Random(arguments.seed)
    names = arguments.recipe or list(kill_run.RECIPES)
    phases: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    kills, runs, wrong = 0, 0, []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        bench = kill_run.Bench(Path(directory))
        while kills < arguments.kills:
            name = names[runs % len(names)]
            run_dir = Path(directory) / f"{name}-{runs}"
            report = bench.run_with_kills(name, run_dir, draw)
            runs += 1
            for kill in report.kills:
                phases[kill.phase][kill.signals] += 1
                seconds[kill.signals].append(kill.seconds)
                kills += 1
            if report.problems:
                wrong.append(name)
                print(f"{run_dir.name}: " + "\n  ".join(report.problems), flush=True)
                print("  killed: " + ", ".join(f"{kill.phase} {kill.signals}" for kill in report.kills), flush=True)
                if arguments.keep and run_dir.exists():
                    shutil.copytree(run_dir, arguments.keep / run_dir.name)
            print(f"{kills} kills, {runs} runs, {len(wrong)} wrong", file=sys.stderr, flush=True)
            shutil.rmtree(run_dir, ignore_errors=True)
    kinds = sorted(seconds)
    print(f"{'phase':32}" + "".join(f"{kind:>16}" for kind in kinds))
    for phase in sorted(phases):
        print(f"{phase:32}" + "".join(f"{phases[phase][kind]:16}" for kind in kinds))
    print(f"{'longest until gone, seconds':32}" + "".join(f"{max(seconds[kind]):16.2f}" for kind in kinds))
    minutes = (time.monotonic() - begin) / 60
    print(f"{kills} kills of {runs} runs in {minutes:.0f} minutes; {len(wrong)} runs differ from the unbroken one")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
