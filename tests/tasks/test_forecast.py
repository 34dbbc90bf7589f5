"""The loss and the figures of forecasts, on the device and on the host, against plain loops."""

import jax
import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from jaxrnn.tasks import forecast_figures
from jaxrnn.tasks.forecast import Forecast, pinball
from jaxrnn.tasks.forecast_figures import Answers, rolling_origins

HORIZON, TARGETS, QUANTILES = 3, 2, (0.1, 0.5, 0.9)
LENGTHS = np.array([7, 2, 5, 0])
STEPS = 8


@pytest.fixture(scope="module")
def batch():
    """Outputs and targets of series that fill a batch of padded rows, with missing values and steps that are none."""
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(4, STEPS, HORIZON * TARGETS * len(QUANTILES))).astype(np.float32)
    levels = generator.normal(size=(4, STEPS, TARGETS)).astype(np.float32)
    scales = generator.uniform(0.5, 2, (4, STEPS, TARGETS)).astype(np.float32)
    is_known = generator.random((4, STEPS, TARGETS)) < 0.8
    is_origin = np.broadcast_to(np.arange(STEPS) >= 1, (4, STEPS))[..., None]
    counts = (np.arange(STEPS) < LENGTHS[:, None])[..., None]
    units = np.broadcast_to(np.where(np.arange(4) == 2, 0.0, 0.5)[:, None, None], levels.shape)  # one never changes
    targets = np.concatenate([levels, scales, is_known, units, is_origin], axis=2).astype(np.float32) * counts
    return outputs, targets


def plain_loop(outputs, targets, losses):
    """Adds up every origin, step ahead and target one by one."""
    total, error, number, with_units = 0.0, 0.0, 0, 0
    outputs = outputs.reshape(*outputs.shape[:2], HORIZON, TARGETS, -1).astype(np.float64)
    for row, length in enumerate(LENGTHS):
        for origin in range(1, length):
            for ahead in range(1, HORIZON + 1):
                for target in range(TARGETS):
                    if origin + ahead >= length or not targets[row, origin + ahead, 2 * TARGETS + target]:
                        continue
                    change = targets[row, origin + ahead, target] - targets[row, origin, target]
                    given = outputs[row, origin, ahead - 1, target] * targets[row, origin, TARGETS + target]
                    total += losses(change, given)
                    unit = targets[row, origin, 3 * TARGETS + target]
                    error += abs(change - given[len(given) // 2]) * unit
                    number, with_units = number + 1, with_units + (unit > 0)
    return total, error / with_units, number


@pytest.mark.parametrize("loss", ["pinball", "mae", "mse"])
def test_every_origin_counts_once_and_nothing_else(loss, batch):
    outputs, targets = batch
    quantiles = QUANTILES if loss == "pinball" else (0.5,)
    outputs = outputs if loss == "pinball" else outputs[..., : HORIZON * TARGETS]
    task = Forecast(HORIZON, TARGETS, loss, quantiles)

    def of_one(change, given):
        if loss == "pinball":
            return 2 * np.mean(
                [mean_pinball_loss([change], [value], alpha=q) for value, q in zip(given, quantiles, strict=True)]
            )
        return abs(change - given[0]) if loss == "mae" else (change - given[0]) ** 2

    total, error, number = plain_loop(outputs, targets, of_one)
    assert number > 20

    def measure(outputs, targets):
        padded = task.measure(outputs, targets, LENGTHS, {})
        # The same series behind one another in one row: no origin sees the next series.
        order = np.concatenate([np.arange(length) + row * STEPS for row, length in enumerate(LENGTHS)])
        ids = np.concatenate([np.full(length, row + 1) for row, length in enumerate(LENGTHS)])[None]
        flat_outputs, flat_targets = (values.reshape(1, -1, values.shape[2])[:, order] for values in (outputs, targets))
        return padded, task.measure_packed(flat_outputs, flat_targets, ids.astype(np.int32), {})

    for (loss_sum, weight), sums in jax.jit(measure)(outputs, targets):
        assert weight == number
        assert loss_sum == pytest.approx(total, rel=1e-5)
        figures = task.compute(task.zero(4) + sums, {})
        assert figures["loss"] == pytest.approx(total / number, rel=1e-5)
        assert figures["mase"] == pytest.approx(error, rel=1e-5)


def test_pinball_is_least_at_the_quantile():
    values = np.random.default_rng(1).exponential(size=4001)
    grid = np.linspace(0, 4, 401)
    for level in (0.1, 0.5, 0.8):
        losses = [pinball((values - guess)[:, None], (level,)).mean() for guess in grid]
        assert grid[int(np.argmin(losses))] == pytest.approx(np.quantile(values, level), abs=0.02)
    assert pinball(np.array([[-2.0]]), (0.5,)) == 2.0  # the absolute error


@pytest.fixture(scope="module")
def series():
    """Three series, one of which never changes, and where their forecasts start."""
    generator = np.random.default_rng(2)
    lengths = np.array([20, 9, 12])
    values = np.cumsum(generator.normal(size=(lengths.sum(), TARGETS)), axis=0)
    values[20:29] = 4.0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return values, offsets, rolling_origins(lengths, HORIZON, 4)


def test_origins_end_before_the_last_steps(series):
    origins = series[2]
    assert origins[:, -1].tolist() == [16, 5, 8]
    assert origins[1].tolist() == [-1, 3, 4, 5]  # nothing learns to forecast from the first three steps
    assert (np.diff(origins[[0, 2]], axis=1) == 1).all()
    assert rolling_origins(np.array([4, 2]), HORIZON, 2).tolist() == [[-1, 0], [-1, -1]]


def test_figures_are_those_of_their_definitions(series):
    values, offsets, origins = series
    season = 4
    is_known = np.ones(values.shape, bool)
    is_known[offsets[1] - 1, 0] = False
    answers = forecast_figures.collect_answers(values, is_known, offsets, origins, horizon=HORIZON, season=season)
    forecasts = np.sort(answers.actual[..., None] + np.random.default_rng(3).normal(size=(3, 4, HORIZON, TARGETS, 3)))
    figures = forecast_figures.mean_figures(forecasts, answers, QUANTILES)
    each = forecast_figures.measure_forecasts(forecasts, answers, QUANTILES)
    mase, smape, absolute, inside, scaled = ([] for _ in range(5))
    for number in range(3):
        of_series: dict[str, list[float]] = {"mase": [], "smape": [], "quantile_loss": []}
        for place, origin in enumerate(origins[number]):
            if origin < 0:
                continue
            first = origins[number][origins[number] >= 0][0]
            for target in range(TARGETS):
                seen = values[offsets[number] : offsets[number] + first + 1, target]
                lag = season if len(seen) > season else 1
                naive = np.abs(seen[lag:] - seen[:-lag]).mean()
                for ahead in range(HORIZON):
                    step = offsets[number] + origin + ahead + 1
                    if not is_known[step, target]:
                        continue
                    actual, given = values[step, target], forecasts[number, place, ahead, target]
                    error = abs(actual - given[1])
                    absolute.append(error)
                    inside.append(given[0] <= actual <= given[2])
                    of_series["smape"].append(200 * error / (abs(actual) + abs(given[1])))
                    if naive:
                        of_series["mase"].append(error / naive)
                        loss = 2 * np.mean(
                            [mean_pinball_loss([actual], [g], alpha=q) for g, q in zip(given, QUANTILES, strict=True)]
                        )
                        of_series["quantile_loss"].append(loss / naive)
        smape.append(np.mean(of_series["smape"]))
        if of_series["mase"]:
            mase.append(np.mean(of_series["mase"]))
            scaled.append(np.mean(of_series["quantile_loss"]))
    assert np.isnan(each["mase"][1])  # it has not changed
    expected = {
        "mase": np.mean(mase),
        "smape": np.mean(smape),
        "mae": np.mean(absolute),
        "rmse": np.mean(np.square(absolute)) ** 0.5,
        "quantile_loss": np.mean(scaled),
        "coverage": np.mean(inside),
    }
    assert figures == pytest.approx(expected)
    by_step = forecast_figures.figures_by_step(forecasts, answers, QUANTILES)
    assert {len(found) for found in by_step.values()} == {HORIZON}
    assert forecast_figures.mean_figures(answers.actual[..., None], answers, (0.5,)) == pytest.approx(
        {"mase": 0, "smape": 0, "mae": 0, "rmse": 0}
    )


def test_baselines_are_what_their_names_say(series):
    values, offsets, origins = series
    found = forecast_figures.baseline_forecasts(values, offsets, origins, horizon=5, season=2)
    start, origin = offsets[2], origins[2, 1]
    seen = values[start : start + origin + 1]
    assert set(found) == {"last_value", "drift", "seasonal_naive", "mean"}
    one = {name: forecasts[2, 1, ..., 0] for name, forecasts in found.items()}
    np.testing.assert_allclose(one["last_value"], np.tile(seen[-1], (5, 1)))
    slope = (seen[-1] - seen[0]) / origin
    np.testing.assert_allclose(one["drift"], seen[-1] + slope * np.arange(1, 6)[:, None])
    np.testing.assert_allclose(one["mean"], np.tile(seen.mean(axis=0), (5, 1)))
    np.testing.assert_array_equal(one["seasonal_naive"], seen[[-2, -1, -2, -1, -2]])
    without = forecast_figures.baseline_forecasts(values, offsets, origins, horizon=5, season=1)
    assert set(without) == {"last_value", "drift", "mean"}


def test_nothing_known_gives_no_figures():
    nothing = np.zeros((2, 1, HORIZON, 1), bool)
    answers = Answers(np.zeros(nothing.shape), nothing, np.ones((2, 1)))
    figures = forecast_figures.mean_figures(np.zeros((*nothing.shape, 3)), answers, QUANTILES)
    assert all(np.isnan(value) for value in figures.values())
    one = answers._replace(is_known=np.array([True, False])[:, None, None, None] | nothing)
    assert forecast_figures.mean_figures(np.ones((*nothing.shape, 3)), one, QUANTILES)["mase"] == 1
