"""Runs every recipe as a process of its own and prints the README's table.

python -m benchmarks.recipes [--rounds=3] [RECIPE ...]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = ("lstm", "gru", "rnn", "tutorial", "smoke")


def run_recipe(name: str) -> tuple[float, dict]:
    """Returns the seconds of a whole process, and its summary.json."""
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory) / "run"
        flags = [f"--config={name}", f"--data={REPOSITORY / 'ball.csv'}", f"--run-dir={run_dir}"]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "jaxrnn.train", *flags], cwd=REPOSITORY, check=True, capture_output=True)
        return time.perf_counter() - begin, json.loads((run_dir / "summary.json").read_text())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipes and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    print("| recipe | test accuracy | MAE | within 0.5 | epochs | ms an epoch | whole process, s: median (minimum) |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.recipes:
        rounds = [run_recipe(name) for _ in range(arguments.rounds)]
        seconds = [elapsed for elapsed, _ in rounds]
        summary = rounds[0][1]
        test, epochs = summary["test"], summary["epochs_run"]
        per_epoch = statistics.median(s["seconds"]["train"] / s["epochs_run"] for _, s in rounds) * 1e3
        print(
            f"| `{name}` | {test['accuracy']:.4f} | {test['mae']:.4f} | {test['within_half']:.2%} | {epochs}"
            f" | {per_epoch:.2f} | {statistics.median(seconds):.1f} ({min(seconds):.1f}) |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
