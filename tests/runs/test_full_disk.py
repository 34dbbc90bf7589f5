"""A disk that is full or read-only: a clear error, exit code 2, and the earlier checkpoints as they were."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY
from small_runs import EPOCHS, assert_same_run, call, content_of, step_of, train_small

from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.quiet import late_tasks_quiet
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
DISK_KIB = 1024
MORE_EPOCHS = EPOCHS + 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_rows) -> tuple[Path, Path]:
    """A run of EPOCHS and one of MORE_EPOCHS, neither of them broken."""
    directory = tmp_path_factory.mktemp("runs")
    for name, epochs in (("short", EPOCHS), ("long", MORE_EPOCHS)):
        assert train_small(directory / name, small_rows, epochs=epochs).code == 0
    return directory / "short", directory / "long"


def mount(*arguments: str) -> bool:
    if sys.platform != "linux" or shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(place)):
        pytest.skip("this process may not mount file systems")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, kib_left: int) -> Path:
    """Fills a file system up to a rest."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        file.truncate(file.tell() - kib_left * 1024)
    return filler


def arrays_and_config(run_dir: Path) -> tuple[dict[str, bytes], bytes]:
    return content_of(step_of(run_dir, -1)), (run_dir / "config.toml").read_bytes()


# With nothing left the run does not start; else a checkpoint is refused, or breaks off after some of its files.
@pytest.mark.parametrize(
    ("kib_left", "is_seen_before"),
    [(0, True), (16, True), *(pytest.param(kib, False, marks=pytest.mark.slow) for kib in (16, 32)), (48, False)],
)
def test_a_full_disk_ends_the_run_and_costs_nothing(disk, runs, monkeypatch, kib_left, is_seen_before):
    short, long = runs
    if not is_seen_before:  # as when others fill the disk in the middle of a save
        monkeypatch.setattr(Checkpointer, "_require_space", lambda self, step, num_bytes: None)
    run_dir = Path(shutil.copytree(short, disk / "run"))
    before, _ = arrays_and_config(run_dir)
    filler = fill(disk, kib_left)
    done = call("train", "--resume", f"--run-dir={run_dir}", f"--epochs={MORE_EPOCHS}")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert str(run_dir) in done.err.splitlines()[-1]
    with Checkpointer(run_dir.resolve() / "checkpoints", read_only=True) as checkpointer:
        steps = checkpointer.steps()
    assert steps[-1] >= EPOCHS
    if EPOCHS in steps:  # there was not room for two more
        assert content_of(run_dir / "checkpoints" / str(EPOCHS)) == before
    assert TrainedModel.load(run_dir).step == steps[-1]
    assert call("eval", f"--checkpoint={run_dir}").code == 0
    if is_seen_before:
        assert "Traceback" not in done.err
    filler.unlink()
    done = call("train", "--resume", f"--run-dir={run_dir}", f"--epochs={MORE_EPOCHS}")
    assert done.code == 0, done.err
    assert_same_run(run_dir, long)
    assert not [path for path in run_dir.rglob("*") if "tmp" in path.name]


def test_a_new_run_on_a_full_disk(disk, small_rows):
    fill(disk, 0)
    done = call("train", "--config=smoke", f"--data={small_rows}", f"--run-dir={disk / 'run'}")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert str(disk / "run") in done.err


def test_a_read_only_disk(disk, runs, small_rows):
    run_dir = Path(shutil.copytree(runs[0], disk / "run"))
    before = content_of(disk)
    expected = call("predict", f"--checkpoint={runs[0]}", small_rows).out
    assert mount("-o", "remount,ro", str(disk))
    for arguments in (("--resume", f"--run-dir={run_dir}", "--epochs=99"), (f"--run-dir={disk / 'new'}",)):
        done = call("train", "--config=smoke", f"--data={small_rows}", *arguments)
        assert done.code == 2
        assert "Read-only file system" in done.err
        assert str(disk) in done.err
    done = call("predict", f"--checkpoint={run_dir}", small_rows)
    assert (done.code, done.out) == (0, expected)
    assert call("eval", f"--checkpoint={run_dir}").code == 0
    assert content_of(disk) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_ours(runs, small_rows, tmp_path):
    run_dir = Path(shutil.copytree(runs[0], tmp_path / "run"))
    run_dir.chmod(0o500)
    try:
        done = call("train", "--resume", f"--run-dir={run_dir}", "--epochs=99")
        assert done.code == 2
        assert f"cannot write to {run_dir}: Permission denied" in done.err
    finally:
        run_dir.chmod(0o700)


def test_a_checkpoint_that_cannot_be_written_is_no_bug_and_a_bug_is_one(tmp_path, monkeypatch):
    with Checkpointer(tmp_path) as checkpointer:

        def fail(error):
            def save(*arguments, **options):
                raise error

            return save

        for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError("x: [No space left on device]")):
            monkeypatch.setattr(checkpointer._manager, "save", fail(error))
            with pytest.raises(CheckpointError, match=r"cannot write the checkpoint: .*No space left on device"):
                checkpointer.save(1, {}, {})
        monkeypatch.setattr(checkpointer._manager, "save", fail(ValueError("two leaves have the same path")))
        with pytest.raises(ValueError, match="two leaves") as caught:
            checkpointer.save(1, {}, {})
        assert not isinstance(caught.value, CheckpointError)


def test_tasks_that_outlive_their_loop_print_nothing(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with late_tasks_quiet():
        for text in ("Event loop is closed", "another"):
            sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(text)))
    assert [str(raised.exc_value) for raised in told] == ["another"]
    assert sys.unraisablehook == told.append


@pytest.mark.slow
def test_a_limit_of_file_sizes_ends_in_one_line(small_rows, tmp_path):
    """Threads of a save that failed print nothing before it."""
    shutil.copy(small_rows, tmp_path / "rows.csv")  # a short path: config.toml is to fit into two KiB
    command = ["-m", "jaxrnn.train", "--config=smoke", "--epochs=1", "--data=rows.csv", "--run-dir=run"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 2; "$0" "$@"', sys.executable, *command],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("cannot write the checkpoint: File too large")


def test_a_disk_without_room_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    arrays = {"weights": np.zeros(2**18, np.float32)}
    with Checkpointer(tmp_path) as checkpointer:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 2**20))
        with pytest.raises(CheckpointError, match=r"got 1\.00 MiB, expected 1\.1.; make room, then go on"):
            checkpointer.save(1, arrays, {})
        assert not list(tmp_path.iterdir())
        monkeypatch.undo()
        checkpointer.save(1, arrays, {})
        assert checkpointer.steps() == [1]
