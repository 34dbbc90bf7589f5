"""The tutorial's run: this project against the same training in PyTorch, in turn, on the same machine.

    python -m benchmarks.tutorial [--cell=rnn|lstm|gru] [--members=64] [--epochs=N] [--rounds=3] [--torch-epochs=10]

Each round runs ``python -m jaxrnn.train --config=configs/tutorial.toml`` as a process of its own, from its start to its
end, and then some epochs of the PyTorch training; PyTorch's whole run is extrapolated from those. With --epochs the run
stops after so many, and not before; with --members an ensemble is compared with as many PyTorch runs. Needs the [torch]
extra.
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
PUBLISHED_EPOCHS = 2351


def time_jaxrnn(*flags: str) -> tuple[float, dict]:
    """Returns the seconds of a whole process with further flags, and its summary.json."""
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory) / "run"
        command = [
            "jaxrnn.train",
            "--config=tutorial",
            f"--data={REPOSITORY / 'ball.csv'}",
            f"--run-dir={run_dir}",
            *flags,
        ]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, check=True, capture_output=True)
        return time.perf_counter() - begin, json.loads((run_dir / "summary.json").read_text())


def time_torch(num_epochs: int, cell: str = "rnn") -> float:
    """Returns the seconds of one epoch of PyTorch's, the first one left out, in a process of its own."""
    code = (
        "from pathlib import Path; from benchmarks.tutorial_torch import time_epochs; import statistics;"
        f"print(statistics.median(time_epochs(Path({str(REPOSITORY / 'ball.csv')!r}), {cell!r}, {num_epochs} + 1)[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-epochs", type=int, default=10)
    parser.add_argument("--cell", default="rnn")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--members", type=int, default=1)
    arguments = parser.parse_args(argv)
    members = arguments.members
    flags = [f"--cell={arguments.cell}", f"--ensemble={members}"]
    if arguments.epochs is not None:
        flags += [f"--epochs={arguments.epochs}", "--patience=0"]
    ratios, epoch_ratios = [], []
    print("round  jaxrnn: process s  epochs  ms/epoch  test accuracy   PyTorch: ms/epoch  s for as many epochs   ratio")
    for number in range(1, arguments.rounds + 1):
        seconds, summary = time_jaxrnn(*flags)
        torch_epoch = members * time_torch(arguments.torch_epochs, arguments.cell)
        epochs = summary["epochs_run"]
        our_epoch = summary["seconds"]["train"] / epochs
        ratios.append(torch_epoch * epochs / seconds)
        epoch_ratios.append(torch_epoch / our_epoch)
        print(
            f"{number:5}  {seconds:17.1f}  {epochs:6}  {our_epoch * 1e3:8.2f}  {summary['test']['accuracy']:13.4f}"
            f"   {torch_epoch * 1e3:17.1f}  {torch_epoch * epochs:20.0f}  {ratios[-1]:6.1f}",
            flush=True,
        )
    print(
        f"whole process: {statistics.median(ratios):.1f} times faster (median; minimum {min(ratios):.1f});"
        f" an epoch: {statistics.median(epoch_ratios):.1f} times (minimum {min(epoch_ratios):.1f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
