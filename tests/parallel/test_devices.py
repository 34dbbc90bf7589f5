"""Batches shared by several devices: the same numbers as on one, and what is said where it cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked
from processes import Ended, environment_of, train_each, wait

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["--config=smoke", "--epochs=5", "--hidden-size=16"]


def train(code: str, cwd: Path, *flags: str) -> Ended:
    """Trains in a process of its own, on CPU, after running some code."""
    program = f"import sys; from jaxrnn import train\n{code}\nsys.exit(train.main(sys.argv[1:]))"
    arguments = [f"--data={REPOSITORY / 'ball.csv'}", *SMALL, *flags]
    return wait([Forked(program, *arguments, cwd=cwd, environment=environment_of(cwd))])[0]


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[part]["loss"] for line in lines for part in ("training", "validation")]


def figures(run: Path) -> dict[str, float]:
    return json.loads((run / "summary.json").read_text())["test"]


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_on_two(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("", tmp_path, f"--run-dir={whole}", "--devices=2").code == 0
    # Stopped after the third epoch, as a signal would stop it.
    code = (
        "import os, signal; from jaxrnn.runs.run_directory import RunDirectory\n"
        "append = RunDirectory.append_metrics\n"
        "def stop(self, epochs):\n"
        "    append(self, epochs)\n"
        "    if epochs and epochs[-1]['epoch'] >= 1: os.kill(os.getpid(), signal.SIGINT)\n"
        "RunDirectory.append_metrics = stop"
    )
    first = train(code, tmp_path, f"--run-dir={parts}", "--devices=2", "--checkpoint-seconds=0")
    assert first.code == 130, first.err
    done = subprocess.run(
        [sys.executable, "-m", "jaxrnn.train", "--resume", f"--run-dir={parts}"],
        cwd=tmp_path,
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert losses(parts) == losses(whole), "bitwise"


@pytest.mark.slow
def test_more_devices_than_there_are_are_refused(tmp_path):
    done = train("import jax; jax.devices()", tmp_path, "--run-dir=run", "--devices=2")
    assert done.code == 2, done.err
    message = "--devices: got 2; expected at most 1, what JAX has here; JAX had made its devices before"
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


# Batches of 100 rows, or what packs into them: 3 and 8 devices do not divide them. 2 and 4 of these: test_topology.py.
ROWS = [f"--data={REPOSITORY / 'ball.csv'}", *SMALL, "--batch-size=500", "--epochs=5"]
SEQUENCES = ["--data=units.csv", *SMALL, "--id-column=unit", "--time-column=day", "--input-columns=x,y"]
SEQUENCES += ["--bidirectional", "--batch-size=11"]
SHARED = {
    "rnn": ([1, 4, 8], ROWS),
    "packed": ([1, 3], [*ROWS, "--batching=pack", "--target=every", "--backend=scan"]),
    "dropout": ([1, 3], [*ROWS, "--cell=gru", "--num-layers=2", "--dropout=0.4", "--batching=bucket"]),
    "windows": ([1, 3], [*ROWS, "--cell=lstm", "--target=every", "--tbptt=4"]),
    "tag": ([1, 2], [*SEQUENCES, "--task=tag", "--label-column=state"]),
    "classify": ([1, 3], [*SEQUENCES, "--task=classify", "--label-column=side"]),
    "regress": ([1, 3], [*SEQUENCES, "--task=regress", "--label-column=size"]),
}


@pytest.mark.slow
def test_any_number_of_devices_trains_what_one_trains(tmp_path):
    lines = ["unit,day,x,y,side,size,state"]
    for unit in range(50):
        values = [f"{unit},{day},{(unit * day) % 7},{day % 3 - unit % 2}" for day in range(2 + unit % 5)]
        lines += [f"{value},{'ab'[unit % 2]},{unit % 9},{'uv'[len(value) % 2]}" for value in values]
    (tmp_path / "units.csv").write_text("\n".join(lines) + "\n")
    each = [(name, number, flags) for name, (numbers, flags) in SHARED.items() for number in numbers]
    runs = [[*flags, f"--devices={number}", f"--run-dir={name}-{number}"] for name, number, flags in each]
    for (name, number, flags), told in zip(each, train_each(runs, tmp_path, devices=8), strict=True):
        assert (f"{number} share a batch" if number > 1 else "one is used") in told, name
        one, run = tmp_path / f"{name}-1", tmp_path / f"{name}-{number}"
        assert losses(run) == pytest.approx(losses(one), rel=1e-3), run.name
        if flags[: len(ROWS)] == ROWS:
            for figure, value in figures(run).items():
                assert value == pytest.approx(figures(one)[figure], rel=1e-3, abs=5e-5), (run.name, figure)


@pytest.mark.slow
def test_it_is_said_when_cores_are_left_out(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    flags = ["--hidden-size=128", "--cell=lstm", "--backend=scan", "--epochs=1", "--run-dir=run"]
    late = train("import jax; jax.devices()", tmp_path, *flags)
    assert late.code == 0, late.err
    assert "CPU cores: JAX had made its devices before" in late.err
    in_time = train("", tmp_path, *flags[:-1], "--run-dir=other")
    assert in_time.code == 0, in_time.err
    assert "JAX had made" not in in_time.err
    assert "one is used" not in in_time.err


def test_rows_of_a_process_become_a_batch_shared_by_row():
    code = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from jaxrnn.settings.config import MeshSizes
from jaxrnn.parallel.devices import choose_mesh, data_size, place_rows, rows_of_process, to_host
for sizes in (None, MeshSizes(2, 2)):
    mesh = choose_mesh(4, batch_gates=1, batch_rows=8, sizes=sizes)
    batch = {"values": np.arange(24, dtype=np.float32).reshape(8, 3), "lengths": np.arange(8)}
    own = rows_of_process(mesh, 8)
    assert own == slice(0, 8), own
    placed = place_rows(jax.tree.map(lambda leaf: leaf[own], batch), mesh)
    shares = [shard.data.shape for shard in placed["values"].addressable_shards]
    assert shares == [(8 // data_size(mesh), 3)] * 4, shares
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(to_host(placed)), jax.tree.leaves(batch)))
print("shared")
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "shared\n", done.stderr
