"""Prepared data on several devices and in several processes, each of which reads its own rows of every batch."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command
from processes import start, train_together, wait, wait_for_epoch
from series_tables import COLUMNS as SERIES_COLUMNS
from series_tables import HORIZON, write_series
from small_runs import arrays_of, write_rows
from step_tables import ASKED, COLUMNS, write_steps

# 60 training rows: batches of 25 that neither 2 nor 4 divide, the last one short.
FLAGS = ["--config=smoke", "--hidden-size=8", "--batch-size=25", "--epochs=6", "--checkpoint-seconds=0"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("streams")
    write_rows(directory / "rows.csv")
    done = run_command("jaxrnn.prepare", "rows.csv", "--out=prepared", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def expected(place) -> Path:
    (done,) = train_together(1, place, *FLAGS, "--data=prepared", "--run-dir=one")
    assert done.code == 0, done.err
    return place / "one"


@pytest.fixture(scope="module")
def unbroken(place) -> Path:
    """A run of two processes that nobody stopped."""
    for done in train_together(2, place, *FLAGS, "--data=prepared", "--epochs=12", "--run-dir=unbroken"):
        assert done.code == 0, done.err
    return place / "unbroken"


def losses_of(run_dir: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    return np.array([[line[part]["loss"] for part in ("training", "validation")] for line in lines])


def figures_of(run_dir: Path) -> list[float]:
    summary = json.loads((run_dir / "summary.json").read_text())
    return [summary[part][name] for part in ("validation", "test") for name in ("loss", "mae", "rmse", "accuracy")]


@pytest.mark.parametrize(
    ("number", "devices", "more"),
    [(1, 4, ["--devices=4", "--batching=pack"]), (1, 4, ["--mesh=data:2,model:2"]),
     (2, 2, ["--batching=bucket", "--target=every"]), (4, 1, [])],
)  # fmt: skip
def test_the_same_losses_on_any_number(place, expected, number, devices, more):
    name = f"{number}-{devices}-{len(more)}"
    same = [flag for flag in more if flag.startswith(("--batching", "--target"))]
    if same:
        expected = place / f"expected-{name}"
        (done,) = train_together(1, place, *FLAGS, *same, "--data=prepared", f"--run-dir={expected}")
        assert done.code == 0, done.err
    for done in train_together(number, place, *FLAGS, *more, "--data=prepared", f"--run-dir={name}", devices=devices):
        assert done.code == 0, done.err
    np.testing.assert_allclose(losses_of(place / name), losses_of(expected), rtol=1e-4)
    np.testing.assert_allclose(figures_of(place / name), figures_of(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("after", [2, 1])
def test_a_kill_of_one_process_and_the_run_goes_on(place, unbroken, after):
    """With as many processes to the same bits, with one to the same losses."""
    flags = [*FLAGS, "--data=prepared", "--epochs=12"]
    run_dir = place / f"killed-{after}"
    processes = start(2, place, *flags, f"--run-dir={run_dir}", pause=0.3)
    wait_for_epoch(run_dir, 3)
    processes[1].send_signal(signal.SIGKILL)
    first, second = wait(processes)
    assert second.code == -signal.SIGKILL
    assert first.code not in (0, 1), first.err
    assert "Traceback" not in first.err
    for done in train_together(after, place, "--resume", f"--run-dir={run_dir}"):
        assert done.code == 0, done.err
    if after == 2:
        assert arrays_of(run_dir) == arrays_of(unbroken)
        assert (run_dir / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    np.testing.assert_allclose(losses_of(run_dir), losses_of(unbroken), rtol=1e-4)


@pytest.fixture(scope="module")
def prepared_steps(place) -> Path:
    write_steps(place / "steps.csv", 100)
    done = run_command("jaxrnn.prepare", "steps.csv", *COLUMNS, *ASKED["classify"], "--out=steps", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize(
    ("number", "devices", "more"),
    [(1, 2, ["--devices=2", "--batching=pack"]), (1, 4, ["--mesh=data:2,model:2"]), (2, 1, ["--batching=bucket"]),
     (1, 2, ["--devices=2", "--ensemble=2"]), (1, 2, ["--devices=2", "--ensemble=3"])],
)  # fmt: skip
def test_sequences_on_any_number(prepared_steps, number, devices, more):
    place, name = prepared_steps, f"steps-{number}-{devices}-{more[-1].strip('-').replace('=', '-')}"
    flags = [*FLAGS, "--task=classify", "--data=steps"]
    same = [flag for flag in more if flag.startswith(("--batching", "--ensemble"))]
    (done,) = train_together(1, place, *flags, *same, "--devices=1", f"--run-dir=expected-{name}")
    assert done.code == 0, done.err
    for done in train_together(number, place, *flags, *more, f"--run-dir={name}", devices=devices):
        assert done.code == 0, done.err
    np.testing.assert_allclose(losses_of(place / name), losses_of(place / f"expected-{name}"), rtol=1e-4)


@pytest.fixture(scope="module")
def prepared_series(place) -> Path:
    write_series(place / "series.csv", 100)
    flags = [*SERIES_COLUMNS, "--task=forecast", f"--horizon={HORIZON}", "--out=series"]
    done = run_command("jaxrnn.prepare", "series.csv", *flags, cwd=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize(
    ("number", "devices", "more"),
    [(1, 2, ["--devices=2", "--batching=pack"]), (1, 4, ["--mesh=data:2,model:2"]), (2, 1, ["--batching=bucket"]),
     (1, 2, ["--devices=2", "--ensemble=2"])],
)  # fmt: skip
def test_series_on_any_number(prepared_series, number, devices, more):
    """In both trainings: the best epoch is the same one."""
    place, name = prepared_series, f"series-{number}-{devices}-{more[-1].strip('-').replace('=', '-')}"
    flags = ["--task=forecast", "--hidden-size=8", "--batch-size=25", "--epochs=4", "--dropout=0", "--data=series"]
    same = [flag for flag in more if flag.startswith(("--batching", "--ensemble"))]
    (done,) = train_together(1, place, *flags, *same, "--devices=1", f"--run-dir=expected-{name}")
    assert done.code == 0, done.err
    for done in train_together(number, place, *flags, *more, f"--run-dir={name}", devices=devices):
        assert done.code == 0, done.err
    found, expected = (place / run / "selection" for run in (name, f"expected-{name}"))
    np.testing.assert_allclose(losses_of(found), losses_of(expected), rtol=1e-4)
    summaries = [json.loads((run.parent / "summary.json").read_text()) for run in (found, expected)]
    assert summaries[0]["selected_epochs"] == summaries[1]["selected_epochs"]
    for part in ("validation", "test"):
        assert summaries[0][part] == pytest.approx(summaries[1][part], rel=1e-3)
