"""Prepared data on several devices and in several processes, each of which reads its own rows of every batch."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from processes import start, train_each, train_together, wait, wait_for_epoch
from series_tables import COLUMNS as SERIES_COLUMNS
from series_tables import HORIZON, write_series
from small_runs import arrays_of, call, write_rows
from step_tables import ASKED, COLUMNS, write_steps

# 60 training rows: batches of 25 that neither 2 nor 4 divide, the last one short.
FLAGS = ["--config=smoke", "--hidden-size=8", "--batch-size=25", "--epochs=3", "--checkpoint-seconds=0"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("streams")
    write_rows(directory / "rows.csv")
    done = call("prepare", directory / "rows.csv", f"--out={directory / 'prepared'}")
    assert done.code == 0, done.err
    return directory


@pytest.fixture(scope="module")
def unbroken(place) -> Path:
    """A run of two processes that nobody stopped."""
    for done in train_together(2, place, *FLAGS, "--data=prepared", "--epochs=8", "--run-dir=unbroken"):
        assert done.code == 0, done.err
    return place / "unbroken"


def losses_of(run_dir: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    # None where nothing validates
    return np.array([[line[part]["loss"] for part in ("training", "validation")] for line in lines], np.float64)


def figures_of(run_dir: Path) -> list[float]:
    summary = json.loads((run_dir / "summary.json").read_text())
    names = [name for name in ("loss", "mae", "rmse", "accuracy") if name in summary["test"]]
    return [summary[part][name] for part in ("validation", "test") for name in names]


def one_device(more: list[str]) -> list[str]:
    """What is left of flags without those of devices."""
    return [flag for flag in more if flag.startswith(("--batching", "--target", "--ensemble"))]


def assert_same_losses(place: Path, flags: list[str], cases: list[tuple[int, int, list[str]]]) -> None:
    """Trains of each case a run on one device and one of so many processes, of so many devices each."""
    alone, several = ([case for case in cases if (case[0] == 1) == is_alone] for is_alone in (True, False))
    ones = [one_device(more) for _, _, more in cases]
    ones = [same for number, same in enumerate(ones) if same not in ones[:number]]
    runs = [[*flags, *same, "--devices=1", f"--run-dir={place / name_of(1, same)}"] for same in ones]
    runs += [[*flags, *more, f"--run-dir={place / name_of(devices, more)}"] for _, devices, more in alone]
    train_each(runs, place, devices=4)
    for number, devices, more in several:
        run_dir = place / name_of(devices, more, number)
        for done in train_together(number, place, *flags, *more, f"--run-dir={run_dir}", devices=devices):
            assert done.code == 0, done.err
    for number, devices, more in cases:
        run, one = place / name_of(devices, more, number), place / name_of(1, one_device(more))
        np.testing.assert_allclose(losses_of(run), losses_of(one), rtol=1e-4, err_msg=run.name)
        np.testing.assert_allclose(figures_of(run), figures_of(one), rtol=1e-3, atol=1e-5, err_msg=run.name)


def name_of(devices: int, more: list[str], number: int = 1) -> str:
    return f"{number} of {devices} {' '.join(more)}".replace("--", "").replace("=", " ").replace(":", "")


def test_the_same_losses_on_any_number(place, tmp_path):
    cases = [(1, 4, ["--devices=4", "--batching=pack"]), (1, 4, ["--mesh=data:2,model:2"]),
             (2, 2, ["--batching=bucket", "--target=every"]), (4, 1, [])]  # fmt: skip
    assert_same_losses(tmp_path, [*FLAGS, f"--data={place / 'prepared'}"], cases)


@pytest.mark.parametrize("after", [2, 1])
def test_a_kill_of_one_process_and_the_run_goes_on(place, unbroken, after):
    """With as many processes to the same bits, with one to the same losses."""
    flags = [*FLAGS, "--data=prepared", "--epochs=8"]
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


def test_sequences_on_any_number(tmp_path):
    write_steps(tmp_path / "steps.csv", 100)
    done = call("prepare", tmp_path / "steps.csv", *COLUMNS, *ASKED["classify"], f"--out={tmp_path / 'steps'}")
    assert done.code == 0, done.err
    cases = [(1, 4, ["--mesh=data:2,model:2", "--batching=pack"]), (2, 1, ["--batching=bucket"]),
             (1, 2, ["--devices=2", "--ensemble=2"]), (1, 2, ["--devices=2", "--ensemble=3"])]  # fmt: skip
    assert_same_losses(tmp_path, [*FLAGS, "--task=classify", "--data=steps"], cases)


def test_series_on_any_number(tmp_path):
    """In both trainings: the best epoch is the same one."""
    write_series(tmp_path / "series.csv", 100)
    asked = [*SERIES_COLUMNS, "--task=forecast", f"--horizon={HORIZON}"]
    done = call("prepare", tmp_path / "series.csv", *asked, f"--out={tmp_path / 'series'}")
    assert done.code == 0, done.err
    flags = ["--task=forecast", "--hidden-size=8", "--batch-size=25", "--epochs=4", "--dropout=0", "--data=series"]
    cases = [(1, 4, ["--mesh=data:2,model:2", "--batching=pack"]), (2, 1, ["--batching=bucket"]),
             (1, 2, ["--devices=2", "--ensemble=2"])]  # fmt: skip
    assert_same_losses(tmp_path, flags, cases)
    for number, devices, more in cases:
        runs = [tmp_path / name_of(devices, more, number), tmp_path / name_of(1, one_device(more))]
        first, one = (losses_of(run / "selection") for run in runs)
        np.testing.assert_allclose(first, one, rtol=1e-4)
        summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
        assert summaries[0]["selected_epochs"] == summaries[1]["selected_epochs"]
