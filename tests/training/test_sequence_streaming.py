"""Training on prepared sequences: the numbers of sequences in memory, from any batch on, through any interruption."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import SMALL, arrays_of, call
from step_tables import ASKED, COLUMNS, write_steps
from streamed_runs import assert_same_batches, assert_same_training, leaves_of, start

import jaxrnn
from jaxrnn import prepare, report
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequence_parts import split_sequences
from jaxrnn.data.statistics import Statistics
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.evaluation import own_sequences, sequence_evaluation
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.config import Config
from jaxrnn.training import super_batches
from jaxrnn.training.disk_arranging import arrange_dataset
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.stream_order import Seeds
from jaxrnn.training.super_batches import SuperBatches, read_ahead

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
TRAIN_SMALL = [*SMALL, "--epochs=3", "--checkpoint-seconds=1000", "--batch-size=20"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_steps(tmp_path_factory.mktemp("steps") / "steps.csv")


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory) -> dict[str, Path]:
    """A prepared data set for each task, of several shards."""
    place, sets = tmp_path_factory.mktemp("prepared"), {}
    for task, asked in ASKED.items():
        sets[task] = place / task
        assert prepare.main([str(source), *COLUMNS, *asked, f"--out={sets[task]}", "--shard-rows=37"]) == 0
    return sets


@pytest.fixture
def small_pieces(monkeypatch):
    """Super batches of one to three batches, so that an epoch has several."""
    monkeypatch.setattr(super_batches, "SUPER_VALUES", 1000)


def settings_of(task: str, data: Path, **settings: object) -> Config:
    flags = dict(flag.removeprefix("--").replace("-", "_").split("=") for flag in [*COLUMNS, *ASKED[task]])
    flags = {key.split("=")[0]: value for key, value in flags.items()}
    small = {"data": str(data), "split": "hashed", "split_seed": 0, "batch_size": 20, "seed": 5, "hidden_size": 4}
    return Config().replace_flat({**small, **flags, **settings})


class TestReading:
    """What super batches hold, compared with the arrays that training in memory draws from."""

    @pytest.mark.parametrize("batching", ["pad", "bucket", "pack"])
    @pytest.mark.parametrize("task", list(ASKED))
    def test_batches_are_those_of_sequences_in_memory(self, source, prepared, task, batching, small_pieces):
        config = settings_of(task, source, batching=batching)
        memory = MemorySource(config, split_sequences(config, load_sequences(str(source), config)))
        dataset = Dataset(prepared[task])
        streamed = arrange_dataset(dataset.adapt(config.replace_flat({"data": str(prepared[task])})), dataset)
        assert_same_batches(streamed, memory)

    @pytest.mark.parametrize("batching", ["bucket", "pack"])
    def test_processes_and_members_read_rows_of_their_own(self, source, prepared, batching, small_pieces):
        dataset = Dataset(prepared["classify"])
        config = settings_of("classify", prepared["classify"], batching=batching)
        arranged = arrange_dataset(dataset.adapt(config), dataset)
        part, width = arranged.training, arranged.width
        members = SuperBatches(part.reading, part.layout, seeds=Seeds(7, 0), members=2, width=width)
        alone = [SuperBatches(part.reading, part.layout, seeds=Seeds(seed, 0), width=width) for seed in (7, 8)]
        together = [leaves_of(members, slice(None))]
        for member, single in enumerate(alone):
            for leaf, other in zip(together[0], leaves_of(single, slice(None)), strict=True):
                np.testing.assert_array_equal(leaf[:, member], other)
        rows = part.layout.batch_rows
        halves = [slice(0, rows - rows // 2), slice(rows - rows // 2, rows + rows % 2)]
        shares = [
            leaves_of(SuperBatches(part.reading, part.layout, seeds=Seeds(7, 0), width=width, rows_of_batch=half))
            for half in halves
        ]
        for leaf, *parts in zip(leaves_of(alone[0]), *shares, strict=True):
            np.testing.assert_array_equal(leaf, np.concatenate(parts, axis=1)[:, :rows])

    def test_any_batch_can_be_read_first(self, prepared, monkeypatch):
        monkeypatch.setattr(super_batches, "SUPER_VALUES", 3000)
        dataset = Dataset(prepared["tag"])
        arranged = arrange_dataset(dataset.adapt(settings_of("tag", prepared["tag"])), dataset)
        part = arranged.training
        reading = SuperBatches(part.reading, part.layout, seeds=Seeds(1, 1), width=arranged.width, epochs=2)
        whole = [piece.batches.inputs[:number] for piece in read_ahead(reading) for number in [piece.num_batches]]
        expected = np.concatenate(whole)
        assert reading.size > 1, "or no batch lies within a piece"
        for first in range(reading.num_batches):
            rest = read_ahead(reading, epoch=1, batch=first)
            found = np.concatenate([piece.batches.inputs[: piece.num_batches] for piece in rest])
            np.testing.assert_array_equal(found, expected[reading.num_batches + first :])


class TestEncoding:
    @pytest.mark.parametrize("task", list(ASKED))
    @pytest.mark.parametrize("more", [{}, {"normalizer": "divide", "divisor": 3.0}, {"max_tokens": 2}])
    def test_it_is_that_of_sequences_in_memory(self, source, prepared, task, more):
        config = settings_of(task, source, **more)
        expected = Encoding.fit(split_sequences(config, load_sequences(str(source), config)).training.sequences, config)
        described = Dataset(prepared[task]).sequences
        assert described.fit_encoding(config) == expected
        assert Statistics.from_json(json.loads(json.dumps(described.statistics.to_json()))) == described.statistics

    @pytest.mark.parametrize("task", list(ASKED))
    def test_pieces_measure_what_the_whole_does(self, prepared, task):
        training = Dataset(prepared[task]).parts["training"]
        whole, pieces = Statistics.of(training.whole(), task), Statistics.of_blocks(training.blocks(300), task)
        assert (pieces.categories, pieces.classes) == (whole.categories, whole.classes)
        assert pieces.medians == whole.medians
        for name in ("inputs", "statics", "targets"):
            assert len(getattr(pieces, name)) == len(getattr(whole, name))
            for one, other in zip(getattr(pieces, name), getattr(whole, name), strict=True):
                assert one[:2] == other[:2]
                np.testing.assert_allclose(one[2:], other[2:], rtol=1e-12)

    @pytest.mark.parametrize("task", list(ASKED))
    def test_blocks_are_the_sequences_in_their_order(self, source, prepared, task):
        config = settings_of(task, source)
        parts = split_sequences(config, load_sequences(str(source), config))
        dataset = Dataset(prepared[task])
        for part, name in zip(parts, dataset.parts, strict=True):
            held = dataset.parts[name]
            blocks = list(held.blocks(200))
            assert len(blocks) > 3
            assert [len(block) for block in blocks] != [1] * len(held)
            whole = held.whole()
            assert [one for block in blocks for one in block] == list(whole)
            assert dict(whole.steps)["inputs"] == part.sequences.steps["inputs"]
            assert whole.rows["ids"].texts() == part.sequences.rows["ids"].texts()
            assert whole.steps["times"].texts() == part.sequences.steps["times"].texts()
            assert whole.take([2, 0]) == held.take(np.array([2, 0]))


def train_both(tmp_path: Path, source: Path, prepared: dict[str, Path], task: str, *flags: str) -> tuple[Path, Path]:
    runs = tmp_path / "streamed", tmp_path / "in-memory"
    asked = [flag for flag in ASKED[task] if flag.startswith("--task")]
    own = [[*asked, f"--data={prepared[task]}"], [*COLUMNS, *ASKED[task], f"--data={source}", "--split=hashed"]]
    for run_dir, data in zip(runs, own, strict=True):
        done = call("train", *TRAIN_SMALL, *data, "--split-seed=0", *flags, f"--run-dir={run_dir}")
        assert done.code == 0, done.err
    return runs


CASES = {
    "classify-bucket": ("classify", "--batching=bucket", "--bidirectional"),
    "tag-pack": ("tag", "--batching=pack"),
    "classify-pad": ("classify", "--batching=pad", "--readout=mean", "--class-weights=balanced"),
    "classify-pack": ("classify", "--batching=pack", "--readout=max", "--no-shuffle"),
    "tag-bucket": ("tag", "--batching=bucket", "--bidirectional", "--dropout=0.3", "--num-layers=2"),
    "tag-pad": ("tag", "--batching=pad", "--max-tokens=2", "--normalizer=divide"),
    "regress-bucket": ("regress", "--batching=bucket", "--loss=huber", "--monitor=mae"),
    "next-pack": ("next", "--batching=pack"),
    "next-every": ("next", "--target=every"),
    "next-auto": ("next",),
    "classify-members": ("classify", "--ensemble=3", "--patience=1", "--learning-rate=0.1", "--epochs=6"),
    "tag-members": ("tag", "--ensemble=2", "--batching=pack", "--no-shuffle"),
}
EVERYDAY = {"classify-bucket", "tag-pack"}
# As users compile: a program of each kind. All others are the same to the bit however they are compiled.
REAL_FLAGS = EVERYDAY | {"regress-bucket", "classify-members"}
MARKS = {case: [] if case in EVERYDAY else [pytest.mark.slow] for case in CASES}
MARKS |= {case: [*MARKS[case], pytest.mark.real_flags] for case in REAL_FLAGS}


class TestTheSameAsInMemory:
    @pytest.mark.parametrize("case", [pytest.param(case, marks=MARKS[case]) for case in CASES])
    def test_every_line_of_metrics_and_every_array(self, tmp_path, source, prepared, case, small_pieces):
        task, *flags = CASES[case]
        runs = train_both(tmp_path, source, prepared, task, *flags)
        assert_same_training(*runs, to_the_bit=task in ("classify", "tag") and "--ensemble=2" not in flags)

    @pytest.mark.slow
    @pytest.mark.parametrize("task", ["classify", "next"])
    def test_no_validation_and_parts_of_their_own(self, tmp_path, source, prepared, task):
        test = write_steps(tmp_path / "test.csv", 20, first=1000, seed=1)
        asked = [*COLUMNS, *ASKED[task], f"--test-data={test}"]
        assert prepare.main([str(source), *asked, f"--out={tmp_path / 'set'}"]) == 0
        runs = tmp_path / "streamed", tmp_path / "in-memory"
        own = [f"--task={task}", f"--data={tmp_path / 'set'}"], [*asked, f"--data={source}", "--split=hashed"]
        for run_dir, data in zip(runs, own, strict=True):
            done = call("train", *TRAIN_SMALL, "--epochs=1", *data, "--split-seed=0", f"--run-dir={run_dir}")
            assert done.code == 0, done.err
        lines = [json.loads((run / "metrics.jsonl").read_text()) for run in runs]
        assert lines[0]["training"] == pytest.approx(lines[1]["training"], rel=1e-5)
        assert lines[0]["validation"].keys() == lines[1]["validation"].keys()
        summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
        assert summaries[0]["test"] == pytest.approx(summaries[1]["test"], rel=1e-5)
        assert summaries[0]["validation"] == summaries[1]["validation"] == {}
        assert summaries[0]["shared_rows"] == summaries[1]["shared_rows"]
        found = json.loads(call("eval", f"--checkpoint={runs[0]}", "--json").out)
        assert (found["rows"], found["metrics"]) == (20, summaries[0]["test"])
        done = call("train", *TRAIN_SMALL, *own[0], "--patience=2", f"--run-dir={tmp_path / 'other'}")
        assert done.code == 2
        assert "--patience: got 2; expected 0 where no sequences validate" in done.err


@pytest.fixture(scope="module")
def run_dir(prepared, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("run") / "run"
    flags = ["--task=classify", "--batching=pad", f"--data={prepared['classify']}"]
    done = call("train", *TRAIN_SMALL, *flags, f"--run-dir={run_dir}")
    assert done.code == 0, done.err
    return run_dir


class TestFromPython:
    def test_fit_streams_a_prepared_directory(self, prepared, run_dir):
        config = str(run_dir / "config.toml")
        model = jaxrnn.fit(prepared["classify"], task="classify", config=config, progress=False)
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        assert [line["training"] for line in model.metadata["history"]] == [line["training"] for line in lines]
        assert [line["validation"] for line in model.metadata["history"]] == [line["validation"] for line in lines]
        with pytest.raises(UserError, match="validation: got 'rows'; expected none with prepared data"):
            jaxrnn.fit(prepared["classify"], validation=prepared["classify"], task="classify", progress=False)
        with pytest.raises(UserError, match="--task: got 'tag'; expected 'classify'"):
            jaxrnn.fit(prepared["classify"], task="tag", progress=False)


class TestCommands:
    """What other commands make of a run on prepared sequences."""

    def test_eval_takes_the_runs_own_test_rows(self, run_dir, prepared):
        done = call("eval", f"--checkpoint={run_dir}", "--json")
        assert done.code == 0, done.err
        found, summary = json.loads(done.out), json.loads((run_dir / "summary.json").read_text())
        assert found["metrics"] == summary["test"]
        assert found["confusion_matrix"] == summary["confusion_matrix"]
        assert found["rows"] == Dataset(prepared["classify"]).num_rows("test")

    def test_eval_of_a_file_and_of_a_data_set(self, run_dir, prepared, source):
        of_set, of_file = (
            call("eval", f"--checkpoint={run_dir}", f"--data={data}", "--json")
            for data in (prepared["classify"], source)
        )
        assert of_set.code == of_file.code == 0, of_file.err
        found, expected = json.loads(of_set.out), json.loads(of_file.out)
        assert found["rows"] == expected["rows"] == 160
        assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)
        assert "the data that the model was trained on" in of_set.err

    def test_predict_reads_another_file_by_the_columns_of_the_data_set(self, run_dir, tmp_path):
        other = write_steps(tmp_path / "other.csv", 9, first=500, seed=3)
        done = call("predict", f"--checkpoint={run_dir}", other)
        assert done.code == 0, done.err
        assert [line.split(",")[0] for line in done.out.splitlines()] == ["id", *map(str, range(500, 509))]

    def test_figures_of_blocks_are_those_of_the_whole(self, run_dir, prepared, monkeypatch, tmp_path):
        model, rows = TrainedModel.load(run_dir), Dataset(prepared["classify"]).parts["test"]
        whole = model.evaluate(rows)
        for module in (sequence_evaluation, own_sequences):
            monkeypatch.setattr(module, "EXACT_VALUES", 300)
        monkeypatch.setattr(sequence_evaluation, "BLOCK_VALUES", 100)
        found = model.evaluate(rows)
        assert dict(found) == pytest.approx(dict(whole), rel=1e-6)
        np.testing.assert_allclose(found.predicted, whole.predicted, rtol=1e-5)
        assert not found.rows.inputs.size, "what the network read is not held"
        assert found.verdict.interval == pytest.approx(whole.verdict.interval)
        done = call("eval", f"--checkpoint={run_dir}", "--plots", f"--plots-dir={tmp_path / 'plots'}")
        assert done.code == 0, done.err
        assert [path.name for path in (tmp_path / "plots").iterdir()] == ["confusion.png"], "nothing to draw is held"
        assert report.main([str(run_dir), f"--out={tmp_path / 'page.html'}"]) == 0
        assert "sequences, at equal distances" in (tmp_path / "page.html").read_text()

    def test_report(self, run_dir, tmp_path):
        assert report.main([str(run_dir), f"--out={tmp_path / 'page.html'}"]) == 0
        assert "Predictions of the test rows:" not in (tmp_path / "page.html").read_text(), "nothing is missing"

    def test_dry_run(self, prepared):
        done = call("train", *TRAIN_SMALL, "--task=tag", "--ensemble=2", "--dry-run", f"--data={prepared['tag']}")
        assert done.code == 0, done.err
        assert "memory of a device, as XLA has planned the compiled epochs" in done.out
        assert "2 classes (down, up)" in done.err

    def test_settings_that_sequences_do_not_have(self, prepared, tmp_path):
        done = call("train", *TRAIN_SMALL, "--tbptt=3", f"--data={prepared['next']}", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert "--tbptt: got 3; expected 0 where columns are named" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "more", "number"),
    [("classify", ["--ensemble=2"], signal.SIGKILL), ("tag", ["--batching=pack"], signal.SIGTERM)],
)
def test_a_run_ended_in_the_middle_of_an_epoch_ends_as_the_unbroken_one(tmp_path, prepared, task, more, number):
    flags = [*SMALL, "--batch-size=20", "--epochs=6", f"--task={task}", *more, f"--data={prepared[task]}"]
    unbroken, run_dir = tmp_path / "unbroken", tmp_path / "run"
    done = start(tmp_path, *flags, f"--run-dir={unbroken}")
    assert done.wait(300) == 0, done.stderr.read()
    process = start(tmp_path, *flags, f"--run-dir={run_dir}")

    seen = set()
    while process.poll() is None and len(seen) < 6:
        seen |= {path.parent.name for path in (run_dir / "checkpoints").glob("*/manifest.sha256.json")}
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    process.wait(60)
    resumed = start(tmp_path, "--resume", f"--run-dir={run_dir}")
    assert resumed.wait(300) == 0, resumed.stderr.read()
    assert arrays_of(run_dir) == arrays_of(unbroken)
    assert (run_dir / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()


def test_texts(tmp_path):
    """Tokens are numbered as in memory, and texts need no ids."""
    generator = np.random.default_rng(0)
    rows = [
        f'"{" ".join(generator.choice(["a", "b", "so", "bad", "good"], 5))}",{("x", "y")[i % 2]}' for i in range(60)
    ]
    (tmp_path / "texts.csv").write_text("review,kind\n" + "\n".join(rows) + "\n")
    columns = ["--text-column=review", "--tokens=word", "--label-column=kind", "--task=classify"]
    assert prepare.main([str(tmp_path / "texts.csv"), *columns, f"--out={tmp_path / 'set'}"]) == 0
    given = dict(flag.removeprefix("--").replace("-", "_").split("=") for flag in columns)
    config = Config().replace_flat({"data": str(tmp_path / "texts.csv"), "split": "hashed", "split_seed": 0, **given})
    sequences = jaxrnn.read(str(tmp_path / "texts.csv"), text_column="review", tokens="word", label_column="kind")
    expected = Encoding.fit(split_sequences(config, sequences).training.sequences, config)
    assert Dataset(tmp_path / "set").sequences.fit_encoding(config) == expected
    assert Dataset(tmp_path / "set").adapt(Config().replace_flat({"task": "classify"})).columns == config.columns
