"""The data that a checkpoint names: read only for who owns the run, hashed before it is parsed, and never shown."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from small_runs import call, step_of, train_small

from jaxrnn import report
from jaxrnn.runs.step_files import MANIFEST_NAME, write_manifest

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
SECRET = "root:x:0:0:root:/root:/bin/bash"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_rows) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert train_small(run_dir, small_rows, epochs=3).code == 0
    return run_dir


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def forge(run_dir: Path, changes) -> None:
    """Rewrites the metadata of the last step, and the sums too."""
    step = step_of(run_dir, -1)
    path = step / "metadata" / "metadata"
    metadata = json.loads(path.read_text())
    changes(metadata)
    path.write_text(json.dumps(metadata))
    (step / MANIFEST_NAME).unlink()
    write_manifest(step)


def name_data(run_dir: Path, path: str, **more: object) -> None:
    forge(run_dir, lambda metadata: metadata["data"].update({"path": path, **more}))


def told(run_dir: Path, capsys) -> str:
    """Returns all that eval and report say, and the page."""
    done = call("eval", f"--checkpoint={run_dir}")
    assert done.code == 2
    assert done.err.startswith("error: ")
    page = run_dir.parent / "page.html"
    capsys.readouterr()
    assert report.main([str(run_dir), f"--out={page}"]) == 0
    return done.out + done.err + capsys.readouterr().err + page.read_text()


class TestForeignPaths:
    @pytest.mark.parametrize("knows_the_hash", [False, True])
    def test_no_text_of_the_file_is_shown(self, run_copy, tmp_path, capsys, knows_the_hash):
        secret = tmp_path / "passwd"
        secret.write_text(SECRET + "\n")
        more = {"sha256": hashlib.sha256(secret.read_bytes()).hexdigest()} if knows_the_hash else {}
        name_data(run_copy, str(secret), **more)
        text = told(run_copy, capsys)
        assert "root:" not in text
        assert ("found no rows as the run read them" if knows_the_hash else "has changed since training") in text

    @pytest.mark.parametrize("path", ["../../../etc/passwd", "rows.csv", "", "\0", "/" + "x" * 4000, "/dev/zero", "/"])
    def test_paths_that_no_run_names(self, run_copy, path, capsys):
        name_data(run_copy, path)
        assert "root:" not in told(run_copy, capsys)

    def test_a_prepared_set_is_not_shown_either(self, run_copy, tmp_path, capsys):
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "dataset.json").write_text(json.dumps({"format_version": SECRET}))
        name_data(run_copy, str(tmp_path / "set"))
        text = told(run_copy, capsys)
        assert "is another data set than the run was trained on" in text
        assert "root:" not in text

    def test_a_run_of_another_user_names_no_file(self, run_copy, small_rows, monkeypatch, capsys):
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        text = told(run_copy, capsys)
        assert f"belongs to another user (uid {mine}); expected a run of this user's own" in text
        assert call("eval", f"--checkpoint={run_copy}", f"--data={small_rows}").code == 0


class TestClaims:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"num_layers": 10_000}, "got 6 parameters; expected 40002, as its configuration says"),
            ({"hidden_size": 2**31 - 1}, "got float32 of shape (8, 1); expected float32 of shape (2147483647, 1)"),
            ({"cell": "lstm"}, "array best_params/rnn/"),
            ({"bias": False}, "got an array best_params/rnn/bias_hh_l0; expected none of this name"),
            ({"ensemble": 2**20}, "expected float32 of shape (1048576, 1)"),
        ],
    )
    def test_they_are_held_against_the_arrays_before_anything_is_built(self, run_copy, small_rows, changes, said):
        forge(run_copy, lambda metadata: metadata["config"].update(changes))
        done = call("predict", f"--checkpoint={run_copy}", small_rows)
        assert done.code == 2
        assert said in done.err
        assert str(step_of(run_copy, -1)) in done.err
