"""Training on a prepared data set: the numbers of rows in memory, from any position on, through any interruption."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import SMALL, arrays_of, call
from streamed_runs import start

from jaxrnn import prepare, report
from jaxrnn.data.arranging import arrange, choose_batching
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.store import shards
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.store.layout import Layout, PartLayout, choose_batching_of, lay_out
from jaxrnn.data.store.readings import RowReading
from jaxrnn.evaluation import part_evaluation
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.training import stream_order, super_batches
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.stream_order import EpochOrder, Seeds
from jaxrnn.training.super_batches import SuperBatches, read_ahead

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
NORMALIZER = Normalizer(0.3, 1.7)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """400 rows of very different lengths, some of them fractions: shards of several types."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    lines = []
    for number in range(400):
        values = number % 50 + generator.integers(1, 5) * np.arange(generator.choice([3, 4, 6, 20]))
        lines.append(",".join(map(repr, (values / 8 if number % 7 == 0 else values).tolist())))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    assert prepare.main([str(source), f"--out={out}", "--shard-rows=37"]) == 0
    return out


@pytest.fixture
def small_pieces(monkeypatch):
    """Super batches of two or three batches, so that an epoch has several."""
    monkeypatch.setattr(super_batches, "SUPER_VALUES", 1500)


def train_both(tmp_path: Path, source: Path, prepared: Path, *flags: str) -> tuple[Path, Path]:
    runs = tmp_path / "streamed", tmp_path / "in-memory"
    shared = [*SMALL, "--epochs=3", "--checkpoint-seconds=1000", *flags]
    for run_dir, own in zip(runs, ([f"--data={prepared}"], [f"--data={source}", "--split=hashed"]), strict=True):
        last = {flag.partition("=")[0]: flag for flag in [*shared, *own, f"--run-dir={run_dir}"]}
        done = call("train", *last.values())
        assert done.code == 0, done.err
    return runs


def assert_same_training(streamed: Path, in_memory: Path, *, to_the_bit: bool) -> None:
    """Compares two runs: all arrays, the figures of every epoch and of the end.

    XLA fuses the loop's own forward pass with what surrounds it, which differs: there, validation figures may differ in
    their last bits, and with them the best score.
    """
    arrays, expected = arrays_of(streamed), arrays_of(in_memory)
    if not to_the_bit:
        del expected["best_score"]
    assert {name: arrays[name] for name in expected} == expected
    lines = [list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in (streamed, in_memory)]
    summaries = [json.loads((run / "summary.json").read_text()) for run in (streamed, in_memory)]
    for summary in summaries:
        del summary["seconds"], summary["compilations"]
    if to_the_bit:
        assert (streamed / "metrics.jsonl").read_bytes() == (in_memory / "metrics.jsonl").read_bytes()
    for ours, theirs in zip(*lines, strict=True):
        assert ours.pop("validation") == pytest.approx(theirs.pop("validation"), rel=1e-6)
        assert ours == theirs
    assert summaries[0] == summaries[1]


class TestTheSameAsInMemory:
    @pytest.mark.parametrize(
        "flags",
        [
            pytest.param(["--batching=bucket", "--target=every"], marks=pytest.mark.real_flags),
            *(pytest.param(flags, marks=[pytest.mark.slow, pytest.mark.real_flags]) for flags in (
                ["--batching=pad"],
                ["--batching=pack"],
                ["--batching=bucket", "--no-shuffle"],
                ["--batching=pack", "--target=every", "--no-shuffle"],
                ["--batching=bucket", "--cell=gru", "--num-layers=2", "--dropout=0.3", "--seed=3", "--split-seed=0"],
                ["--batching=pad", "--target=every", "--tbptt=4"],
                ["--batching=bucket", "--tbptt=5", "--monitor=mae", "--patience=1"],
            )),
        ],
    )  # fmt: skip
    def test_every_line_of_metrics_and_every_array(self, tmp_path, source, prepared, flags, small_pieces, pytestconfig):
        to_the_bit = cpu_kernels.is_built() and pytestconfig.getoption("--real-flags")
        assert_same_training(*train_both(tmp_path, source, prepared, *flags), to_the_bit=to_the_bit)

    @pytest.mark.slow
    @pytest.mark.real_flags
    def test_of_the_loop_training_to_the_bit_and_validation_to_its_last(self, tmp_path, source, prepared, small_pieces):
        flags = ["--batching=bucket", "--backend=scan", "--cell=lstm", "--normalizer=divide"]
        assert_same_training(*train_both(tmp_path, source, prepared, *flags), to_the_bit=False)

    def test_auto_chooses_the_same(self, prepared):
        dataset = Dataset(prepared)
        rows = dataset.parts["training"]
        lengths = rows.take(np.arange(len(rows))).lengths
        for may_pack in (True, False):
            expected = choose_batching(lengths, "auto", 4, may_pack=may_pack)
            assert choose_batching_of(dataset.histogram("training"), "auto", 4, may_pack=may_pack) == expected


@pytest.fixture(scope="module")
def dataset(prepared) -> Dataset:
    return Dataset(prepared)


class TestReading:
    """What super batches hold, compared with the arrays that training in memory draws from."""

    def source_of(self, dataset, batching, **options):
        rows, histogram = dataset.parts["training"], dataset.histogram("training")
        layout = lay_out(rows, histogram, batching, batch_size=30, num_buckets=3)
        return layout, SuperBatches(RowReading(rows, NORMALIZER), layout, **options)

    def expected_batches(self, dataset, batching, epoch, *, seed=5, split_seed=7):
        """Every batch of an epoch, in order, as arrays in memory give it."""
        rows = dataset.parts["training"]
        normal = NORMALIZER.normalize_rows(rows.take(np.arange(len(rows))))
        arranged = arrange(normal, batching, batch_size=30, num_buckets=3)
        orders, (_, parts, numbers) = draw_batches(
            np.uint32(seed), split_seed, np.int32(epoch),
            num_rows=arranged.num_rows, filled_rows=[len(part[0]) for part in arranged.parts],
            batch_rows=arranged.batch_rows, shuffle=True,
        )  # fmt: skip
        for part, number in zip(np.asarray(parts), np.asarray(numbers), strict=True):
            yield tuple(leaf[np.asarray(orders[part])[number]] for leaf in arranged.parts[part])

    @pytest.mark.parametrize("batching", ["pad", "bucket", "pack"])
    def test_batches_are_those_of_rows_in_memory(self, dataset, batching, small_pieces):
        layout, source = self.source_of(dataset, batching, seeds=Seeds(5, 7), epochs=2)
        assert source.per_epoch > 1
        for epoch in range(2):
            found = []
            for number in range(source.per_epoch):
                piece = source[epoch * source.per_epoch + number]
                for batch in range(piece.num_batches):
                    length = layout.parts[piece.parts[batch]].length
                    found.append(tuple(leaf[batch][..., :length] if leaf.ndim == 3 else leaf[batch]
                                       for leaf in piece.batches))  # fmt: skip
            expected = list(self.expected_batches(dataset, batching, epoch))
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                for ours, theirs in zip(a, b, strict=True):
                    np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.parametrize("batching", ["pad", "bucket", "pack"])
    def test_processes_read_their_own_rows_of_every_batch(self, dataset, batching, small_pieces):
        layout, whole = self.source_of(dataset, batching, seeds=Seeds(0, 0))
        each = -(-layout.batch_rows // 4)  # 4 processes; the rows behind the batch's last one are empty
        shares = [
            self.source_of(dataset, batching, seeds=Seeds(0, 0), rows_of_batch=slice(index * each, (index + 1) * each))[
                1
            ]
            for index in range(4)
        ]
        assert {len(share) for share in shares} == {len(whole)}
        assert 4 * each > layout.batch_rows or batching == "pack"
        for number in range(len(whole)):
            pieces = [share[number] for share in shares]
            for leaf, *parts in zip(whole[number].batches, *(piece.batches for piece in pieces), strict=True):
                joined = np.concatenate(parts, axis=1)
                np.testing.assert_array_equal(leaf, joined[:, : layout.batch_rows])
                assert not joined[:, layout.batch_rows :].any()

    def test_any_position_can_be_read_first(self, dataset, small_pieces):
        _, source = self.source_of(dataset, "bucket", seeds=Seeds(1, 1), epochs=3)
        pieces = list(read_ahead(source))
        assert len(pieces) == len(source)
        for first in (1, source.per_epoch, len(source) - 1, len(source)):
            epoch, number = divmod(first, source.per_epoch)
            rest = list(read_ahead(source, epoch=epoch, batch=number * source.size))
            assert len(rest) == len(source) - first
            for ours, theirs in zip(rest, pieces[first:], strict=True):
                np.testing.assert_array_equal(ours.batches.values, theirs.batches.values)

    def test_any_batch_can_be_read_first_whatever_the_pieces(self, dataset, small_pieces, monkeypatch):
        """A run that goes on with other pieces, as another version reads, comes to the same batches."""
        _, source = self.source_of(dataset, "bucket", seeds=Seeds(1, 1), epochs=2)

        def batches_of(pieces):
            values = [(part, array[:number]) for piece in pieces for number in [piece.num_batches]
                      for part, array in [(piece.parts[:number], piece.batches.values)]]  # fmt: skip
            return np.concatenate([array for _, array in values]), np.concatenate([part for part, _ in values])

        expected, expected_parts = batches_of(read_ahead(source))
        assert source.size > 1, "or no batch lies within a piece"
        monkeypatch.setattr(super_batches, "SUPER_VALUES", 2200)
        _, other = self.source_of(dataset, "bucket", seeds=Seeds(1, 1), epochs=2)
        assert other.size not in (1, source.size)
        for epoch in (0, 1):
            for batch in range(source.num_batches + 1):
                first = epoch * source.num_batches + batch
                if first == len(expected):
                    assert list(read_ahead(other, epoch=epoch, batch=batch)) == []
                    continue
                found, parts = batches_of(read_ahead(other, epoch=epoch, batch=batch))
                np.testing.assert_array_equal(found, expected[first:])
                np.testing.assert_array_equal(parts, expected_parts[first:])

    def test_mapped_pages_are_given_back_and_come_again(self, dataset, monkeypatch, small_pieces):
        _, source = self.source_of(dataset, "bucket", seeds=Seeds(1, 1))
        expected = [source[number].batches.values for number in range(len(source))]
        released = []
        release = shards.ShardFiles.release_all
        monkeypatch.setattr(shards.ShardFiles, "release_all", lambda rows: (released.append(1), release(rows)))
        for number, values in enumerate(expected):
            np.testing.assert_array_equal(source[number].batches.values, values)
        assert not released, "a few pages stay"
        monkeypatch.setattr(shards, "MAX_MAPPED_BYTES", -(1 << 40))
        for number, values in enumerate(expected):
            np.testing.assert_array_equal(source[number].batches.values, values)
        assert len(released) >= len(expected)

    def test_taking_rows_gives_the_file_back(self, dataset, source):
        lines = [[float(value) for value in line.split(",")] for line in source.read_text().split()]
        found = [rows.take(np.arange(len(rows))) for rows in dataset.parts.values()]
        assert sorted(tuple(row) for part in found for row in part) == sorted(map(tuple, lines))
        rows, whole = dataset.parts["training"], found[0]
        some = np.random.default_rng(0).integers(len(rows), size=300)
        assert rows.take(some) == whole.take(some)
        assert Ragged.from_rows([row for block in rows.blocks(100) for row in block]) == whole


class TestOrderOfManyRows:
    """Above a number of rows blocks are shuffled, and then windows of them; here with small numbers."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        for name, value in (("EXACT_ROWS", 100), ("BLOCK_ROWS", 8), ("WINDOW_ROWS", 64)):
            monkeypatch.setattr(stream_order, name, value)

    LAYOUT = Layout((PartLayout(1003, 5), PartLayout(511, 9)), 10, "bucket")

    def drawn(self, seed, epoch):
        order = EpochOrder(self.LAYOUT, Seeds(seed, 0), epoch)
        return order, [order.rows(part, np.arange(number * 10)) for part, number in enumerate(self.LAYOUT.num_batches)]

    def test_every_row_comes_once_an_epoch(self):
        order, rows = self.drawn(0, 0)
        for found, part in zip(rows, self.LAYOUT.parts, strict=True):
            assert sorted(found[: part.num_rows]) == list(range(part.num_rows))
            assert (found[part.num_rows :] == -1).all(), "what fills up the last batch"
        for part, number in enumerate(self.LAYOUT.num_batches):
            assert order.numbers[order.parts == part].tolist() == list(range(number))

    def test_seed_and_epoch_decide(self):
        (first, rows), (same, again) = self.drawn(0, 3), self.drawn(0, 3)
        np.testing.assert_array_equal(first.parts, same.parts)
        for a, b in zip(rows, again, strict=True):
            np.testing.assert_array_equal(a, b)
        for other in (self.drawn(1, 3)[1], self.drawn(0, 4)[1]):
            assert (other[0] != rows[0]).mean() > 0.9

    def test_members_of_an_ensemble_run_the_same_parts(self):
        """Each as the model trained alone: its own rows, and the parts in the order of the split's seed."""
        members = [EpochOrder(self.LAYOUT, Seeds(seed, 0), 3) for seed in (0, 5)]
        np.testing.assert_array_equal(members[0].parts, members[1].parts)
        assert (EpochOrder(self.LAYOUT, Seeds(0, 1), 3).parts != members[0].parts).any()

    def test_places_may_be_asked_for_in_any_order(self):
        order, rows = self.drawn(0, 0)
        places = np.random.default_rng(0).permutation(1003)
        np.testing.assert_array_equal(order.rows(0, places), rows[0][places])

    def test_a_batch_has_rows_from_everywhere(self):
        order, rows = self.drawn(0, 0)
        batches = rows[0][:1000].reshape(-1, 10)
        assert np.median([len(set(batch // 8)) for batch in batches]) >= 5, "rows of one block are spread over a window"
        assert np.median(np.ptp(batches, axis=1)) > 500
        assert len(set(order.parts[:40])) == 2, "batches of both lengths are mixed"

    def test_without_shuffling_rows_come_as_they_are(self):
        order = EpochOrder(self.LAYOUT, None, 5)
        np.testing.assert_array_equal(order.rows(0, np.arange(1003)), np.arange(1003))
        assert (np.diff(order.parts) >= 0).all()


FLAGS = [*SMALL, "--batching=bucket", "--epochs=6"]


def last_step(run_dir: Path) -> int:
    found = [int(path.name) for path in (run_dir / "checkpoints").glob("*") if path.name.isdigit()
             and (path / "manifest.sha256.json").exists()]  # fmt: skip
    return max(found, default=-1)


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    process = start(run_dir.parent, *FLAGS, f"--data={prepared}", f"--run-dir={run_dir}", programs=prepared.parent)
    assert process.wait(120) == 0, process.stderr.read()
    return run_dir


class TestInterruptions:
    def interrupt(self, run_dir: Path, prepared: Path, number: signal.Signals) -> tuple[int, str]:
        """Ends a run in the middle of its second or a later epoch."""
        flags = [*FLAGS, f"--data={prepared}", f"--run-dir={run_dir}"]
        process = start(run_dir.parent, *flags, programs=prepared.parent)
        while process.poll() is None and last_step(run_dir) < 8:
            time.sleep(0.005)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        return process.wait(60), process.stderr.read()

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_run_ended_in_the_middle_of_an_epoch_ends_as_the_unbroken_one(self, tmp_path, prepared, finished, number):
        run_dir = tmp_path / "run"
        code, err = self.interrupt(run_dir, prepared, number)
        assert code == (-9 if number == signal.SIGKILL else 143), err
        resumed = start(tmp_path, "--resume", f"--run-dir={run_dir}", programs=prepared.parent)
        assert resumed.wait(120) == 0
        assert "of the next" in resumed.stderr.read()
        assert arrays_of(run_dir) == arrays_of(finished)
        assert (run_dir / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def run_dir(prepared, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("run") / "run"
    done = call("train", *SMALL, "--batching=pad", "--epochs=3", f"--data={prepared}", f"--run-dir={run_dir}")
    assert done.code == 0, done.err
    return run_dir


class TestCommands:
    """What other commands make of a prepared data set and of a run on it."""

    def test_eval_takes_the_runs_own_test_rows(self, run_dir, prepared):
        done = call("eval", f"--checkpoint={run_dir}", "--json")
        assert done.code == 0, done.err
        found, summary = json.loads(done.out), json.loads((run_dir / "summary.json").read_text())
        assert found["metrics"] == summary["test"]
        assert found["baselines"] == summary["baselines"]
        assert found["rows"] == Dataset(prepared).num_rows("test")
        assert found["shared_rows"] == {"validation": 0, "test": 0}

    def test_eval_of_a_data_set_takes_all_rows_as_of_a_file(self, run_dir, prepared, source):
        streamed, file = (
            json.loads(call("eval", f"--checkpoint={run_dir}", f"--data={data}", "--json").out)
            for data in (prepared, source)
        )
        assert streamed["rows"] == file["rows"] == 400
        assert streamed["metrics"] == pytest.approx(file["metrics"], rel=1e-6)
        assert (
            "the data that the model was trained on"
            in call("eval", f"--checkpoint={run_dir}", f"--data={prepared}").err
        )

    def test_figures_of_blocks_are_those_of_all_rows(self, run_dir, prepared, monkeypatch):
        model, rows = TrainedModel.load(run_dir), Dataset(prepared).parts["test"]
        whole = part_evaluation.evaluate_part(model, rows)
        assert len(whole.notes()) == len(whole.judgement.notes())
        for name, value in (("EXACT_ROWS", 10), ("BLOCK_VALUES", 100), ("SAMPLE_ROWS", 30)):
            monkeypatch.setattr(part_evaluation, name, value)
        found = part_evaluation.evaluate_part(model, rows)
        assert found.evaluation.figures == pytest.approx(whole.evaluation.figures, rel=1e-6)
        for name, figures in whole.baselines.items():
            assert found.baselines[name] == pytest.approx(figures, rel=1e-9)
        assert part_evaluation.evaluate_figures(model, rows).figures == found.evaluation.figures
        assert len(found.sample) == 30
        assert found.sample == rows.take(found.numbers)
        assert "of all 74 rows; the interval and the rows near 0 are of 30 of them" in found.notes()[-1]

    def test_report(self, run_dir, tmp_path):
        assert report.main([str(run_dir), f"--out={tmp_path / 'page.html'}"]) == 0
        page = (tmp_path / "page.html").read_text()
        assert "Predictions of the test rows:" not in page, "nothing is missing"
        assert f"{json.loads((run_dir / 'summary.json').read_text())['test']['mae']:.4f}" in page

    def test_dry_run(self, prepared, tmp_path):
        done = call("train", *SMALL, "--batching=bucket", "--dry-run", f"--data={prepared}")
        assert done.code == 0, done.err
        assert "batching bucket, steps" in done.out
        assert "nothing was trained and nothing written" in done.out
        assert "245 training, 81 validation, 74 test" in done.err

    @pytest.mark.slow
    def test_resuming(self, run_dir, prepared, tmp_path):
        copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
        assert "this run is finished" in call("train", "--resume", f"--run-dir={copy}").err
        done = call("train", "--resume", f"--run-dir={copy}", "--epochs=5")
        assert done.code == 0, done.err
        lines = [json.loads(line)["epoch"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
        assert lines == [1, 2, 3, 4, 5]

    def test_another_data_set_is_refused(self, run_dir, source, tmp_path):
        assert prepare.main([str(source), f"--out={tmp_path / 'other'}", "--split-seed=0", "--shard-rows=50"]) == 0
        done = call("train", "--resume", f"--run-dir={run_dir}", f"--data={tmp_path / 'other'}", "--epochs=9")
        assert done.code == 2
        assert "got other data than the run began with" in done.err

    def test_an_epoch_that_diverges_is_undone(self, prepared, tmp_path, small_pieces):
        run_dir = tmp_path / "run"
        flags = [f"--run-dir={run_dir}", "--batching=pad", "--checkpoint-seconds=0"]
        done = call("train", *SMALL, *flags, "--learning-rate=1e30", "--optimizer=sgd", f"--data={prepared}")
        assert done.code == 3
        assert "in epoch 1, batch 2; no epoch was finished, so none are kept" in done.err
        again = call("train", "--resume", f"--run-dir={run_dir}", "--learning-rate=0.001", "--epochs=2")
        assert again.code == 0, again.err
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
