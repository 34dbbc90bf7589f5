"""Small runs for the tests of what goes wrong: rows, flags, a command in this process, comparisons."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxrnn import convert, export, predict, prepare, train
from jaxrnn import eval as eval_command
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.training import fit as fitting

SMALL = ["--config=smoke", "--hidden-size=8", "--batch-size=30", "--schedule=constant", "--checkpoint-seconds=0"]
EPOCHS = 6
DOORS = {"train": train.main, "eval": eval_command.main, "predict": predict.main, "prepare": prepare.main}
DOORS |= {"convert": convert.main, "export": export.main}


class Done(NamedTuple):
    """What a command left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(name: str, *arguments: object) -> Done:
    """Runs a command in this process: ``call("train", "--cell=rnn")``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = DOORS[name]([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


def write_rows(path: Path) -> Path:
    """Writes 100 rows of a constant step, of 3 to 9 values, all different."""
    generator = np.random.default_rng(0)
    lines = [start + generator.integers(1, 5) * np.arange(generator.integers(3, 10)) for start in range(100)]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return path


@contextlib.contextmanager
def one_epoch_a_call() -> Iterator[None]:
    """Lets training come back to the host after every epoch; with ``--checkpoint-seconds=0`` it saves each of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SECONDS_PER_CALL", 0.0)
        yield


def train_small(run_dir: Path, rows: Path, *more: str, epochs: int = EPOCHS) -> Done:
    """Trains a run that saves after every epoch and so ends with two steps, its last two epochs."""
    flags = [*SMALL, f"--epochs={epochs}", f"--data={rows}", f"--run-dir={run_dir}", *more]
    last = {flag.partition("=")[0]: flag for flag in flags}
    with one_epoch_a_call():
        return call("train", *last.values())


def step_of(run_dir: Path, position: int) -> Path:
    """Returns the directory of a run's step, by its place among them, oldest first."""
    steps = sorted(int(path.name) for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit())
    return run_dir / "checkpoints" / str(steps[position])


def saved_epoch(run_dir: Path) -> int:
    """Returns the epoch of a run's latest checkpoint."""
    with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
        return checkpointer.read_metadata(checkpointer.steps()[-1])["epoch"]


def arrays_of(run_dir: Path, step: int | None = None) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Returns every array of a run's last step, or of another one: parameters, optimiser, random keys, counters."""
    with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
        step = checkpointer.steps()[-1] if step is None else step
        arrays = checkpointer.restore(step, checkpointer.stored_arrays(step))
    named = {name: np.asarray(array) for name, array in arrays.items()}
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in named.items()}


def assert_same_run(a: Path, b: Path) -> None:
    """Compares two finished runs bit for bit: the arrays of the last step, metrics.jsonl, summary.json."""
    assert arrays_of(a) == arrays_of(b)
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    summaries = [json.loads((run_dir / "summary.json").read_text()) for run_dir in (a, b)]
    for summary in summaries:
        for key in ("seconds", "compilations"):
            del summary[key]
    assert summaries[0] == summaries[1]


def content_of(directory: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }
