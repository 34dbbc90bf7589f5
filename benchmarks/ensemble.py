"""Many seeds of the tutorial's recipe at once, against one PyTorch run a seed.

    python -m benchmarks.ensemble [--members=64] [--epochs=2351] [--rounds=2] [--torch-epochs=10]

Each round runs ``python -m jaxrnn.train --config=tutorial --ensemble=64`` as a process of its own, from its start to
its end, with early stopping off; and then some epochs of the PyTorch training, extrapolated to as many epochs of as
many runs. Needs the [torch] extra.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence

from benchmarks.tutorial import PUBLISHED_EPOCHS, time_jaxrnn, time_torch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=PUBLISHED_EPOCHS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--torch-epochs", type=int, default=10)
    arguments = parser.parse_args(argv)
    members, epochs = arguments.members, arguments.epochs
    flags = [f"--ensemble={members}", f"--epochs={epochs}", "--patience=0"]
    ratios, epoch_ratios = [], []
    print(f"{members} members, {epochs} epochs")
    print("round  jaxrnn: process s  ms/epoch of all  PyTorch: ms/epoch of one  hours for all   ratio  of an epoch")
    for number in range(1, arguments.rounds + 1):
        seconds, summary = time_jaxrnn(*flags)
        torch_epoch = time_torch(arguments.torch_epochs)
        our_epoch = summary["seconds"]["train"] / epochs
        ratios.append(members * torch_epoch * epochs / seconds)
        epoch_ratios.append(members * torch_epoch / our_epoch)
        print(
            f"{number:5}  {seconds:17.1f}  {our_epoch * 1e3:15.1f}  {torch_epoch * 1e3:24.1f}"
            f"  {members * torch_epoch * epochs / 3600:13.2f}  {ratios[-1]:6.1f}  {epoch_ratios[-1]:11.1f}",
            flush=True,
        )
    print(
        f"whole process: {statistics.median(ratios):.1f} times faster (median; minimum {min(ratios):.1f});"
        f" an epoch: {statistics.median(epoch_ratios):.1f} times (minimum {min(epoch_ratios):.1f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
