"""The report page: what it shows of runs in every state, what it refuses, and that nothing in it comes alive."""

import functools
import html
import http.server
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from page_reader import NASTY, Page

from jaxrnn import report, train
from jaxrnn.data.readers.reader import read_sequences
from jaxrnn.evaluation.own_rows import open_own_rows
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.pages.axes import Axis
from jaxrnn.pages.charts import LEFT, MAX_DOTS, RIGHT, Series, line_chart, scatter_chart
from jaxrnn.pages.error_sections import errors_section
from jaxrnn.pages.markup import Markup, element
from jaxrnn.pages.predictions import predict_test_rows
from jaxrnn.pages.records import read_runs
from jaxrnn.pages.result_sections import ReportedRun
from jaxrnn.pages.shell import GENERATOR, build_page


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory) -> Path:
    """100 rows, each of them twice, of a constant step, ending at numbers around 0."""
    generator = np.random.default_rng(0)
    lines = []
    for number in range(50):
        values = (number - 25) // 5 - generator.integers(1, 5) * np.arange(generator.integers(2, 10))[::-1]
        lines.append(",".join(map(str, values)))
    path = tmp_path_factory.mktemp("rows") / "rows & <b>.csv"
    path.write_text("\n".join(lines * 2) + "\n")
    return path


@pytest.fixture(scope="module")
def run_path(tmp_path_factory, rows_file) -> Path:
    run_dir = tmp_path_factory.mktemp("report") / "first"
    flags = ["--config=smoke", "--hidden-size=3", "--epochs=5", "--batch-size=30", "--split=random"]
    assert train.main([*flags, f"--data={rows_file}", f"--run-dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture
def copy(run_path, tmp_path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(run_path, tmp_path / "copy"))


@pytest.fixture
def write(capsys, tmp_path):
    """Calls the command, which has to succeed; returns the page."""

    def run(*runs: Path | str) -> str:
        out = tmp_path / "page.html"
        code = report.main([*map(str, runs), f"--out={out}"])
        said = capsys.readouterr()
        assert code == 0, said.err
        assert said.out.startswith(f"wrote {out}: ")
        return out.read_text(encoding="utf-8")

    return run


class TestContents:
    def test_one_run(self, write, run_path, rows_file):
        text = write(run_path)
        page, summary = Page(text), json.loads((run_path / "summary.json").read_text())
        for heading in ("Figures", "Learning curves", "Predictions of the test rows", "Configuration", "Environment"):
            assert f"<h2>{heading}</h2>" in text
        assert "Not shown of" not in page.text
        # The same figures as those of the run.
        for value in (f"{summary['test']['mae']:.4f}", f"{summary['baselines']['repeat_last']['mae']:.4f}"):
            assert value in page.text
        interval, shared = summary["test_mae_interval"], summary["shared_rows"]
        assert f"95% interval {interval['low']:.4g} to {interval['high']:.4g}" in page.text
        assert summary["against_baselines"]["sentence"][1:] in page.text
        assert shared["test"] > 0
        assert f"{shared['test']} test rows also stand in the training part" in page.text
        assert "rows whose last value is near 0 rule it" in page.text
        near_zero = summary["accuracy_near_zero"]
        assert near_zero["rows"] > 0
        assert f"{near_zero['rows']} of {near_zero['of_rows']} rows end within 0.5 of 0" in page.text
        assert str(rows_file) in page.text
        assert len(page.values("svg", "aria-label")) == 6
        assert all(page.values("svg", "aria-label"))

    def test_worst_row_is_the_worst_and_its_copies_are_counted(self, write, run_path, rows_file):
        text = write(run_path)
        model = TrainedModel.load(run_path)
        own, rows = open_own_rows(model, model.config.reader), read_sequences(rows_file)
        evaluation = model.evaluate(own.rows)
        error = np.abs(evaluation.predicted - evaluation.actual)
        worst = int(np.argmax(error))
        table = re.search(r"<table[^>]*largest errors.*?</table>", text).group()
        cells = re.findall(r"<td>(.*?)</td>", re.search(r"<tbody><tr>.*?</tr>", table).group())
        same = [number for number in own.numbers if np.array_equal(rows[number], rows[own.numbers[worst]])]
        assert cells[:2] == [str(min(same) + 1), str(len(same))]
        assert cells[4] == f"{error[worst]:.4g}"
        assert cells[5] == " ".join(f"{value:g}" for value in rows[own.numbers[worst]])
        places = re.findall(r'<tr><th scope="row">\d+</th><td>(\d+)</td>', table)
        assert len(set(places)) == len(places) == min(10, len(own.rows.unique_rows()))

    def test_several_runs_mark_what_differs(self, write, run_path, copy):
        config = (copy / "config.toml").read_text()
        (copy / "config.toml").write_text(config.replace("learning_rate = 0.01", "learning_rate = 0.02"))
        text = write(run_path, copy)
        marked = re.findall(r'<tr class="differs"><th scope="row">(.*?)</th>', text)
        assert marked == ["learning_rate"]
        assert re.search(r"<td>0.01</td><td>0.02</td>", text)
        assert "2 runs side by side" in text
        assert 'class="swatch c0"' in text
        assert 'class="swatch c1"' in text
        assert "not all tested on the same rows" not in text

    def test_runs_tested_on_other_rows_are_not_compared_in_silence(self, write, run_path, copy):
        config = (copy / "config.toml").read_text()
        (copy / "config.toml").write_text(config.replace("seed = 0", "seed = 1").replace('"mse"', '"mae"'))
        text = write(run_path, copy)
        assert "not all tested on the same rows" in text
        assert "The loss is not the same in all runs" in text

    def test_headings_are_in_order(self, write, run_path, copy):
        page = Page(write(run_path, copy))
        levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))

    def test_same_run_twice_counts_once(self, write, run_path):
        assert f"<title>Run {run_path}</title>" in write(run_path, f"{run_path}/", f"{run_path}/../first")


class TestWhatIsMissing:
    def test_run_still_going(self, write, copy):
        (copy / "summary.json").unlink()
        text = (copy / "metrics.jsonl").read_text()
        (copy / "metrics.jsonl").write_text(text[: text.rindex('"validation"')])  # a line half written
        page = write(copy)
        assert "not finished: 4 epochs done of at most 5" in page
        assert "summary.json: the run has not written it yet" in page
        assert "best so far, checkpoint of epoch 5" in page
        assert "is damaged" not in page

    def test_line_without_its_end_counts_once_it_is_whole(self, copy):
        text = (copy / "metrics.jsonl").read_text()
        (copy / "metrics.jsonl").write_text(text.rstrip("\n"))
        (record,) = read_runs((str(copy),))
        assert [epoch["epoch"] for epoch in record.epochs] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"epoch": 2, ', '"epoch": 2, !'),
            ('"epoch": 2', '"epoch": 1'),
            ('"epoch": 2', '"epoch": 2.5'),
            ('"epoch": 2', f'"epoch": {10**400}'),
            ('"loss": ', f'"loss": {10**400}, "was": '),
            ('"loss": ', '"loss": "low", "was": '),
            ('"training": ', '"validation": 3, "was": '),
        ],
    )
    def test_damage_in_the_middle_is_said(self, copy, old, new):
        lines = (copy / "metrics.jsonl").read_text().splitlines()
        lines[1] = lines[1].replace(old, new)
        (copy / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        (record,) = read_runs((str(copy),))
        (said,) = record.missing
        assert said.startswith(f"{copy / 'metrics.jsonl'}:2: found ")
        assert [epoch["epoch"] for epoch in record.epochs] == [1, 3, 4, 5], "no readable line is dropped"

    def test_no_checkpoint(self, write, copy):
        shutil.rmtree(copy / "checkpoints")
        text = write(copy)
        assert "Predictions of the test rows: " in text
        assert "none, for the reason above" in text
        assert "95% interval" in text, "from summary.json"
        assert "also stand in the training part" in text

    def test_just_begun(self, write, copy):
        for name in ("metrics.jsonl", "summary.json", "environment.json", "curves.png"):
            (copy / name).unlink()
        shutil.rmtree(copy / "checkpoints")
        text = write(copy)
        assert "no epoch is finished yet" in text
        assert "There are none yet" in text
        assert "Configuration" in text

    def test_data_that_changed_or_went(self, write, copy, rows_file):
        text = rows_file.read_bytes()
        try:
            rows_file.write_bytes(text + b"1,2,3\n")
            assert "has changed since training" in write(copy)
            rows_file.unlink()
            page = write(copy)
            assert "No such file" in page or "no such file" in page
            assert "95% interval" in page
        finally:
            rows_file.write_bytes(text)

    @pytest.mark.parametrize("name", ["config.toml", "summary.json", "environment.json"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff\xfe\x00", b"[1, 2]", b'{"test": 3, "versions": []}', b"[" * 9000, b'{"test": {"mae": 1e999}}'],
    )
    def test_damaged_files(self, copy, name, content):
        (copy / name).write_bytes(content)
        (record,) = read_runs((str(copy),))
        assert len(record.missing) == (0 if (name, content) == ("config.toml", b"") else 1)
        assert record.epochs

    def test_summary_of_another_version(self, write, copy):
        shutil.rmtree(copy / "checkpoints")
        summary = json.loads((copy / "summary.json").read_text())
        for key, value in (("test_mae_interval", [1]), ("against_baselines", {"x": 1}), ("shared_rows", "none")):
            (copy / "summary.json").write_text(json.dumps(summary | {key: value}))
            assert "not in a form that is known here" in write(copy)
        for key in ("test_mae_interval", "against_baselines", "accuracy_near_zero", "shared_rows"):
            summary.pop(key)
        (copy / "summary.json").write_text(json.dumps(summary))
        text = write(copy)
        assert "not in a form" not in text
        assert "By mae the model" in text, "said all the same, from the figures"

    def test_figures_that_are_not_finite(self, write, copy):
        shutil.rmtree(copy / "checkpoints")
        summary = json.loads((copy / "summary.json").read_text())
        summary["test"]["mae"] = None
        (copy / "summary.json").write_text(json.dumps(summary))
        lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
        lines[2]["validation"]["loss"] = None
        (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        text = write(copy)
        assert "<td>not finite</td>" in text
        assert not re.search(r'd="[^"]*nan', text)

    def test_accuracy_never_stands_without_its_weakness(self, write, copy):
        (copy / "config.toml").unlink()
        text = write(copy)
        assert "config.toml: No such file" in text
        assert "(|y| + accuracy_epsilon)): rows whose last value is near 0 rule it" in text

    def test_predictions_that_are_not_finite(self, run_path):
        (record,) = read_runs((str(run_path),))
        tested = predict_test_rows(record)
        assert tested is not None
        for bad in (
            tested.predicted * np.nan,
            np.where(np.arange(len(tested.predicted)) < 3, np.inf, tested.predicted),
        ):
            text = errors_section([ReportedRun(record, tested._replace(predicted=bad))])
            assert "not finite are left out of the charts" in text
            assert not re.search(r'd="[^"]*(nan|inf)', text)
            Page(text)
        worst = re.search(r"<tbody><tr>.*?</tr>", text[text.index("largest errors") :]).group()
        assert "<td>inf</td>" in worst

    def test_a_run_that_cannot_be_read_costs_none_of_the_others(self, write, run_path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        alone = Page(write(run_path))
        page = Page(write(run_path, "nowhere", "empty", "x" * 10**6))
        assert "Not shown of nowhere" in page.text
        assert "nowhere: no such directory; expected a run directory" in page.text
        assert "empty: holds no run" in page.text
        assert "not all tested on the same rows" not in page.text
        assert len(page.values("svg", "aria-label")) == len(alone.values("svg", "aria-label"))

    def test_a_forged_run_costs_none_of_the_others(self, write, run_path, copy):
        for name in ("metrics.jsonl", "summary.json", "environment.json", "config.toml"):
            (copy / name).unlink()
            (copy / name).mkdir()
        text = write(run_path, copy)
        assert text.count("found a directory; expected a file as jaxrnn.train writes it") == 4
        assert "95% interval" in text

    def test_texts_of_any_length_make_no_page_of_that_length(self, write, copy):
        long = "x" * 10**6
        environment = json.loads((copy / "environment.json").read_text())
        environment["data"]["path"] = environment["platform"] = environment["versions"]["jax"] = long
        environment |= {"command": [long]}
        environment["versions"] |= {f"{number}{long}": "1" for number in range(3)}
        (copy / "environment.json").write_text(json.dumps(environment))
        summary = json.loads((copy / "summary.json").read_text())
        summary["best_epoch"] = summary["against_baselines"]["sentence"] = long
        summary["baselines"] |= {f"{number}{long}": summary["test"] for number in range(3)}
        (copy / "summary.json").write_text(json.dumps(summary))
        (copy / "config.toml").write_text((copy / "config.toml").read_text().replace('data = "', f'data = "{long}'))
        with_checkpoint = write(copy)
        shutil.rmtree(copy / "checkpoints")
        assert max(map(len, (with_checkpoint, write(copy)))) < 300_000


class TestErrors:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "runs: got none; expected at least one run directory"),
            (["nowhere"], "nowhere: no such directory"),
            (["empty"], "empty: holds no run"),
            (["file"], "file: no such directory"),
            (["x" * 300], "expected a run directory"),
            (["RUN", "--out=no/where.html"], "--out: no is no directory"),
            (["RUN", "--out=empty"], "--out: empty is no file"),
            (["RUN", "--out=/dev/null"], "--out: /dev/null is no file"),
            (["RUN", "--out=file"], "--out: file is there already and is no report"),
            (["RUN", "--out=file/x.html"], "--out: file/x.html: Not a directory"),
            (["RUN", "--outt=x"], "--out"),
        ],
    )
    def test_one_line_and_exit_code_2(self, run_path, tmp_path, monkeypatch, capsys, flags, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("mine")
        try:
            code = report.main([str(run_path) if flag == "RUN" else flag for flag in flags])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert message in said.err
        assert "Traceback" not in said.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
        assert (tmp_path / "file").read_text() == "mine"

    def test_report_is_replaced_and_page_by_hand_is_not(self, run_path, tmp_path, capsys):
        out = tmp_path / "page.html"
        assert report.main([str(run_path), f"--out={out}"]) == 0
        first = out.read_text()
        out.write_text(first.replace("</body>", "old</body>"))
        assert report.main([str(run_path), f"--out={out}"]) == 0
        assert "old</body>" not in out.read_text()
        out.write_text(first.replace(GENERATOR, "a person"))
        assert report.main([str(run_path), f"--out={out}"]) == 2
        assert "a person" in out.read_text()

    def test_directory_that_cannot_be_written(self, run_path, tmp_path, monkeypatch, capsys):
        def refuse(path, text):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("jaxrnn.commands.run_report.write_atomically", refuse)
        assert report.main([str(run_path), f"--out={tmp_path / 'page.html'}"]) == 2
        assert "page.html: No space left on device" in capsys.readouterr().err

    def test_help_is_quick_and_imports_no_jax(self, tmp_path, repository):
        code = (
            "import resource, sys\nfrom jaxrnn import report\n"
            "try:\n    report.main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
            "heavy = [m for m in ('jax', 'numpy', 'flax', 'pyarrow', 'orbax', 'matplotlib') if m in sys.modules]\n"
            "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
            "print('HEAVY', heavy, 'CPU', usage.ru_utime + usage.ru_stime)"
        )
        seconds = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60, check=True
            )
            assert "python -m jaxrnn.report" in done.stdout
            assert "HEAVY [] CPU" in done.stdout
            seconds.append(float(done.stdout.split()[-1]))
        assert min(seconds) < 0.5


class TestEscaping:
    def test_nothing_from_a_run_becomes_an_element(self, write, run_path, copy):
        """The same page with harmless and with nasty texts has the same elements."""
        nasty = copy.parent / "x\"><script>alert(1)<b onclick=alert(2)>'&"
        shutil.rmtree(copy / "checkpoints")
        pages = []
        for name, text in ((copy.parent / "plain", "plain"), (nasty, NASTY)):
            shutil.copytree(copy, name)
            config = (name / "config.toml").read_text()
            column = json.dumps(text).replace("\x1b", "\\u001b")
            (name / "config.toml").write_text(config + f"column = {column}\n")
            environment = json.loads((name / "environment.json").read_text())
            environment["data"]["path"] = environment["platform"] = text
            environment["versions"][text] = text
            environment["command"] = [text]
            (name / "environment.json").write_text(json.dumps(environment))
            summary = json.loads((name / "summary.json").read_text())
            summary["against_baselines"]["sentence"] = text
            summary["baselines"][text] = summary["baselines"].pop("repeat_last")
            summary["best_epoch"] = text
            (name / "summary.json").write_text(json.dumps(summary))
            pages.append(write(run_path, name))
        plain, page = map(Page, pages)
        assert page.tags == plain.tags
        assert "script" not in page.tags
        assert [key for _, key, _ in page.attributes] == [key for _, key, _ in plain.attributes]
        assert page.text.count("<script>alert(1)</script>") >= 8, "shown as text"
        assert "\x1b" not in pages[1]
        assert "\\x1b[31m" in page.text

    def test_markup_alone_is_trusted(self):
        assert element("p", "<b>", Markup("<i>"), 3, title='"') == '<p title="&quot;">&lt;b&gt;<i>3</p>'

    def test_page_loads_nothing(self, write, run_path):
        text = write(run_path)
        page = Page(text)
        loading = [a for a in page.attributes if a[1] in ("src", "href", "srcset", "action", "data", "style")]
        assert loading == [("link", "href", "data:,")]
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        assert "url(" not in text
        assert "@import" not in text
        assert "default-src 'none'" in text
        assert set(page.tags).isdisjoint({"script", "iframe", "object", "embed", "img", "form", "base"})


class TestCharts:
    @pytest.mark.parametrize(
        ("low", "high"),
        [(0, 1), (-55, 55), (1e-9, 3e-9), (0, 1e30), (-1e-30, 1e-30), (999_990, 1_000_010), (-3, -2.5), (5, 5), (0, 0)],
    )
    def test_linear_ticks_are_few_different_and_true(self, low, high):
        axis = Axis.around(np.array([low, high], np.float64), LEFT, RIGHT)
        ticks = axis.ticks()
        assert 2 <= len(ticks) <= 7
        assert len({text for _, text in ticks}) == len(ticks)
        for value, text in ticks:
            assert float(text) == pytest.approx(value, rel=1e-6, abs=1e-9 * (axis.high - axis.low))
            assert LEFT <= axis.place(np.array(value)) <= RIGHT
            assert len(text) <= 8

    @pytest.mark.parametrize(("low", "high"), [(1e-8, 1), (0.2, 0.5), (3, 40), (1e-40, 1e30), (0.011, 0.012), (2, 2)])
    def test_logarithmic_ticks(self, low, high):
        axis = Axis.around(np.array([low, np.nan, high, 0, -1]), LEFT, RIGHT, is_log=True)
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 11
        for value, text in ticks:
            assert float(text) == pytest.approx(value, rel=1e-6)
            assert LEFT - 0.1 <= axis.place(np.array(value)) <= RIGHT + 0.1

    def test_gaps_and_lone_points(self):
        y = np.array([1.0, np.nan, 2.0, 3.0, 0.0, np.inf, 4.0])
        chart = line_chart([Series(np.arange(7.0), y)], x_label="x", y_label="y", description="d", is_log=True)
        (path,) = re.findall(r'd="([^"]*)" class="line', chart)
        assert path.count("M") == 3
        assert path.count("L") == 1
        lone = line_chart([Series(np.array([1.0]), np.array([2.0]))], x_label="x", y_label="y", description="d")
        assert 'class="dots' in lone

    def test_long_line_keeps_its_extremes(self):
        y = np.ones(100_000)
        y[[333, 77_777]] = 50, 0.02
        chart = line_chart([Series(np.arange(1e5), y)], x_label="x", y_label="y", description="d", is_log=True)
        (path,) = re.findall(r'd="([^"]*)" class="line', chart)
        heights = [float(pair.split()[1]) for pair in re.split("[ML]", path)[1:]]
        assert len(heights) <= 700
        assert min(heights) < 50 < 200 < max(heights)
        series = [Series(np.arange(1e5), y)]
        few = line_chart(series, x_label="x", y_label="y", description="d", is_log=True, max_points=50)
        (short,) = re.findall(r'd="([^"]*)" class="line', few)
        assert 20 <= len(re.split("[ML]", short)) <= 60
        assert f" {min(heights):g}" in short

    def test_many_dots_are_thinned_out(self):
        values = np.random.default_rng(0).normal(size=(2, 50_000))
        chart = scatter_chart(Series(*values), x_label="x", y_label="y", description="d")
        assert chart.count("h0") == MAX_DOTS
        same = scatter_chart(Series(np.ones(5000), np.ones(5000)), x_label="x", y_label="y", description="d")
        assert same.count("h0") == 1


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """<script>
const wide = [...document.querySelectorAll("body *")].filter(
  e => !e.closest(".box, svg") && e.getBoundingClientRect().right > innerWidth + 0.5
).map(e => e.outerHTML.slice(0, 80));
const names = [...document.querySelectorAll("svg")].flatMap(svg => [...svg.querySelectorAll("text")].map(text => {
  const box = text.getBoundingClientRect(), frame = svg.getBoundingClientRect();
  return [text.textContent, box.left - frame.left, frame.right - box.right, box.top - frame.top,
    frame.bottom - box.bottom, box.height]; }));
const covered = [...document.querySelectorAll("svg")].flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) => p.left < q.right && q.left < p.right &&
    p.top + 2 < q.bottom && q.top + 2 < p.bottom).map(([b]) => a + " over " + b)); });
const seen = {covered, width: innerWidth, scroll: document.documentElement.scrollWidth, wide, names};
document.title = "SEEN" + JSON.stringify(seen) + "NEES";
</script></body>"""


FRAME = """<!DOCTYPE html><body><iframe src="measured.html" width="{width}" height="{height}" style="border: 0"
onload="document.title = this.contentDocument.title"></iframe></body>"""


def browse(url: str, profile: Path, *, width: int, height: int) -> tuple[str, str]:
    """Opens a page in a browser; returns the document and what the browser said."""
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", f"--user-data-dir={profile}", f"--window-size={width},{height}",
            "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
class TestInABrowser:
    @pytest.fixture
    def served(self, tmp_path):
        """Serves the test's directory; returns its address and the paths that were asked for."""
        asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, template, *arguments):
                asked.append(self.path)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
        server.server_close()

    def test_page_asks_for_nothing_and_complains_of_nothing(self, write, run_path, copy, tmp_path, served):
        write(run_path, copy)
        address, asked = served
        document, said = browse(f"{address}/page.html", tmp_path / "profile", width=1280, height=900)
        assert "2 runs side by side" in document
        assert "CONSOLE" not in said
        assert asked == ["/page.html"]

    @pytest.mark.parametrize(("width", "height"), [(360, 800), (390, 844), (1280, 900)])
    def test_no_sideways_scrolling_and_no_clipped_word(self, write, run_path, copy, tmp_path, served, width, height):
        long = tmp_path / ("a-long-name-without-a-space-" * 6)
        copy.rename(long)
        text = write(run_path, long).replace("</body>", MEASURE)
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace(
            "<details>", "<details open>"
        )
        (tmp_path / "measured.html").write_text(text)
        # A browser's window has a least width; a frame in it may be as narrow as a phone.
        (tmp_path / "frame.html").write_text(FRAME.format(width=width, height=height))
        document, _ = browse(f"{served[0]}/frame.html", tmp_path / "profile", width=1400, height=1000)
        seen = json.loads(html.unescape(re.search("SEEN(.*?)NEES", document, re.DOTALL).group(1)))
        assert seen["width"] == width
        assert seen["scroll"] <= width
        assert seen["wide"] == []
        assert seen["covered"] == []
        assert len(seen["names"]) > 50
        for name, *margins, height_of_text in seen["names"]:
            assert min(margins) >= -0.5, f"{name} is cut off"
            assert height_of_text >= 11, f"{name} is too small to read"

    def test_no_number_at_an_axis_is_cut_off_or_covered(self, tmp_path, served):
        ranges = [(0, 1e6), (-0.00037, 0.00021), (1e30, 3e30), (-9.9e-9, 1e-9), (999_990, 1_000_010), (1e-12, 1e9)]
        charts = []
        for low, high in ranges:
            values = np.array([low, high], np.float64)
            for series in (Series(values, values), Series(values, values[::-1])):
                charts += [
                    line_chart([series], x_label="x", y_label="y", description="d", is_log=is_log)
                    for is_log in (False, True)
                ]
        text = build_page("charts", charts, "").replace("</body>", MEASURE)
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        (tmp_path / "measured.html").write_text(text)
        (tmp_path / "frame.html").write_text(FRAME.format(width=360, height=800))
        document, _ = browse(f"{served[0]}/frame.html", tmp_path / "profile", width=1400, height=1000)
        seen = json.loads(html.unescape(re.search("SEEN(.*?)NEES", document, re.DOTALL).group(1)))
        assert len(seen["names"]) > 4 * len(charts)
        assert [name for name, *margins, _ in seen["names"] if min(margins) < -0.5] == []
        assert seen["covered"] == []
