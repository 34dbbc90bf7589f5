"""The commands on series: train twice, go on in either training, evaluate at several origins, forecast, refuse."""

import csv
import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from small_runs import assert_same_run, call, one_epoch_a_call

from jaxrnn.commands import selection

HORIZON = 2
ROLES = ["--id-column=shop", "--time-column=month", "--target-columns=sales", f"--horizon={HORIZON}"]
SMALL = ["--hidden-size=4", "--epochs=3", "--batch-size=16", "--batching=pad", "--checkpoint-seconds=0"]
SMALL += ["--schedule=constant"]  # whatever the epochs, the programs are the same
NUM_SHOPS = 20


def write_shops(path: Path, *, more: str = "") -> Path:
    generator = np.random.default_rng(0)
    lines = ["shop,month,sales"]
    for shop in range(NUM_SHOPS):
        length = 5 if shop == 0 else int(generator.integers(12, 20))  # the first is too short to be tested
        first = np.datetime64("2020-01") + np.timedelta64(int(generator.integers(0, 12)), "M")
        for step, value in enumerate(10 + np.cumsum(generator.normal(size=length))):
            end = (first + np.timedelta64(step + 1, "M")).astype("M8[D]") - np.timedelta64(1, "D")
            lines.append(f"s{shop},{end},{value:.3f}")
    path.write_text("\n".join(lines) + "\n" + more)
    return path


@pytest.fixture(scope="module")
def shops(tmp_path_factory) -> Path:
    return write_shops(tmp_path_factory.mktemp("shops") / "shops.csv")


@pytest.fixture(scope="module")
def run(shops, tmp_path_factory) -> Path:
    """A finished run, which has trained twice."""
    directory = tmp_path_factory.mktemp("run") / "run"
    done = call("train", "--task=forecast", f"--data={shops}", *ROLES, *SMALL, f"--run-dir={directory}")
    assert done.code == 0, done.err
    return directory


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_a_run_trains_twice_and_keeps_the_figures_of_both(run):
    summary = summary_of(run)
    assert set(summary["test"]) >= {"loss", "mase", "smape", "mae", "rmse", "quantile_loss", "coverage"}
    assert summary["selected_epochs"] == summary["epochs_run"] == summary["best_epoch"]
    validation = [json.loads(line)["validation"] for line in (run / "selection" / "metrics.jsonl").open()]
    best = validation[summary["selected_epochs"] - 1]
    assert summary["validation"]["loss"] == pytest.approx(best["loss"], rel=1e-4)
    assert set(summary["baselines"]) == {"last_value", "drift", "seasonal_naive", "mean"}
    assert len(summary["by_step"]["model"]["mase"]) == HORIZON
    assert summary["shared_rows"] == {"validation": 0, "test": 0}


def test_eval_gives_the_figures_of_training_and_those_of_each_series(run, shops, tmp_path):
    done = call("eval", f"--checkpoint={run}", "--json")
    assert done.code == 0, done.err
    found, summary = json.loads(done.out), summary_of(run)
    assert found["metrics"] == pytest.approx(summary["test"])
    assert found["rows"] == NUM_SHOPS - 1
    assert len(found["series"]) == NUM_SHOPS - 1
    assert np.mean([series["mase"] for series in found["series"]]) == pytest.approx(found["metrics"]["mase"])
    assert "warning" not in done.err
    further = call("eval", f"--checkpoint={run}", "--json", "--origins=3")
    assert "forecasts from 2 of 3 origins reach steps that the model was trained on" in further.err
    rolling = json.loads(further.out)
    assert rolling["origins"] == 3
    assert rolling["metrics"]["mase"] != found["metrics"]["mase"]
    whole = call("eval", f"--checkpoint={run}", f"--data={shops}", "--json")
    assert json.loads(whole.out)["rows"] == NUM_SHOPS
    assert "its training rows are evaluated too" in whole.err


def test_predict_prints_the_steps_behind_each_series(run, shops):
    done = call("predict", f"--checkpoint={run}", shops)
    assert done.code == 0, done.err
    header, *lines = csv.reader(io.StringIO(done.out))
    assert header == ["id", "time", "step", "q0.1", "q0.5", "q0.9"]
    assert len(lines) == NUM_SHOPS * HORIZON
    of_first = [row.split(",") for row in shops.read_text().splitlines() if row.startswith("s0,")]
    last = np.datetime64(of_first[-1][1], "M")
    ends = [str((last + np.timedelta64(step + 1, "M")).astype("M8[D]") - np.timedelta64(1, "D")) for step in (1, 2)]
    assert [line[:3] for line in lines[:2]] == [["s0", ends[0], "1"], ["s0", ends[1], "2"]]
    assert all(float(line[3]) <= float(line[4]) <= float(line[5]) for line in lines)
    one = call("predict", f"--checkpoint={run}", "--horizon=1", "--json", shops)
    objects = [json.loads(line) for line in one.out.splitlines()]
    assert len(objects) == NUM_SHOPS
    assert objects[0] == {"id": "s0", "time": ends[0], "step": 1} | {
        name: float(value) for name, value in zip(header[3:], lines[0][3:], strict=True)
    }


def test_a_file_of_new_series_is_forecast(run, tmp_path):
    (tmp_path / "new.csv").write_text("shop,month,sales\nx,2024-02-29,1e6\nx,2024-03-31,1.1e6\ny,2024-12-31,-3\n")
    done = call("predict", f"--checkpoint={run}", tmp_path / "new.csv")
    assert done.code == 0, done.err
    times = [line[1] for line in csv.reader(io.StringIO(done.out))][1:]
    assert times == ["2024-04-30", "2024-05-31", "2025-01-31", "2025-02-28"]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("predict", ["--horizon=9"], "--horizon: got 9; expected 1 to 2"),
        ("predict", ["--probabilities"], "--probabilities: got the flag; expected none"),
        ("predict", ["--std"], "--std: got the flag"),
        ("predict", ["--known-data=x.csv"], "known: got"),
        ("eval", ["--origins=0"], "origins: got 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(name, flags, message, run, shops):
    file = [shops] if name == "predict" else []
    done = call(name, f"--checkpoint={run}", *flags, *file)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.slow
def test_gaps_are_refused_filled_or_marked(shops, tmp_path):
    lines = shops.read_text().splitlines(keepends=True)
    gappy = tmp_path / "gappy.csv"
    gappy.write_text("".join(line for number, line in enumerate(lines) if number != 12))
    flags = ["--task=forecast", f"--data={gappy}", *ROLES, *SMALL]
    done = call("train", *flags, f"--run-dir={tmp_path / 'error'}")
    assert done.code == 2
    assert "1 step missing between" in done.err
    assert "--missing=forward" in done.err
    assert str(gappy) in done.err
    # Filled, the series are as long as those of the other tests, whose programs train them; marks are further inputs.
    for missing, *more in (["forward"], ["mask", "--no-refit"]):
        done = call("train", *flags, *more, f"--missing={missing}", f"--run-dir={tmp_path / missing}")
        assert done.code == 0, done.err
        predicted = call("predict", f"--checkpoint={tmp_path / missing}", gappy)
        assert "nan" not in predicted.out
        assert len(predicted.out.splitlines()) == 1 + NUM_SHOPS * HORIZON


class Stop:
    """A signal that comes as soon as it is asked for."""

    def __enter__(self):
        self.received, self.unsaved = signal.SIGTERM, False
        return self

    def __exit__(self, *args):
        pass


@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_run_that_is_stopped_in_either_training_is_the_run_that_was_not(stage, run, shops, tmp_path, monkeypatch):
    stopped = tmp_path / "stopped"
    flags = ["--task=forecast", f"--data={shops}", *ROLES, *SMALL]
    module = "jaxrnn.commands.selection" if stage == "first" else "jaxrnn.commands.train_run"
    with monkeypatch.context() as patch, one_epoch_a_call():
        patch.setattr(f"{module}.NoteSignal", Stop)
        done = call("train", *flags, f"--run-dir={stopped}")
    assert done.code == 128 + signal.SIGTERM
    assert f"--resume --run-dir={stopped}" in done.err
    assert (stopped / "checkpoints" / "1").exists() == (stage == "second")
    done = call("train", "--resume", f"--run-dir={stopped}")
    assert done.code == 0, done.err
    assert_same_run(run, stopped)
    again = call("train", "--resume", f"--run-dir={stopped}")
    assert again.code == 0
    assert "this run is finished" in again.err
    assert selection.RunDirectory(stopped).selection.is_dir()


def test_a_rehearsal_trains_nothing(shops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("train", "--task=forecast", f"--data={shops}", *ROLES, *SMALL, "--dry-run")
    assert done.code == 0, done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--batching=pack", "--loss=mse", "--scaling=none", "--calendar=month", "--cell=lstm"],
        ["--batching=bucket", "--num-buckets=3", "--split=grouped", "--origins=2"],
        ["--ensemble=3", "--loss=mae", "--transform=log", "--scaling=global", "--missing=forward"],
        ["--split=time", "--origins=3", "--quantiles=0.05,0.25,0.5,0.75,0.95"],
    ],
)
def test_every_way_to_train_gives_forecasts(flags, shops, tmp_path):
    last = {flag.partition("=")[0]: flag for flag in [*SMALL, *flags]}
    done = call("train", "--task=forecast", f"--data={shops}", *ROLES, *last.values(), f"--run-dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    found = json.loads(call("eval", f"--checkpoint={tmp_path / 'run'}", "--json").out)
    assert np.isfinite(found["metrics"]["mase"])
    if "--loss=mse" in flags:  # one number a step ahead: none to sort, so the device's figure is the host's
        lines = [json.loads(line) for line in (tmp_path / "run" / "selection" / "metrics.jsonl").open()]
        summary = summary_of(tmp_path / "run")
        best = lines[summary["selected_epochs"] - 1]["validation"]["mase"]
        assert summary["validation"]["mase"] == pytest.approx(best, rel=1e-4)
    predicted = call("predict", f"--checkpoint={tmp_path / 'run'}", shops)
    header = predicted.out.splitlines()[0].split(",")
    assert ("prediction" in header) == any(flag.startswith("--loss") for flag in flags)
    assert "nan" not in predicted.out
    assert len(predicted.out.splitlines()) == 1 + NUM_SHOPS * HORIZON


@pytest.mark.slow
def test_patience_is_that_of_the_first_training(shops, tmp_path):
    run = tmp_path / "run"
    flags = ["--task=forecast", f"--data={shops}", *ROLES, *SMALL, "--patience=1"]
    done = call("train", *flags, f"--run-dir={run}")
    assert done.code == 0, done.err
    asked = (run / "config.toml").read_bytes()
    (run / "summary.json").unlink()
    assert call("train", "--resume", f"--run-dir={run}").code == 0
    assert (run / "config.toml").read_bytes() == asked, "the second training's own settings are not the run's"
    assert call("train", *flags, "--resume", f"--run-dir={run}").code == 0


def test_eval_reads_as_it_is_told(run, shops, tmp_path):
    gappy = tmp_path / "gappy.csv"
    lines = shops.read_text().splitlines(keepends=True)
    gappy.write_text("".join(line for number, line in enumerate(lines) if number != 12))
    assert "--missing=forward" in call("eval", f"--checkpoint={run}", f"--data={gappy}").err
    done = call("eval", f"--checkpoint={run}", f"--data={gappy}", "--missing=forward", "--json")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_columns_may_be_called_as_those_of_a_forecast(tmp_path):
    file = tmp_path / "steps.csv"
    rows = [f"{series},{step},{series + step % 3}" for series in range(6) for step in range(12)]
    file.write_text("\n".join(["target,step,y", *rows]) + "\n")
    roles = ["--id-column=target", "--time-column=step", "--target-columns=y", "--horizon=2", "--no-refit"]
    done = call("train", "--task=forecast", f"--data={file}", *roles, *SMALL, f"--run-dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    done = call("predict", f"--checkpoint={tmp_path / 'run'}", file)
    assert done.code == 0, done.err
    assert [line.split(",")[:3] for line in done.out.splitlines()[:3]] == [
        ["id", "time", "step"], ["0", "12", "1"], ["0", "13", "2"]
    ]  # fmt: skip


@pytest.mark.slow
def test_series_are_told_apart_by_what_is_forecast(tmp_path):
    """The same holidays in all shops do not make their sales the same."""
    generator = np.random.default_rng(1)
    rows = [f"s{shop},{day},{value:.3f},{day % 7 == 6:d}"
            for shop in range(10) for day, value in enumerate(np.cumsum(generator.normal(size=12)))]  # fmt: skip
    file = tmp_path / "shops.csv"
    file.write_text("\n".join(["shop,day,sales,holiday", *rows]) + "\n")
    roles = ["--id-column=shop", "--time-column=day", "--target-columns=sales", "--horizon=2", "--no-refit"]
    train = ["train", "--task=forecast", f"--data={file}", *roles, *SMALL]
    done = call(*train, "--split=grouped", f"--run-dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    assert "warning" not in done.err
    copies = call(*train, f"--test-data={file}", f"--run-dir={tmp_path / 'copies'}")
    assert "10 test rows also stand in the training part" in copies.err
