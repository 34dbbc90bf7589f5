"""Several processes train one model: the same numbers as one, ended together, whatever happens to one of them."""

import json
import signal
import time
import tomllib
from pathlib import Path

import pytest
from processes import Ended, start, train_together, wait, wait_for_epoch
from small_runs import assert_same_run, saved_epoch, write_rows

FLAGS = ["--config=smoke", "--hidden-size=8", "--batch-size=30", "--schedule=constant", "--checkpoint-seconds=0"]
SIGABRT_CODE = -signal.SIGABRT  # JAX ends a process of its own accord
LOST_CODE = 4
# From the kill of one process to the end of the others: JAX looks for 30 s at most.
BOUND_SECONDS = 60


def metrics_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> list[float]:
    return [line[part]["loss"] for line in metrics_of(run_dir) for part in ("training", "validation")]


def assert_ended(ended: list[Ended], code: int = 0) -> None:
    assert [process.code for process in ended] == [code] * len(ended), ended
    for process in ended:
        assert "Traceback" not in process.err


def flags_of(tmp_path: Path, run_dir: Path, epochs: int) -> list[str]:
    rows = tmp_path / "rows.csv"
    if not rows.exists():
        write_rows(rows)
    return [*FLAGS, f"--data={rows}", f"--run-dir={run_dir}", f"--epochs={epochs}"]


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    run_dir = tmp_path / "run"
    ended = train_together(2, tmp_path, *flags_of(tmp_path, run_dir, 2), fresh=True)
    assert_ended(ended)
    assert "2 processes" in ended[0].err
    assert "epoch" in ended[0].err
    assert "best epoch" in ended[0].out
    assert "best epoch" not in ended[1].out, "one process tells"
    assert ended[1].err == ""
    assert [line["epoch"] for line in metrics_of(run_dir)] == [1, 2]
    assert saved_epoch(run_dir) == 2
    saved = tomllib.loads((run_dir / "config.toml").read_text())
    of_process = {"distributed", "coordinator_address", "num_processes", "process_id"}
    assert "devices" in saved
    assert not of_process & saved.keys(), "a run may change its processes"


@pytest.mark.slow
def test_one_two_and_four_processes_train_the_same(tmp_path):
    runs = {}
    for number, devices in ((1, 1), (2, 1), (4, 1), (2, 2)):
        runs[number, devices] = tmp_path / f"{number}-{devices}"
        flags = [*flags_of(tmp_path, runs[number, devices], 8), f"--devices={number * devices}"]  # of two batches each
        # What is ordered by hashes is ordered otherwise in every process.
        ended = train_together(number, tmp_path, *flags, devices=devices, fresh=number == devices == 2)
        assert_ended(ended)
        assert ("one is used" if number * devices == 1 else f"{number * devices} share a batch") in ended[0].err
    one = runs.pop((1, 1))
    summary = json.loads((one / "summary.json").read_text())
    for run_dir in runs.values():
        assert losses(run_dir) == pytest.approx(losses(one), rel=1e-4)
        for name, figure in json.loads((run_dir / "summary.json").read_text())["test"].items():
            assert figure == pytest.approx(summary["test"][name], rel=1e-4, abs=5e-5)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """A run of two processes that nobody stopped."""
    directory = tmp_path_factory.mktemp("unbroken")
    assert_ended(train_together(2, directory, *flags_of(directory, directory / "run", 8)))
    return directory


def go_on(unbroken: Path, run_dir: Path, number: int) -> None:
    """Resumes a run in as many processes, and compares it with the unbroken one."""
    flags = ["--resume", f"--run-dir={run_dir}", f"--data={unbroken / 'rows.csv'}"]
    ended = train_together(number, unbroken, *flags)
    assert_ended(ended)
    assert "going on after epoch" in ended[0].err
    if number == 2:
        assert_same_run(run_dir, unbroken / "run")
    assert losses(run_dir) == pytest.approx(losses(unbroken / "run"), rel=1e-4)
    assert [line["epoch"] for line in metrics_of(run_dir)] == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_to_one_process_ends_all_after_the_same_epoch(unbroken, tmp_path, told, number):
    run_dir = tmp_path / "run"
    processes = start(2, unbroken, *flags_of(unbroken, run_dir, 8), pause=0.5)
    wait_for_epoch(run_dir, 2)
    processes[told].send_signal(number)
    ended = wait(processes)
    assert_ended(ended, 128 + number)
    epoch = len(metrics_of(run_dir))
    assert epoch < 8
    assert saved_epoch(run_dir) == epoch
    assert f"interrupted after epoch {epoch}; go on with:" in ended[0].err
    go_on(unbroken, run_dir, 2 if told else 1)


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "number"), [(1, 2), (0, 2), (0, 4)])
def test_a_killed_process_takes_the_others_along_and_the_run_goes_on(unbroken, tmp_path, killed, number):
    run_dir = tmp_path / "run"
    processes = start(2, unbroken, *flags_of(unbroken, run_dir, 8), pause=0.5)
    wait_for_epoch(run_dir, 3)
    processes[killed].kill()
    begin = time.monotonic()
    other = wait(processes)[1 - killed]
    assert time.monotonic() - begin < BOUND_SECONDS
    assert other.code in (LOST_CODE, SIGABRT_CODE), other
    assert "Traceback" not in other.err
    if other.code == LOST_CODE:
        assert f"error: process {1 - killed} lost another one" in other.err
        assert other.err.strip().endswith("start all processes again with --resume")
    go_on(unbroken, run_dir, number)


@pytest.mark.slow
def test_a_process_that_hangs_is_not_waited_for_without_end(unbroken, tmp_path):
    processes = start(2, unbroken, *flags_of(unbroken, tmp_path / "run", 1000), pause=0.1)
    wait_for_epoch(tmp_path / "run", 2)
    processes[1].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    processes[0].wait(timeout=BOUND_SECONDS)
    assert time.monotonic() - begin < BOUND_SECONDS
    assert processes[0].returncode in (LOST_CODE, SIGABRT_CODE)
    processes[1].kill()
    wait(processes)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, 1])
def test_what_is_wrong_in_one_process_ends_all_with_one_message(unbroken, tmp_path, wrong):
    ended = train_together(
        2, unbroken, *flags_of(unbroken, tmp_path / "run", 2), of_process={wrong: ["--data=none.csv"]}
    )
    assert_ended(ended, 2)
    assert "none.csv" in ended[wrong].err
    # XLA's own warning where a program comes from the cache: "could lead to execution errors".
    said = [line for line in ended[1 - wrong].err.splitlines() if "could lead to execution errors" not in line]
    assert "error" not in "\n".join(said)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_is_wrong_in_all_processes_is_said_once(unbroken, tmp_path):
    flags = ["--resume", f"--run-dir={unbroken / 'run'}", f"--data={unbroken / 'rows.csv'}"]
    for more, message in ((["--hidden-size=16"], "hidden_size"), (["--devices=3"], "expected a multiple of 2")):
        ended = train_together(2, unbroken, *flags, *more)
        assert_ended(ended, 2)
        assert ended[0].err.count("error:") == 1
        assert message in ended[0].err
        assert "error:" not in ended[1].err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-processes=2"], "--num-processes: got 2; expected --distributed beside it"),
        (["--process-id=0"], "--process-id: got 0; expected --distributed beside it"),
        (["--distributed", "--process-id=2", "--num-processes=2"], "--process-id: got 2; expected 0 to 2 - 1"),
        (["--distributed", "--coordinator-address=here"], "--coordinator-address: got 'here'; expected HOST:PORT"),
        (["--distributed", "--ensemble=2"], "--ensemble: got 2; expected 1 with --distributed"),
        (["--distributed", "--dry-run"], "--dry-run: got True; expected no --distributed beside it"),
    ],
)
def test_flags_that_do_not_fit(capsys, monkeypatch, tmp_path, flags, message):
    from jaxrnn import train

    monkeypatch.chdir(tmp_path)
    assert train.main(flags) == 2
    assert message in capsys.readouterr().err


def test_without_anything_to_detect_it_says_what_to_give(tmp_path):
    processes = start(1, tmp_path, "--distributed", *flags_of(tmp_path, tmp_path / "run", 1))
    (ended,) = wait(processes)
    assert ended.code == 2, ended.err
    assert ended.err.startswith("error: --distributed: got nothing: ")
    assert "--coordinator-address=HOST:PORT --num-processes=N --process-id=I" in ended.err
