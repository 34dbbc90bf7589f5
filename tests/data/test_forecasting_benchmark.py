"""The benchmark of forecasters: its figures by hand, its drawn panel, and that it goes on from what is measured."""

import json

import numpy as np
import pytest

from benchmarks import forecasting
from benchmarks.forecasting_peers import generated
from benchmarks.forecasting_peers.measures import CannotDo, Forecasts, measure
from benchmarks.forecasting_peers.panels import Panel

pd = pytest.importorskip("pandas")


def make_panel(season):
    """Two series of five and six steps, of which two are held out."""
    values = [[1.0, 2.0, 4.0, 6.0, 5.0], [10.0, 10.0, 13.0, 10.0, 20.0, 40.0]]
    frame = pd.DataFrame({"unique_id": ["a"] * 5 + ["b"] * 6, "ds": range(11), "y": np.concatenate(values)})
    return Panel("two", frame, 2, season, "MS")


def forecasts(**columns):
    return Forecasts(pd.DataFrame({"step": [1, 2] * (len(columns["unique_id"]) // 2)} | columns), 1.0, 1.0, 5, (), ())


class TestFigures:
    def test_by_hand(self):
        given = forecasts(
            unique_id=["b", "b", "a", "a"],
            **{"q0.1": [19.0, 0, 0, 5.5], "q0.5": [20.0, 30.0, 4.0, 7.0], "q0.9": [21.0, 30.0, 7.0, 8.0]},
        )
        found = measure(make_panel(1), given)
        # a: errors 2, 2, differences 1, 2; b: errors 0, 10, differences 0, 3, -3
        assert found["mase"] == pytest.approx((2 / 1.5 + 5 / 2) / 2)
        assert found["mase_all"] == found["mase"]
        assert found["smape"] == pytest.approx(((200 * 2 / 10 + 200 * 2 / 12) / 2 + (200 * 10 / 70) / 2) / 2)
        assert found["coverage"] == 0.5
        assert measure(make_panel(2), given)["mase"] == pytest.approx((2 / 3 + 5 / 1.5) / 2)

    def test_a_series_left_out_counts_as_its_last_value(self):
        found = measure(make_panel(1), forecasts(unique_id=["a", "a"], **{"q0.5": [4.0, 7.0]}))
        assert (found["series"], found["all_series"], found["coverage"]) == (1, 2, None)
        assert found["mase"] == pytest.approx(2 / 1.5)
        assert found["mase_all"] == pytest.approx((2 / 1.5 + (10 + 30) / 2 / 2) / 2)

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_what_is_not_finite_is_no_forecast(self, wrong):
        with pytest.raises(CannotDo, match="not finite"):
            measure(make_panel(1), forecasts(unique_id=["a", "a"], **{"q0.5": [4.0, wrong]}))

    def test_training_sees_no_step_held_out(self):
        panel = make_panel(1)
        assert panel.training["y"].tolist() == [1, 2, 4, 10, 10, 13, 10]
        assert panel.held_out["y"].tolist() == [6, 5, 20, 40]


class TestDrawnPanel:
    def test_a_series_is_its_own_whatever_the_others(self):
        few, many = generated.draw_panel(5, 50, 300), generated.draw_panel(20, 50, 300)
        for one, other in zip(few, many, strict=False):
            np.testing.assert_array_equal(one, other)
        assert not np.array_equal(many[0], generated.draw_panel(1, 50, 300, seed=1)[0])

    def test_lengths_and_values(self):
        drawn = generated.draw_panel(300, 50, 60)
        assert {len(values) for values in drawn} == set(range(50, 61))
        assert all(np.isfinite(values).all() and values.std() > 0 for values in drawn)
        sizes = np.array([np.abs(values).mean() for values in drawn])
        assert sizes.min() < 0.1
        assert sizes.max() > 1e4


class TestResults:
    measured = {  # noqa: RUF012
        "method": "naive", "data": "m1", "digest": "0", "seed": 0, "series": 170, "all_series": 181, "mase": 1.25,
        "mase_all": 1.5, "smape": 20.0, "coverage": None, "train_seconds": 2.0, "predict_seconds": 0.5, "origins": 600,
        "remarks": ["short"], "versions": {"numpy": "2"}, "process_seconds": 9.0, "date": "2024-06-07", "load": 0.5,
    }  # fmt: skip

    def test_what_was_measured_is_not_measured_again(self, tmp_path, capsys):
        (tmp_path / "m1-naive-0.json").write_text(json.dumps(self.measured))
        forecasting.main(["--data=m1", "--methods=naive", f"--results={tmp_path}", "--python=/nowhere"])
        row = next(line for line in capsys.readouterr().out.splitlines() if "Naive" in line)
        title, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert title == "statsforecast Naive"
        assert cells[:6] == ["1.250", "1.500", "20.00", "-", "2.0", "0.50"]
        assert cells[6:] == ["9.0", "600", "300", "170 of 181 series; short"]

    def test_seeds_are_averaged_and_failures_said(self):
        results = [
            self.measured,
            self.measured | {"seed": 1, "mase": 1.75},
            {"seed": 2, "cannot": "no steps", "date": "2024-06-08"},
        ]
        printed = forecasting.table({"darts-rnn": results, "naive": [results[2]]})
        assert "| 1.500 (1.250 to 1.750) |" in printed
        assert "seed 2: cannot: no steps" in printed
        assert "| statsforecast Naive | - | - | - | - | - | - | - | - | - | cannot: no steps |" in printed
        assert "2024-06-07 to 2024-06-08" in printed
