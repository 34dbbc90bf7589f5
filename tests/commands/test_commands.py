"""The commands as a user meets them: files, figures, exit codes, interruptions."""

import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrnn import eval as eval_command
from jaxrnn import predict, train
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.task_config import FIGURES_OF_TASK

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_FILES = {"config.toml", "metrics.jsonl", "checkpoints", "curves.png", "environment.json", "summary.json"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
DOORS = {"train": train.main, "eval": eval_command.main, "predict": predict.main}


class Done:
    """What a command left behind: exit code, standard output, standard error."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(capsys, monkeypatch):
    """Calls a command in this process: ``call("train", "--cell=rnn")``."""

    def run(name: str, *arguments: object, stdin: str | bytes = b"") -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        try:
            code = DOORS[name]([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        except Exception:
            pytest.fail(f"{name} {arguments} let an exception escape:\n{traceback.format_exc()}")
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory) -> Path:
    """120 rows of a constant step, of 2 to 9 values, all different."""
    generator = np.random.default_rng(0)
    lines = []
    for number in range(120):
        values = number + generator.integers(1, 5) * np.arange(generator.integers(2, 10))
        lines.append(",".join(map(str, values)))
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


SMALL = ["--config=smoke", "--hidden-size=3", "--batch-size=30"]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, rows_file) -> Path:
    """An unbroken run of 40 epochs on `rows_file`."""
    run_dir = tmp_path_factory.mktemp("small") / "run"
    assert train.main([*SMALL, "--epochs=40", f"--data={rows_file}", f"--run-dir={run_dir}"]) == 0
    return run_dir


def parse_json(text: str) -> dict:
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")  # though Python takes it

    return json.loads(text, parse_constant=refuse)


def read_json(path: Path) -> dict:
    return parse_json(path.read_text(encoding="utf-8"))


def metrics_of(run_dir: Path) -> list[dict]:
    return [parse_json(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def figures_of(run_dir: Path) -> dict:
    """The summary without what depends on the clock and the compiler's cache."""
    summary = read_json(run_dir / "summary.json")
    return {key: value for key, value in summary.items() if key not in ("seconds", "compilations")}


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert figures_of(a) == figures_of(b)
    for which in ("best", "latest"):
        first, second = TrainedModel.load(a / which), TrainedModel.load(b / which)
        assert (first.metadata["epoch"], first.normalizer) == (second.metadata["epoch"], second.normalizer)
        for x, y in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def assert_figures(figures: dict) -> None:
    assert set(figures) == set(FIGURES_OF_TASK["next"]) == {"loss", "accuracy", "mae", "rmse", "within_half"}
    assert all(type(value) is float for value in figures.values())
    assert 0 <= figures["within_half"] <= 1
    assert 0 <= figures["mae"] <= figures["rmse"]


class TestTrain:
    def test_run_directory(self, trained_run):
        assert {path.name for path in trained_run.iterdir()} == RUN_FILES
        summary = read_json(trained_run / "summary.json")
        assert set(summary) >= {
            "best_epoch", "epochs_run", "compilations", "seconds", "validation", "test", "baselines"
        }  # fmt: skip
        assert summary["epochs_run"] == 20
        assert 1 <= summary["best_epoch"] <= 20
        assert summary["compilations"] > 0
        assert set(summary["seconds"]) >= {"compile", "train", "total"}
        assert 0 < summary["seconds"]["compile"] + summary["seconds"]["train"] < summary["seconds"]["total"]
        assert set(summary["baselines"]) >= {"repeat_last", "continue_step"}
        for figures in (summary["validation"], summary["test"], *summary["baselines"].values()):
            assert_figures(figures)
        epochs = metrics_of(trained_run)
        assert [epoch["epoch"] for epoch in epochs] == list(range(1, 21))
        for epoch in epochs:
            assert_figures(epoch["training"])
            assert_figures(epoch["validation"])
        assert epochs[-1]["training"]["loss"] < epochs[0]["training"]["loss"] / 10
        picture = (trained_run / "curves.png").read_bytes()
        assert picture.startswith(PNG_SIGNATURE)
        assert picture.endswith(b"IEND\xaeB`\x82")
        environment = read_json(trained_run / "environment.json")
        assert {"python", "jax", "jaxlib", "numpy", "jaxrnn"} <= set(environment["versions"])
        assert environment["devices"]
        assert environment["data"]["rows"] == 10000
        assert re.fullmatch("[0-9a-f]{64}", environment["data"]["sha256"])
        assert 'cell = "rnn"' in (trained_run / "config.toml").read_text()
        assert [path.name for path in (trained_run / "checkpoints").iterdir()] == ["1"]

    def test_best_epoch_is_that_of_the_lowest_validation_loss(self, small_run):
        losses = [epoch["validation"]["loss"] for epoch in metrics_of(small_run)]
        summary = read_json(small_run / "summary.json")
        assert summary["best_epoch"] == 1 + int(np.argmin(losses))
        assert summary["validation"]["loss"] == pytest.approx(min(losses), rel=1e-5)

    def test_results_on_stdout_and_progress_on_stderr(self, call, rows_file, tmp_path):
        done = call("train", *SMALL, "--epochs=40", f"--data={rows_file}", f"--run-dir={tmp_path / 'a b'}")
        assert done.code == 0
        for text in ("best epoch", "baseline repeat_last", "within_half", f"--checkpoint='{tmp_path / 'a b'}'"):
            assert text in done.out
            assert text not in done.err
        for text in ("epoch 40/40", "120 rows", "run directory:", "jaxlib", "parameter"):
            assert text in done.err
            assert text not in done.out

    def test_same_seed_same_run_another_seed_another_run(self, call, rows_file, small_run, tmp_path):
        flags = [*SMALL, "--epochs=40", f"--data={rows_file}"]
        assert call("train", *flags, f"--run-dir={tmp_path / 'same'}").code == 0
        assert_same_run(tmp_path / "same", small_run)
        assert call("train", *flags, f"--run-dir={tmp_path / 'other'}", "--seed=1").code == 0
        assert metrics_of(tmp_path / "other") != metrics_of(small_run)
        first, second = (TrainedModel.load(path) for path in (tmp_path / "other", small_run))
        assert first.normalizer != second.normalizer, "another seed draws another split"
        for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
            assert not np.array_equal(a, b)

    def test_never_overwrites(self, call, rows_file, small_run, tmp_path):
        before = {path: path.stat().st_mtime_ns for path in small_run.rglob("*")}
        done = call("train", *SMALL, f"--data={rows_file}", f"--run-dir={small_run}")
        assert done.code == 2
        assert str(small_run) in done.err
        assert "--resume" in done.err
        assert {path: path.stat().st_mtime_ns for path in small_run.rglob("*")} == before
        (tmp_path / "file").write_text("mine")
        assert call("train", *SMALL, f"--data={rows_file}", f"--run-dir={tmp_path / 'file'}").code == 2
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.slow
    def test_second_run_without_a_name_gets_another_directory(self, call, rows_file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        flags = [*SMALL, "--epochs=1", f"--data={rows_file}"]
        for _ in range(2):
            assert call("train", *flags).code == 0
        assert sorted(path.name for path in Path("runs").iterdir()) == ["smoke", "smoke-2"]
        assert_same_run(Path("runs/smoke"), Path("runs/smoke-2"))
        assert metrics_of(Path("runs/smoke"))[0]["epoch"] == 1
        # --resume without a name goes on with the latest of them.
        assert "runs/smoke-2" in call("train", "--resume", "--config=smoke", *flags[1:]).err

    def test_data_error_leaves_nothing_written(self, call, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for content in (b"1,2,3\n4,x\n", b"", b"1\n", b"\xff\xfe", b"1,2\n1,2\n", b"1,2,3\n\n4,5\n"):
            (tmp_path / "bad.csv").write_bytes(content)
            done = call("train", *SMALL, "--data=bad.csv")
            assert (done.code, done.out) == (2, "")
            assert done.err.startswith("error: ")
        done = call("train", *SMALL, "--data=missing.csv", "--run-dir=here")
        assert done.code == 2
        assert "missing.csv" in done.err
        assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]

    @pytest.mark.slow
    def test_blank_lines_skipped_are_counted(self, call, rows_file, tmp_path):
        (tmp_path / "gaps.csv").write_text(rows_file.read_text().replace("\n", "\n\n", 3))
        flags = [*SMALL, "--epochs=1", f"--data={tmp_path / 'gaps.csv'}", f"--run-dir={tmp_path / 'run'}"]
        assert call("train", *flags).code == 2
        done = call("train", *flags, "--blank-lines=skip")
        assert done.code == 0
        assert "gaps.csv: skipped 3 blank lines" in done.err
        assert "120 rows" in done.err

    @pytest.mark.slow
    def test_identical_rows_across_the_split_are_warned_of(self, call, tmp_path):
        (tmp_path / "twice.csv").write_text("".join(f"{i},{i + 1},{i + 2}\n" for i in range(40)) * 2)
        flags = [*SMALL, "--epochs=1", f"--data={tmp_path / 'twice.csv'}"]
        done = call("train", *flags, "--split=random", f"--run-dir={tmp_path / 'random'}")
        validation, test = map(
            int,
            re.search(r"warning: (\d+) validation and (\d+) test rows also stand in the training", done.err).groups(),
        )
        assert 0 < validation <= 16
        assert 0 < test <= 16

    @pytest.mark.slow
    def test_identical_rows_kept_apart_are_not_warned_of(self, call, tmp_path):
        (tmp_path / "twice.csv").write_text("".join(f"{i},{i + 1},{i + 2}\n" for i in range(40)) * 2)
        done = call("train", *SMALL, f"--data={tmp_path / 'twice.csv'}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 0
        assert "warning" not in done.err

    def test_gpu_that_jax_cannot_use_is_warned_of_loudly(self, call, rows_file, tmp_path, monkeypatch):
        if jax.default_backend() != "cpu":
            pytest.skip("JAX uses an accelerator here")
        monkeypatch.setattr("jaxrnn.commands.banner.shutil.which", lambda name: f"/usr/bin/{name}")
        flags = [*SMALL, "--epochs=1", f"--data={rows_file}"]
        done = call("train", *flags, f"--run-dir={tmp_path / 'a'}")
        assert "!! THIS MACHINE HAS A GPU" in done.err
        assert "pip install" in done.err
        monkeypatch.setattr("jaxrnn.commands.banner.shutil.which", lambda name: None)
        monkeypatch.setattr("jaxrnn.commands.banner.Path.exists", lambda path: False)
        from jaxrnn.commands.banner import gpu_without_support

        assert gpu_without_support("cpu") is None
        assert gpu_without_support("gpu") is None

    @pytest.mark.parametrize("where", ["file/run", "x" * 300, "\udce9"])
    def test_run_directory_that_cannot_be(self, call, rows_file, tmp_path, monkeypatch, where):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_text("")
        for flags in ([], ["--resume"]):
            done = call("train", *SMALL, f"--data={rows_file}", f"--run-dir={where}", *flags)
            assert done.code == 2
            assert done.err.startswith("error: --r")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_file_that_cannot_be_written_is_the_users_error(self, call, rows_file, tmp_path, monkeypatch):
        def refuse(self, path, content):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(RunDirectory, "write_json", refuse)
        done = call("train", *SMALL, "--epochs=1", f"--data={rows_file}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert done.err.endswith("environment.json: No space left on device\n")


class TestOddData:
    """What training makes of data that nobody would choose."""

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([[i, i + 1] for i in range(20)], id="two values a row", marks=pytest.mark.slow),
            pytest.param([[5] * (2 + i % 3) for i in range(20)], id="constant", marks=pytest.mark.slow),
            pytest.param([[i, 2] for i in range(5)], id="five rows", marks=pytest.mark.slow),
            pytest.param([[1e-30 * i, 2e-30, 3e-30] for i in range(20)], id="tiny values", marks=pytest.mark.slow),
        ],
    )
    def test_run_is_whole_and_finite(self, call, tmp_path, rows):
        (tmp_path / "rows.csv").write_text("".join(",".join(map(repr, row)) + "\n" for row in rows))
        flags = [f"--data={tmp_path / 'rows.csv'}", "--split=random", f"--run-dir={tmp_path / 'run'}"]
        done = call("train", *SMALL, "--epochs=1", "--batch-size=1000", *flags)
        assert done.code == 0
        summary = read_json(tmp_path / "run" / "summary.json")
        assert np.isfinite(list(summary["test"].values())).all()
        for epoch in metrics_of(tmp_path / "run"):
            assert np.isfinite([*epoch["training"].values(), *epoch["validation"].values()]).all()
        done = call("predict", f"--checkpoint={tmp_path / 'run'}", tmp_path / "rows.csv")
        assert np.isfinite([float(line) for line in done.out.splitlines()]).all()
        assert len(done.out.splitlines()) == len(rows)

    @pytest.mark.slow
    @pytest.mark.parametrize("rows", [[[1e30 * i, 2e30 * i, 3e30 * i] for i in range(20)], [[-3e38, 3e38]] * 20])
    def test_figures_beyond_float32_leave_the_files_valid(self, call, tmp_path, rows):
        (tmp_path / "rows.csv").write_text("".join(",".join(map(repr, row)) + "\n" for row in rows))
        flags = [f"--data={tmp_path / 'rows.csv'}", "--split=random", f"--run-dir={tmp_path / 'run'}"]
        assert call("train", *SMALL, "--epochs=1", *flags).code == 0
        assert metrics_of(tmp_path / "run")[0]["validation"]["rmse"] is None
        assert read_json(tmp_path / "run" / "summary.json")["epochs_run"] == 1
        done = call("eval", f"--checkpoint={tmp_path / 'run'}", f"--data={tmp_path / 'rows.csv'}", "--json")
        assert set(parse_json(done.out)["metrics"]) == set(FIGURES_OF_TASK["next"])

    def test_too_few_rows(self, call, tmp_path):
        (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
        done = call("train", *SMALL, f"--data={tmp_path / 'rows.csv'}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert "rows.csv: found 2 rows, 2 distinct" in done.err
        assert "--split-fractions" in done.err

    @pytest.mark.slow
    def test_odd_names(self, call, rows_file, tmp_path):
        odd = tmp_path / "a b\nc 'é' \x7f\t\u202e"
        odd.mkdir()
        data = shutil.copy(rows_file, odd / "rows [1] \x7f.csv")
        assert call("train", *SMALL, "--epochs=1", f"--data={data}", f"--run-dir={odd / 'run'}").code == 0
        done = call("train", "--resume", f"--run-dir={odd / 'run'}")
        assert done.code == 0
        done = call("eval", f"--checkpoint={odd / 'run'}")
        assert done.code == 0
        assert "\u202e" not in done.out
        assert "\x7f" not in done.out
        assert call("predict", f"--checkpoint={odd / 'run'}", data).code == 0

    def test_data_path_that_is_not_utf8(self, call, rows_file, tmp_path):
        data = shutil.copy(rows_file, tmp_path / "caf\udce9.csv")
        done = call("train", *SMALL, f"--data={data}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert "UTF-8" in " ".join(done.err.split())
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_largest_seed(self, call, rows_file, tmp_path):
        flags = [*SMALL, "--epochs=1", f"--data={rows_file}"]
        assert call("train", *flags, "--seed=4294967295", f"--run-dir={tmp_path / 'run'}").code == 0


@pytest.fixture(scope="module")
def diverged(tmp_path_factory, rows_file):
    """A run whose learning rate rises until it diverges, some epochs in."""
    run_dir = tmp_path_factory.mktemp("diverged") / "run"
    flags = ["--optimizer=sgd", "--nonlinearity=relu", "--learning-rate=1000", "--warmup-epochs=1000"]
    flags += ["--schedule=constant", "--epochs=2000", f"--data={rows_file}", f"--run-dir={run_dir}"]
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        code = train.main([*SMALL, *flags])
        return code, sys.stderr.getvalue(), run_dir
    finally:
        sys.stderr = stderr


class TestDiverging:
    def test_exit_code_and_message(self, diverged):
        code, err, run_dir = diverged
        assert code == 3
        assert "Traceback" not in err
        epoch, batch, kept = map(
            int, re.search(r"in epoch (\d+), batch (\d+); the parameters after epoch (\d+) are kept", err).groups()
        )
        assert 1 <= batch <= 3
        assert kept == epoch - 1 > 0
        assert "--learning-rate=0.01 or --clip-norm=1" in err
        assert len(metrics_of(run_dir)) == kept
        assert not (run_dir / "summary.json").exists()

    def test_earlier_checkpoint_still_serves(self, diverged, call):
        _, _, run_dir = diverged
        done = call("eval", f"--checkpoint={run_dir}", "--json")
        assert done.code == 0
        assert_figures(parse_json(done.out)["metrics"])
        for which in ("best", "latest"):
            model = TrainedModel.load(run_dir / which)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))

    @pytest.mark.slow
    def test_resuming_finds_the_same_end(self, diverged, call):
        _, err, run_dir = diverged
        before = (run_dir / "metrics.jsonl").read_bytes()
        done = call("train", "--resume", f"--run-dir={run_dir}")
        assert done.code == 3
        assert done.err.splitlines()[-1] == err.splitlines()[-1]
        assert (run_dir / "metrics.jsonl").read_bytes() == before

    @pytest.mark.slow
    def test_nothing_to_evaluate_after_diverging_at_once(self, call, rows_file, tmp_path):
        flags = ["--optimizer=sgd", "--nonlinearity=relu", "--learning-rate=1e38", f"--run-dir={tmp_path / 'run'}"]
        flags += ["--checkpoint-seconds=0"]  # as after a compilation that took longer than that
        done = call("train", *SMALL, *flags, f"--data={rows_file}")
        assert done.code == 3
        assert "in epoch 1, batch " in done.err
        done = call("eval", f"--checkpoint={tmp_path / 'run'}")
        assert done.code == 2
        assert "no whole checkpoint" in done.err


class TestResuming:
    @pytest.fixture
    def interrupted(self, call, rows_file, tmp_path, monkeypatch):
        """A run of 40 epochs that a signal stopped, and the resume command that it printed."""

        def interrupt(number: int, *more: str, after: int, name: str = "run") -> tuple[Path, list[str], Done]:
            append = RunDirectory.append_metrics

            def append_and_signal(self, epochs):
                append(self, epochs)
                if epochs[-1]["epoch"] >= after:
                    os.kill(os.getpid(), number)

            with monkeypatch.context() as patch:
                patch.setattr(RunDirectory, "append_metrics", append_and_signal)
                for module in ("whole_epochs", "fit"):
                    patch.setattr(f"jaxrnn.training.{module}.MAX_EPOCHS_PER_CALL", 8)
                done = call(
                    "train", *SMALL, "--epochs=40", f"--data={rows_file}", f"--run-dir={tmp_path / name}", *more
                )
            printed = shlex.split(done.err.partition("go on with:")[2])
            assert printed[:3] == ["python", "-m", "jaxrnn.train"]
            return tmp_path / name, printed[3:], done

        return interrupt

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_resumed_run_is_bitwise_the_unbroken_one(self, interrupted, call, small_run, number, code):
        run_dir, resume, done = interrupted(number, after=9, name="it's a run")
        assert done.code == code
        reached = len(metrics_of(run_dir))
        assert 9 <= reached < 40
        assert f"interrupted after epoch {reached}" in done.err
        assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["1"]
        assert not (run_dir / "summary.json").exists()
        finished = call("train", *resume)
        assert finished.code == 0
        assert f"going on after epoch {reached}" in finished.err
        assert_same_run(run_dir, small_run)

    @pytest.mark.slow
    def test_best_epoch_before_the_interruption_is_kept(self, interrupted, call, rows_file, tmp_path):
        worsening = [
            "--optimizer=sgd",
            "--learning-rate=2",
            "--warmup-epochs=39",
            "--loss=huber",
            "--schedule=constant",
        ]
        flags = [*SMALL, "--epochs=40", f"--data={rows_file}", f"--run-dir={tmp_path / 'unbroken'}", *worsening]
        assert call("train", *flags).code == 0
        best_epoch = figures_of(tmp_path / "unbroken")["best_epoch"]
        assert best_epoch < 20, "this test needs a run that gets worse"
        run_dir, resume, _ = interrupted(signal.SIGTERM, *worsening, after=20)
        assert call("train", *resume).code == 0
        assert_same_run(run_dir, tmp_path / "unbroken")

    @pytest.mark.slow
    def test_interrupted_twice_and_a_line_cut_off(self, interrupted, call, small_run):
        run_dir, resume, _ = interrupted(signal.SIGINT, after=1)
        with (run_dir / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 38, "training": {"accu')  # a kill in the middle of a write
        assert call("train", *resume).code == 0
        assert_same_run(run_dir, small_run)

    def test_killed_between_the_steps_of_saving(self, interrupted, call, small_run):
        run_dir, resume, _ = interrupted(signal.SIGTERM, after=9)
        step = next((run_dir / "checkpoints").iterdir())
        shutil.copytree(step, step.with_name("40"))
        (step.with_name("40") / "manifest.sha256.json").unlink()
        assert call("train", *resume).code == 0
        assert_same_run(run_dir, small_run)

    @pytest.mark.slow
    def test_lost_checkpoints_begin_anew(self, interrupted, call, small_run):
        run_dir, resume, _ = interrupted(signal.SIGTERM, after=9)
        shutil.rmtree(run_dir / "checkpoints")
        assert call("train", *resume).code == 0
        assert_same_run(run_dir, small_run)

    def test_handlers_come_back(self, interrupted):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        interrupted(signal.SIGTERM, after=9)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def test_signal_before_the_run_began_offers_no_resume(self, call, rows_file, tmp_path, monkeypatch):
        def interrupt(*args, **rest):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

        monkeypatch.setattr("jaxrnn.commands.training_data.load_hashed_rows", interrupt)
        done = call("train", *SMALL, f"--data={rows_file}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 143
        assert done.err == "interrupted by SIGTERM\n"
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_signal_in_the_report_can_be_resumed(self, call, rows_file, small_run, tmp_path, monkeypatch):
        flags = [*SMALL, "--epochs=40", f"--data={rows_file}", f"--run-dir={tmp_path / 'run'}"]
        with monkeypatch.context() as patch:
            patch.setattr(
                "jaxrnn.evaluation.pictures.plots.plot_curves", lambda *args: os.kill(os.getpid(), signal.SIGINT)
            )
            done = call("train", *flags)
        assert done.code == 130
        assert "--resume" in done.err
        assert call("train", "--resume", f"--run-dir={tmp_path / 'run'}").code == 0
        assert_same_run(tmp_path / "run", small_run)

    def test_changed_flags_are_shown_and_refused(self, call, small_run):
        before = {path: path.stat().st_mtime_ns for path in small_run.rglob("*")}
        done = call("train", "--resume", f"--run-dir={small_run}", "--hidden-size=64", "--learning-rate=0.5")
        assert done.code == 2
        assert "hidden_size: the run has 3, got 64" in done.err
        assert "learning_rate: the run has 0.01, got 0.5" in done.err
        assert "cell" not in done.err
        assert {path: path.stat().st_mtime_ns for path in small_run.rglob("*")} == before

    def test_changed_cell_is_shown_and_refused(self, call, small_run):
        done = call("train", "--resume", f"--run-dir={small_run}", "--cell=gru")
        assert done.code == 2
        assert "cell: the run has 'rnn', got 'gru'" in done.err

    def test_other_data_is_refused_and_moved_data_is_not(self, call, interrupted, rows_file, small_run, tmp_path):
        run_dir, _, _ = interrupted(signal.SIGTERM, after=9)
        other = tmp_path / "other.csv"
        other.write_text(rows_file.read_text() + "1,2,3\n")
        before = (run_dir / "environment.json").read_bytes()
        done = call("train", "--resume", f"--run-dir={run_dir}", f"--data={other}")
        assert done.code == 2
        assert "other.csv: got other data than the run began with" in done.err
        assert (run_dir / "environment.json").read_bytes() == before
        moved = shutil.copy(rows_file, tmp_path / "moved.csv")
        assert call("train", "--resume", f"--run-dir={run_dir}", f"--data={moved}").code == 0
        assert_same_run(run_dir, small_run)

    def test_finished_run(self, call, small_run, tmp_path):
        copy = Path(shutil.copytree(small_run, tmp_path / "copy"))
        (copy / "summary.json").unlink()
        done = call("train", "--resume", f"--run-dir={copy}")
        assert done.code == 0
        assert "going on after epoch 40" in done.err
        assert_same_run(copy, small_run)

    def test_nothing_to_resume(self, call, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for flags in (["--run-dir=nowhere"], [f"--run-dir={tmp_path}"], []):
            done = call("train", "--resume", *flags)
            assert done.code == 2
            assert done.err.startswith("error: --resume: ")
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_real_signal_to_a_process(self, rows_file, tmp_path, number, code):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        flags = [*SMALL, "--epochs=1000000", f"--data={rows_file}", f"--run-dir={tmp_path / 'run'}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxrnn.train", *flags],
            env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        seen = ""
        while "epoch " not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line if line.startswith("epoch") else ""
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert out == ""
        assert "Traceback" not in err
        assert err.endswith(f"go on with:\n  python -m jaxrnn.train --resume --run-dir={tmp_path / 'run'}\n")
        reached = len(metrics_of(tmp_path / "run"))
        with Checkpointer(tmp_path / "run" / "checkpoints", read_only=True) as checkpointer:
            assert checkpointer.read_metadata(checkpointer.steps()[-1])["epoch"] == reached


class TestEval:
    def test_without_data_gives_the_figures_of_the_summary(self, call, trained_run):
        done = call("eval", f"--checkpoint={trained_run}", "--json")
        assert done.code == 0, done.err
        result = parse_json(done.out)
        summary = read_json(trained_run / "summary.json")
        assert set(result) == {
            "checkpoint", "data", "rows", "metrics", "baselines",
            "mae_interval", "against_baselines", "accuracy_near_zero", "shared_rows",
        }  # fmt: skip
        assert result["checkpoint"] == str(trained_run)
        assert result["data"] == str(REPOSITORY / "ball.csv")
        assert result["metrics"] == summary["test"]
        for key in ("baselines", "against_baselines", "accuracy_near_zero", "shared_rows"):
            assert result[key] == summary[key]
        assert result["mae_interval"] == summary["test_mae_interval"]
        assert done.out.count("\n") == 1

    def test_same_figures_in_this_process(self, call, small_run):
        result = parse_json(call("eval", f"--checkpoint={small_run}", "--json").out)
        summary = read_json(small_run / "summary.json")
        assert result["metrics"] == summary["test"]
        assert result["baselines"] == summary["baselines"]
        assert 15 <= result["rows"] <= 35

    def test_data_evaluates_all_rows(self, call, small_run, rows_file):
        result = parse_json(call("eval", f"--checkpoint={small_run}", f"--data={rows_file}", "--json").out)
        assert result["rows"] == 120
        assert result["data"] == str(rows_file)
        assert_figures(result["metrics"])
        assert result["metrics"] != read_json(small_run / "summary.json")["test"]

    def test_table(self, call, small_run):
        done = call("eval", f"--checkpoint={small_run}")
        assert (done.code, done.err) == (0, "")
        summary = read_json(small_run / "summary.json")
        assert f"step 1 (best epoch {summary['best_epoch']} of 40)" in done.out
        assert "step 1 (epoch 40)" in call("eval", f"--checkpoint={small_run / 'latest'}").out
        figures = summary["test"]
        line = next(line for line in done.out.splitlines() if line.startswith("rnn "))
        assert line.split()[1:] == [
            f"{figures['loss']:.3g}", f"{figures['accuracy']:.4f}", f"{figures['mae']:.4f}",
            f"{figures['rmse']:.4f}", f"{figures['within_half']:.2%}",
        ]  # fmt: skip

    def test_reader_flags(self, call, small_run, tmp_path):
        (tmp_path / "rows.csv").write_text("a;b\n1;2;3\n\n4;5\n")
        flags = [f"--checkpoint={small_run}", f"--data={tmp_path / 'rows.csv'}", "--json"]
        assert call("eval", *flags).code == 2
        done = call("eval", *flags, "--delimiter=;", "--header", "--blank-lines=skip")
        assert parse_json(done.out)["rows"] == 2
        assert "skipped 1 blank" in done.err

    def test_changed_data_file_is_refused(self, call, small_run, rows_file):
        text = rows_file.read_text()
        try:
            for changed in (text + "1,2,3\n", text.replace("1", "2", 1), "1,2\n"):
                rows_file.write_text(changed)
                done = call("eval", f"--checkpoint={small_run}", "--json")
                assert (done.code, done.out) == (2, "")
                assert f"{rows_file}: has changed since training" in done.err
                assert "--data" in done.err
        finally:
            rows_file.write_text(text)
        assert call("eval", f"--checkpoint={small_run}", "--json").code == 0

    def test_missing_data_file(self, call, small_run, rows_file):
        moved = rows_file.rename(rows_file.with_name("moved.csv"))
        try:
            done = call("eval", f"--checkpoint={small_run}")
            assert (done.code, done.out) == (2, "")
            assert str(rows_file) in done.err
        finally:
            moved.rename(rows_file)

    def test_plots(self, call, small_run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert call("eval", f"--checkpoint={small_run}", "--plots").code == 0
        assert {path.name for path in Path("plots").iterdir()} == {"predictions.png", "error_by_length.png"}
        for path in Path("plots").iterdir():
            assert path.read_bytes().startswith(PNG_SIGNATURE)
        (tmp_path / "file").write_text("")
        done = call("eval", f"--checkpoint={small_run}", "--plots", "--plots-dir=file")
        assert (done.code, done.out) == (2, "")
        assert "--plots: cannot write to file" in done.err

    @pytest.mark.slow
    def test_plots_of_many_lengths_and_one_row(self, call, small_run, tmp_path):
        (tmp_path / "many.csv").write_text("".join(",".join(["1"] * n) + "\n" for n in range(2, 80)))
        (tmp_path / "one.csv").write_text("1,2\n")
        for name in ("many", "one"):
            flags = ["--plots", f"--plots-dir={tmp_path / name}", f"--data={tmp_path / name}.csv"]
            assert call("eval", f"--checkpoint={small_run}", *flags).code == 0
            assert len(list((tmp_path / name).iterdir())) == 2

    def test_every_form_of_a_checkpoints_path(self, call, small_run, rows_file, monkeypatch):
        def figures(path) -> dict:
            done = call("eval", f"--checkpoint={path}", f"--data={rows_file}", "--json")
            assert done.code == 0, done.err
            return parse_json(done.out)["metrics"]

        monkeypatch.chdir(small_run.parent)
        step = small_run / "checkpoints" / "1"
        assert figures(small_run) == figures(f"{small_run}/best") == figures("run/best/") == figures("./run")
        assert figures(small_run / "latest") == figures(step) == figures("run/checkpoints/1/")

    @pytest.mark.parametrize("path", ["", "nowhere", "nowhere/best", "runs/checkpoints/3"])
    def test_no_checkpoint(self, call, tmp_path, monkeypatch, path):
        monkeypatch.chdir(tmp_path)
        done = call("eval", f"--checkpoint={path}")
        assert (done.code, done.out) == (2, "")
        assert "expected a run directory, DIR/best, DIR/latest or the directory of a step" in done.err


def numbers(out: str) -> list[list[float]]:
    return [[float(value) for value in line.split(",")] for line in out.splitlines()]


@pytest.fixture(scope="module")
def mixed_rows() -> list[list[float]]:
    generator = np.random.default_rng(3)
    lengths = [300, 1, 2, 9, 77, 1, 150, 8, 3, 299, 16, 17]
    return [np.round(generator.normal(0, 20, length), 3).tolist() for length in lengths]


@pytest.fixture(scope="module")
def mixed_text(mixed_rows) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in mixed_rows)


class TestPredict:
    def test_one_line_a_row_in_their_order(self, call, small_run, mixed_rows, mixed_text, tmp_path):
        (tmp_path / "rows.csv").write_text(mixed_text)
        done = call("predict", f"--checkpoint={small_run}", tmp_path / "rows.csv", "--horizon=3")
        assert (done.code, done.err) == (0, "")
        predicted = numbers(done.out)
        assert [len(line) for line in predicted] == [3] * len(mixed_rows)
        for row, line in list(zip(mixed_rows, predicted, strict=True))[:4]:
            alone = call("predict", f"--checkpoint={small_run}", "-", "--horizon=3", stdin=",".join(map(str, row)))
            np.testing.assert_allclose(line, numbers(alone.out)[0], rtol=1e-5, atol=1e-4)

    def test_file_and_standard_input(self, call, small_run, mixed_text, tmp_path):
        (tmp_path / "rows.csv").write_text(mixed_text)
        outputs = [
            call("predict", f"--checkpoint={small_run}", tmp_path / "rows.csv"),
            call("predict", f"--checkpoint={small_run}", "-", stdin=mixed_text),
            call("predict", f"--checkpoint={small_run}", stdin=mixed_text),
            call("predict", "-", "--checkpoint", small_run, stdin=mixed_text.replace("\n", "\r\n")),
        ]
        assert [done.code for done in outputs] == [0] * 4
        assert len({done.out for done in outputs}) == 1

    def test_horizon_feeds_predictions_back(self, call, small_run, mixed_rows, mixed_text):
        straight = numbers(call("predict", f"--checkpoint={small_run}", "--horizon=3", stdin=mixed_text).out)
        rows = [list(row) for row in mixed_rows]
        for step in range(3):
            text = "".join(",".join(map(str, row)) + "\n" for row in rows)
            for row, line in zip(
                rows, numbers(call("predict", f"--checkpoint={small_run}", stdin=text).out), strict=True
            ):
                row.append(line[0])
            np.testing.assert_allclose(
                [row[-1] for row in rows], [line[step] for line in straight], rtol=1e-4, atol=1e-3
            )

    def test_bad_input_prints_no_prediction(self, call, small_run, tmp_path):
        for text in ("1,2\n3,x\n", "", "1,2\n\n3\n", "nan\n", "1e999\n", b"\xff\xfe1"):
            done = call("predict", f"--checkpoint={small_run}", "-", stdin=text)
            assert (done.code, done.out) == (2, "")
            assert done.err.startswith("error: <stdin>")
        for path in (tmp_path, tmp_path / "missing"):
            assert call("predict", f"--checkpoint={small_run}", path).code == 2

    @pytest.mark.parametrize("horizon", ["0", "-1", "x", "1.5"])
    def test_bad_horizon(self, call, small_run, horizon):
        done = call("predict", f"--checkpoint={small_run}", f"--horizon={horizon}", stdin="1,2\n")
        assert (done.code, done.out) == (2, "")
        assert "horizon" in done.err

    def test_enormous_horizon(self, call, small_run):
        done = call("predict", f"--checkpoint={small_run}", "--horizon=1000000000000", stdin="1,2\n3\n")
        assert (done.code, done.out) == (2, "")
        assert "--horizon: got 1000000000000 values for each of 2 rows; expected at most" in done.err
        done = call("predict", f"--checkpoint={small_run}", "--horizon=5000", stdin="1,2\n3\n")
        assert [len(line) for line in numbers(done.out)] == [5000, 5000]

    @pytest.mark.slow
    def test_closed_standard_input(self, small_run):
        done = subprocess.run(
            f"{shlex.quote(sys.executable)} -m jaxrnn.predict --checkpoint={shlex.quote(str(small_run))} <&-",
            shell=True, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_output_into_a_closed_pipe_or_a_full_disk(self, small_run, tmp_path):
        (tmp_path / "rows.csv").write_text("1,2,3\n" * 50_000)
        base = f"{shlex.quote(sys.executable)} -m jaxrnn.predict --checkpoint={shlex.quote(str(small_run))} "
        script = f"{base} {tmp_path}/rows.csv | head -1; echo ${{PIPESTATUS[0]}}"
        if Path("/dev/full").exists():
            script += f"; {base} {tmp_path}/rows.csv >/dev/full; echo $?"
        done = subprocess.run(
            ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False
        )
        value, *codes = done.stdout.split()
        assert np.isfinite(float(value))
        assert codes == ["141", "2"][: len(codes)]
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if len(codes) == 2:
            assert done.stderr == "error: standard output: No space left on device\n"


class Terminal:
    """A command at a pseudo-terminal."""

    def __init__(self, *arguments: str):
        ours, theirs = pty.openpty()
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "dumb", "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, close_fds=True,
        )  # fmt: skip
        os.close(theirs)
        self.file = ours
        self.seen = ""

    def send(self, data: bytes) -> None:
        os.write(self.file, data)

    def read_until(self, text: str, *, seconds: float = 60) -> str:
        """Returns what came since the last call, up to the text."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self.seen!r}"
            try:
                data = os.read(self.file, 65536)
            except OSError:  # Linux says so when the other side is closed
                data = b""
            assert data, f"waited for {text!r}, saw {self.seen!r} and then the end"
            self.seen += data.decode("utf-8", "replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> int:
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            os.close(self.file)


class TestPrompt:
    @pytest.mark.slow
    def test_conversation(self, small_run, call):
        terminal = Terminal("jaxrnn.predict", f"--checkpoint={small_run}", "--horizon=2")
        prompt = "positions so far: "
        assert "Ctrl-D" in terminal.read_until(prompt)
        terminal.send(b"1,3,5,7\n")
        answer = re.search(r"next: (\S+)", terminal.read_until(prompt)).group(1)
        expected = call("predict", f"--checkpoint={small_run}", "--horizon=2", stdin="1,3,5,7\n").out.strip()
        np.testing.assert_allclose(numbers(answer), numbers(expected), rtol=1e-5)
        for line, texts in (
            (b"1,3,x\n", ["error: line:2:5: found 'x'", "expected a decimal number"]),
            (b"\n", ["error: line:3:1:"]),
            (b"1,,2\n", ["error: line:4:3:"]),
            (b"1 2\n", ["error: line:5:"]),
            (b"5,\xff\n", ["error: "]),
        ):
            terminal.send(line)
            said = terminal.read_until(prompt)
            for text in texts:
                assert text in said
            assert "Traceback" not in said
            assert "next:" not in said
        terminal.send(b"4\n")
        assert "next: " in terminal.read_until(prompt)
        terminal.send(b"\x04")
        assert terminal.close() == 0

    @pytest.mark.slow
    def test_interrupt(self, small_run):
        terminal = Terminal("jaxrnn.predict", f"--checkpoint={small_run}")
        terminal.read_until("positions so far: ")
        # Python looks at a signal that comes just before it begins to read only once it has read.
        time.sleep(0.5)
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("interrupted by SIGINT")
        assert terminal.close() == 130


class TestHelp:
    @pytest.mark.parametrize("name", list(DOORS))
    def test_help_is_quick_and_imports_no_jax(self, name, tmp_path):
        code = (
            "import resource, sys\n"
            f"from jaxrnn import {name} as door\n"
            "try:\n    door.main(['--help'])\n"
            "except SystemExit as stop:\n    assert not stop.code\n"
            "heavy = [m for m in ('jax', 'numpy', 'flax', 'pyarrow', 'orbax', 'typeguard') if m in sys.modules]\n"
            "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
            "print('HEAVY', heavy, 'CPU', usage.ru_utime + usage.ru_stime)"
        )
        seconds = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
            assert f"python -m jaxrnn.{name}" in done.stdout
            assert "HEAVY [] CPU" in done.stdout
            seconds.append(float(done.stdout.split()[-1]))
            if seconds[-1] < 0.5:
                return
        raise AssertionError(seconds)

    @pytest.mark.parametrize(
        ("name", "flags", "suggestion"),
        [
            ("train", ["--hiden-size=3"], "--hidden-size"),
            ("train", ["--epoch=3"], "--epochs"),
            ("eval", ["--checkpoint=x", "--jsn"], "--json"),
            ("predict", ["--checkpoint=x", "--horizn=3"], "--horizon"),
            ("eval", [], "--checkpoint"),
            ("predict", [], "--checkpoint"),
        ],
    )
    def test_mistyped_or_missing_flag(self, call, tmp_path, monkeypatch, name, flags, suggestion):
        monkeypatch.chdir(tmp_path)
        done = call(name, *flags)
        assert (done.code, done.out) == (2, "")
        assert suggestion in done.err
        assert not list(tmp_path.iterdir())
