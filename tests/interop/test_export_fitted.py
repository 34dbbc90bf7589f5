"""Exports of models that were fitted on data, fed by hand from that data: in its units, as a deployment would."""

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.interop.exporting.onnx_model import OnnxRunner, to_onnx
from jaxrnn.interop.exporting.stablehlo import StableHloRunner, to_stablehlo

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


QUICK = {"cell": "gru", "hidden_size": 4, "epochs": 2, "batching": "pad", "progress": False}


def series_table(length: int, horizon: int = 0) -> dict[str, np.ndarray]:
    """Two daily series of sales with a price; the steps ahead as well if a horizon is given."""
    generator = np.random.default_rng(0)
    columns: dict[str, list] = {"shop": [], "day": [], "sales": [], "price": []}
    for shop, steps in (("a", length), ("b", length - 7)):
        days = np.datetime64("2024-02-20", "us") + np.arange(steps + horizon) * np.timedelta64(1, "D")
        price = generator.uniform(1, 2, length + 20)[: steps + horizon]
        sales = 100 + 5 * np.arange(steps + horizon) % 7 - 10 * price + generator.normal(size=length + 20)[: len(days)]
        for name, values in (("shop", [shop] * len(days)), ("day", days), ("sales", sales), ("price", price)):
            columns[name] += list(values)
    return {name: np.array(values) for name, values in columns.items()}


def test_forecasts_of_a_table_with_gaps_calendar_and_known_prices():
    horizon, table = 4, series_table(40)
    whole, missing = series_table(40, horizon), np.isin(np.arange(len(table["day"])), [5, 6, 20, 50])
    kept = pa.table({name: pa.array(values[~missing]) for name, values in table.items()})
    columns = {"id_column": "shop", "time_column": "day", "target_columns": ["sales"], "known_columns": ["price"]}
    model = jaxrnn.fit(kept, task="forecast", horizon=horizon, missing="mask", calendar="weekday,day", season=7,
                       loss="pinball", **columns, **QUICK)  # fmt: skip
    values, known, times = (np.zeros((2, 40 + more, *last)) for more, last in ((0, (1,)), (4, (1,)), (4, ())))
    lengths = np.array([40, 33])
    for row, (shop, length) in enumerate(zip("ab", lengths, strict=True)):
        own, ahead = table["shop"] == shop, whole["shop"] == shop
        values[row, :length, 0] = np.where(missing[own], np.nan, table["sales"][own])
        known[row, : length + horizon, 0] = whole["price"][ahead]
        known[row, :length, 0][missing[own]] = np.nan
        times[row, : length + horizon] = whole["day"][ahead].astype("M8[us]").astype(np.int64)
    feeds = {"values": values, "known": known, "times": times.astype(np.int64), "lengths": lengths}
    future = pa.table({name: pa.array(values) for name, values in whole.items() if name != "sales"})
    predicted = model.predict(kept, known=future)
    expected = np.stack([predicted.column(f"q{level}").to_numpy() for level in (0.1, 0.5, 0.9)], axis=1)
    for found in (OnnxRunner(to_onnx(model))(feeds), StableHloRunner(to_stablehlo(model))(feeds)):
        np.testing.assert_allclose(found["forecasts"].reshape(-1, 3), expected, rtol=1e-6)


@pytest.mark.slow
def test_texts_go_in_letter_by_letter_and_classes_come_out():
    texts, labels = ["good day", "bad", "fine day", "bad day", "so good", "awful"], ["+", "-", "+", "-", "+", "-"]
    model = jaxrnn.fit(
        pa.table({"text": texts, "label": labels}), task="classify", text_column="text", label_column="label", **QUICK
    )
    asked = ["a good day", "ä"]
    letters = np.full((2, len(asked[0]), 1), "", object)
    for row, text in enumerate(asked):
        letters[row, : len(text), 0] = list(text)
    found = OnnxRunner(to_onnx(model))({"categories": letters, "lengths": np.array(list(map(len, asked)))})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(asked), rtol=0, atol=1e-6)
    assert found["class"].tolist() == model.predict(asked).tolist()


@pytest.mark.slow
def test_a_missing_number_is_nan():
    generator = np.random.default_rng(0)
    rows = [generator.normal(size=(length, 2)) + 5 for length in (3, 4, 6, 5, 4, 6)]
    for row in rows:
        row[generator.random(row.shape) < 0.3] = np.nan
    table = pa.table(
        {
            "row": np.repeat(np.arange(6), [len(row) for row in rows]),
            "a": pa.array(np.concatenate(rows)[:, 0], from_pandas=True),
            "b": pa.array(np.concatenate(rows)[:, 1], from_pandas=True),
            "weight": np.repeat(np.arange(6.0), [len(row) for row in rows]),
        }
    )
    columns = {"id_column": "row", "input_columns": ["a", "b"], "target_columns": ["weight"], "missing": "mask"}
    model = jaxrnn.fit(table, task="regress", **columns, **QUICK)
    padded = np.zeros((6, 6, 2))
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    feeds = {"inputs": padded, "lengths": np.array(list(map(len, rows)))}
    expected = np.reshape(model.predict(table), (6, -1))
    for found in (OnnxRunner(to_onnx(model))(feeds), StableHloRunner(to_stablehlo(model))(feeds)):
        np.testing.assert_allclose(found["predicted"], expected, rtol=1e-6)
