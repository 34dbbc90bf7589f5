"""A run's own files, damaged: what is readable is kept, what is not is said, and nothing ends in a traceback."""

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import call, content_of, step_of, train_small

from jaxrnn.runs import metrics_file, stored_arrays
from jaxrnn.runs.metrics_file import read_metrics
from jaxrnn.runs.run_files import RunFileError, is_whole_png, read_environment, read_summary
from jaxrnn.runs.step_files import MANIFEST_NAME, CheckpointError, write_manifest

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
EPOCHS = 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_rows) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert train_small(run_dir, small_rows, epochs=EPOCHS).code == 0
    return run_dir


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def epochs_of(run_dir: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def go_on(run_dir: Path, *flags: object, epochs: int = EPOCHS + 2):
    return call("train", "--resume", f"--run-dir={run_dir}", f"--epochs={epochs}", *flags)


def edit_line(run_dir: Path, number: int, old: bytes, new: bytes) -> None:
    lines = (run_dir / "metrics.jsonl").read_bytes().split(b"\n")
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    (run_dir / "metrics.jsonl").write_bytes(b"\n".join(lines))


DAMAGED_LINES = [
    (b"{", b"x"),
    (b'"epoch": 2', b'"epoch": null'),
    (b'"epoch": 2', b'"epoch": NaN'),
    (b'"epoch": 2', b'"epoch": 5'),
    (b'"epoch": 2', b'"epoch": 1'),
    (b'"epoch": 2', b'"epoch": 1e999'),
    (b'"epoch"', b'"ep\xffch"'),
    (b'"loss": ', b'"loss": "low", "was": '),
    (b'"loss": ', b'"loss": 1' + b"0" * 400 + b', "was": '),
    (b'"training"', b'"Training"'),
    (b'"training": ', b'"training": ' + b"[" * 90_000),
]


class TestMetrics:
    @pytest.mark.parametrize(("old", "new"), DAMAGED_LINES)
    def test_a_damaged_line_costs_no_other(self, run_copy, old, new):
        edit_line(run_copy, 2, old, new)
        metrics = read_metrics(run_copy / "metrics.jsonl")
        assert [line.epoch for line in metrics.lines] == [1, *range(3, EPOCHS + 1)]
        (said,) = metrics.complaints(EPOCHS)
        assert said.startswith(f"{run_copy / 'metrics.jsonl'}:2: found ")
        assert "; expected the figures of an epoch; " in said
        assert len(said) < 300

    def test_a_run_that_goes_on_keeps_every_readable_line(self, run_copy):
        edit_line(run_copy, 2, b"{", b"x")
        before = (run_copy / "metrics.jsonl").read_bytes()
        done = go_on(run_copy)
        assert done.code == 0, done.err
        assert epochs_of(run_copy) == [1, *range(3, EPOCHS + 3)]
        assert f"{run_copy / 'metrics.jsonl'}:2: found no JSON" in done.err
        assert "is kept as metrics.jsonl.damaged" in done.err
        assert (run_copy / "metrics.jsonl.damaged").read_bytes() == before
        done = go_on(run_copy, epochs=EPOCHS + 3)
        assert "metrics.jsonl: found no line of epoch 2; expected one for each of 1 to 8" in done.err
        assert not (run_copy / "metrics.jsonl.damaged-2").exists()

    def test_a_cut_last_line_and_those_behind_the_checkpoint_go_without_a_word(self, run_copy):
        text = (run_copy / "metrics.jsonl").read_text()
        whole = json.loads(text.splitlines()[-1])
        more = "".join(json.dumps(whole | {"epoch": EPOCHS + 1}) + "\n")
        (run_copy / "metrics.jsonl").write_text(text + more + more[: len(more) // 2])
        done = go_on(run_copy)
        assert done.code == 0
        assert "warning" not in done.err
        assert epochs_of(run_copy) == list(range(1, EPOCHS + 3))
        assert not (run_copy / "metrics.jsonl.damaged").exists()

    def test_a_missing_file_is_said(self, run_copy):
        (run_copy / "metrics.jsonl").unlink()
        done = go_on(run_copy)
        assert done.code == 0
        assert "metrics.jsonl: No such file; expected a file as jaxrnn.train writes it" in done.err
        assert epochs_of(run_copy) == [EPOCHS + 1, EPOCHS + 2]

    def test_longest_rise(self):
        for epochs, kept in (
            ([], []),
            ([1, 2, 3], [1, 2, 3]),
            ([1, 9, 2, 3], [1, 3, 4]),
            ([1, 1, 2], [1, 3]),
            ([5, 1, 2, 9, 3, 4], [2, 3, 5, 6]),
        ):
            assert sorted(metrics_file._longest_rise(dict(enumerate(epochs, start=1)))) == kept

    def test_where_no_line_is_readable_the_curves_are_drawn_without(self, run_copy):
        (run_copy / "metrics.jsonl").write_text("")
        (run_copy / "curves.png").unlink()
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0, done.err
        assert f"metrics.jsonl: found no line of epoch 1 to {EPOCHS}; expected one for each" in done.err
        assert (run_copy / "curves.png").is_file()


class TestConfig:
    def test_a_cut_one_does_not_go_on_as_another_run(self, run_copy):
        text = (run_copy / "config.toml").read_text()
        (run_copy / "config.toml").write_text(text[: text.index("batch_size")])
        before = content_of(run_copy)
        done = go_on(run_copy)
        assert done.code == 2
        assert "config.toml: found no batch_size, target, loss" in done.err
        assert "; expected every key, as the run wrote it; put back a copy of the file, or add what is" in done.err
        assert content_of(run_copy) == before


class TestFinishedRuns:
    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("metrics.jsonl", None, "metrics.jsonl: No such file"),
            ("metrics.jsonl", b"\xff\n", "metrics.jsonl:1: found bytes that are not UTF-8"),
            ("environment.json", None, "environment.json: No such file"),
            ("environment.json", b"[1]", "environment.json: found a damaged file (list in place of an object)"),
        ],
    )
    def test_what_is_damaged_is_said_and_left(self, run_copy, name, content, said):
        path = run_copy / name
        path.unlink() if content is None else path.write_bytes(content)
        before = content_of(run_copy)
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0
        assert said in done.err
        assert content_of(run_copy) == before

    def test_damaged_curves_are_drawn_anew(self, run_copy):
        path = run_copy / "curves.png"
        content = path.read_bytes()
        assert is_whole_png(path)
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (b"", content[:8], content[:-1], content + b"x", content[8:], flipped):
            path.write_bytes(damaged)
            assert not is_whole_png(path)
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0
        assert f"warning: {path}: found no whole picture; expected the curves of the run" in done.err
        assert is_whole_png(path)

    @pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "summary.json"])
    def test_a_link_to_itself(self, run_copy, name):
        (run_copy / name).unlink()
        (run_copy / name).symlink_to(name)
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 2
        assert f"{name}: found a file that cannot be read (Too many levels of symbolic links); expected" in done.err

    def test_a_damaged_summary_is_written_anew_and_kept(self, run_copy, finished):
        (run_copy / "summary.json").write_text("{}")
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0, done.err
        assert "summary.json: found baselines: None; expected an object" in done.err
        assert (run_copy / "summary.json.damaged").read_text() == "{}"
        read = [json.loads((run_dir / "summary.json").read_text()) for run_dir in (run_copy, finished)]
        assert read[0]["test"] == read[1]["test"]

    @pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "summary.json", "curves.png"])
    def test_a_directory_in_the_place_of_a_file_is_refused_before_training(self, run_copy, name):
        (run_copy / name).unlink()
        (run_copy / name).mkdir()
        done = go_on(run_copy)
        assert done.code == 2
        assert f"{run_copy / name}: found a directory; expected a file as jaxrnn.train writes it; move it" in done.err
        assert step_of(run_copy, -1).name == str(EPOCHS)


ENVIRONMENTS = [b"", b'{"versions": {', b"[]", b"\xff", b'{"data": 3}', b"1e999", b"[" * 90_000]


class TestEnvironment:
    @pytest.mark.parametrize("content", ENVIRONMENTS)
    def test_strictly_read(self, run_copy, content):
        for name, read in (("environment.json", read_environment), ("summary.json", read_summary)):
            (run_copy / name).write_bytes(content)
            with pytest.raises(RunFileError, match=rf"{name}: found .*; expected .*; put back a copy"):
                read(run_copy / name)

    def test_a_part_without_rows_has_no_figures(self, run_copy):
        path = run_copy / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"validation": {}, "test": {}, "baselines": {}}))
        summary = read_summary(path)
        assert [summary[key] for key in ("validation", "test", "baselines")] == [{}, {}, {}]

    @pytest.mark.parametrize("content", [None, b"", "summary.json"])
    def test_other_data_is_refused_by_the_checkpoint_where_the_file_is_gone(self, run_copy, small_rows, content):
        path = run_copy / "environment.json"
        if content is None:
            path.unlink()
        else:
            path.write_bytes((run_copy / content).read_bytes() if isinstance(content, str) else content)
        other = run_copy.parent / "other.csv"
        other.write_text(small_rows.read_text() + "1,2,3\n")
        before = content_of(run_copy)
        done = go_on(run_copy, f"--data={other}")
        assert done.code == 2
        assert "environment.json: " in done.err
        assert f"the checkpoint of step {EPOCHS} says which data the run began with" in done.err
        assert "other.csv: got other data than the run began with" in done.err
        assert content_of(run_copy) == before
        done = go_on(run_copy)
        assert done.code == 0, done.err
        assert read_environment(path)["data"]["path"] == str(small_rows)
        assert (run_copy / "environment.json.damaged").exists() == (content is not None)

    def test_changed_data_is_refused_before_it_is_parsed(self, run_copy):
        other = run_copy.parent / "other.csv"
        other.write_text("secret\n")
        done = go_on(run_copy, f"--data={other}")
        assert done.code == 2
        assert "got other data than the run began with" in done.err
        assert "secret" not in done.err


def forge(run_dir: Path, name: str, content: bytes) -> None:
    """Replaces a file of the last step, and the sums too."""
    step = step_of(run_dir, -1)
    (step / name).write_bytes(content)
    (step / MANIFEST_NAME).unlink()
    write_manifest(step)


class TestForgedSteps:
    @pytest.mark.parametrize("name", ["manifest.sha256.json", "metadata/metadata", "another"])
    def test_a_pipe_is_not_waited_for(self, run_copy, small_rows, name):
        path = step_of(run_copy, -1) / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        if name != "manifest.sha256.json":
            (path.parents[name.count("/")] / MANIFEST_NAME).unlink()
            write_manifest(path.parents[name.count("/")])
        done = call("predict", f"--checkpoint={run_copy}", small_rows)
        assert done.code == 0
        assert f"warning: {path}: is " in done.err

    @pytest.mark.parametrize("damage", ["a pipe", "a time that no calendar has"])
    def test_what_the_older_step_holds_costs_the_newest_nothing(self, run_copy, small_rows, damage):
        path = step_of(run_copy, 0) / "_CHECKPOINT_METADATA"
        content = json.loads(path.read_text()) | {"commit_timestamp_nsecs": 2**63}
        path.unlink()
        os.mkfifo(path) if damage == "a pipe" else path.write_text(json.dumps(content))
        for command in (("predict", f"--checkpoint={run_copy}", small_rows), ("eval", f"--checkpoint={run_copy}")):
            done = call(*command)
            assert (done.code, done.err.count("warning")) == (0, 0), done.err
        (run_copy / "summary.json").unlink()
        done = go_on(run_copy)
        assert done.code == 0, done.err

    @pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "arrays/_METADATA", "metadata/metadata"])
    @pytest.mark.parametrize(
        "content", [b"", b"1e999", b"[]", b"{}", b"\xff", b'{"format_version": 99, "versions": 3}']
    )
    def test_one_line_names_the_step(self, run_copy, small_rows, name, content):
        forge(run_copy, name, content)
        for command in (("predict", f"--checkpoint={run_copy}", small_rows), ("eval", f"--checkpoint={run_copy}")):
            done = call(*command)
            if done.code == 0:  # Orbax does without it
                assert name == "_CHECKPOINT_METADATA"
                continue
            assert done.code == 2
            assert done.err.startswith("error: ")
            assert done.err.count("\n") == 1
            assert str(step_of(run_copy, -1)) in done.err
        assert go_on(run_copy).code in (0, 2)

    def test_more_bytes_than_a_run_writes_are_refused_before_they_take_memory(self):
        small, huge = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((8, 1), (2**20, 2**20)))
        stored_arrays.check_arrays({"a": small, "b": small}, {"a": small}, Path("5"))
        with pytest.raises(CheckpointError, match="5: got arrays of 4,194,304 MiB in all; expected at most 16"):
            stored_arrays.check_arrays({"a": small, "b": huge}, {"a": small}, Path("5"))
