"""Training on prepared series to forecast: the numbers of series in memory, in both trainings, from any batch on."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from series_tables import COLUMNS, HORIZON, ROLES, write_series
from small_runs import arrays_of, call
from streamed_runs import assert_same_batches, assert_same_epochs, assert_same_training, start, stopped_after

from jaxrnn import report
from jaxrnn.commands.training_data import open_training_data
from jaxrnn.data.series.encodings import make_encoding
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.series.series_statistics import SeriesStatistics
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.evaluation import forecasting, own_sequences
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.settings.config import Config
from jaxrnn.training import super_batches
from jaxrnn.training.disk_arranging import arrange_dataset
from jaxrnn.training.memory_source import MemorySource

pytestmark = pytest.mark.usefixtures("programs_kept")  # its runs compile the same few
ASKED = ["--task=forecast", f"--horizon={HORIZON}", "--season=4"]
SMALL = ["--task=forecast", "--hidden-size=4", "--epochs=3", "--batch-size=8", "--seed=5", "--split-seed=0",
         "--checkpoint-seconds=1000"]  # fmt: skip
# How series are written, and how they are split and read.
KINDS = {
    "time": ({}, COLUMNS),
    "own-values": ({}, [*ROLES[:2], "--input-columns=sales"]),
    "mask": ({"missing": 0.2, "gaps": 0.1}, [*COLUMNS, "--missing=mask"]),
    "forward": ({"gaps": 0.2, "shuffled": True}, [*COLUMNS, "--missing=forward", "--calendar=month,quarter"]),
    "global": ({}, [*COLUMNS, "--scaling=global", "--transform=log", "--origins=3"]),
    "hashed": ({"number": 90}, [*COLUMNS, "--split=hashed"]),
    "no-validation": ({}, [*COLUMNS, "--split-fractions", "0.8", "0", "0.2"]),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns the file and the prepared data set, of several shards, of each kind; made when first asked for."""
    place, found = tmp_path_factory.mktemp("series"), {}

    def of(kind: str) -> tuple[Path, Path]:
        if kind not in found:
            written, flags = KINDS[kind]
            source = write_series(place / f"{kind}.csv", **written)
            target = place / f"{kind}-set"
            done = call("prepare", source, *ASKED, *flags, "--split-seed=0", f"--out={target}", "--shard-rows=7")
            assert done.code == 0, done.err
            found[kind] = source, target
        return found[kind]

    return of


@pytest.fixture
def small_pieces(monkeypatch):
    """Super batches of one to three batches, so that an epoch has several."""
    monkeypatch.setattr(super_batches, "SUPER_VALUES", 3000)


def settings_of(kind: str, source: Path, **settings: object) -> Config:
    given: dict[str, object] = {"data": str(source), "split": "time", "split_seed": 0, "batch_size": 8, "seed": 5}
    flags = [*ASKED, *KINDS[kind][1]]
    if "--split-fractions" in flags:
        place = flags.index("--split-fractions")
        given["split_fractions"] = list(map(float, flags[place + 1 : place + 4]))
        del flags[place : place + 4]
    for flag in flags:
        key, value = flag.removeprefix("--").split("=")
        given[key.replace("-", "_")] = int(value) if value.isdigit() else value
    return Config().replace_flat({**given, "loss": "pinball", "hidden_size": 4, **settings})


class TestReading:
    """What is read from the disk, compared with what training in memory holds."""

    @pytest.mark.parametrize(
        ("refit", "batching"),
        [
            *((False, batching) for batching in ("pad", "bucket", "pack")),
            (True, "pack"),
            *(pytest.param(True, batching, marks=pytest.mark.slow) for batching in ("pad", "bucket")),
        ],
    )
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no-validation"])
    def test_batches_are_those_of_series_in_memory(self, made, kind, refit, batching, small_pieces):
        source, target = made(kind)
        config = settings_of(kind, source, batching=batching)
        memory = MemorySource(config, split_parts(config, load_sequences(str(source), config), refit=refit))
        dataset = Dataset(target)
        dataset = dataset.refitted() if refit else dataset
        assert_same_batches(arrange_dataset(dataset.adapt(config.replace_flat({"data": str(target)})), dataset), memory)

    @pytest.mark.parametrize("refit", [False, True])
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_parts_are_those_in_memory(self, made, kind, refit):
        source, target = made(kind)
        config = settings_of(kind, source)
        parts = split_parts(config, load_sequences(str(source), config), refit=refit)
        dataset = Dataset(target)
        dataset = dataset.refitted() if refit else dataset
        for name, part in zip(("training", "validation", "test"), parts, strict=True):
            assert dataset.num_rows(name) == (0 if part is None else len(part.sequences))
            if part is None:
                continue
            held = dataset.parts[name]
            for found in (held.whole(), held.take(np.arange(len(held)))):
                assert dict(found.steps) == dict(part.sequences.steps)
                assert {name: field.texts() for name, field in found.rows.items()} == {
                    name: field.texts() for name, field in part.sequences.rows.items()
                }
            blocks = list(held.blocks(150))
            assert len(blocks) > 2
            assert [one for block in blocks for one in block] == list(held.whole())
            assert np.array_equal(np.concatenate(list(held.lengths())), part.sequences.lengths)

    @pytest.mark.parametrize("refit", [False, True])
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_counts_of_what_stands_in_two_parts_are_those_in_memory(self, made, kind, refit):
        source, target = made(kind)
        of_file, of_set = (open_training_data(settings_of(kind, path)) for path in (source, target))
        for data in (of_file, of_set):
            data.arrange(refit=refit)
        assert of_set.shared_rows == of_file.shared_rows
        assert of_set.overlapping == of_file.overlapping
        words = [data.in_words() for data in (of_set, of_file)]
        assert words[0][1] == words[1][1]
        if "gaps" not in KINDS[kind][0]:  # steps that were put in are there before training
            assert words[0][0].replace(f"{target}, prepared", str(source)) == words[1][0]


class TestEncoding:
    @pytest.mark.parametrize("refit", [False, True])
    @pytest.mark.parametrize("kind", list(KINDS))
    @pytest.mark.parametrize("more", [{}, {"normalizer": "divide", "divisor": 3.0, "max_tokens": 2, "loss": "mae"}])
    def test_it_is_that_of_series_in_memory(self, made, kind, refit, more):
        source, target = made(kind)
        config = settings_of(kind, source, **more)
        training = split_parts(config, load_sequences(str(source), config), refit=refit).training.sequences
        dataset = Dataset(target)
        described = (dataset.refitted() if refit else dataset).sequences
        assert described.fit_encoding(config) == SeriesEncoding.fit(training, config)
        written = json.loads(json.dumps(described.statistics.to_json()))
        assert SeriesStatistics.from_json(written) == described.statistics

    @pytest.mark.parametrize("kind", list(KINDS))
    def test_pieces_measure_what_the_whole_does(self, made, kind):
        training = Dataset(made(kind)[1]).parts["training"]
        config = settings_of(kind, made(kind)[0])
        whole = SeriesStatistics.of(training.whole(), config.task.transform)
        pieces = SeriesStatistics.of_blocks(training.blocks(150), config.task.transform)
        assert pieces.columns.categories == whole.columns.categories
        assert (pieces.frequency, pieces.longest) == (whole.frequency, whole.longest)
        found, expected = (make_encoding(one, config).to_json() for one in (pieces, whole))
        for key, value in expected.items():
            if isinstance(value, dict) and "offsets" in value:
                for numbers in ("offsets", "scales"):
                    assert found[key][numbers] == pytest.approx(value[numbers], rel=1e-12)
            else:
                assert found[key] == (pytest.approx(value, rel=1e-12) if "scales" in key else value)


CASES = {
    "once": ("time", "--batching=bucket", "--no-refit", "--dropout=0"),
    "bucket": ("time", "--batching=bucket"),
    "pad": ("mask", "--batching=pad"),
    "pack": ("time", "--batching=pack", "--dropout=0"),
    "global": ("global", "--batching=bucket", "--no-refit"),
    "hashed": ("hashed", "--batching=auto"),
    "forward": ("forward", "--batching=pack", "--no-shuffle", "--no-refit", "--patience=2"),
    "members": ("time", "--batching=bucket", "--ensemble=3"),
    "packed-members": ("own-values", "--batching=pack", "--ensemble=2", "--no-refit"),
    "no-validation": ("no-validation", "--batching=pad"),
}
# As users compile: a program of each kind. All others are the same to the bit however they are compiled.
REAL_FLAGS = {"once", "pack", "members"}
MARKS = {case: [] if case == "once" else [pytest.mark.slow] for case in CASES}
MARKS |= {case: [*MARKS[case], pytest.mark.real_flags] for case in REAL_FLAGS}


class TestTheSameAsInMemory:
    @pytest.mark.parametrize("case", [pytest.param(case, marks=MARKS[case]) for case in CASES])
    def test_every_line_of_metrics_and_every_array(self, tmp_path, made, case, small_pieces):
        kind, *flags = CASES[case]
        source, target = made(kind)
        runs = tmp_path / "streamed", tmp_path / "in-memory"
        own = [f"--data={target}"], [f"--data={source}", *ASKED, *KINDS[kind][1]]
        for run_dir, data in zip(runs, own, strict=True):
            done = call("train", *SMALL, *data, *flags, f"--run-dir={run_dir}")
            assert done.code == 0, done.err
        assert_same_training(*runs, to_the_bit=False)
        if (runs[1] / "selection").exists():
            assert_same_epochs(*(run / "selection" for run in runs), to_the_bit=False)


@pytest.mark.slow
def test_files_of_their_own_for_parts(tmp_path):
    """They are measured, never trained on: there is one training."""
    source = write_series(tmp_path / "a.csv", 12)
    given = [
        f"--{name}-data={write_series(tmp_path / f'{name}.csv', 6, first=100 * place, seed=place)}"
        for place, name in enumerate(("validation", "test"), 1)
    ]
    done = call("prepare", source, *ASKED, *COLUMNS, *given, f"--out={tmp_path / 'set'}")
    assert "24 series: 12 training, 6 validation, 6 test" in done.out, done.err
    runs = tmp_path / "streamed", tmp_path / "in-memory"
    own = [f"--data={tmp_path / 'set'}"], [f"--data={source}", *ASKED, *COLUMNS, *given]
    for run_dir, data in zip(runs, own, strict=True):
        done = call("train", *SMALL, *data, "--batching=pad", f"--run-dir={run_dir}")
        assert done.code == 0, done.err
        assert "the validation series have a file of their own, so there is one training" in done.err
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    for part in ("validation", "test"):
        assert summaries[0][part] == pytest.approx(summaries[1][part], rel=1e-5)
    done = call("eval", f"--checkpoint={runs[0]}", "--origins=2")
    assert done.code == 0, done.err
    assert "warning" not in done.err, "the test series never trained"


@pytest.fixture(scope="module")
def run_dir(made, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "run"
    done = call("train", *SMALL, "--batching=pad", f"--data={made('time')[1]}", f"--run-dir={directory}")
    assert done.code == 0, done.err
    return directory


class TestCommands:
    """What other commands make of a run on prepared series."""

    def test_eval_takes_the_runs_own_test_steps(self, run_dir, made):
        done = call("eval", f"--checkpoint={run_dir}", "--json")
        assert done.code == 0, done.err
        found, summary = json.loads(done.out), json.loads((run_dir / "summary.json").read_text())
        assert found["metrics"] == summary["test"]
        assert found["by_step"] == summary["by_step"]
        test = Dataset(made("time")[1]).parts["test"]
        assert [one["id"] for one in found["series"]] == test.whole().rows["ids"].texts()

    def test_eval_at_several_origins_warns_of_steps_that_trained(self, run_dir):
        done = call("eval", f"--checkpoint={run_dir}", "--origins=3", "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["origins"] == 3
        assert "forecasts from 2 of 3 origins reach steps that the model was trained on" in done.err

    def test_eval_of_a_file_and_of_a_data_set(self, run_dir, made, tmp_path):
        source = write_series(tmp_path / "other.csv", 8, first=500, seed=3)
        assert call("prepare", source, *ASKED, *COLUMNS, f"--out={tmp_path / 'other'}").code == 0
        of_set, of_file = (
            call("eval", f"--checkpoint={run_dir}", f"--data={data}", "--json") for data in (tmp_path / "other", source)
        )
        assert of_set.code == of_file.code == 0, of_file.err + of_set.err
        found, expected = json.loads(of_set.out), json.loads(of_file.out)
        assert found["rows"] == expected["rows"] == 8
        assert (found["metrics"], found["series"]) == (expected["metrics"], expected["series"])
        own = call("eval", f"--checkpoint={run_dir}", f"--data={made('time')[1]}")
        assert "the data that the model was trained on" in own.err

    def test_predict_reads_another_file_by_the_columns_of_the_data_set(self, run_dir, tmp_path):
        other = write_series(tmp_path / "other.csv", 4, first=500, seed=3)
        done = call("predict", f"--checkpoint={run_dir}", other, f"--known-data={other}")
        assert done.code == 2
        assert "found no numbers known ahead for" in done.err
        ahead = ["shop,month,price"]
        ahead += [
            f"shop {500 + i},{np.datetime64('2019-01') + np.timedelta64(k, 'M')},7" for i in range(4) for k in range(60)
        ]
        (tmp_path / "ahead.csv").write_text("\n".join(ahead) + "\n")
        done = call("predict", f"--checkpoint={run_dir}", other, f"--known-data={tmp_path / 'ahead.csv'}")
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        assert lines[0] == "shop,month,step,q0.1,q0.5,q0.9" or lines[0] == "id,time,step,q0.1,q0.5,q0.9"
        assert [line.split(",")[0] for line in lines[1::HORIZON]] == [f"shop {500 + i}" for i in range(4)]

    def test_figures_of_blocks_are_those_of_the_whole(self, run_dir, made, monkeypatch, tmp_path):
        model, rows = TrainedModel.load(run_dir), Dataset(made("time")[1]).parts["test"]
        whole = model.evaluate(rows, origins=2)
        for module in (forecasting, own_sequences):
            monkeypatch.setattr(module, "EXACT_VALUES", 300)
        monkeypatch.setattr(forecasting, "BLOCK_VALUES", 100)
        found = model.evaluate(rows, origins=2)
        assert dict(found) == pytest.approx(dict(whole), rel=1e-6)
        np.testing.assert_allclose(found.predicted, whole.predicted, rtol=1e-5)
        for name, figures in whole.baselines.items():
            assert found.baselines[name] == pytest.approx(figures)
        assert found.verdict.interval == pytest.approx(whole.verdict.interval, rel=1e-5)
        assert found.sequences.rows["ids"].texts() == whole.sequences.rows["ids"].texts()
        assert found.rows.series is None, "what the network read is not held"
        done = call("eval", f"--checkpoint={run_dir}", "--plots", f"--plots-dir={tmp_path / 'plots'}")
        assert done.code == 0, done.err
        assert [path.name for path in (tmp_path / "plots").iterdir()] == ["forecast_errors.png"]
        assert report.main([str(run_dir), f"--out={tmp_path / 'page.html'}"]) == 0
        assert "sequences, at equal distances" in (tmp_path / "page.html").read_text()

    def test_report(self, run_dir, tmp_path):
        assert report.main([str(run_dir), f"--out={tmp_path / 'page.html'}"]) == 0
        assert "Predictions of the test rows:" not in (tmp_path / "page.html").read_text(), "nothing is missing"

    def test_dry_run(self, made):
        done = call("train", *SMALL, "--batching=pack", "--dry-run", f"--data={made('time')[1]}")
        assert done.code == 0, done.err
        assert "memory of a device, as XLA has planned the compiled epochs" in done.out
        assert "forecasts sales, 3 steps ahead, monthly, season of 4" in done.err

    def test_resuming_a_finished_run(self, run_dir):
        assert "this run is finished" in call("train", "--resume", f"--run-dir={run_dir}").err


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 7, 25])
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_as_the_unbroken_one(made, run_dir, tmp_path, number):
    """In the first epoch of the first training, in a later one, and in the second training."""
    flags = [*SMALL, "--batching=pad", f"--data={made('time')[1]}", f"--run-dir={tmp_path / 'run'}"]
    with stopped_after(number):
        done = call("train", *flags)
    assert done.code == 143, done.err
    assert (number == 25) == any((tmp_path / "run" / "checkpoints").iterdir())
    done = call("train", "--resume", f"--run-dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    for place in ("run", "run/selection"):
        ours, theirs = tmp_path / place, run_dir.parent / place
        assert arrays_of(ours) == arrays_of(theirs)
        assert (ours / "metrics.jsonl").read_bytes() == (theirs / "metrics.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "after"), [(["--batching=bucket", "--ensemble=2"], 9), (["--batching=pack"], 2)]
)  # in the second training, and in the first; benchmarks/kills.py kills at any moment
def test_a_killed_run_ends_as_the_unbroken_one(tmp_path, made, more, after):
    flags = [*SMALL, *more, f"--data={made('time')[1]}"]
    unbroken, run_dir = tmp_path / "unbroken", tmp_path / "run"
    done = start(tmp_path, *flags, "--checkpoint-seconds=0", f"--run-dir={unbroken}")
    assert done.wait(300) == 0, done.stderr.read()
    process = start(tmp_path, *flags, "--checkpoint-seconds=0", f"--run-dir={run_dir}")
    seen = set()
    while process.poll() is None and len(seen) < after:
        for training in (run_dir, run_dir / "selection"):  # no deeper: a step may go while one looks into it
            seen |= {str(path.parent) for path in (training / "checkpoints").glob("*/manifest.sha256.json")}
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    resumed = start(tmp_path, "--resume", f"--run-dir={run_dir}")
    assert resumed.wait(300) == 0, resumed.stderr.read()
    assert arrays_of(run_dir) == arrays_of(unbroken)
    assert (run_dir / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
