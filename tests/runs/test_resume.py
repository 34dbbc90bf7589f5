"""A run that was ended goes on to the same end, bit for bit; with changed settings it goes on, or says why not."""

import json
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, run_command
from forked import Forked
from processes import environment_of
from small_runs import EPOCHS, arrays_of, assert_same_run, call, content_of, step_of, train_small

from jaxrnn.settings.config import Config

sys.path.insert(0, str(REPOSITORY))
from benchmarks import kill_run

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
MORE_EPOCHS = EPOCHS + 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_rows) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert train_small(run_dir, small_rows).code == 0
    return run_dir


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def lines_of(run_dir: Path) -> list[str]:
    return (run_dir / "metrics.jsonl").read_text().splitlines()


def config_of(run_dir: Path) -> str:
    return (run_dir / "config.toml").read_text()


class TestChangedSettings:
    @pytest.mark.parametrize(
        "change",
        ["clip_norm=0.5", *(pytest.param(change, marks=pytest.mark.slow) for change in
                            ("learning_rate=0.001", "weight_decay=0.1", "patience=5"))],
    )  # fmt: skip
    def test_what_may_change_is_shown_and_holds_from_here_on(self, run_copy, change):
        key, _, value = change.partition("=")
        before, old = lines_of(run_copy), Config().to_flat()[key]
        done = call(
            "train", "--resume", f"--run-dir={run_copy}", f"--epochs={MORE_EPOCHS}",
            f"--{key.replace('_', '-')}={value}",
        )  # fmt: skip
        assert done.code == 0, done.err
        shown = re.search(rf"^{key}: (\S+) until now, (\S+) from here on$", done.err, re.MULTILINE)
        assert shown is not None, (old, done.err)
        assert float(shown[2]) == float(value)
        assert f"going on after epoch {EPOCHS}" in done.err
        after = lines_of(run_copy)
        assert after[:EPOCHS] == before, "what is done is done"
        assert [json.loads(line)["epoch"] for line in after] == list(range(1, MORE_EPOCHS + 1))
        assert f"{key} = " in config_of(run_copy)
        assert call("train", "--resume", f"--run-dir={run_copy}").code == 0, "the new setting is the run's"

    def test_more_epochs_end_as_a_run_of_so_many(self, run_copy, small_rows, tmp_path):
        assert train_small(tmp_path / "long", small_rows, epochs=MORE_EPOCHS).code == 0
        assert call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={MORE_EPOCHS}").code == 0
        assert_same_run(run_copy, tmp_path / "long")

    @pytest.mark.slow
    def test_a_changed_rate_takes_effect(self, run_copy, finished, small_rows, tmp_path):
        flags = ["--resume", f"--epochs={MORE_EPOCHS}"]
        same = Path(shutil.copytree(finished, tmp_path / "same"))
        assert call("train", *flags, f"--run-dir={same}").code == 0
        assert call("train", *flags, f"--run-dir={run_copy}", "--learning-rate=0.001").code == 0
        last = [json.loads(lines_of(run_dir)[-1]) for run_dir in (same, run_copy)]
        assert last[1]["learning_rate"] == pytest.approx(0.001)
        assert last[0]["training"]["loss"] != last[1]["training"]["loss"]

    def test_fewer_epochs_than_are_done_are_refused(self, run_copy):
        before = content_of(run_copy)
        done = call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={EPOCHS - 3}")
        assert done.code == 2
        assert f"--epochs: got {EPOCHS - 3}; expected at least {EPOCHS}" in done.err
        assert content_of(run_copy) == before

    @pytest.mark.parametrize(
        "change", ["hidden_size=9", "cell=gru", "optimizer=sgd", "batch_size=10", "seed=1", "split=random", "loss=mae"]
    )
    def test_what_cannot_go_on_is_shown_and_refused(self, run_copy, change):
        key, _, value = change.partition("=")
        before = content_of(run_copy)
        done = call(
            "train", "--resume", f"--run-dir={run_copy}", f"--{key.replace('_', '-')}={value}", "--learning-rate=0.5"
        )
        assert done.code == 2
        assert re.search(rf"^  {key}: the run has \S+, got '?{value}'?$", done.err, re.MULTILINE), done.err
        assert "  learning_rate: the run has 0.01, got 0.5; this may change" in done.err
        assert "leave these flags out, or start a new run without --resume" in done.err
        assert content_of(run_copy) == before

    def test_a_finished_run_is_left_as_it_is(self, run_copy):
        before = content_of(run_copy)
        done = call("train", "--resume", f"--run-dir={run_copy}")
        assert done.code == 0
        assert f"this run is finished, after epoch {EPOCHS}" in done.err
        assert content_of(run_copy) == before

    @pytest.mark.slow
    def test_another_form_of_the_recurrence_is_warned_of(self, run_copy):
        path = run_copy / "environment.json"
        environment = json.loads(path.read_text())
        here = environment["recurrence"]
        done = call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={EPOCHS + 1}")
        assert done.code == 0
        assert "warning" not in done.err
        path.write_text(json.dumps(environment | {"recurrence": "another"}))
        done = call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={EPOCHS + 2}")
        assert done.code == 0
        assert f"warning: the run began with another and goes on with {here}: its numbers may differ" in done.err

    def test_other_versions_are_warned_of(self, run_copy):
        path = run_copy / "environment.json"
        environment = json.loads(path.read_text())
        environment["versions"]["jax"] = "0.0.1"
        path.write_text(json.dumps(environment))
        done = call("train", "--resume", f"--run-dir={run_copy}", f"--epochs={MORE_EPOCHS}")
        assert done.code == 0
        assert "warning: the run began with other versions: jax 0.0.1 then, " in done.err


@pytest.fixture(scope="module")
def diverged(tmp_path_factory, finished):
    """The finished run, gone on at a rate that is too high."""
    run_dir = Path(shutil.copytree(finished, tmp_path_factory.mktemp("diverged") / "run"))
    done = call("train", "--resume", f"--run-dir={run_dir}", f"--epochs={MORE_EPOCHS}", "--learning-rate=1e38")
    assert done.code == 3, done.err
    return run_dir, done


class TestAfterDivergence:
    def test_it_says_where_and_what_to_do(self, diverged):
        run_dir, done = diverged
        last = done.err.splitlines()[-1]
        assert re.search(rf"in epoch {EPOCHS + 1}, batch [12]; the parameters after epoch {EPOCHS} are kept", last)
        assert "try --learning-rate=0.01 or --clip-norm=1, with --resume to go on from there" in last
        assert len(lines_of(run_dir)) == EPOCHS

    def test_the_last_good_epoch_and_the_best_one_are_kept(self, diverged, finished):
        run_dir, _ = diverged
        assert arrays_of(run_dir) == arrays_of(finished)
        assert call("eval", f"--checkpoint={run_dir}").code == 0

    def test_with_a_lower_rate_it_goes_on(self, diverged, finished, tmp_path):
        """To the same end as a run that never tried the higher one."""
        copy = Path(shutil.copytree(diverged[0], tmp_path / "run"))
        again = call("train", "--resume", f"--run-dir={copy}", "--learning-rate=0.01")
        assert again.code == 0, again.err
        assert f"going on after epoch {EPOCHS}" in again.err
        straight = Path(shutil.copytree(finished, tmp_path / "straight"))
        assert call("train", "--resume", f"--run-dir={straight}", f"--epochs={MORE_EPOCHS}").code == 0
        assert_same_run(copy, straight)

    @pytest.mark.slow
    def test_with_clipped_gradients_it_goes_on(self, small_rows, tmp_path):
        run_dir = tmp_path / "run"
        assert train_small(run_dir, small_rows, "--optimizer=sgd").code == 0
        flags = ["--resume", f"--run-dir={run_dir}", f"--epochs={MORE_EPOCHS}"]
        assert call("train", *flags, "--learning-rate=1e30").code == 3
        done = call("train", *flags, "--clip-norm=1e-32")  # a step of 0.01
        assert done.code == 0, done.err
        assert len(lines_of(run_dir)) == MORE_EPOCHS

    def test_without_a_change_it_diverges_again(self, diverged, tmp_path):
        run_dir, done = diverged
        copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
        again = call("train", "--resume", f"--run-dir={copy}")
        assert again.code == 3
        assert again.err.splitlines()[-1] == done.err.splitlines()[-1]
        assert lines_of(copy) == lines_of(run_dir)


# On which devices a run begins and on which it goes on. The same ones: test_devices.py; more pairs: test_topology.py.
WRITTEN_AND_READ = ((1, 2), (2, 4), (4, 1))
ON_DEVICES = """
import sys
from pathlib import Path
sys.path.insert(0, "{tests}")
import jax
jax.config.update("jax_num_cpu_devices", 4)
import shutil
import kept_programs, small_runs
from small_runs import call
rows, extra = Path(sys.argv[1]), sys.argv[2:]
flags = [flag for flag in small_runs.SMALL if "batch-size" not in flag]
flags += ["--batch-size=20", f"--data={{rows}}", *extra]
def check(done):
    assert done.code == 0, done.err
with kept_programs.kept_programs(Path("programs")), small_runs.one_epoch_a_call():
    for written, read in {pairs}:
        check(call("train", *flags, "--epochs=3", f"--devices={{written}}", f"--run-dir={{written}}"))
        copy = shutil.copytree(str(written), f"{{written}}-{{read}}")
        done = call("train", "--resume", f"--run-dir={{copy}}", f"--devices={{read}}", "--epochs=6")
        check(done)
        assert "going on after epoch 3" in done.err
        used = "; one is used" if read == 1 else f"; {{read}} share"
        assert used in done.err, done.err
    check(call("train", *flags, "--epochs=6", "--devices=1", "--run-dir=unbroken"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--ensemble=4",)], ids=["batches", "ensemble"])
def test_a_checkpoint_of_some_devices_goes_on_with_others(small_rows, tmp_path, extra):
    program = ON_DEVICES.format(tests=REPOSITORY / "tests", pairs=WRITTEN_AND_READ)
    child = Forked(program, str(small_rows), *extra, cwd=tmp_path, environment=environment_of(tmp_path))
    _, err = child.communicate()
    assert child.returncode == 0, err
    expected = [json.loads(line)["validation"]["loss"] for line in lines_of(tmp_path / "unbroken")]
    assert len(expected) == 6
    for written, read in WRITTEN_AND_READ:
        run_dir = tmp_path / f"{written}-{read}"
        assert lines_of(run_dir)[:3] == lines_of(tmp_path / str(written))
        losses = [json.loads(line)["validation"]["loss"] for line in lines_of(run_dir)]
        assert losses == pytest.approx(expected, rel=1e-4), run_dir.name


@pytest.mark.slow
def test_two_processes_with_the_same_seed_give_the_same_bits(small_rows, tmp_path):
    flags = ["--config=smoke", "--cell=lstm", "--dropout=0.2", "--num-layers=2", "--epochs=15", f"--data={small_rows}"]
    for name in ("a", "b"):
        done = run_command("jaxrnn.train", *flags, f"--run-dir={tmp_path / name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "a", tmp_path / "b")
    done = run_command("jaxrnn.train", *flags, "--seed=1", f"--run-dir={tmp_path / 'c'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert arrays_of(tmp_path / "a") != arrays_of(tmp_path / "c")


class TestKills:
    """``python -m benchmarks.kills`` does many more of these, of more recipes."""

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "seed"), [("lstm", 0), ("ensemble", 1), ("stream", 2)])
    def test_runs_that_are_killed_end_as_the_unbroken_one(self, tmp_path, name, seed):
        """Two kills each; where a run is faster than a kill, another one is drawn."""
        bench, draw, kills = kill_run.Bench(tmp_path, twice=False), random.Random(seed), []
        for attempt in range(5):
            report = bench.run_with_kills(name, tmp_path / f"run-{attempt}", draw, num_kills=2 - len(kills))
            assert report.problems == []
            kills += report.kills
            if len(kills) == 2:
                return
        raise AssertionError(f"kills come too late: {kills}")

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda run: edit(run / "metrics.jsonl", lambda text: text + text.rpartition("\n{")[2]), "metrics.jsonl"),
            (lambda run: edit(run / "metrics.jsonl", lambda text: text.replace("1", "2", 1)), "metrics.jsonl"),
            (lambda run: edit(run / "summary.json", lambda text: text.replace('"mae"', '"mad"', 1)), "summary.json: "),
            (lambda run: shutil.rmtree(step_of(run, -1)), "checkpoint: epoch"),
            (lambda run: (run / ".summary.json.7.tmp").write_text(""), "left behind"),
        ],
    )
    def test_the_comparison_sees_what_differs(self, run_copy, finished, change, named):
        assert kill_run.differences(run_copy, finished) == []
        change(run_copy)
        assert any(named in problem for problem in kill_run.differences(run_copy, finished))

    @pytest.mark.slow
    def test_the_comparison_sees_every_array(self, finished, small_rows, tmp_path):
        assert train_small(tmp_path / "other", small_rows, "--learning-rate=0.011").code == 0
        text = "\n".join(kill_run.differences(tmp_path / "other", finished))
        for part in ("params/", "best_params/", "opt_state/"):
            assert f"checkpoint: {part}" in text


def edit(path: Path, change) -> None:
    path.write_text(change(path.read_text()))
