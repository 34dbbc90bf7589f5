"""--print-config and --dry-run: what a run would be, and nothing written."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import call

import jaxrnn
from jaxrnn import train
from jaxrnn.commands import train_run
from jaxrnn.commands.rehearsals.target_rehearsal import work_of_update
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.series.parts import split_parts
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.settings.config import Config
from jaxrnn.settings.toml_files import read_toml
from jaxrnn.training import run_opening
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource

SMALL = ["--config=smoke", "--hidden-size=3", "--batch-size=30"]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files() -> set[Path]:
    return set(Path().rglob("*"))


class TestPrintConfig:
    @pytest.mark.parametrize(
        "flags",
        [
            [],
            ["--cell=gru", "--epochs=7", "--split-fractions", "0.5", "0.25", "0.25"],
            ["--config=tutorial", "--seed=3", "--delimiter=\\t", "--column=a \"b\" \\ é", "--split-seed=9"],
            ["--cell=lstm", "--proj-size=40", "--hidden-size=64", "--no-bias", "--header"],
        ],
    )  # fmt: skip
    def test_goes_round_through_config(self, capsys, flags):
        assert train.main([*flags, "--print-config"]) == 0
        first = capsys.readouterr()
        assert (first.err, files()) == ("", set())
        Path("my.toml").write_text(first.out, encoding="utf-8")
        config = Config().replace_flat(read_toml("my.toml"))
        assert train.main(["--config=my.toml", "--print-config"]) == 0
        assert capsys.readouterr().out == first.out
        for flag in flags:
            key, _, value = flag.removeprefix("--").partition("=")
            if key in ("cell", "epochs", "seed", "hidden-size"):
                assert str(config.to_flat()[key.replace("-", "_")]) == value
        assert files() == {Path("my.toml")}

    def test_takes_the_place_of_training(self, capsys):
        assert train.main(["--print-config", "--data=missing.csv", "--run-dir=run"]) == 0
        assert 'data = "missing.csv"' in capsys.readouterr().out
        assert files() == set()

    def test_refuses_what_training_refuses(self, capsys):
        assert train.main(["--print-config", "--dropout=2"]) == 2
        assert capsys.readouterr().out == ""

    def test_imports_no_jax(self, command):
        done = command("jaxrnn.train", "--print-config", "--cell=rnn")
        assert (done.returncode, done.stderr) == (0, "")
        assert 'cell = "rnn"' in done.stdout


@pytest.fixture
def rows_file() -> str:
    """60 rows of 2 to 7 values, the first 20 of them twice more."""
    rows = [",".join(str(number + step) for step in range(2 + number % 6)) for number in range(60)]
    Path("rows.csv").write_text("\n".join([*rows, *rows[:20], *rows[:20]]) + "\n")
    return "rows.csv"


class TestDryRun:
    @pytest.fixture
    def said(self, capsys, rows_file):
        def run(*flags: str) -> tuple[str, str]:
            before = files()
            assert train.main([*SMALL, f"--data={rows_file}", "--dry-run", *flags]) == 0
            assert files() == before
            return capsys.readouterr()

        return run

    def test_says_what_a_run_then_does(self, said, capsys):
        out, err = said("--epochs=4", "--batching=bucket", "--run-dir=run")
        assert "100 rows, 60 distinct" in err
        assert re.search(r"^total +\d+$", err, re.MULTILINE)
        assert "nothing was trained and nothing written" in out
        an_epoch, total = re.search(r"updates: (\d+) an epoch, (\d+) in 4 epochs\n", out).groups()
        assert int(total) == 4 * int(an_epoch)
        lines = [line.split() for line in out.splitlines() if re.match(r"\d+ ", line)]
        assert sum(int(batches) for _, _, _, batches, _ in lines) == int(an_epoch)
        training = int(re.search(r"(\d+) training", err)[1])
        assert sum(int(rows) for _, rows, _, _, _ in lines) == training
        planned, beside = re.search(r"memory of a device(.*) of results(.*)", out).groups()
        total, *parts = (float(size) for size in re.findall(r"([\d.]+) kB", planned))
        assert ("the compiled recurrence up to" in beside) == cpu_kernels.is_built()
        assert 1 < total < 1000
        assert total == pytest.approx(sum(parts), abs=0.3)
        # The run itself says the same of its data and its parameters.
        assert train.main([*SMALL, "--data=rows.csv", "--epochs=4", "--batching=bucket", "--run-dir=run"]) == 0
        trained = capsys.readouterr()
        assert trained.err.startswith(err)
        assert json.loads(Path("run/summary.json").read_text())["epochs_run"] == 4

    @pytest.mark.parametrize("batching", ["pad", pytest.param("pack", marks=pytest.mark.slow)])
    def test_padded_share(self, said, batching):
        out, err = said(f"--batching={batching}", "--split=random", "--batch-size=10", "--patience=5")
        assert "fewer where training stops early, patience 5" in out
        assert f"batching {batching}, steps" in out
        share = float(re.search(r"([\d.]+)%", out)[1]) / 100
        if batching == "pad":  # 60 rows of 6 steps at most, 3 to 4 on average
            assert 0.3 < share < 0.6
        else:
            assert share < 0.3
        assert re.search(r"warning: \d+ validation and \d+ test rows also stand in the training part", err)

    def test_refuses_what_training_refuses(self, capsys, rows_file):
        Path("run").mkdir()
        Path("run/mine").touch()
        for flags, message in (
            (["--data=missing.csv"], "missing.csv: found no such file"),
            (["--run-dir=run"], "--run-dir: run is there already"),
            (["--devices=1000"], "--devices: got 1000"),
        ):
            assert train.main([*SMALL, f"--data={rows_file}", "--dry-run", *flags]) == 2
            said = capsys.readouterr()
            assert (said.out, said.err.startswith(f"error: {message}")) == ("", True)

    def test_no_update_and_no_checkpoint_is_made(self, said, monkeypatch):
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("it trained")

        monkeypatch.setattr(run_opening, "Checkpointer", refuse)
        for name in ("Fit", "restore_position"):
            monkeypatch.setattr(train_run, name, refuse)
        said("--compilation-cache")


class TestWorkOfAnUpdate:
    """What `--target-devices` says of an update, whatever devices it is compiled for."""

    def work_of(self, data: Any, **settings: Any) -> tuple[int, int, int]:
        config = Config().replace_flat({"batch_size": 5, "batching": "pad", "devices": 1, **settings})
        if isinstance(data, Ragged):
            source = MemorySource(config, data)
        else:
            source = MemorySource(config, split_parts(config, data))
        trainer = build_trainer(config, source)
        params = trainer.state_shapes().params
        return (*work_of_update(config, source, params), max(source.plan.lengths))

    @pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
    def test_it_is_that_of_the_matrix_products(self, cell, gates):
        rows = Ragged.from_rows([np.arange(6.0) + row for row in range(40)])
        flops, moved, steps = self.work_of(rows, cell=cell, hidden_size=8)
        products = gates * 8 * (1 + 8) + 8
        assert (steps, flops) == (5, 2 * 3 * 5 * steps * products)
        parameters = products + 2 * gates * 8 + 1
        assert moved == 4 * (5 * steps * (1 + 2 * (gates + 2) * 8) + 6 * parameters)

    def test_layers_directions_members_projections_and_many_classes(self):
        generator = np.random.default_rng(0)
        arrays = [generator.normal(size=(7, 2)) for _ in range(120)]
        sequences = jaxrnn.read(arrays, labels=[str(number % 30) for number in range(120)])
        settings = {"task": "classify", "cell": "lstm", "hidden_size": 6, "proj_size": 3, "num_layers": 2}
        flops, _, steps = self.work_of(sequences, bidirectional=True, ensemble=2, split_fractions=[0.8, 0.1, 0.1],
                                       **settings)  # fmt: skip
        of_layer = [2 * (24 * (inputs + 3) + 6 * 3) for inputs in (2, 6)]
        assert flops == 2 * 3 * 5 * steps * 2 * (sum(of_layer) + 6 * 30)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--test-data=x.csv"], "--test-data: got 'x.csv'; expected none of rows of one number"),
        (["--validation-data=x.csv"], "--validation-data: got 'x.csv'; expected none of rows of one number"),
        (["--split=given"], "--split: got 'given'; expected another one of rows of one number"),
    ],
)
def test_rows_of_one_number_have_no_parts_of_their_own(rows_file, flags, complaint):
    Path("x.csv").write_text("1,2,3\n")
    for done in (
        call("train", f"--data={rows_file}", *flags, "--dry-run"),
        call("prepare", rows_file, *flags, "--out=set"),
    ):
        assert done.code == 2
        assert complaint in done.err
    assert not Path("set").exists()
    assert call("prepare", rows_file, "--out=set").code == 0
    done = call("train", "--data=set", *flags, "--dry-run")
    assert done.code == 2
    assert flags[0].partition("=")[0] in done.err
