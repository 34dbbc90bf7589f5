"""Reports of runs that forecast: the sections of forecasts that are made up, and one run from training to the page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_forecasts import as_tested, make_forecasts, make_series
from page_reader import NASTY, Page
from small_runs import Done, call

from jaxrnn import report
from jaxrnn.evaluation.forecast_views import rank_series
from jaxrnn.pages.charts import Area, Series, line_chart
from jaxrnn.pages.forecast_sections import NUM_WORST, forecast_parts
from jaxrnn.pages.markup import join
from jaxrnn.tasks.figures import format_figure

pytestmark = pytest.mark.usefixtures("programs_kept")


def walks(count: int, length: int = 24, targets: int = 1, scale: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(2)
    return [scale * (50 + np.cumsum(generator.normal(size=(length, targets)), axis=0)) for _ in range(count)]


def sections(values: list[np.ndarray], *, times=None, ids=None, **settings) -> tuple[str, object]:
    evaluation, encoding = make_forecasts(make_series(values, times=times, ids=ids), **settings)
    text = str(join(forecast_parts(as_tested(evaluation, encoding), evaluation)))
    assert not re.search(r'd="[^"]*(nan|inf)', text)
    return text, evaluation


def test_figures_of_the_page_are_those_of_the_evaluation():
    months = np.datetime64("2020-01", "M") + np.arange(24)
    ids = [f"shop {number}" for number in range(12)]
    text, evaluation = sections(walks(12), times=[months.astype("M8[us]")] * 12, ids=ids, horizon=3)
    page = Page(f"<main>{text}</main>")
    worst = rank_series(evaluation.by_series["mase"])[:NUM_WORST]
    table = text[text.index("with the largest mase") :]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)[1 : 1 + NUM_WORST]]
    assert rows == [
        [f"id {ids[series]}", "24", *[format_figure(name, evaluation.by_series[name][series])
                                      for name in ("mase", "smape", "coverage")]]
        for series in worst
    ]  # fmt: skip
    for name, figures in evaluation.by_step.items():
        assert all(f"<td>{figures['mase'][step]:.4f}</td>" in text for step in range(3)), name
    assert f"<td>{evaluation.figures['coverage']:.1%}</td>" in text
    labels = page.values("svg", "aria-label")
    drawn = [label for label in labels if label.startswith("Forecast of id shop")]
    assert len(drawn) == len(set(drawn)) == 9, "three of each kind"
    assert drawn[0].startswith(f"Forecast of id {ids[worst[0]]}: 3 steps behind 2021-09-01, from ")
    assert text.count('class="area c0"') == 9 + 1, "a band each, and the bars"


def test_names_are_escaped():
    harmless, hostile = (
        sections(walks(3), ids=[f"{name}{number}" for number in range(3)], horizon=3)[0] for name in ("x", NASTY)
    )
    assert Page(f"<main>{harmless}</main>").tags == Page(f"<main>{hostile}</main>").tags


def test_points_have_no_band_and_several_targets_are_named():
    text, _ = sections(walks(4, targets=2), horizon=3, loss="mse", origins=2)
    assert text.count('class="area c0"') == 1, "the bars"
    assert "quantile" not in text
    assert "Of 2 targets the first is drawn, y0; mase is of all." in text
    assert "Of 2 origins of a series the last is drawn" in text
    assert ">-</td>" in text, "no coverage"


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (walks(1), {"horizon": 1}),
        ([np.full(20, 7.0), np.zeros(20)], {"horizon": 3}),
        (walks(3, length=120, scale=1e9), {"horizon": 48}),
        (walks(3, scale=1e-6), {"horizon": 3}),
        ([np.concatenate([one[:-3], np.full((3, 1), np.nan)]) for one in walks(3)], {"horizon": 3, "missing": "mask"}),
        (walks(2000, length=12), {"horizon": 2}),
    ],
    ids=["one", "constant", "large", "small", "unknown", "many"],
)
def test_anything_can_be_shown(values, settings):
    text, evaluation = sections(values, **settings)
    Page(f"<main>{text}</main>")
    assert len(text) < 60_000, "what a run adds to a page has a bound"
    has_none = np.isnan(evaluation.by_series["mase"]).all()
    assert ("No series has a mase" in text) == has_none


def test_an_area_has_gaps_and_is_thinned_out():
    low = np.where(np.arange(9) == 4, np.nan, 0.0)
    given = {"x_label": "x", "y_label": "y", "description": "d"}
    chart = line_chart([], areas=[Area(np.arange(9.0), low, low + 1)], **given)
    path = re.search(r'd="([^"]*)" class="area', chart).group(1)
    assert (path.count("M"), path.count("Z"), path.count("L")) == (2, 2, 14)
    x = np.arange(100_000)
    long = line_chart([Series(x, np.sin(x))], areas=[Area(x, np.sin(x) - 1, np.sin(x) + 1)], **given)
    assert len(long) < 50_000


def test_whole_numbers_have_whole_ticks():
    given = {"x_label": "x", "y_label": "y", "description": "d"}
    texts = re.findall(r">([\d.]+)</text>", line_chart([Series(np.arange(1, 4), np.arange(3))], **given))
    assert sorted(texts) == ["0", "1", "1", "2", "2", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Done]:
    """A run on 8 series, one of them too short to be tested, and what training said."""
    directory = tmp_path_factory.mktemp("forecast")
    generator = np.random.default_rng(0)
    lines = ["shop,month,price,sales"]
    for number in range(8):
        for step in range(10 if number < 7 else 6):
            month = np.datetime64("2020-01", "M") + np.timedelta64(step, "M")
            lines.append(f"<b>{number}</b>,{month}-01,{step},{number + generator.normal():.3f}")
    (directory / "sales.csv").write_text("\n".join(lines) + "\n")
    flags = ["--task=forecast", "--id-column=shop", "--time-column=month", "--target-columns=sales", "--horizon=2",
             "--season=1", "--input-columns=price", "--hidden-size=4", "--epochs=2", "--no-tensorboard"]  # fmt: skip
    done = call("train", *flags, f"--data={directory / 'sales.csv'}", f"--run-dir={directory / 'run'}")
    assert done.code == 0, done.err
    return directory / "run", done


@pytest.mark.slow
def test_training_says_what_is_forecast(trained):
    said = trained[1].err
    assert "8 series, 76 steps; lengths 6 to 10, mean 9.5; forecasts sales, 2 steps ahead, monthly, no season" in said
    assert "; besides seen so far price" in said
    assert "1 too short for the test part" in said
    assert "each series in its own units, its mean change of a step; each other column normalised" in said
    lines = trained[1].out.splitlines()
    (header,) = [line for line in lines if line.split()[:1] == ["loss"]]
    (baseline,) = [line for line in lines if line.startswith("baseline drift")]
    assert baseline.split()[2] == "-", "baselines have no loss"
    assert baseline.split()[-2:] == ["-", "-"]
    assert header.split() == ["loss", "mase", "smape", "mae", "rmse", "quantile_loss", "coverage"]
    assert "nan" not in trained[1].out


def test_a_run_from_training_to_the_page(trained, tmp_path, capsys):
    run, _ = trained
    done = call("eval", f"--checkpoint={run}", "--plots", f"--plots-dir={tmp_path / 'plots'}")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["forecast_errors.png", "forecasts.png"]
    assert report.main([str(run), f"--out={tmp_path / 'page.html'}"]) == 0, capsys.readouterr().err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page, summary = Page(text), json.loads((run / "summary.json").read_text())
    assert "Not shown of" not in page.text
    assert "7 series" in page.text
    for name in ("mase", "smape", "quantile_loss", "coverage"):
        assert f"<td>{format_figure(name, summary['test'][name])}</td>" in text
    assert "smape is 2 |y - p| / (|y| + |p|) in percent, 0 to 200" in page.text
    assert "between the outermost quantiles, which should be 80%" in page.text
    assert "stands in the training part" not in page.text, "the parts are ends of the same series"
    assert "Scaled error" in page.text
    assert "<b>" not in text
    assert sum(label.startswith("Forecast of id <b>") for label in page.values("svg", "aria-label")) == 6
