"""Forecasts from end to end: nothing after an origin shows in them, and no series makes them other than numbers."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.series.encodings import read_encoding
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.parts import first_steps
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.forecasting import evaluate_forecasts, forecast_members
from jaxrnn.foundation.errors import DataError, UserError

HORIZON, SEASON = 3, 4
ROLES = {"id_column": "shop", "time_column": "day", "target_columns": "sales"}
COVARIATES = {
    "input_columns": "visits",
    "known_columns": "price",
    "static_columns": "size",
    "category_columns": "kind",
    "calendar": "weekday",
}
SMALL = {"hidden_size": 4, "epochs": 2, "batch_size": 16, "progress": False, "batching": "pad", "refit": False}


def table_of(series, *, kind="food"):
    """A table of daily series with all kinds of covariates; those of a step are drawn from its number alone."""
    generator = np.random.default_rng(7)
    drawn = generator.normal(size=(2, 400))
    columns: dict[str, list] = {name: [] for name in ("shop", "day", "sales", "visits", "price", "size", "kind")}
    for number, values in enumerate(series):
        length = len(values)
        columns["shop"] += [f"s{number:02}"] * length
        columns["day"] += list(np.datetime64("2024-01-01", "us") + np.arange(length) * np.timedelta64(1, "D"))
        columns["sales"] += list(values)
        columns["visits"] += list(drawn[0, :length])
        columns["price"] += list(drawn[1, :length])
        columns["size"] += [float(number % 3)] * length
        columns["kind"] += [kind if step % 2 else "other" for step in range(length)]
    return pa.table(columns)


def random_series(count=24, seed=0, low=8, high=16):
    generator = np.random.default_rng(seed)
    return [
        10 ** generator.uniform(-1, 3) * (3 + np.cumsum(generator.normal(size=generator.integers(low, high))))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def model():
    """A model of every kind of covariate, with a season."""
    settings = {"task": "forecast", "horizon": HORIZON, "season": SEASON, **ROLES, **COVARIATES, **SMALL}
    return jaxrnn.fit(table_of(random_series()), **settings)


@pytest.fixture(scope="module")
def plain():
    """A model of values alone, in the order in which they stand."""
    return jaxrnn.fit(random_series(), task="forecast", horizon=HORIZON, **SMALL)


def read(table, **more):
    return jaxrnn.read(table, **ROLES, input_columns="visits", known_columns="price", static_columns="size",
                       category_columns="kind", **more)  # fmt: skip


def members(model, sequences, origins):
    rows = model.encoding.encode(sequences, "forecast")
    return forecast_members(model.config, model.encoding, model.params, model.other, rows, origins)


def test_a_forecast_does_not_see_what_comes_after_its_origin(model):
    """All that is not known ahead is changed after the origin, by much; the forecast stays, bit for bit."""
    series = random_series(6, seed=1, low=16, high=17)
    sequences = read(table_of(series))
    for origin in (4, 9, 12):
        changed = table_of([np.concatenate([s[: origin + 1], -1e6 * s[origin + 1 :]]) for s in series])
        other = read(changed)
        steps = dict(other.steps)
        later = np.tile(np.arange(16), 6) > origin
        visits = np.where(later[:, None], 1e3, steps["inputs"].values)
        steps["inputs"] = dataclasses.replace(steps["inputs"], values=visits)
        codes = np.where(later[:, None], 0, steps["categories"].values)
        steps["categories"] = dataclasses.replace(steps["categories"], values=codes)
        other = dataclasses.replace(other, steps=steps)
        origins = np.full((6, 1), origin)
        np.testing.assert_array_equal(members(model, sequences, origins), members(model, other, origins))
        # A series that ends there, with its numbers known ahead, is forecast alike.
        cut = first_steps(sequences, np.full(6, origin + 1 + HORIZON))
        np.testing.assert_allclose(members(model, cut, origins), members(model, sequences, origins), rtol=1e-5)


def test_what_is_known_ahead_is_seen(model):
    series = random_series(3, seed=2, low=12, high=13)
    table = table_of(series)
    prices = np.array(table["price"].to_pylist())
    prices[np.arange(36) % 12 > 8] += 3.0
    other = table.set_column(table.schema.get_field_index("price"), "price", pa.array(prices))
    origins = np.full((3, 1), 8)
    before, after = (members(model, read(given), origins) for given in (table, other))
    assert (abs(before - after) > 1e-4 * abs(before)).any()
    earlier = np.full((3, 1), 8 - HORIZON)  # these prices are beyond its steps ahead
    before, after = (members(model, read(given), earlier) for given in (table, other))
    np.testing.assert_array_equal(before, after)


def test_rolling_origins_are_forecasts_of_series_that_end_there(model):
    sequences = read(table_of(random_series(5, seed=3, low=12, high=15)))
    found = model.evaluate(sequences, origins=3)
    assert found.predicted.shape == (5, 3, HORIZON, 1, 3)
    for place in range(3):
        cut = first_steps(sequences, sequences.lengths - 2 + place)
        one = model.evaluate(cut)
        np.testing.assert_allclose(found.predicted[:, place], one.predicted[:, 0], rtol=1e-4)
    single = evaluate_forecasts(model.config, model.encoding, model.params, model.other, sequences)
    assert single.origins.shape == (5, 1)
    assert found["mase"] > 0
    assert len(found.by_step["model"]["mase"]) == HORIZON


def test_a_forecast_is_that_of_the_evaluation(model):
    """What predict prints for a cut series is what evaluate measures on the whole one."""
    sequences = read(table_of(random_series(4, seed=4, low=12, high=13)))
    history = first_steps(sequences, sequences.lengths - HORIZON)
    lines = sequences.lengths[0] - HORIZON + np.arange(HORIZON)
    table = table_of(random_series(4, seed=4, low=12, high=13))
    ahead = table.take((sequences.offsets[:-1, None] + lines).ravel())
    given = model.predict(history, known=ahead)
    measured = model.evaluate(sequences).predicted[:, 0, :, 0]
    np.testing.assert_allclose(given["q0.5"].to_numpy(), measured[..., 1].ravel(), rtol=1e-5)
    assert given["step"].to_pylist() == [1, 2, 3] * 4
    assert given.column_names == ["shop", "day", "step", "q0.1", "q0.5", "q0.9"]
    assert given["day"].to_pylist() == ahead["day"].to_pylist()
    shorter = model.predict(history, 2, known=ahead)
    assert shorter["q0.9"].to_pylist() == given.filter(pa.compute.less(given["step"], 3))["q0.9"].to_pylist()


HARD = {
    "constant": np.full(9, 5.0),
    "zero": np.zeros(9),
    "negative": -1000 - np.arange(9.0) ** 2,
    "tiny": 1e-6 * np.sin(np.arange(9)),
    "huge": 1e9 + 1e3 * np.arange(9.0),
    "largest": 1e38 * np.sin(np.arange(9)),
    "smallest": 5e-324 * np.arange(9),
    "one step": np.array([42.0]),
    "shorter than the horizon": np.array([42.0, 43.0]),
    "sudden": np.concatenate([np.zeros(8), [1e12]]),
    "long": np.cumsum(np.random.default_rng(0).normal(size=200)),
}


def test_any_series_gets_a_forecast_of_numbers_in_order(plain):
    table = plain.predict(list(HARD.values()))
    quantiles = np.stack([table[name].to_numpy() for name in ("q0.1", "q0.5", "q0.9")], axis=1)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    by_name = dict(zip(HARD, quantiles.reshape(len(HARD), HORIZON, 3), strict=True))
    assert (by_name["constant"] == 5).all()
    assert (by_name["zero"] == 0).all()
    assert by_name["tiny"].max() < 1e-4 < by_name["huge"].min() - 9e8
    assert table["time"].to_pylist()[:3] == [9, 10, 11]


def test_units_do_not_matter(plain):
    """Series in other units are forecast as the same ones: by a power of two bit for bit."""
    series = random_series(5, seed=5)
    once, twice = (plain.predict([2.0**power * s for s in series])["q0.1"].to_numpy() for power in (0, 40))
    np.testing.assert_array_equal(once * 2.0**40, twice)
    moved = plain.predict([s - s.mean() for s in series])["q0.1"].to_numpy()
    means = np.repeat([s.mean() for s in series], HORIZON)
    np.testing.assert_allclose(moved + means, once, rtol=1e-6)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([[1.0, np.inf]], "inf"),
        ([[np.nan, np.nan]], "nan"),
        ([[1.0, 2.0], []], "sequence 1: found no steps"),
    ],
)
def test_what_cannot_be_forecast_is_refused(series, message, plain):
    with pytest.raises((DataError, UserError, ValueError), match=f"(?i){message}"):
        plain.predict(series)


def test_more_steps_than_trained_are_refused(plain):
    with pytest.raises(UserError, match=r"--horizon: got 4; expected 1 to 3.*train one with --horizon=4"):
        plain.predict(random_series(2), 4)
    with pytest.raises(UserError, match="known: got 'some'; expected none"):
        plain.predict(random_series(2), known=table_of(random_series(2)))
    with pytest.raises(DataError, match="series '0': found 3 steps; expected more than the horizon of 3"):
        plain.evaluate([[1.0, 2.0, 3.0]])


def test_series_that_lack_what_is_known_ahead_are_refused(model):
    table = table_of(random_series(2, low=8, high=9))
    with pytest.raises(DataError, match="found nothing known ahead of price"):
        model.predict(table)
    with pytest.raises(DataError, match="found no numbers known ahead for 2024-01-09"):
        model.predict(table, known=table.slice(0, 2))


def test_frames_come_back_as_what_they_were(plain):
    pandas = pytest.importorskip("pandas")
    times = pandas.to_datetime(["2024-01-31", "2024-02-29", "2024-03-31", "2024-05-31"])
    frame = pandas.DataFrame({"shop": [7, 7, 7, 9], "t": times, "y": [1.0, 2.0, 4.0, 3.0]})
    roles = {"id_column": "shop", "time_column": "t", "target_columns": "y"}
    model = dataclasses.replace(plain, config=plain.config.replace_flat(roles))
    targets = dataclasses.replace(plain.encoding.targets, names=("y",))
    encoding = dataclasses.replace(plain.encoding, targets=targets, frequency=Frequency("month", day=31))
    model = dataclasses.replace(model, encoding=encoding)
    found = model.predict(frame)
    assert isinstance(found, pandas.DataFrame)
    assert found.shop.tolist() == [7] * 3 + [9] * 3
    assert found.shop.dtype == frame.shop.dtype
    assert found.t.dtype == frame.t.dtype
    assert found.t.dt.strftime("%m-%d").tolist() == ["04-30", "05-31", "06-30", "06-30", "07-31", "08-31"]
    chosen = model.predict(frame[frame.shop == 7])  # rows that were chosen have an index of their own
    pandas.testing.assert_frame_equal(chosen, found[:3])
    polars = pytest.importorskip("polars")
    assert isinstance(model.predict(polars.from_pandas(frame)), polars.DataFrame)
    assert isinstance(model.predict(pa.Table.from_pandas(frame)), pa.Table)


def test_a_model_is_saved_whole(model, tmp_path):
    content = json.loads(json.dumps(model.encoding.to_json()))
    assert read_encoding(content, "forecast") == model.encoding
    wrong_values = {
        "horizon": 0,
        "season": 1.5,
        "scaling": "none ",
        "global_scales": [0],
        "first_scales": [],
        "calendar": ["x"],
        "frequency": {},
        "levels": True,
        "is_marked": 1,
    }
    for key, wrong in wrong_values.items():
        with pytest.raises((ValueError, TypeError, KeyError)):
            SeriesEncoding.from_json(content | {key: wrong})
    model.save(tmp_path / "saved")
    sequences = read(table_of(random_series(3, seed=6)))
    again = jaxrnn.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.evaluate(sequences).predicted, model.evaluate(sequences).predicted)


def test_before_its_first_value_a_series_has_no_forecast(plain):
    """Ten unknown steps, then three values: nothing was there to forecast them from."""
    model = dataclasses.replace(plain, config=plain.config.replace_flat({"missing": "mask"}))
    late = jaxrnn.read(pa.table({"0": [*[None] * 10, 5.0, 6.0, 7.0]}), input_columns="0", missing="mask")
    found = model.evaluate(late)
    assert np.isnan([found[name] for name in ("mae", "rmse", "smape", "coverage")]).all()
    assert "no series has a mase" in found.verdict.notes


def test_series_too_short_to_learn_from_are_refused():
    with pytest.raises(DataError, match="series of at most 4 steps to train on; expected one of 5 or more"):
        jaxrnn.fit([[1.0, 2, 3, 4]], task="forecast", horizon=1, **SMALL)
