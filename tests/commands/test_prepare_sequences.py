"""The preparing command on sequences: what it takes, what it refuses, what it leaves behind."""

import json
import os
from pathlib import Path

import pytest
from small_runs import call
from step_tables import ASKED, COLUMNS, write_steps

from jaxrnn import prepare
from jaxrnn.commands import preparation
from jaxrnn.data.store.dataset import Dataset

TS = """@problemName x
@timeStamps false
@univariate false
@dimensions 2
@equalLength false
@classLabel true two one
@data
"""


@pytest.fixture
def source(tmp_path) -> Path:
    return write_steps(tmp_path / "steps.csv", 40)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    source = write_steps(place / "steps.csv", 40)
    assert prepare.main([str(source), *COLUMNS, *ASKED["classify"], f"--out={place / 'set'}"]) == 0
    return place / "set"


def refusal(*arguments: object) -> str:
    done = call("prepare", *arguments)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    return done.err


class TestFormats:
    def test_ts_files_of_training_and_test(self, tmp_path):
        lines = [f"{i}.5,{i},1:2,{i},0:{('one', 'two')[i % 2]}" for i in range(20)]
        (tmp_path / "TRAIN.ts").write_text(TS + "\n".join(lines[:15]) + "\n")
        (tmp_path / "TEST.ts").write_text(TS + "\n".join([lines[0], *lines[15:]]) + "\n")
        test = f"--test-data={tmp_path / 'TEST.ts'}"
        done = call("prepare", tmp_path / "TRAIN.ts", "--task=classify", test, f"--out={tmp_path / 'set'}")
        assert done.code == 0, done.err
        assert "21 sequences: 15 training, 0 validation, 6 test" in done.out
        assert "python -m jaxrnn.train --task=classify --data=" in done.out
        dataset = Dataset(tmp_path / "set")
        assert dataset.sequences.statistics.classes[1:] == (("one", "two"), (8, 7))
        assert dataset.sequences.shared_rows == (0, 1)
        assert dataset.description["sources"] == ["TRAIN.ts", "TEST.ts"]

    def test_patterns_are_read_one_after_the_other(self, tmp_path):
        for number in range(3):
            write_steps(tmp_path / f"part-{number}.csv", 20, first=20 * number, seed=number)
        done = call("prepare", tmp_path / "part-*.csv", *COLUMNS, *ASKED["tag"], f"--out={tmp_path / 'set'}")
        assert done.code == 0, done.err
        dataset = Dataset(tmp_path / "set")
        assert dataset.num_rows() == 60
        parts = [dataset.parts[name].whole().rows["ids"].texts() for name in dataset.parts]
        assert sorted(int(unit) for part in parts for unit in part) == list(range(60))

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_how_a_text_is_written_is_kept_for_other_files(self, tmp_path, source, delimiter):
        source.write_text(source.read_text().replace(",", delimiter))
        shown = {"\t": r"\t"}.get(delimiter, delimiter)
        flags = [*COLUMNS, *ASKED["classify"], f"--delimiter={shown}", f"--out={tmp_path / 'set'}"]
        assert call("prepare", source, *flags).code == 0
        settings = Dataset(tmp_path / "set").sequences.settings
        assert (settings["delimiter"], settings["id_column"]) == (delimiter, "unit")
        assert "max_tokens" not in settings, "a matter of training"

    def test_all_train(self, tmp_path, source):
        done = call("prepare", source, *COLUMNS, *ASKED["classify"], "--split=given", f"--out={tmp_path / 'set'}")
        assert done.code == 0, done.err
        assert "40 sequences: 40 training, 0 validation, 0 test" in done.out


class TestRefusals:
    def test_the_readers_errors_are_those_of_training(self, tmp_path, source):
        source.write_text(source.read_text().replace("low", "low", 1) + "99,0,x,1,low,1,left,up,1\n")
        lines = len(source.read_text().splitlines())
        err = refusal(source, *COLUMNS, *ASKED["classify"], f"--out={tmp_path / 'set'}")
        assert f"{source}:{lines}:3: found 'x' in column 'speed'" in err or f"{source}:{lines}:" in err
        assert os.listdir(tmp_path) == ["steps.csv"]

    @pytest.mark.parametrize(
        ("flags", "complaint"),
        [
            (["--task=classify", "--label-column=sides"], "steps.csv: found no column 'sides'"),
            (["--task=classify", "--missing=mask", "--max-tokens=5"], "--max-tokens: got 5; expected none"),
            (["--missing=mask"], "--missing: got 'mask'; expected error or forward with task = next"),
            (["--task=tell"], "--task: got 'tell'"),
            (["--task=classify"], "found no label of a sequence; expected what is to be predicted; name its column"),
            (["--task=classify", "--label-column=side", "--test-data=none.csv"], "none.csv: found no such file"),
            (["--task=classify", "--label-column=side", "--split-fractions", "0.998", "0.001", "0.001"], "none for"),
        ],
    )  # fmt: skip
    def test_flags(self, tmp_path, source, flags, complaint, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert complaint in refusal("steps.csv", *COLUMNS, *flags, "--out=set")
        assert os.listdir(tmp_path) == ["steps.csv"]

    def test_files_that_are_not_alike(self, tmp_path, source):
        other = tmp_path / "other.csv"
        other.write_text(source.read_text().replace("speed", "pace", 1))
        columns = [flag.replace("speed,", "") for flag in COLUMNS]
        flags = [*columns, *ASKED["classify"], f"--out={tmp_path / 'set'}"]
        assert call("prepare", other, *flags).code == 0, "speed is no input there"
        twice = tmp_path / "twice.csv"
        twice.write_text(source.read_text())
        err = refusal(source, twice, *COLUMNS, *ASKED["classify"], f"--out={tmp_path / 'sets'}")
        assert f"{twice}: found the id '0', which {source} has too" in err
        assert not (tmp_path / "sets").exists()

    def test_a_signal_while_files_are_read_leaves_nothing(self, tmp_path, source, monkeypatch):
        import signal
        import time

        before = preparation.load_hashed_sequences

        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            return before(*arguments)

        monkeypatch.setattr(preparation, "load_hashed_sequences", interrupted)
        done = call("prepare", source, *COLUMNS, *ASKED["classify"], f"--out={tmp_path / 'set'}")
        assert done.code == 143
        assert os.listdir(tmp_path) == ["steps.csv"]


class TestTraining:
    """What training says of a prepared data set before anything is compiled."""

    @pytest.mark.parametrize(
        ("flags", "complaint"),
        [
            ([], "--task: got 'next'; expected 'classify', for which"),
            (["--task=tag"], "--task: got 'tag'; expected 'classify'"),
            (["--task=classify", "--id-column=unit"], "--id-column: got id_column = 'unit'; expected none with"),
            (["--task=classify", "--missing=forward"], "--missing: got missing = 'forward'; expected none with"),
            (["--task=classify", "--delimiter=;"], "--delimiter: got delimiter = ';'; expected none with prepared"),
            (["--task=classify", "--test-data=x.csv"], "--test-data: got 'x.csv'; expected none with prepared data"),
            (["--task=classify", "--split=random"], "--split: got 'random'; expected 'hashed'"),
            (["--task=classify", "--split-seed=3"], "--split-seed: got 3; expected 0"),
            (["--task=classify", "--normalizer=divide", "--divisor=2e-38"], "column 'speed': found a value of"),
        ],
    )  # fmt: skip
    def test_what_does_not_go_with_the_data(self, whole, tmp_path, flags, complaint):
        done = call("train", "--config=smoke", *flags, f"--data={whole}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert complaint in done.err
        assert not (tmp_path / "run").exists()

    def test_a_damaged_data_set(self, whole, tmp_path):
        copy = tmp_path / "set"
        copy.mkdir()
        for path in whole.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        content = json.loads((copy / "dataset.json").read_text())
        content["sequences"]["statistics"]["classes"]["counts"][0] = 1
        (copy / "dataset.json").write_text(json.dumps(content))
        flags = ["--config=smoke", "--task=classify", f"--data={copy}", f"--run-dir={tmp_path / 'run'}"]
        done = call("train", *flags)
        assert done.code == 2
        assert "dataset.json: is not what was written (SHA-256 differs)" in done.err
        shard = copy / "training-00000.arrow"
        (copy / "dataset.json").write_bytes((whole / "dataset.json").read_bytes())
        shard.write_bytes(shard.read_bytes()[:-5])
        done = call("train", *flags)
        assert done.code == 2
        assert f"{shard}: found" in done.err
