"""The commands on files of sequences: train, resume, evaluate and predict, for every task."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import call

from jaxrnn.runs.step_files import MANIFEST_NAME, write_manifest
from jaxrnn.settings.config import Config
from jaxrnn.settings.toml_files import read_toml

NUM_UNITS = 40
SMALL = ["--cell=rnn", "--hidden-size=4", "--epochs=4", "--batch-size=16", "--checkpoint-seconds=0"]
SMALL += ["--schedule=constant", "--batching=pad"]
ROLES = ["--id-column=unit", "--time-column=day", "--input-columns=x,y"]
TASKS = {
    "classify": ["--label-column=side"],
    "regress": ["--target-columns=mean,least"],
    "tag": ["--label-column=state"],
}
pytestmark = pytest.mark.usefixtures("programs_kept")


def write_units(path: Path, *, seed: int = 0, side: str = "left,right") -> Path:
    generator = np.random.default_rng(seed)
    lines = ["unit,day,x,y,side,mean,least,state"]
    for unit in range(NUM_UNITS):
        values = generator.normal(size=(int(generator.integers(2, 7)), 2)) + unit % 2
        known = [side.split(",")[unit % 2], round(values[:, 0].mean(), 4), round(values[:, 1].min(), 4)]
        for day, (x, y) in enumerate(values):
            state = "high" if x > 0.5 else "low"
            lines.append(",".join(map(str, (f"u{unit:02}", day + 1, x, y, *known, state))))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def units(tmp_path_factory) -> Path:
    return write_units(tmp_path_factory.mktemp("units") / "units.csv")


class Runs(dict):
    """A finished run of each task, trained when it is first asked for."""

    def __init__(self, units: Path, directory: Path):
        super().__init__()
        self.units, self.directory = units, directory

    def __missing__(self, task: str) -> Path:
        run_dir = self.directory / task
        data = [f"--task={task}", f"--data={self.units}", *ROLES, *TASKS[task]]
        done = call("train", *data, *SMALL, f"--run-dir={run_dir}")
        assert done.code == 0, done.err
        self[task] = run_dir
        return run_dir


@pytest.fixture(scope="module")
def runs(units, programs_kept, tmp_path_factory) -> Runs:
    return Runs(units, tmp_path_factory.mktemp("runs"))


def own_figures(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task == "classify" else pytest.mark.slow) for task in TASKS]
)
def test_eval_gives_the_figures_of_training(task, runs, units, tmp_path):
    done = call("eval", f"--checkpoint={runs[task]}", "--json", "--plots", f"--plots-dir={tmp_path}")
    assert done.code == 0, done.err
    found, summary = json.loads(done.out), own_figures(runs[task])
    assert found["metrics"] == pytest.approx(summary["test"])
    assert found["baselines"] == summary["baselines"]
    assert found["interval"] == summary["test_interval"]
    assert found["rows"] == 8
    assert found["data"] == str(units)
    if task != "regress":
        counts = np.array(found["confusion_matrix"]["counts"])
        assert counts.trace() / counts.sum() == pytest.approx(found["metrics"]["accuracy"])
    assert len(list(tmp_path.glob("*.png"))) == 2
    whole = json.loads(call("eval", f"--checkpoint={runs[task]}", f"--data={units}", "--json").out)
    assert whole["rows"] == NUM_UNITS


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.slow
def test_lines_that_are_whole_sequences_are_told_from_steps(tmp_path):
    table = tmp_path / "wide.csv"
    lines = [f"u{n},{'up' if n % 2 else 'down'},{n % 5},{n % 7},{n % 2}" for n in range(30)]
    table.write_text("\n".join(["unit,side,v0,v1,v2", *lines]) + "\n")
    done = call("train", "--task=classify", f"--data={table}", "--id-column=unit", "--label-column=side",
                *SMALL, f"--run-dir={tmp_path / 'steps'}")  # fmt: skip
    assert done.code == 0
    assert "warning: every sequence has a single step" in done.err
    table.write_text("\n".join(["side,v0,v1,v2", *(line.split(",", 1)[1] for line in lines)]) + "\n")
    done = call("train", "--task=classify", f"--data={table}", "--skip-lines=1", "--label-column=first",
                *SMALL, f"--run-dir={tmp_path / 'rows'}")  # fmt: skip
    assert done.code == 0
    assert "single step" not in done.err
    assert "30 sequences, 90 steps; lengths 3 to 3" in done.err


def test_predict_classify(runs, units):
    done = call("predict", f"--checkpoint={runs['classify']}", "--probabilities", units)
    header, *lines = rows_of(done.out)
    assert header == ["id", "class", "p_left", "p_right"]
    assert [line[0] for line in lines] == [f"u{unit:02}" for unit in range(NUM_UNITS)]
    for _, taken, left, right in lines:
        assert float(left) + float(right) == pytest.approx(1, abs=1e-5)
        assert taken == ("left" if float(left) > float(right) else "right")
    objects = [
        json.loads(line)
        for line in call("predict", f"--checkpoint={runs['classify']}", "--json", units).out.splitlines()
    ]
    assert objects == [{"id": line[0], "class": line[1]} for line in lines]


def test_predict_regress_and_tag(runs, units):
    header, *lines = rows_of(call("predict", f"--checkpoint={runs['regress']}", units).out)
    assert header == ["id", "mean", "least"]
    assert np.isfinite([[float(value) for value in line[1:]] for line in lines]).all()
    header, *lines = rows_of(call("predict", f"--checkpoint={runs['tag']}", units).out)
    assert header == ["id", "time", "class"]
    known = rows_of(units.read_text())[1:]
    assert [line[:2] for line in lines] == [line[:2] for line in known]
    assert {line[2] for line in lines} <= {"high", "low"}


def test_predict_needs_no_answers_and_takes_other_names(runs, units, tmp_path):
    lines = [line.split(",")[:4] for line in units.read_text().splitlines()]
    lines[0] = ["machine", "day", "x", "y"]
    other = tmp_path / "other.csv"
    other.write_text("\n".join(";".join(line) for line in lines) + "\n")
    done = call("predict", f"--checkpoint={runs['classify']}", "--id-column=machine", other)
    assert done.code == 0, done.err
    assert done.out == call("predict", f"--checkpoint={runs['classify']}", units).out


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("classify", ["--horizon=2"], "--horizon: got the flag; expected none with task = classify"),
        ("classify", ["--std"], "--std: got the flag; expected none with task = classify"),
        ("regress", ["--probabilities"], "--probabilities: got the flag; expected none with task = regress"),
        ("tag", ["-"], "FILE: got standard input; expected a file of sequences with task = tag"),
    ],
)
def test_what_a_task_cannot_tell_is_refused(task, flags, message, runs, units):
    file = [] if "-" in flags else [units]
    done = call("predict", f"--checkpoint={runs[task]}", *flags, *file)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err


def test_a_column_that_is_missing_is_named(runs, units, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(units.read_text().replace("unit,day,x,y", "unit,day,x,z"))
    done = call("predict", f"--checkpoint={runs['classify']}", other)
    assert done.code == 2
    assert "found no column 'y'" in done.err or "'y'" in done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task=clasify"], "--task: got 'clasify'; expected one of next, classify, regress, tag, forecast; did you"),
        (["--task=next", "--bidirectional"], "--bidirectional: got True; expected false with task = next"),
        (["--task=tag", "--readout=mean"], "--readout: got 'mean'; expected last with task = tag"),
        (["--task=regress", "--class-weights=balanced"], "--class-weights: got 'balanced'; expected none"),
        (["--task=classify", "--loss=mae"], "--loss: got 'mae'; expected none with task = classify: cross-entropy"),
        (["--task=classify", "--monitor=mae"], "--monitor: got 'mae'; expected one of loss, accuracy"),
        (["--task=classify", "--tbptt=3"], "--tbptt: got 3; expected 0 with task = classify"),
        (["--test-data=x.csv"], "x.csv: found no such file"),
        (["--task=classify", "--split=given", "--patience=3"], "--patience: got 3; expected 0 where no sequences"),
        (["--task=classify"], "expected what is to be predicted; name its column by --label-column"),
    ],
)  # fmt: skip
def test_impossible_settings_are_one_line(flags, message, units, tmp_path):
    label = ["--label-column=side"] if "--split=given" in flags else []
    done = call("train", f"--data={units}", *ROLES, *label, *flags, *SMALL, f"--run-dir={tmp_path / 'run'}")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_files_of_parts(units, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = write_units(tmp_path / "test.csv", seed=1, side="left,middle")
    flags = ["--task=classify", f"--data={units}", *ROLES, "--label-column=side", *SMALL]
    run = tmp_path / "run"
    done = call("train", *flags, "--test-data=test.csv", f"--run-dir={run}")
    assert done.code == 0, done.err
    assert f"{NUM_UNITS} training, 0 validation, {NUM_UNITS} test" in done.err
    assert "20 rows have a class that no training row has: they count as wrong" in done.out
    summary = own_figures(run)
    assert summary["validation"] == {}
    assert summary["best_epoch"] == 4
    assert json.loads(call("eval", f"--checkpoint={run}", "--json").out)["metrics"] == pytest.approx(summary["test"])
    monkeypatch.chdir(tmp_path.parent)  # the checkpoint knows where its files are
    assert json.loads(call("eval", f"--checkpoint={run}", "--json").out)["data"] == str(test)
    test.write_text(test.read_text().replace("u00", "u99"))
    assert "has changed since training" in call("eval", f"--checkpoint={run}").err
    done = call("train", "--resume", "--epochs=5", f"--test-data={test}", f"--run-dir={run}")
    assert "--test-data: got other data than the run began with" in done.err
    assert done.code == 2


def test_a_complaint_names_its_file_once(runs, tmp_path):
    (tmp_path / "short.csv").write_text("unit,day,x\nu,1,2.0\n")
    done = call("predict", f"--checkpoint={runs['classify']}", str(tmp_path / "short.csv"))
    assert (done.code, done.err.count("short.csv")) == (2, 1)


def test_a_column_with_two_roles_is_named_by_its_flag(units):
    done = call("train", "--task=classify", f"--data={units}", *ROLES, "--label-column=day", *SMALL, "--dry-run")
    assert (done.code, done.err.startswith("error: --label-column: got 'day'")) == (2, True)


def test_a_run_goes_on_with_the_parts_that_it_has(runs, units, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["classify"], run)
    done = call("train", "--resume", "--epochs=5", f"--test-data={units}", f"--run-dir={run}")
    assert (done.code, done.out) == (2, "")
    assert "--resume: --test-data: got a file; expected the parts that the run has" in done.err


def test_without_test_rows_the_figures_are_empty(units, tmp_path):
    flags = ["--task=classify", f"--data={units}", *ROLES, "--label-column=side", *SMALL, "--split=given"]
    done = call("train", *flags, f"--run-dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    summary = own_figures(tmp_path / "run")
    assert summary["validation"] == summary["test"] == summary["baselines"] == {}
    assert "the run has no test rows" in call("eval", f"--checkpoint={tmp_path / 'run'}").err


@pytest.mark.parametrize("task", ["classify", pytest.param("tag", marks=pytest.mark.slow)])
def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(task, runs, units, tmp_path):
    flags = [f"--task={task}", f"--data={units}", *ROLES, *TASKS[task], *SMALL]
    straight, stopped = runs[task], tmp_path / "stopped"
    assert call("train", *flags, "--epochs=2", f"--run-dir={stopped}").code == 0
    done = call("train", "--resume", "--epochs=4", f"--run-dir={stopped}")
    assert done.code == 0, done.err
    assert (straight / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()
    assert own_figures(straight)["test"] == own_figures(stopped)["test"]


def test_a_rehearsal_trains_nothing(units, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = units.read_text().splitlines(keepends=True)
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("".join(line.replace("high", "High") if i % 3 else line for i, line in enumerate(lines)))
    done = call("train", "--task=tag", f"--data={mixed}", *ROLES, "--label-column=state", *SMALL, "--dry-run")
    assert done.code == 0, done.err
    assert "nothing was trained and nothing written" in done.out
    assert done.err.count("warning: the classes 'High' and 'high' differ in case or white space alone") == 1
    assert list(tmp_path.iterdir()) == [mixed]


ODD = {
    "none": None,
    "a list": [],
    "a class twice as many counts": {"class_counts": [1]},
    "counts of nothing": {"class_counts": [0, 5]},
    "no names": {"inputs": {"names": ["x"], "offsets": [0.0, 0.0], "scales": [1.0, 1.0]}},
    "a scale of 0": {"inputs": {"names": ["x", "y"], "offsets": [0.0, 0.0], "scales": [1.0, 0.0]}},
    "a scale that is a text": {"inputs": {"names": ["x", "y"], "offsets": [0.0, 0.0], "scales": ["a", 1.0]}},
    "classes that are a text": {"classes": "ab"},
    "classes that are numbers": {"classes": [1, 2]},
    "more inputs than weights": {"inputs": {"names": ["x", "y", "z"], "offsets": [0.0] * 3, "scales": [1.0] * 3}},
    "more classes than the head has": {"classes": ["a", "b", "c"], "class_counts": [1, 1, 1]},
    "no targets": {"classes": [], "class_counts": []},
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_metadata_of_anybodys_are_held_against_what_a_run_writes(what, runs, units, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["classify"], run)
    step = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    file = next(step.glob("metadata/metadata"))
    content = json.loads(file.read_text())
    odd = ODD[what]
    content["encoding"] = content["encoding"] | odd if isinstance(odd, dict) else odd
    file.write_text(json.dumps(content))
    (step / MANIFEST_NAME).unlink()
    write_manifest(step)
    done = call("predict", f"--checkpoint={run}", units)
    assert done.code == 2
    assert done.out == ""
    assert str(run) in done.err


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on(small_rows, tmp_path):
    """Its files lack the keys of tasks and columns; a file that was cut lacks keys that the version knew."""
    run = tmp_path / "run"
    flags = ["--config=smoke", "--hidden-size=8", "--batch-size=30", "--schedule=constant", "--checkpoint-seconds=0"]
    assert call("train", *flags, "--epochs=2", f"--data={small_rows}", f"--run-dir={run}").code == 0
    step = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    file = next(step.glob("metadata/metadata"))
    content, config = json.loads(file.read_text()), Config()
    new = [name for section in (config.task, config.columns) for name in vars(section)] + [
        "validation_data",
        "test_data",
    ]
    content["config"] = {key: value for key, value in content["config"].items() if key not in new}
    del content["encoding"]
    file.write_text(json.dumps(content))
    (step / MANIFEST_NAME).unlink()
    write_manifest(step)
    kept = [line for line in (run / "config.toml").read_text().splitlines() if line.partition(" ")[0] not in new]
    (run / "config.toml").write_text("\n".join(kept) + "\n")
    assert "task" not in read_toml(run / "config.toml")
    assert call("eval", f"--checkpoint={run}").code == 0
    assert call("predict", f"--checkpoint={run}", small_rows).code == 0
    done = call("train", "--resume", "--epochs=3", f"--run-dir={run}")
    assert done.code == 0, done.err
    assert "going on after epoch 2" in done.err
    (run / "config.toml").write_text("\n".join(kept[: len(kept) // 2]) + "\n")
    assert "found no" in call("train", "--resume", "--epochs=4", f"--run-dir={run}").err
