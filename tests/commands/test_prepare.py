"""Preparing rows for streaming: what is written, what is refused, and that nothing half-written reads as whole."""

import errno
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from small_runs import call, write_rows

from jaxrnn import prepare
from jaxrnn.commands import preparation, unfinished
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.reader import read_sequences
from jaxrnn.data.split import PART_NAMES, split_rows
from jaxrnn.data.store import dataset as datasets
from jaxrnn.data.store import part_writer, shards
from jaxrnn.data.store.dataset import Dataset, digest_of, is_dataset
from jaxrnn.data.store.shards import shorten
from jaxrnn.foundation.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.csv")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    assert prepare.main([str(source), f"--out={out}", "--shard-rows=20"]) == 0
    return out


@pytest.fixture
def prepared(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def refusal(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert prepare.main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def rows_of(path: Path) -> dict[str, Ragged]:
    return {name: rows.take(np.arange(len(rows))) for name, rows in Dataset(path).parts.items()}


class TestWhatIsWritten:
    def test_parts_are_those_of_the_hashed_split_in_memory(self, source, whole):
        rows = read_sequences(source)
        split = split_rows(rows, "hashed", fractions=FRACTIONS, seed=0)
        for part, found in zip(split, rows_of(whole).values(), strict=True):
            assert found == rows.take(part)

    def test_the_description_says_what_is_in_the_shards(self, source, whole):
        description = json.loads((whole / "dataset.json").read_text())
        training = rows_of(whole)["training"]
        part = description["parts"]["training"]
        assert (part["rows"], part["values"]) == (len(training), training.num_values)
        assert (part["min"], part["max"]) == (training.values.min(), training.values.max())
        counts = zip(*np.unique(training.lengths, return_counts=True), strict=True)
        assert part["lengths"] == [list(pair) for pair in counts]
        assert description["sources"] == [source.name]
        assert description["split"] == {"kind": "hashed", "seed": 0, "fractions": list(FRACTIONS)}
        assert max(shard["rows"] for shard in part["shards"]) == 20
        assert sorted(path.name for path in whole.iterdir()) == sorted(
            ["dataset.json", *(shard["file"] for name in PART_NAMES for shard in description["parts"][name]["shards"])]
        )
        normalizer = Normalizer.fit("standard", training, divisor=1)
        moments = description["training_moments"]
        assert (moments["mean"], moments["deviation"]) == (normalizer.offset, normalizer.scale)

    def test_moments_of_many_values_come_from_one_pass(self, source, tmp_path, monkeypatch):
        monkeypatch.setattr(preparation, "EXACT_VALUES", 10)
        assert prepare.main([str(source), f"--out={tmp_path / 'set'}"]) == 0
        values = rows_of(tmp_path / "set")["training"].values
        moments = json.loads((tmp_path / "set" / "dataset.json").read_text())["training_moments"]
        np.testing.assert_allclose([moments["mean"], moments["deviation"]], [values.mean(), values.std()], rtol=1e-12)

    def test_the_same_files_give_the_same_bytes(self, source, whole, tmp_path):
        assert prepare.main([str(source), f"--out={tmp_path / 'again'}", "--shard-rows=20"]) == 0
        for path in whole.iterdir():
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()

    def test_many_files_of_every_format_are_one(self, source, whole, tmp_path):
        lines = source.read_text().splitlines(keepends=True)
        (tmp_path / "a-1.csv").write_text("".join(lines[:20]))
        (tmp_path / "a-2.csv.gz").write_bytes(gzip.compress("".join(lines[20:40]).encode()))
        lists = [[float(value) for value in line.split(",")] for line in lines]
        table = pa.table({"values": lists[40:70], "name": ["x"] * 30})
        pq.write_table(table, tmp_path / "b.parquet", row_group_size=7)
        batch = pa.record_batch({"values": pa.array(lists[70:])})
        with pa.ipc.new_file(tmp_path / "c.arrow", batch.schema) as writer:
            writer.write_batch(batch)
        inputs = [tmp_path / "a-*", tmp_path / "b.parquet", tmp_path / "c.arrow"]
        assert prepare.main([*map(str, inputs), f"--out={tmp_path / 'set'}"]) == 0
        assert rows_of(tmp_path / "set") == rows_of(whole)

    def test_long_rows_make_smaller_shards(self, tmp_path, monkeypatch):
        monkeypatch.setattr(part_writer, "MAX_SHARD_VALUES", 50)
        lines = [",".join(map(str, range(start, start + 5 + start % 70))) for start in range(60)]
        (tmp_path / "rows.csv").write_text("\n".join(lines))
        assert prepare.main([str(tmp_path / "rows.csv"), f"--out={tmp_path / 'set'}"]) == 0
        description = json.loads((tmp_path / "set" / "dataset.json").read_text())
        for name in PART_NAMES:
            found = description["parts"][name]["shards"]
            assert all(shard["values"] <= 50 or shard["rows"] == 1 for shard in found)
            assert any(shard["rows"] > 1 for shard in found)
        assert sum(map(len, rows_of(tmp_path / "set").values())) == 60

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, -128], "int8"), ([128, 0], "int16"), ([-40_000, 2], "int32"), ([0.5, 3], "float32"),
            ([-0.0, 1], "float32"), ([0.1, 1], "float64"), ([2.0**31, 1], "float32"), ([2.0**31 + 1, 1], "float64"),
            ([3.4028235677973362e38, 0.5], "float64"),
        ],
    )  # fmt: skip
    def test_values_keep_every_bit_in_the_shortest_type(self, values, expected):
        values = np.array(values, np.float64)
        short = shorten(values)
        assert short.dtype == expected
        np.testing.assert_array_equal(short.astype(np.float64).view(np.uint64), values.view(np.uint64))

    def test_reading_options(self, tmp_path):
        (tmp_path / "rows.csv").write_text("a;b\n" + "\n".join(f"{i};{i + 1};3\n" for i in range(40)))
        flags = ["--delimiter=;", "--header", "--blank-lines=skip", "--split-seed=4", "--split-fractions=0.5,0.25,0.25"]
        flags = [
            part
            for flag in flags
            for part in ([flag] if "fractions" not in flag else ["--split-fractions", "0.5", "0.25", "0.25"])
        ]
        assert prepare.main([str(tmp_path / "rows.csv"), f"--out={tmp_path / 'set'}", *flags]) == 0
        split = split_rows(
            Ragged.from_rows([[i, i + 1, 3] for i in range(40)]), "hashed", fractions=(0.5, 0.25, 0.25), seed=4
        )
        assert [len(rows) for rows in rows_of(tmp_path / "set").values()] == [len(part) for part in split]


class TestRefusals:
    def test_the_readers_errors_are_those_of_training(self, tmp_path, capsys):
        good = "".join(f"{i},{i + 1}\n" for i in range(200_000))
        (tmp_path / "rows.csv").write_text(good + "1,x\n")
        err = refusal(capsys, tmp_path / "rows.csv", f"--out={tmp_path / 'set'}")
        assert f"{tmp_path / 'rows.csv'}:200001:3: found 'x'; expected a decimal number" in err
        assert os.listdir(tmp_path) == ["rows.csv"]

    def test_a_bad_element_of_a_late_row_group(self, tmp_path, capsys):
        rows = [[1.0, 2.0]] * 20_000 + [[1.0, float("nan")]]
        pq.write_table(pa.table({"values": rows}), tmp_path / "rows.parquet", row_group_size=1000)
        err = refusal(capsys, tmp_path / "rows.parquet", f"--out={tmp_path / 'set'}")
        assert f"{tmp_path / 'rows.parquet'}:20001:2: found 'nan'" in err
        assert os.listdir(tmp_path) == ["rows.parquet"]

    @pytest.mark.parametrize("kind", ["directory", "file"])
    def test_what_is_there_is_never_overwritten(self, source, tmp_path, capsys, kind):
        out = tmp_path / "set"
        out.mkdir() if kind == "directory" else out.write_text("mine")
        err = refusal(capsys, source, f"--out={out}")
        assert "is there already and is never overwritten" in err
        assert os.listdir(tmp_path) == ["set"]
        assert kind == "directory" or out.read_text() == "mine"

    def test_names(self, source, tmp_path, capsys):
        assert "matches no file" in refusal(capsys, tmp_path / "*.csv", f"--out={tmp_path / 'set'}")
        assert "no such file" in refusal(capsys, source, tmp_path / "none.csv", f"--out={tmp_path / 'set'}")
        assert "is named twice" in refusal(capsys, source, source, f"--out={tmp_path / 'set'}")
        assert "regular file" in refusal(capsys, tmp_path, f"--out={tmp_path / 'set'}")
        assert not list(tmp_path.iterdir())

    def test_an_empty_part(self, tmp_path, capsys):
        (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
        err = refusal(capsys, tmp_path / "rows.csv", f"--out={tmp_path / 'set'}")
        assert "rows.csv: found 2 rows, of which split 'hashed'" in err
        assert "expected at least one for each part" in err
        assert os.listdir(tmp_path) == ["rows.csv"]

    def test_a_full_disk_leaves_nothing(self, source, tmp_path, capsys, monkeypatch):
        def fail(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(shards.os, "fsync", fail)
        err = refusal(capsys, source, f"--out={tmp_path / 'set'}")
        assert f"--out: cannot write to {tmp_path / 'set'}: No space left on device" in err
        assert not list(tmp_path.iterdir())


class TestUnfinished:
    @pytest.mark.parametrize("place", ["finish", "write_atomically", "sync_directory"])
    def test_a_signal_at_any_moment_leaves_nothing(self, source, tmp_path, monkeypatch, capsys, place):
        holder = {"finish": part_writer.PartWriter, "write_atomically": preparation, "sync_directory": unfinished}[
            place
        ]
        before = getattr(holder, place)

        def interrupted(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            return before(*arguments)

        monkeypatch.setattr(holder, place, interrupted)
        assert prepare.main([str(source), f"--out={tmp_path / 'set'}"]) == 143
        assert "interrupted; nothing is left" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_what_a_kill_left_is_removed_and_what_lives_is_not(self, source, tmp_path, capsys):
        ended = subprocess.Popen(["true"])
        ended.wait()
        for name in (f".set.{ended.pid}.tmp", f".set.{os.getppid()}.tmp", f".other.{ended.pid}.tmp", ".set.x.tmp"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "training-00000.arrow").write_text("")
        assert prepare.main([str(source), f"--out={tmp_path / 'set'}"]) == 0
        assert f"removed {tmp_path / f'.set.{ended.pid}.tmp'}, which a process left" in capsys.readouterr().err
        kept = {f".set.{os.getppid()}.tmp", f".other.{ended.pid}.tmp", ".set.x.tmp"}
        assert {path.name for path in tmp_path.iterdir()} == {"set"} | kept

    def test_what_is_locked_is_not_removed(self, tmp_path):
        ended = subprocess.Popen(["true"])
        ended.wait()
        path = tmp_path / f".set.{ended.pid}.tmp"
        path.mkdir()
        with unfinished._locked(path):
            unfinished.remove_abandoned(tmp_path / "set")
            assert path.is_dir()
        unfinished.remove_abandoned(tmp_path / "set")
        assert not path.exists()


class TestDamage:
    """Training opens a data set only if every byte of it is what was written."""

    def error_of(self, path: Path) -> str:
        with pytest.raises(DataError) as error:
            Dataset(path)
        message = str(error.value)
        done = call("train", "--config=smoke", f"--data={path}", f"--run-dir={path.parent / 'run'}")
        assert done.code == 2
        assert message in done.err
        assert not (path.parent / "run").exists()
        return message

    def test_a_flipped_bit(self, prepared):
        path = prepared / "validation-00000.arrow"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert f"{path}: is not what was written (SHA-256 differs)" in self.error_of(prepared)
        told = []
        for checker in range(3):  # one of several processes finds it
            try:
                Dataset(prepared, checker=checker, num_checkers=3)
            except DataError as error:  # Arrow may notice as well
                told.append(str(error))
        assert sum("SHA-256 differs" in message for message in told) == 1

    def test_a_truncated_shard(self, prepared):
        path = prepared / "training-00001.arrow"
        path.write_bytes(path.read_bytes()[:-1])
        assert f"{path}: found" in self.error_of(prepared)

    def test_a_missing_shard(self, prepared):
        (prepared / "test-00000.arrow").unlink()
        assert "test-00000.arrow: cannot be read (No such file or directory)" in self.error_of(prepared)

    def test_an_edited_description(self, prepared):
        path = prepared / "dataset.json"
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
        assert f"{path}: is not what was written" in self.error_of(prepared)

    @pytest.mark.parametrize("version", [4, None])
    def test_a_foreign_version(self, prepared, version):
        path = prepared / "dataset.json"
        content = json.loads(path.read_text()) | {"format_version": version}
        path.write_text(json.dumps(content | {"sha256": digest_of(content)}))
        assert f"found format version '{version}'; expected 1 to 3" in self.error_of(prepared)

    @pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
    def test_no_description(self, prepared, text):
        (prepared / "dataset.json").write_text(text)
        self.error_of(prepared)

    @pytest.mark.parametrize("change", [{"parts": {}}, {"parts": 3}, {"parts": {name: {} for name in PART_NAMES}}])
    def test_a_description_of_another_form(self, prepared, change):
        path = prepared / "dataset.json"
        content = json.loads(path.read_text()) | change
        path.write_text(json.dumps(content | {"sha256": digest_of(content)}))
        assert "expected what jaxrnn.prepare writes" in self.error_of(prepared)

    def test_a_name_outside_of_the_directory(self, prepared):
        path = prepared / "dataset.json"
        content = json.loads(path.read_text())
        content["parts"]["test"]["shards"][0]["file"] = "../secret"
        path.write_text(json.dumps(content | {"sha256": digest_of(content)}))
        assert "names '../secret'; expected a shard's name" in self.error_of(prepared)

    def test_without_its_description_it_is_no_data_set(self, prepared):
        (prepared / "dataset.json").unlink()
        assert not is_dataset(prepared)
        done = call("train", "--config=smoke", f"--data={prepared}", f"--run-dir={prepared.parent / 'run'}")
        assert done.code == 2
        assert "found a directory" in done.err


class TestOtherSettings:
    @pytest.mark.parametrize(
        ("flag", "complaint"),
        [
            ("--split=random", "--split: got 'random'; expected 'hashed'"),
            ("--split-seed=9", "--split-seed: got 9; expected 0"),
            ("--task=classify", "--task: got 'classify'; expected 'next', for which"),
        ],
    )
    def test_what_does_not_go_with_the_data_is_refused(self, whole, tmp_path, flag, complaint):
        done = call("train", "--config=smoke", flag, f"--data={whole}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert complaint in done.err
        assert not list(tmp_path.iterdir())


class TestReaderFlags:
    """Prepared rows are not read again: what would change how is not ignored in silence."""

    @pytest.mark.parametrize(
        "flag", ["--delimiter=;", "--header", "--no-header", "--blank-lines=skip", "--column=x", "--max-bytes=5"]
    )
    def test_training_refuses_them(self, whole, tmp_path, flag):
        for more in ([], ["--dry-run"]):
            done = call("train", "--config=smoke", flag, f"--data={whole}", f"--run-dir={tmp_path / 'run'}", *more)
            assert done.code == 2
            name = flag.partition("=")[0].replace("--no-", "--")
            assert done.err.startswith(f"error: {name}: got ")
            assert "; expected none with prepared data, whose rows jaxrnn.prepare has read; leave it out" in done.err
            assert not list(tmp_path.iterdir())

    def test_training_refuses_those_of_a_file(self, whole, tmp_path):
        (tmp_path / "mine.toml").write_text('delimiter = ";"\n')
        done = call("train", f"--config={tmp_path / 'mine.toml'}", f"--data={whole}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert "--delimiter: got delimiter = ';'; expected none with prepared data" in done.err

    def test_evaluation_refuses_them(self, whole, trained_run):
        done = call("eval", f"--checkpoint={trained_run}", f"--data={whole}", "--header")
        assert done.code == 2
        assert "--header: got the flag; expected none with prepared data" in done.err
        done = call("eval", f"--checkpoint={trained_run}", "--delimiter=;")
        assert done.code == 2
        assert "--delimiter: got the flag; expected none without --data: the run's own rows are read" in done.err


def start(cwd: Path, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "jaxrnn.prepare", *map(str, arguments)],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A file that takes a few seconds to prepare."""
    path = tmp_path_factory.mktemp("large") / "rows.csv"
    text = "".join(f"{i % 97}.5,{i % 89},{i},{i % 7}\n" for i in range(200_000))
    path.write_text(text * 15)
    return path


@pytest.mark.slow
class TestProcesses:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_interrupted_it_leaves_nothing_that_reads_as_whole(self, large, tmp_path, number):
        process = start(tmp_path, large, "--out=set", "--shard-rows=50000")
        while process.poll() is None and not list(tmp_path.glob(".set.*/*.arrow")):
            time.sleep(0.005)
        process.send_signal(number)
        code = process.wait(30)
        assert code == (-9 if number == signal.SIGKILL else 128 + number), process.stderr.read()
        assert not (tmp_path / "set").exists()
        left = list(tmp_path.iterdir())
        if number == signal.SIGKILL:
            assert all(not is_dataset(path) for path in left)
        else:
            assert left == []
        assert start(tmp_path, large, "--out=set").wait(60) == 0, "what is left is in nobody's way"
        assert Dataset(tmp_path / "set").num_rows() == 3_000_000

    def test_a_full_disk_of_the_process(self, large, tmp_path):
        process = subprocess.run(
            [sys.executable, "-m", "jaxrnn.prepare", str(large), "--out=set"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
            preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))),
        )  # fmt: skip
        assert process.returncode == 2, process.stderr
        assert "error: --out: cannot write to set: File too large" in process.stderr
        assert "Traceback" not in process.stderr
        assert not list(tmp_path.iterdir())

    def test_memory_does_not_grow_with_the_file(self, large, tmp_path):
        (tmp_path / "small.csv").write_bytes(large.read_bytes()[: 1 << 20].rpartition(b"\n")[0])
        peaks = []
        for path, out in ((tmp_path / "small.csv", "a"), (large, "b")):
            process = start(tmp_path, path, f"--out={out}", "--shard-rows=50000")
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            peaks.append(usage.ru_maxrss / 1024)
        held = 3_000_000 * 4 * 8 / 2**20  # the values of all rows, in memory
        assert peaks[1] - peaks[0] < 0.75 * held, peaks


def test_the_hash_of_the_whole_is_that_of_its_parts(prepared):
    description = json.loads((prepared / "dataset.json").read_text())
    assert description["sha256"] == digest_of(description)
    assert description["format_version"] == datasets.FORMAT_VERSION
