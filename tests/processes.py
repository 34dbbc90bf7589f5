"""Training by several processes on this machine, each with some simulated devices, as a user would start them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from forked import Forked
from kept_programs import variables_of_child
from quick_flags import flags_of_child

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 300
# One epoch a call of the device, and a moment between any two epochs.
PROGRAM = """
import os, sys, time
from jaxrnn.console import command_line
from jaxrnn.training import fit as fitting
from jaxrnn.parallel import hosts
from jaxrnn import train
fitting.SECONDS_PER_CALL = 0.0
agree = hosts.agree
hosts.agree = lambda *given, **named: (time.sleep(float(os.environ["PAUSE"])), agree(*given, **named))[1]
command_line.leave(train.main(sys.argv[1:], own_process=True))
"""

# Several runs of one process that has all its devices from the beginning.
PROGRAM_OF_SEVERAL = """
import json, sys
from jaxrnn.training import fit as fitting
from jaxrnn import train
fitting.SECONDS_PER_CALL = 0.0
for flags in json.loads(sys.argv[1]):
    print("RUN", file=sys.stderr, flush=True)
    code = train.main(flags)
    assert code == 0, (code, flags)
"""


class Ended(NamedTuple):
    """What a process left behind."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    number: int,
    cwd: Path,
    *flags: str,
    devices: int = 1,
    of_process: dict[int, list[str]] | None = None,
    pause: float = 0.0,
    fresh: bool = False,
) -> list[subprocess.Popen] | list[Forked]:
    """Starts processes that train together.

    Args:
      number: How many; 1 for one without --distributed.
      cwd: Where; programs that are compiled are kept there.
      flags: Of all of them.
      devices: Of each.
      of_process: More flags of single ones, by their numbers.
      pause: Seconds between two epochs.
      fresh: Whether each begins with nothing imported and a hash seed of its own; see `forked`.
    """
    environment = environment_of(cwd, devices) | {"PAUSE": str(pause)}
    together = ["--distributed", f"--coordinator-address=127.0.0.1:{free_port()}", f"--num-processes={number}"]
    arguments = [
        [*flags, *(of_process or {}).get(i, []), *([*together, f"--process-id={i}"] if number > 1 else [])]
        for i in range(number)
    ]
    if not fresh:
        return [Forked(PROGRAM, *own, cwd=cwd, environment=environment) for own in arguments]
    # Not where others read: they may be killed while they write.
    environment["JAX_COMPILATION_CACHE_DIR"] = str(cwd / "programs")
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *own],
            cwd=cwd,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for own in arguments
    ]


def environment_of(cwd: Path, devices: int | None = None) -> dict[str, str]:
    """Gives the variables of a process of so many devices, or of those it makes itself, that keeps its programs."""
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        **flags_of_child(devices),
        **variables_of_child(cwd / "programs"),
    }


def train_each(runs: Sequence[Sequence[str]], cwd: Path, *, devices: int) -> list[str]:
    """Trains one run after the other, in one process of so many devices: starting one takes longer than a small run.

    Args:
      runs: The flags of each; --devices or --mesh says how many devices it takes.
      cwd: Where; programs that are compiled are kept there.
      devices: Of the process.

    Returns:
      What each run said.
    """
    environment = environment_of(cwd, devices)
    process = Forked(PROGRAM_OF_SEVERAL, json.dumps([*map(list, runs)]), cwd=cwd, environment=environment)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return err.split("RUN\n")[1:]


def wait(processes: Sequence[subprocess.Popen | Forked]) -> list[Ended]:
    """Waits until all have ended; kills them if they do not."""
    try:
        outputs = [process.communicate(timeout=PATIENCE_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Ended(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def train_together(number: int, cwd: Path, *flags: str, **options) -> list[Ended]:
    """Trains, in as many processes, to the end."""
    return wait(start(number, cwd, *flags, **options))


def wait_for_epoch(run_dir: Path, epoch: int) -> None:
    """Waits until a run has finished an epoch."""
    metrics, deadline = run_dir / "metrics.jsonl", time.monotonic() + PATIENCE_SECONDS
    while not (metrics.exists() and metrics.read_text().count("\n") >= epoch):
        assert time.monotonic() < deadline, f"{metrics}: no epoch {epoch}"
        time.sleep(0.02)
