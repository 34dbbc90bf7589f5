"""What a network reads of a series to forecast it: units of its own, and no step that tells of a later one."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn.data.series.levels import mean_changes
from jaxrnn.data.series.series_encoding import MAX_CHANGE, RECENT_STEPS, SeriesEncoding
from jaxrnn.settings.config import Config

HORIZON = 3
CONFIG = Config().replace_flat({"task": "forecast", "loss": "pinball", "horizon": HORIZON, "season": 4})


def draw_series(seed, length):
    generator = np.random.default_rng(seed)
    return generator.normal(5, 1) + np.cumsum(generator.normal(0.3, 1, length))


PANEL = [draw_series(seed, length) for seed, length in enumerate((30, 12, 7, 21))]


def read(series):
    return jaxrnn.read([np.asarray(values, np.float64)[:, None] for values in series])


def fit(**settings):
    return SeriesEncoding.fit(read(PANEL), CONFIG.replace_flat(settings))


def inputs_of(encoding, values):
    """What is read of the steps whose values are known, all but the levels a season ago."""
    rows = encoding.encode_training(read([values]), "forecast")
    return rows.inputs[:, : rows.inputs.shape[1] - 2]


@pytest.mark.parametrize("scaling", ["series", "global", "none"])
def test_no_input_and_no_unit_tells_of_a_later_value(scaling):
    encoding = fit(scaling=scaling)
    values = draw_series(9, 25)
    for length in (1, 2, 5, 13, 24):
        others = np.concatenate([values[:length], 1e6 * draw_series(10, 25 - length)])
        for whole in (values, others):
            inputs = inputs_of(encoding, whole)[:length]
            np.testing.assert_array_equal(inputs, inputs_of(encoding, values[:length]), strict=True)
        rows = [encoding.encode_training(read([given]), "forecast").series for given in (others, values[:length])]
        np.testing.assert_array_equal(rows[0].scales[:length], rows[1].scales)


def test_levels_a_season_ago_and_their_units_are_read_without_later_values():
    encoding = fit()
    values, length = draw_series(9, 25), 14
    others = np.concatenate([values[: length + 1], 1e6 * draw_series(10, 10)])
    step = np.s_[: length + 1]
    products = []
    for given in (values, others):
        inputs = encoding.encode_training(read([given]), "forecast").inputs[step].astype(np.float64)
        products.append(inputs[:, -2] * inputs[:, -1])  # the level in units of the step
    np.testing.assert_allclose(products[0], products[1], rtol=1e-6)
    # What is forecast from a step must not change by a bit: its last step's own powers of two are what differs.
    seen = [
        encoding.encode(read([given[: length + 1 + HORIZON]]), "forecast").inputs[step] for given in (values, others)
    ]
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("exponent", [-20, 3, 30])
def test_other_units_of_a_power_of_two_change_no_bit(exponent):
    encoding = fit()
    for values in PANEL:
        first, second = (
            encoding.encode_training(read([given]), "forecast") for given in (values, values * 2.0**exponent)
        )
        np.testing.assert_array_equal(first.inputs, second.inputs)
        np.testing.assert_array_equal(first.targets, second.targets)
        np.testing.assert_array_equal(first.series.scales * 2.0**exponent, second.series.scales)


@pytest.mark.parametrize(
    "values",
    [
        np.full(9, 7.0), np.zeros(9), -draw_series(3, 9), 1e-6 * draw_series(3, 9), 1e9 * draw_series(3, 9), [4.0],
        [0.0], [0.0, 0.0, 1e30, 0.0], np.r_[np.zeros(20), 1.0],
    ],
)  # fmt: skip
@pytest.mark.parametrize("scaling", ["series", "global", "none"])
def test_whatever_the_series_inputs_are_finite(values, scaling):
    rows = fit(scaling=scaling).encode_training(read([values]), "forecast")
    assert np.isfinite(rows.inputs).all()
    assert np.isfinite(rows.targets).all()
    assert np.isfinite(rows.series.scales).all()


def test_changes_are_read_over_one_step_over_all_and_over_the_last_few():
    values = np.array([3.0, 4.0, 6.0, 5.0, 9.0, 8.0, 8.0])
    changes = np.diff(values)
    inputs = inputs_of(fit(), values)
    for step in range(1, len(values)):
        unit = np.abs(changes[:step]).mean()
        recent = changes[max(step - RECENT_STEPS, 0) : step]
        wanted = [changes[step - 1], changes[:step].mean(), recent.mean()]
        np.testing.assert_allclose(inputs[step, :3], np.array(wanted) / unit, rtol=1e-6)
    np.testing.assert_array_equal(inputs[0, :3], 0)


def test_changes_of_many_units_are_read_as_a_few():
    steady = np.cumsum(np.tile([1.0, -1.0], 20))
    inputs = inputs_of(fit(), np.r_[steady, 1e6])
    assert inputs[-1, 0] == MAX_CHANGE
    assert (np.abs(inputs[:, :3]) <= MAX_CHANGE).all()


def test_mean_changes_of_one_series_leave_another_alone():
    values = np.concatenate(PANEL)[:, None]
    offsets = np.concatenate([[0], np.cumsum([len(series) for series in PANEL])])
    for most in (None, 1, 4):
        found = mean_changes(values, offsets, most)
        for number, series in enumerate(PANEL):
            for step in range(len(series)):
                back = min(step, step if most is None else most)
                wanted = (series[step] - series[step - back]) / back if back else 0.0
                assert found[offsets[number] + step, 0] == wanted
