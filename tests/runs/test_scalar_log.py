"""What a run writes for TensorBoard: every epoch once, whatever happened to the run."""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrnn import train
from jaxrnn.runs.scalar_log import ScalarLog
from jaxrnn.training import fit as fitting

proto = pytest.importorskip("tensorboardX.proto.event_pb2")
FIGURES = ("loss", "accuracy", "mae", "rmse", "within_half")


def read_events(directory: Path) -> list:
    """Reads a directory's only event file: records of length, checksum, event, checksum."""
    (path,) = directory.glob("events.out.tfevents.*")
    content, events, place = path.read_bytes(), [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        events.append(proto.Event.FromString(content[place + 12 : place + 12 + length]))
        place += 12 + length + 4
    return events


def read_scalars(directory: Path) -> dict[tuple[str, int], float]:
    """Returns every point by tag and step; a point that stands there twice fails."""
    points: dict[tuple[str, int], float] = {}
    for event in read_events(directory):
        for value in event.summary.value:
            key = (value.tag, event.step)
            assert key not in points, f"{key} stands there twice"
            points[key] = value.simple_value
    return points


def expected_points(metrics: Path) -> dict[tuple[str, int], float]:
    points = {}
    for line in metrics.read_text().splitlines():
        epoch = json.loads(line)
        for part in ("training", "validation"):
            points |= {(f"{name}/{part}", epoch["epoch"]): epoch[part][name] for name in FIGURES}
        points["learning_rate", epoch["epoch"]] = epoch["learning_rate"]
    return points


def line_of(epoch: int, loss: float | None = 0.5) -> dict:
    return {"epoch": epoch, "training": {"loss": loss}, "validation": {"loss": 0.25}, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text("".join(f"{i},{i + 1},{i + 2},{i + 3}\n" for i in range(60)))
    return path


@pytest.fixture
def flags(rows_file, tmp_path) -> list[str]:
    smoke = ["--config=smoke", "--hidden-size=3", "--epochs=6", "--batch-size=30"]
    return [*smoke, f"--data={rows_file}", f"--run-dir={tmp_path / 'run'}"]


@pytest.mark.slow
def test_every_epoch_once_also_after_an_interruption(flags, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    save = fitting.Fit.save
    monkeypatch.setattr(fitting, "MAX_EPOCHS_PER_CALL", 1)

    def kill(fit, checkpointer):
        save(fit, checkpointer)
        if fit.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Fit, "save", kill)
    with pytest.raises(KeyboardInterrupt):
        train.main([*flags, "--tensorboard", "--checkpoint-seconds=0"])
    monkeypatch.setattr(fitting.Fit, "save", save)
    points = read_scalars(run_dir / "tensorboard")
    assert max(step for _, step in points) == 3
    # A kill between a save and the next: epochs that the checkpoint does not know.
    with ScalarLog(run_dir / "tensorboard", [line_of(number) for number in range(1, 6)]):
        pass
    (run_dir / "tensorboard" / "notes.txt").write_text("mine")
    assert train.main(["--resume", f"--run-dir={run_dir}"]) == 0, "the run's own config.toml asks for it"
    points, expected = read_scalars(run_dir / "tensorboard"), expected_points(run_dir / "metrics.jsonl")
    assert set(points) == set(expected)
    assert {step for _, step in points} == set(range(1, 7))
    for key, value in expected.items():
        assert points[key] == pytest.approx(value, rel=1e-6), key
    assert (run_dir / "tensorboard" / "notes.txt").read_text() == "mine"
    # The files of before are forgotten by a TensorBoard that has read them.
    first, start = read_events(run_dir / "tensorboard")[:2]
    assert first.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (proto.SessionLog.START, 0)


@pytest.mark.slow
def test_not_asked_for_not_written_and_asked_for_late_written_whole(flags, tmp_path):
    run_dir = tmp_path / "run"
    assert train.main(flags) == 0
    assert not (run_dir / "tensorboard").exists()
    assert train.main(["--resume", f"--run-dir={run_dir}", "--tensorboard"]) == 0
    assert set(read_scalars(run_dir / "tensorboard")) == set(expected_points(run_dir / "metrics.jsonl"))


def test_missing_package_is_said_before_anything_is_done(flags, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if it were not installed
    assert train.main([*flags, "--tensorboard", "--data=missing.csv"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --tensorboard: tensorboardX cannot be imported")
    assert "'.[tensorboard]'" in said
    assert "--no-tensorboard" in said
    assert not (tmp_path / "run").exists()


def test_figures_that_are_not_finite(tmp_path):
    with ScalarLog(tmp_path, [line_of(1, None), line_of(2, math.inf)]) as log:
        log.add([line_of(3, 1e-30)])
        assert len(read_scalars(tmp_path)) == 9, "on the disk before it is closed"
    points = read_scalars(tmp_path)
    assert math.isnan(points["loss/training", 1])
    assert points["loss/training", 2] == math.inf
    assert points["loss/training", 3] == np.float32(1e-30)


def test_spread_of_an_ensemble_is_written_too(tmp_path):
    with ScalarLog(tmp_path, [line_of(1) | {"validation_std": {"loss": 0.125}, "members": 3}]):
        pass
    assert read_scalars(tmp_path)["loss/validation_std", 1] == 0.125
