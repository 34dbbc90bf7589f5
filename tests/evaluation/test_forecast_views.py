"""What is drawn of forecasts, held against plain loops; and that anything can be drawn."""

import dataclasses
import warnings

import numpy as np
import pyarrow as pa
import pytest
from made_forecasts import make_forecasts, make_series
from made_models import make_model

import jaxrnn
from jaxrnn.commands.sequence_prediction import lay_out_forecasts
from jaxrnn.data.series.date_ticks import as_numbers, date_ticks
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.evaluation.forecast_views import (
    MOST_HORIZONS_BEFORE,
    bars_of,
    choose_series,
    errors_by_step,
    medians_of,
    rank_series,
    view_series,
)
from jaxrnn.evaluation.forecasting import MODEL
from jaxrnn.evaluation.pictures.forecast_plots import plot_forecast_errors, plot_forecasts
from jaxrnn.tasks.forecast_figures import calibrate

LENGTHS = (40, 30, 26, 60, 33)
nan = np.nan


def walks(scale: float = 1.0, targets: int = 1, lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [scale * (50 + np.cumsum(generator.normal(size=(length, targets)), axis=0)) for length in lengths]


def month_ends(length: int) -> np.ndarray:
    months = np.datetime64("2015-01", "M") + np.arange(1, length + 1)
    return (months.astype("M8[D]") - np.timedelta64(1, "D")).astype("M8[us]")


class TestChoice:
    def test_kinds_do_not_overlap(self):
        mase = np.random.default_rng(0).permutation(np.arange(40.0))
        mase[[3, 5]] = nan
        order = [series for series in np.argsort(mase) if np.isfinite(mase[series])]
        chosen = choose_series(mase, 3)
        assert chosen["best"] == order[:3]
        assert chosen["worst"] == order[::-1][:3]
        assert np.isin(np.median(mase[np.isfinite(mase)]).round(), mase[chosen["typical"]])
        assert rank_series(mase).tolist() == order[::-1]

    @pytest.mark.parametrize("count", range(1, 10))
    def test_few(self, count):
        chosen = choose_series(np.arange(count, 0.0, -1), 3)
        every = [series for kind in chosen.values() for series in kind]
        assert len(set(every)) == len(every) == min(count, max(count // 3 * 3, 2))
        if count > 1:
            assert (chosen["best"][0], chosen["worst"][0]) == (count - 1, 0)

    def test_none_has_a_figure(self):
        assert choose_series(np.full(2, nan), 3) == {"typical": [0, 1]}
        assert not len(rank_series(np.full(2, nan)))


class TestView:
    def test_what_is_drawn_is_the_data(self):
        values, times = walks(targets=2), [month_ends(length) for length in LENGTHS]
        evaluation, encoding = make_forecasts(make_series(values, times=times), horizon=4, origins=2)
        for series, length in enumerate(LENGTHS):
            view = view_series(evaluation, encoding, series)
            start = max(0, length - 4 - 24)  # two years before the forecast
            np.testing.assert_array_equal(view.times, times[series][start:])
            np.testing.assert_allclose(view.actual, values[series][start:, 0])
            assert view.times[view.origin] == times[series][length - 5]
            assert view.start == str(times[series][length - 5])[:10]
            np.testing.assert_allclose(view.forecast[0], values[series][length - 5, 0])
            np.testing.assert_array_equal(view.forecast[1:], evaluation.predicted[series, 1, :, 0])
            assert view.dotted.tolist() == [False] * (view.origin + 1) + [True] * 4

    def test_missing_values_are_gaps_and_lone_ones_have_dots(self):
        values = walks(lengths=(20, 20))
        values[0][[12, 14, 17, 18]] = nan
        evaluation, encoding = make_forecasts(make_series(values), horizon=4, missing="mask")
        view = view_series(evaluation, encoding, 0)
        first = 20 - len(view.times)
        assert (np.flatnonzero(np.isnan(view.actual)) + first).tolist() == [12, 14, 17, 18]
        assert (np.flatnonzero(view.dotted) + first).tolist() == [13, 16, 19]
        assert view.start == "step 15"

    def test_a_long_season_leaves_the_forecast_in_sight(self):
        evaluation, encoding = make_forecasts(make_series(walks(lengths=(900,))), horizon=4, season=400)
        assert len(view_series(evaluation, encoding, 0).times) == 4 + 4 * MOST_HORIZONS_BEFORE


class TestErrors:
    def test_calibration_counts_known_values_alone(self):
        values = walks()
        values[0][-2:] = nan
        evaluation, _ = make_forecasts(make_series(values), horizon=4, quantiles="0.2,0.5,0.7", missing="mask")
        shares = []
        for place in range(3):
            told = [
                actual <= evaluation.predicted[series, 0, step, 0, place]
                for series, one in enumerate(values)
                for step, actual in enumerate(one[-4:, 0])
                if np.isfinite(actual)
            ]
            assert len(told) == 4 * len(values) - 2
            shares.append(np.mean(told))
        np.testing.assert_allclose(calibrate(evaluation.predicted, evaluation.answers), shares)

    def test_bars_hold_every_series(self):
        mase = np.append(np.random.default_rng(0).exponential(size=200), [1000.0, nan, nan])
        bars = bars_of(mase)
        assert (bars.counts.sum(), bars.unknown) == (201, 2)
        assert bars.beyond == (mase > bars.edges[-1]).sum() >= 1
        assert bars.edges[-1] < 10
        assert bars_of(np.zeros(3)).counts.sum() == 3
        assert bars_of(np.full(3, nan)).unknown == 3

    def test_baselines_have_medians_and_steps(self):
        values = walks()
        evaluation, _ = make_forecasts(make_series(values), horizon=4)
        each = [
            np.abs(one[-4:] - one[-5]).mean() / np.abs(np.diff(one[:-4], axis=0)).mean() for one in values
        ]  # of the last value before the forecast
        assert medians_of(evaluation)["last_value"] == pytest.approx(np.median(each))
        assert medians_of(evaluation)[MODEL] == np.median(evaluation.by_series["mase"])
        figure, lines, is_log = errors_by_step(evaluation)
        assert (figure, is_log) == ("mase", False)
        assert {len(line) for line in lines.values()} == {4}
        assert lines["last_value"].mean() == pytest.approx(np.mean(each))


class TestDateTicks:
    @pytest.mark.parametrize(
        ("first", "step", "unit", "count", "expected"),
        [
            ("2021-03-01T23:10:00", 10, "m", 12, ["23:30", "03-02", "00:30"]),
            ("2021-03-01T22", 1, "h", 30, ["03-02", "06:00", "12:00"]),
            ("2020-11-20", 1, "D", 30, ["2020-11-23", "2020-12-07"]),
            ("2021-03-01T23:59:50", 1, "s", 20, ["23:59:55", "00:00:00", "00:00:05"]),
            ("1975", 365, "D", 30, ["1980", "1985"]),
        ],
    )
    def test_periods(self, first, step, unit, count, expected):
        dates = np.datetime64(first, "us") + np.arange(count) * np.timedelta64(step, unit).astype("m8[us]")
        places, names = date_ticks(dates)
        assert np.isin(places, dates).all()
        assert names[: len(expected)] == expected

    def test_ends_of_months_are_of_their_own_month(self):
        places, names = date_ticks(month_ends(30))
        assert names == [str(place)[: len(name)] for place, name in zip(places, names, strict=True)]
        assert len(names) >= 2

    def test_as_numbers(self):
        dates = np.array(["1970-01-01T00:00:01", "NaT"], "M8[us]")
        np.testing.assert_array_equal(as_numbers(dates), [1e6, nan])


CASES = {
    "ids": {"values": walks(), "ids": ["$\\frac$", "a$b$", "x" * 300, "\x1b[31m", "$"], "horizon": 3},
    "one": {"values": walks(lengths=(30,)), "horizon": 1},
    "constant": {"values": [np.full(20, 7.0), np.zeros(20)], "horizon": 3},
    "large": {"values": walks(1e9), "horizon": 20, "times": [1900 + np.arange(length) for length in LENGTHS]},
    "small": {"values": walks(1e-6), "horizon": 3, "times": [np.arange(length) / 4 for length in LENGTHS]},
    "points": {"values": walks(targets=2), "horizon": 3, "loss": "mae", "origins": 2},
    "missing": {"values": [np.where(np.arange(30)[:, None] % 3, one[:30], nan) for one in walks(lengths=(30,) * 4)],
                "horizon": 4, "missing": "mask"},
    "far": {"values": walks(), "horizon": 3,
            "times": [(np.datetime64("20000-01", "M") + 12 * np.arange(n)).astype("M8[us]") for n in LENGTHS]},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_anything_can_be_drawn(name, tmp_path):
    given = dict(CASES[name])
    series = make_series(given.pop("values"), times=given.pop("times", None), ids=given.pop("ids", None))
    evaluation, encoding = make_forecasts(series, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_forecasts(evaluation, encoding, tmp_path / "forecasts.png")
        plot_forecast_errors(evaluation, tmp_path / "errors.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_steps_behind_the_year_9999_are_laid_out():
    days = np.arange(np.datetime64("9999-12-15"), np.datetime64("10000-01-01"))
    table = pa.table({"id": ["a"] * len(days), "day": days, "y0": np.arange(float(len(days)))})
    model = make_model({"task": "forecast", "horizon": 2}, inputs=0, categories=(), statics=0)
    series = jaxrnn.read(table, id_column="id", time_column="day", target_columns="y0")
    encoding = dataclasses.replace(model.encoding, frequency=Frequency.of(series))
    header, lines = lay_out_forecasts(dataclasses.replace(model, encoding=encoding), series, None, None)
    assert header[:3] == ["id", "time", "step"]
    assert [line[1] for line in lines] == ["10000-01-01", "10000-01-02"]
