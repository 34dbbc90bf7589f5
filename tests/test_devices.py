"""Batches shared by several devices: the same numbers as on one, and what is said where it cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = ["--config=smoke", "--epochs=5", "--hidden-size=16"]


def train(code: str, cwd: Path, *flags: str) -> subprocess.CompletedProcess:
    """Trains in a process of its own, on CPU, after running some code."""
    program = f"import sys; from jaxrnn import train\n{code}\nsys.exit(train.main(sys.argv[1:]))"
    arguments = [sys.executable, "-c", program, f"--data={REPOSITORY / 'ball.csv'}", *SMALL, *flags]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[part]["loss"] for line in lines for part in ("training", "validation")]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--batching=pack", "--target=every"), ("--cell=gru", "--batching=bucket")])
def test_two_devices_train_what_one_trains(flags, tmp_path):
    for devices in (1, 2):
        done = train("", tmp_path, f"--run-dir={tmp_path / str(devices)}", f"--devices={devices}", *flags)
        assert done.returncode == 0, done.stderr
        assert f"{devices} share a batch" in done.stderr
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert one == pytest.approx(two, rel=1e-4)
    assert len(one) == 10


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_on_two(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("", tmp_path, f"--run-dir={whole}", "--devices=2").returncode == 0
    # Stopped after the third epoch, as a signal would stop it.
    code = (
        "import os, signal; from jaxrnn.run_directory import RunDirectory\n"
        "append = RunDirectory.append_metrics\n"
        "def stop(self, epochs):\n"
        "    append(self, epochs)\n"
        "    if epochs and epochs[-1]['epoch'] >= 1: os.kill(os.getpid(), signal.SIGINT)\n"
        "RunDirectory.append_metrics = stop"
    )
    first = train(code, tmp_path, f"--run-dir={parts}", "--devices=2", "--checkpoint-seconds=0")
    assert first.returncode == 130, first.stderr
    done = subprocess.run(
        [sys.executable, "-m", "jaxrnn.train", "--resume", f"--run-dir={parts}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert losses(parts) == losses(whole), "bitwise"


def test_more_devices_than_there_are_and_uneven_shares_are_refused(tmp_path):
    for flags, message in (
        (["--devices=3"], "--devices: got 3; expected a divisor of 100"),
        (["--devices=2"], "expected at most 1, what JAX has here; JAX had made its devices before"),
    ):
        code = "import jax; jax.devices()" if "2" in flags[0] else ""
        done = train(code, tmp_path, "--run-dir=run", *flags)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_is_said_when_cores_are_left_out(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    flags = ["--hidden-size=128", "--cell=lstm", "--epochs=1", "--backend=scan", "--run-dir=run"]
    late = train("import jax; jax.devices()", tmp_path, *flags)
    assert late.returncode == 0, late.stderr
    assert "CPU cores: JAX had made its devices before" in late.stderr
    in_time = train("", tmp_path, *flags[:-1], "--run-dir=other")
    assert "JAX had made" not in in_time.stderr
    assert "1 share a batch" not in in_time.stderr
