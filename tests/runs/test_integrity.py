"""Damaged checkpoints: the next older whole step takes over, with a word; a step that was named is refused."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from small_runs import EPOCHS, arrays_of, assert_same_run, call, content_of, step_of, train_small

import jaxrnn
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.runs import checkpoint
from jaxrnn.runs.checkpoint import MANIFEST_NAME, Checkpointer, CheckpointError
from jaxrnn.runs.step_files import COMMIT_NAME
from jaxrnn.training import restoring

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
# Orbax stores smaller arrays inline, with its metadata: a run whose arrays are all smaller proves nothing.
BYTES_STORED_INLINE = 1024


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_rows) -> Path:
    """A run with two steps, the older one of its last epoch but one."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    done = train_small(run_dir, small_rows, "--hidden-size=24")
    assert done.code == 0, done.err
    assert [step_of(run_dir, position).name for position in (0, 1)] == [str(EPOCHS - 1), str(EPOCHS)]
    return run_dir


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = {"flipped bit": flip_bit, "truncated": truncate, "deleted": delete}
DAMAGES_OF_EVERY_FILE = ["flipped bit", *(pytest.param(name, marks=pytest.mark.slow) for name in list(DAMAGES)[1:])]


def files_of(step: Path) -> list[str]:
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


def largest_file(step: Path) -> Path:
    path = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    assert path.stat().st_size > BYTES_STORED_INLINE
    return path


def without_epochs_after(run_dir: Path, epoch: int) -> None:
    """Takes from a finished run what it wrote after its training was done."""
    (run_dir / "summary.json").unlink()
    (run_dir / "curves.png").unlink()
    assert step_of(run_dir, -1).name == str(epoch)


class TestEveryFile:
    @pytest.mark.parametrize("damage", DAMAGES_OF_EVERY_FILE)
    def test_of_a_run_the_older_step_is_taken_and_the_file_is_named(self, finished, tmp_path, capsys, damage):
        older = arrays_of(finished, EPOCHS - 1)
        names = files_of(step_of(finished, -1))
        assert len(names) > 5
        assert MANIFEST_NAME in names
        tried = 0
        for name in names:
            run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
            victim = step_of(run_dir, -1) / name
            if damage != "truncated" or victim.stat().st_size:
                DAMAGES[damage](victim)
                before = content_of(run_dir)
                model = TrainedModel.load(run_dir)
                err = capsys.readouterr().err
                assert model.step == EPOCHS - 1, name
                assert err.startswith("warning: ")
                assert str(victim) in err
                assert f"going back to step {EPOCHS - 1}" in err
                assert content_of(run_dir) == before, "reading changes nothing"
                assert arrays_of(run_dir, model.step) == older
                tried += 1
            shutil.rmtree(run_dir)
        assert tried > 5

    @pytest.mark.parametrize("damage", DAMAGES_OF_EVERY_FILE)
    def test_a_named_step_is_refused_and_the_older_one_offered(self, finished, tmp_path, damage):
        for name in files_of(step_of(finished, -1)):
            run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
            step = step_of(run_dir, -1)
            if damage != "truncated" or (step / name).stat().st_size:
                DAMAGES[damage](step / name)
                with pytest.raises(CheckpointError) as caught:
                    TrainedModel.load(step)
                assert str(step / name) in str(caught.value)
                assert f"the next older step is {step.with_name(str(EPOCHS - 1))}" in str(caught.value)
            shutil.rmtree(run_dir)


class TestCommands:
    def test_eval_and_predict_go_back_with_a_warning(self, run_copy, small_rows, tmp_path):
        older = Path(shutil.copytree(run_copy, tmp_path / "older"))
        shutil.rmtree(step_of(older, -1))
        expected = call("predict", f"--checkpoint={older}", small_rows)
        assert expected.code == 0
        victim = largest_file(step_of(run_copy, -1) / "arrays")
        flip_bit(victim)
        done = call("predict", f"--checkpoint={run_copy}", small_rows)
        assert (done.code, done.out) == (0, expected.out)
        assert f"{victim}: is not what was written" in done.err
        done = call("eval", f"--checkpoint={run_copy}", "--json")
        assert done.code == 0
        assert json.loads(done.out)["rows"] > 0
        assert f"{victim}: is not what was written" in done.err

    def test_a_named_step_is_refused(self, run_copy, small_rows):
        victim = largest_file(step_of(run_copy, -1) / "arrays")
        delete(victim)
        for name, more in (("eval", []), ("predict", [small_rows])):
            done = call(name, f"--checkpoint={step_of(run_copy, -1)}", *more)
            assert (done.code, done.out) == (2, "")
            assert f"{victim}: is missing" in done.err
            assert f"the next older step is {step_of(run_copy, 0)}" in done.err

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_resume_goes_back_and_ends_as_the_unbroken_run(self, run_copy, finished, damage):
        without_epochs_after(run_copy, EPOCHS)
        victim = largest_file(step_of(run_copy, -1) / "arrays")
        DAMAGES[damage](victim)
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0, done.err
        assert str(victim) in done.err
        assert f"going on after epoch {EPOCHS - 1}" in done.err
        assert (run_copy / "checkpoints" / f"damaged-{EPOCHS}").is_dir(), "what is damaged is kept aside"
        assert_same_run(run_copy, finished)

    @pytest.mark.parametrize("name", [MANIFEST_NAME, COMMIT_NAME])
    def test_resume_goes_back_from_a_step_without_its_last_file(self, run_copy, finished, name):
        without_epochs_after(run_copy, EPOCHS)
        victim = step_of(run_copy, -1) / name
        victim.unlink()
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0, done.err
        assert str(victim) in done.err
        assert f"going on after epoch {EPOCHS - 1}" in done.err
        assert_same_run(run_copy, finished)

    def test_where_no_step_is_whole_all_is_refused_and_nothing_touched(self, run_copy, small_rows):
        without_epochs_after(run_copy, EPOCHS)
        victims = [largest_file(step_of(run_copy, position) / "arrays") for position in (0, 1)]
        for victim in victims:
            flip_bit(victim)
        before = content_of(run_copy)
        for command in (
            ("train", "--resume", f"--run-dir={run_copy}"),
            ("eval", f"--checkpoint={run_copy}"),
            ("predict", f"--checkpoint={run_copy}", small_rows),
        ):
            done = call(*command)
            assert done.code == 2
            assert f"{victims[1]}: is not what was written" in done.err
            assert "holds no whole checkpoint to go back to" in done.err
        assert content_of(run_copy) == before


class TestWhileARunGoesOn:
    @pytest.mark.slow
    def test_a_model_is_loaded_while_older_steps_are_removed(self, run_copy, capsys):
        with Checkpointer(run_copy / "checkpoints") as checkpointer:
            metadata = checkpointer.read_metadata(EPOCHS)
            metadata.pop("format_version")
            arrays = checkpointer.restore(EPOCHS, checkpointer.stored_arrays(EPOCHS))

            def save():
                for step in range(EPOCHS + 1, EPOCHS + 13):
                    checkpointer.save(step, arrays, metadata)

            thread, steps = threading.Thread(target=save), []
            thread.start()
            while thread.is_alive():
                steps.append(TrainedModel.load(run_copy).step)
            thread.join()
        assert steps == sorted(steps)
        assert len(set(steps)) > 2
        assert step_of(run_copy, -1).name == str(EPOCHS + 12)
        assert capsys.readouterr().err == ""


class TestOtherRuns:
    def rewrite_metadata(self, run_dir: Path, monkeypatch, version: object) -> None:
        """Writes the last step of a run anew as another version of the package would have."""
        step = int(step_of(run_dir, -1).name)
        with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
            metadata = checkpointer.read_metadata(step)
            arrays = checkpointer.restore(step, checkpointer.stored_arrays(step))
        metadata.pop("format_version")
        metadata["versions"]["jaxrnn"] = "9.8.7"
        with monkeypatch.context() as patch, Checkpointer(run_dir / "checkpoints") as checkpointer:
            patch.setattr(checkpoint, "FORMAT_VERSION", version)
            checkpointer.save(step + 1, arrays, metadata)

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_another_format_is_refused_with_what_to_do(self, run_copy, small_rows, monkeypatch, version):
        self.rewrite_metadata(run_copy, monkeypatch, version)
        without_epochs_after(run_copy, EPOCHS + 1)
        before = content_of(run_copy)
        for command in (
            ("train", "--resume", f"--run-dir={run_copy}", f"--epochs={EPOCHS + 2}"),
            ("eval", f"--checkpoint={run_copy}"),
            ("predict", f"--checkpoint={run_copy}", small_rows),
        ):
            done = call(*command)
            assert done.code == 2
            assert f"got checkpoint format {version!r}; this version reads {checkpoint.FORMAT_VERSION}" in done.err
            assert "use the jaxrnn version that wrote it (9.8.7)" in done.err
        assert content_of(run_copy) == before

    @pytest.mark.parametrize(
        ("old", "new", "named"),
        [
            ("hidden_size = 24", "hidden_size = 25", "array best_params/linear/kernel: got float32 of shape (24, 1)"),
            ('cell = "rnn"', 'cell = "gru"', "array best_params/rnn/bias_hh_l0: got float32 of shape (24,)"),
            ('optimizer = "adam"', 'optimizer = "rmsprop"', "opt_state/0/0/mu/"),
        ],
    )
    def test_a_checkpoint_of_another_model_is_refused_by_the_name_of_the_parameter(
        self, run_copy, monkeypatch, old, new, named
    ):
        config = run_copy / "config.toml"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))
        monkeypatch.setattr(restoring, "_require_same_run", lambda *given: None)  # which would say so before
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 2
        assert named in done.err
        assert str(step_of(run_copy, -1)) in done.err

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("hidden_size = 24", "hidden_size = 25", "hidden_size: the checkpoint has 24, the configuration 25"),
            ("seed = 0", "seed = 1", "seed: the checkpoint has 0, the configuration 1"),
            (
                'normalizer = "standard"',
                'normalizer = "none"',
                "normalizer: the checkpoint has 'standard', the configuration 'none'",
            ),
        ],
    )
    def test_a_config_that_was_edited_is_refused_with_the_difference(self, run_copy, old, new, said):
        config = run_copy / "config.toml"
        text = config.read_text()
        assert text.count(old) == 1
        config.write_text(text.replace(old, new))
        before = content_of(run_copy)
        done = call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={EPOCHS + 1}")
        assert done.code == 2
        assert f"{step_of(run_copy, -1)}: was saved by a run of another configuration:\n  {said}\n" in done.err
        assert content_of(run_copy) == before

    def test_a_run_without_its_config_is_told_what_is_missing(self, run_copy):
        (run_copy / "config.toml").unlink()
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 2
        assert f"{run_copy / 'config.toml'}: found no such file beside checkpoints; " in done.err
        assert call("eval", f"--checkpoint={run_copy}").code == 0

    def test_a_path_through_the_folder_above(self, run_copy, small_rows, monkeypatch):
        (run_copy.parent / "below").mkdir()
        monkeypatch.chdir(run_copy.parent / "below")
        around = f"../{run_copy.name}"
        found = [
            call("predict", f"--checkpoint={path}", small_rows).out for path in (run_copy, around, f"{around}/best")
        ]
        assert found[0]
        assert found[1:] == found[:1] * 2
        done = call("train", "--resume", f"--run-dir={around}", f"--epochs={EPOCHS + 1}")
        assert done.code == 0, done.err
        jaxrnn.load(around).save("../below/../saved")
        assert jaxrnn.load("../saved").step == jaxrnn.load(run_copy.parent / "saved").step
        linked = run_copy.parent / "linked" / "deeper"
        linked.parent.mkdir()
        linked.symlink_to(run_copy.parent / "below")
        assert call("predict", f"--checkpoint={linked}/../{run_copy.name}/best", small_rows).code == 0, "not linked/.."
