"""Reports of runs that classify, regress and tag: what the page shows of them, alone and beside each other."""

import csv
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from page_reader import NASTY, Page
from small_runs import call

from jaxrnn import report
from jaxrnn.data.sequences import Sequences
from jaxrnn.evaluation.own_sequences import open_sequences
from jaxrnn.evaluation.sequence_errors import count_confusions, error_of_each, reliability
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.pages import sequence_drawings
from jaxrnn.pages.charts import Band, Series, line_chart
from jaxrnn.pages.class_sections import MAX_CLASSES, confusion_table
from jaxrnn.pages.markup import join
from jaxrnn.pages.predictions import predict_test_rows
from jaxrnn.pages.records import read_runs
from jaxrnn.pages.sequence_drawings import MAX_TAGGED_STEPS, Window
from jaxrnn.pages.sequence_sections import sequence_parts

pytestmark = pytest.mark.usefixtures("programs_kept")

NUM_SEQUENCES = 30
COLUMN = "x<script>alert(3)</script>"
SMALL = ["--hidden-size=4", "--epochs=3", "--batch-size=30", "--batching=pad", "--cell=gru", "--no-tensorboard"]
SMALL += ["--id-column=id"]
HOSTILE = [f"--input-columns={COLUMN},y", "--category-columns=word", "--label-column=kind"]
FLAGS = {
    "classify": ["--task=classify", "--data=classify.csv", *HOSTILE],
    "all": ["--task=classify", "--data=classify.csv", *HOSTILE, "--split-fractions", "1", "0", "0"],
    "regress": ["--task=regress", "--data=regress.csv", "--label-column=size", "--loss=mae"],
    "tag": ["--task=tag", "--data=tag.csv", "--label-column=state", "--input-columns=x", "--category-columns="],
    "tokens": ["--task=tag", "--data=tag.csv", "--label-column=state", "--category-columns=x"],
}


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A directory with the data files and the runs."""
    directory = tmp_path_factory.mktemp("tasks")
    generator = np.random.default_rng(0)
    tables: dict[str, list[list[object]]] = {"classify": [], "regress": [], "tag": []}
    kinds = [f"{NASTY} {number}" for number in range(2)]
    for number in range(NUM_SEQUENCES):
        for step in range(int(generator.integers(3, 7))):
            x, y = np.round(generator.normal(size=2), 3)
            word = f"<i>{step % 2}</i>"
            tables["classify"].append([f"<u>{number:02}</u>", x, y, word, kinds[number % 2]])
            tables["regress"].append([number, x, number / 10])
            digit = int(generator.integers(6))
            tables["tag"].append([number, digit, "big" if digit > 3 else ["even", "odd"][digit % 2]])
    headers = (["id", COLUMN, "y", "word", "kind"], ["id", "x", "size"], ["id", "x", "state"])
    for (name, rows), header in zip(tables.items(), headers, strict=True):
        write_table(directory / f"{name}.csv", header, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name, flags in FLAGS.items():
            done = call("train", *SMALL, *flags, f"--run-dir={name}")
            assert done.code == 0, done.err
    return directory


@pytest.fixture
def write(capsys, tmp_path):
    """Calls the command, which has to succeed; returns the page."""

    def run(*paths: Path) -> str:
        out = tmp_path / "page.html"
        code = report.main([*map(str, paths), f"--out={out}"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return out.read_text(encoding="utf-8")

    return run


def test_classes(runs, write):
    text = write(runs / "classify")
    page, summary = Page(text), json.loads((runs / "classify" / "summary.json").read_text())
    assert "Not shown of" not in page.text
    for name in ("balanced_accuracy", "macro_f1", "log_loss", "roc_auc"):
        assert f">{name}</th>" in text
        assert f"<td>{summary['test'][name]:.4f}</td>" in text
    assert f"<td>{summary['baselines']['most_frequent']['log_loss']:.4f}</td>" in text
    assert summary["against_baselines"]["sentence"][1:] in page.text
    assert f"Accuracy: 95% interval {summary['test_interval']['low']:.4g} to" in page.text
    table = re.search(r"<table[^>]*Confusion matrix.*?</table>", text).group()
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", table)[1:]]
    counts = np.array(summary["confusion_matrix"]["counts"])
    assert [row[:2] for row in cells] == [[str(count) for count in row] for row in counts]
    assert [row[2] for row in cells] == [str(total) for total in counts.sum(axis=1)]
    shaded = re.findall(r'<td class="(right|wrong)\d">', table)
    assert len(shaded) == np.count_nonzero(counts)
    labels = page.values("svg", "aria-label")
    assert "accuracy, share of sequences" in page.text
    assert sum(label.startswith("How often predictions are right") for label in labels) == 1
    assert sum(label.startswith("The inputs of id <u>") for label in labels) >= 3
    assert "<i>0</i> <i>1</i>" in page.text, "categories as text beside the lines"


def test_the_most_surely_wrong_sequence_stands_first(runs, write):
    text = write(runs / "classify")
    model = TrainedModel.load(runs / "classify")
    sequences = open_sequences(model, None).sequences
    evaluation = model.evaluate(sequences)
    errors = error_of_each(evaluation, model)
    worst = int(np.argmax(errors))
    assert evaluation.predicted[worst].argmax() != evaluation.rows.targets[worst], "some are wrong"
    table = re.search(r"<table[^>]*most surely wrong.*?</table>", text).group()
    cells = re.findall(r"<td>(.*?)</td>", re.search(r"<tbody><tr>.*?</tr>", table).group())
    name = sequences.rows["ids"].texts()[worst].replace("<", "&lt;").replace(">", "&gt;")
    assert cells[0] == f"id {name}"
    assert cells[3] == f"{evaluation.predicted[worst].max():.4f}"
    assert cells[5] == f"{1 - errors[worst]:.4f}"
    assert f"<h5>id {name}: " in text


def test_nothing_from_files_becomes_an_element(runs, write):
    text = write(runs / "classify", runs / "all")
    page = Page(text)
    assert set(page.tags).isdisjoint({"script", "img", "i", "u", "b"})
    assert page.text.count('"><script>') > 5, "names of classes are shown as text"
    assert page.text.count(COLUMN) >= 2
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    assert "\x1b" not in text
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_numbers(runs, write):
    text = write(runs / "regress")
    page, summary = Page(text), json.loads((runs / "regress" / "summary.json").read_text())
    for name in ("training_mean", "training_median"):
        assert f"<td>{summary['baselines'][name]['rmse']:.4f}</td>" in text
    assert f"MAE: 95% interval {summary['test_interval']['low']:.4g} to" in page.text
    labels = page.values("svg", "aria-label")
    beginnings = ("Predicted against actual values of size", "Errors of", "Error by length", "Error by magnitude")
    for beginning in beginnings:
        assert sum(label.startswith(beginning) for label in labels) == 1, beginning
    assert "mae, in the data's units" in page.text
    model = TrainedModel.load(runs / "regress")
    sequences = open_sequences(model, None).sequences
    actual = np.array(sequences.rows["labels"].texts(), np.float64)
    error = np.abs(model.predict(sequences) - actual)
    first = re.search(r"<table[^>]*with the largest errors.*?<tbody><tr>(.*?)</tr>", text).group(1)
    assert re.findall("<td>(.*?)</td>", first)[-1] == f"{error.max():.4g}"
    assert "Confusion matrix" not in text


def test_tags_stand_as_bands_under_their_sequence(runs, write):
    text = write(runs / "tag")
    page, summary = Page(text), json.loads((runs / "tag" / "summary.json").read_text())
    assert f"<td>{summary['test']['rows_right']:.2%}</td>" in text
    assert "Confusion matrix: steps of each true class" in page.text
    drawn = re.findall(r"<figure><h5>id (\d+): (\d+) of (\d+) steps right</h5><svg.*?</svg>(.*?)</figure>", text)
    assert len(drawn) >= 3
    svg = re.search(r"<figure><h5>.*?</svg>", text).group()
    assert ">true</text>" in svg
    assert ">model</text>" in svg
    assert len(re.findall(r'<rect[^>]*class="band c', svg)) >= 2
    number, right, length, words = drawn[0]
    assert ('class="mark"' in svg) == (right != length)
    model = TrainedModel.load(runs / "tag")
    sequences = open_sequences(model, None).sequences
    place = sequences.rows["ids"].texts().index(number)
    told = model.predict(sequences[place])[0]
    true = sequences[place].steps["labels"].texts()
    assert (int(right), int(length)) == (int(np.sum(told == np.array(true))), len(true))
    assert f"True: {true[0]} 1" in words
    assert f"Model: {told[0]} 1" in words


def test_tags_of_categories_stand_in_a_table(runs, write):
    text = write(runs / "tokens")
    (caption, head, body) = re.search(
        r'<table aria-label="(Tags of [^"]*)"><thead>(.*?)</thead><tbody>(.*?)</tbody>', text
    ).groups()
    number = re.match(r"Tags of id (\d+), ", caption).group(1)
    model = TrainedModel.load(runs / "tokens")
    sequences = open_sequences(model, None).sequences
    single = sequences[sequences.rows["ids"].texts().index(number)]
    told, true = model.predict(single)[0].tolist(), single.steps["labels"].texts()
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in body.split("<tr>")[1:]]
    assert rows == [["x", *single.steps["categories"].texts()], ["true", *true], ["model", *told]]
    assert body.count('class="differs"') == sum(a != b for a, b in zip(told, true, strict=True))
    assert len(re.findall("<th", head)) == len(true) + 1


def test_run_whose_rows_all_train(runs, write):
    text = write(runs / "all")
    page = Page(text)
    assert "There are none: all rows train." in page.text
    assert "the run has no test rows" in page.text
    assert "No row validates." in page.text
    assert "all: training accuracy from" in "".join(page.values("svg", "aria-label"))
    assert 'class="swatch c0"' not in text, "no legend of a line that is not there"
    assert "stands in the training part" not in page.text
    assert not re.search(r'd="[^"]*nan', text)


def test_runs_of_all_tasks_side_by_side(runs, write):
    names = list(FLAGS)
    text = write(*[runs / name for name in names])
    page = Page(text)
    figures, curves = text[text.index("<h2>Figures") : text.index("<h2>Learning curves")], text
    headings = ["Classes of sequences", "Numbers of sequences", "Tags of steps"]
    assert re.findall("<h3>(.*?)</h3>", figures) == headings
    assert figures.count("<table") == 3
    assert curves.count("<h4>Loss</h4>") == 3
    assert [name for name in names if f"<h4>{runs / name}</h4>" in figures] == [n for n in names if n != "all"]
    assert "not all tested on the same rows" not in page.text, "a run without test rows is no other test"
    assert "<h2>Configuration</h2>" in text
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.slow
def test_beside_a_run_of_next_values(runs, write, small_rows, tmp_path):
    flags = ["--config=smoke", "--hidden-size=3", "--epochs=2", "--batch-size=30", f"--data={small_rows}"]
    assert call("train", *flags, f"--run-dir={tmp_path / 'next'}").code == 0
    text = write(runs / "tag", tmp_path / "next")
    figures = text[text.index("<h2>Figures") : text.index("<h2>Learning curves")]
    assert re.findall("<h3>(.*?)</h3>", figures) == ["Next values", "Tags of steps"]
    assert "within_half</th>" in figures
    assert "rows_right</th>" in figures
    assert "95% interval" in figures
    assert "whose last value is near 0 rule it" in figures
    assert "Not shown of" not in text


@pytest.mark.slow
def test_next_values_of_several_features(runs, write, tmp_path):
    flags = ["--task=next", f"--data={runs / 'regress.csv'}", "--input-columns=x,size", "--target-columns=x,size"]
    assert call("train", *SMALL, *flags, f"--run-dir={tmp_path / 'next'}").code == 0
    text = write(tmp_path / "next")
    page, summary = Page(text), json.loads((tmp_path / "next" / "summary.json").read_text())
    assert "within_half</th>" in text
    assert f"<td>{summary['baselines']['training_mean']['mae']:.4f}</td>" in text
    assert "Not shown of" not in page.text
    labels = page.values("svg", "aria-label")
    for beginning in ("Predicted against actual values of x", "Predicted against actual values of size"):
        assert sum(label.startswith(beginning) for label in labels) == 1, beginning
    assert "The last step, which is predicted, is not drawn." in page.text
    shutil.rmtree(tmp_path / "next" / "checkpoints")
    assert "MAE: 95% interval" in write(tmp_path / "next"), "from summary.json"


@pytest.mark.slow
def test_windows_of_one_series_are_said(runs, write, tmp_path):
    series = np.round(np.random.default_rng(1).normal(size=70), 3)
    rows = [[n, series[3 * n + step], n % 2] for n in range(20) for step in range(12)]
    write_table(runs / "windows.csv", ["id", "x", "kind"], rows)
    flags = [
        "--task=classify",
        f"--data={runs / 'windows.csv'}",
        "--label-column=kind",
        f"--run-dir={tmp_path / 'run'}",
    ]
    assert call("train", *SMALL, *flags).code == 0
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["overlapping_rows"]
    assert found["test"] > 0
    words = f"{found['validation']} validation and {found['test']} test sequences overlap with training sequences"
    assert f"Warning: {words}" in Page(write(tmp_path / "run")).text
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert f"Warning: {words}" in Page(write(tmp_path / "run")).text, "from summary.json"
    assert "overlap with training" not in write(runs / "regress")


@pytest.mark.slow
def test_other_losses_and_other_tests_are_said(runs, write, tmp_path):
    copy = Path(shutil.copytree(runs / "classify", tmp_path / "copy"))
    config = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(config.replace('class_weights = "none"', 'class_weights = "balanced"'))
    assert "their classes are weighted differently" in write(runs / "classify", copy)
    environment = json.loads((copy / "environment.json").read_text())
    environment["data"]["given"] = {"test": "0" * 64}
    (copy / "environment.json").write_text(json.dumps(environment))
    assert "not all tested on the same rows" in write(runs / "classify", copy)
    assert "not all tested on the same rows" not in write(copy, Path(shutil.copytree(copy, tmp_path / "other")))


class TestWhatIsMissing:
    def test_data_that_changed_or_went(self, runs, write):
        path = runs / "classify.csv"
        content = path.read_bytes()
        try:
            path.write_bytes(content + b"new,1,1,a,b\n")
            changed = write(runs / "classify", runs / "tag")
            path.unlink()
            gone = write(runs / "classify")
        finally:
            path.write_bytes(content)
        assert "has changed since training" in changed
        assert "no such file" in gone.lower()
        for text in (changed, gone):
            page = Page(text)
            assert f"{runs / 'classify'}: none, for the reason above" in page.text
            assert "From summary.json, as the run wrote it at its end" in page.text
            assert "Confusion matrix: sequences" in page.text
            assert "Accuracy: 95% interval" in page.text
            assert "By accuracy the model" in page.text
            assert "script" not in page.tags

    def test_no_checkpoint_and_no_configuration(self, runs, write, tmp_path):
        for name, column in (("classify", "log_loss"), ("regress", "r2"), ("tag", "rows_right")):
            copy = Path(shutil.copytree(runs / name, tmp_path / name))
            shutil.rmtree(copy / "checkpoints")
            (copy / "config.toml").unlink()
            text = write(copy)
            assert f">{column}</th>" in text, "the task is told by the names of the figures"
            assert "95% interval" in text

    @pytest.mark.parametrize("found", [3, {"classes": ["a"], "counts": [[1, 2]]}, {"classes": [1], "counts": [[1]]}])
    def test_confusions_of_another_version(self, runs, write, tmp_path, found):
        copy = Path(shutil.copytree(runs / "tag", tmp_path / "copy"))
        shutil.rmtree(copy / "checkpoints")
        summary = json.loads((copy / "summary.json").read_text())
        (copy / "summary.json").write_text(json.dumps(summary | {"confusion_matrix": found}))
        assert "the confusion matrix is not in a form that is known here" in write(copy)

    def test_run_still_going(self, runs, write, tmp_path):
        copy = Path(shutil.copytree(runs / "regress", tmp_path / "copy"))
        (copy / "summary.json").unlink()
        text = write(copy)
        assert "best so far, checkpoint of epoch" in text
        assert "By mae the model" in text


class TestParts:
    def test_sequences_without_ids_are_named_by_their_row(self, runs):
        (record,) = read_runs((str(runs / "regress"),))
        tested = predict_test_rows(record)
        sequences = tested.sequences
        rows = {name: field for name, field in sequences.rows.items() if name != "ids"}
        text = join(sequence_parts(tested._replace(sequences=Sequences(sequences.offsets, sequences.steps, rows))))
        error = error_of_each(tested.evaluation, tested.model)
        first = re.search(r"<table[^>]*with the largest errors.*?<tbody><tr>.*?<td>(.*?)</td>", text).group(1)
        assert first == f"row {tested.row_numbers[np.argmax(error)]}"
        assert "rows are counted from 1" in text

    def test_of_a_long_sequence_the_tags_around_the_first_wrong_one_are_drawn(self, runs, monkeypatch):
        monkeypatch.setattr(sequence_drawings, "MAX_TAGGED_STEPS", 2)
        monkeypatch.setattr(sequence_drawings, "STEPS_BEFORE", 1)
        (record,) = read_runs((str(runs / "tag"),))
        tested = predict_test_rows(record)
        rows = tested.evaluation.rows
        wrong = tested.evaluation.predicted.argmax(axis=1) != rows.targets
        for sequence, (start, end) in enumerate(itertools.pairwise(rows.offsets)):
            first = int(np.argmax(wrong[start:end]))
            begin = max(0, min(first - 1, end - start - 2))
            text = sequence_drawings.draw_sequence(tested, sequence, 5)
            assert f"steps {begin + 1} to {begin + 2} of {end - start}" in text
            assert ('class="mark"' in text) == bool(wrong[start:end].any())

    def test_of_many_classes_those_in_error_are_shown(self):
        counts = np.diag(np.full(100, 5))
        counts[70, 71] = 3
        text = confusion_table([f"class {number}" for number in range(100)], counts, "rows")
        assert text.count('scope="row"') == MAX_CLASSES
        assert ">class 70</th>" in text
        assert ">class 71</th>" in text
        assert f"Of 100 classes those {MAX_CLASSES} are shown" in text

    def test_band_joins_neighbours_and_leaves_the_unknown_out(self):
        x = np.arange(1.0, 7.0)
        colors = np.array([0, 0, -1, 9, 9, 1])
        band = Band("true", x, colors, np.array([False, False, True, False, False, True]))
        text = line_chart([Series(x, x)], x_label="x", y_label="y", description="d", bands=[band, band])
        assert re.findall(r"band c\d", text) == ["band c0", "band c1", "band c1"] * 2
        assert text.count('class="mark"') == 2
        widths = [float(width) for width in re.findall(r'width="([\d.]+)"', text)]
        assert widths[0] == pytest.approx(2 * widths[2], abs=0.2)

    def test_window_of_a_long_sequence_in_words(self):
        assert str(Window(0, 5, 5)) == "5 steps"
        assert str(Window(10, 10 + MAX_TAGGED_STEPS, 5000)) == f"steps 11 to {10 + MAX_TAGGED_STEPS} of 5,000"

    def test_confusions_and_reliability_count_every_row_once(self):
        generator = np.random.default_rng(0)
        probabilities = generator.dirichlet(np.ones(3), 200)
        targets = generator.integers(-1, 3, 200).astype(np.int32)

        class Rows:
            pass

        rows = Rows()
        rows.targets = targets
        counts = count_confusions(probabilities, rows, 3)
        taken = probabilities.argmax(axis=1)
        for true, guess in itertools.product(range(3), range(3)):
            assert counts[true, guess] == np.sum((targets == true) & (taken == guess))
        sure, right, number = reliability(probabilities.max(axis=1), taken == targets)
        assert number.sum() == 200
        assert np.average(right, weights=number) == pytest.approx(np.mean(taken == targets))
        assert np.average(sure, weights=number) == pytest.approx(probabilities.max(axis=1).mean())
