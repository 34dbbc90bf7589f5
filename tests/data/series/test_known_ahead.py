"""Numbers known ahead are found by id and time, and what is missing is named."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxrnn
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.tables.loading import future_known, load_sequences
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import TaskConfig

FORECAST = TaskConfig(task="forecast")
CONFIG = Config(
    task=FORECAST,
    columns=ColumnsConfig(
        id_column="shop", time_column="day", target_columns="sales", known_columns="price,holiday", input_columns="x"
    ),
)


def history(**changed: Any) -> pa.Table:
    columns = {
        "shop": ["b", "b", "a", "a", "a"],
        "day": ["2024-02-27", "2024-02-28", "2023-12-29", "2023-12-30", "2023-12-31"],
        "sales": [1.0, 2, 3, 4, 5], "x": [0.0] * 5, "price": [1.0] * 5, "holiday": [0, 0, 0, 0, 1],
    }  # fmt: skip
    return pa.table(columns | changed)


def ahead(**changed: Any) -> dict[str, list[Any]]:
    """Of a and b the two days behind them, out of order, with another shop, other days and another column."""
    return {
        "shop": ["a", "b", "c", "b", "a", "a", "b"],
        "day": ["2024-01-02", "2024-03-01", "2024-01-01", "2024-02-29", "2024-01-01", "2023-12-31", "2024-03-02"],
        "holiday": [12, 22, 0, 21, 11, 0, 23],
        "note": ["x"] * 7,
        "price": [1.2, 2.2, 0.0, 2.1, 1.1, 0.0, 2.3],
    } | changed  # fmt: skip


EXPECTED = [[1.1, 11], [1.2, 12], [2.1, 21], [2.2, 22]]


def look(source: Any, *, horizon: int = 2, series: pa.Table | None = None, config: Config = CONFIG) -> np.ndarray:
    sequences = load_sequences(history() if series is None else series, config)
    return future_known(sequences, source, config, Frequency.of(sequences), horizon)


def test_frames_and_files_alike(tmp_path: Path) -> None:
    table = pa.table(ahead())
    pq.write_table(table, tmp_path / "ahead.parquet")
    lines = [",".join(map(str, row)) for row in zip(*ahead().values(), strict=True)]
    (tmp_path / "ahead.csv").write_text("\n".join([",".join(ahead()), *lines]))
    for source in (table, str(tmp_path / "ahead.parquet"), tmp_path / "ahead.csv"):
        assert look(source).tolist() == EXPECTED
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ahead())
    assert look(frame.assign(day=pandas.to_datetime(frame["day"]))).tolist() == EXPECTED


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (ahead(day=["2024-01-02"] + [f"2024-03-0{n}" for n in range(1, 7)]),
         "^numbers known ahead: found no numbers known ahead for 2024-01-01 of 'a', 2024-02-29 of 'b'; expected those"
         " of 2 steps behind each series, 4 in all; add the rows"),
        (ahead(shop=["q", "q", "c", "d", "q", "e", "b"], day=[f"2024-01-0{n}" for n in range(1, 8)]),
         "for 2024-01-01 of 'a', 2024-01-02 of 'a', 2024-02-29 of 'b' and 1 more; expected"),
        ({key: value for key, value in ahead().items() if key != "price"}, "found no column 'price'; expected one of"),
        ({key: value for key, value in ahead().items() if key != "day"}, "found no column 'day'"),
        (ahead(day=list(range(7))), "found numbers for the times of the numbers known ahead; expected dates"),
        (ahead(day=["2024-01-02"] * 7), "found the time .* of 'b' again, as in line 2"),
        (ahead(price=[1.0] * 6 + [None]), "found a missing value in 'price', the only one"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        look(pa.table(source))


def test_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ahead.csv").write_text("shop,day,price,holiday\na,2024-01-01,1,1\n")
    with pytest.raises(DataError, match=r"ahead.csv: found no numbers known ahead for 2024-01-02 of 'a', 2024-02-29"):
        look(tmp_path / "ahead.csv")


def test_arrays_have_no_columns() -> None:
    with pytest.raises(UserError, match="columns: got"):
        look([np.zeros((2, 2))])


@pytest.mark.parametrize("step", [1, 0.1])
def test_times_may_be_numbers(step: float) -> None:
    # Both count from their own start, so sums of floats differ in their last bits.
    times = np.cumsum(np.full(20, step)) if step < 1 else np.arange(20)
    later = np.arange(40) * step + (step if step < 1 else 0)
    config = Config(
        task=FORECAST,
        columns=ColumnsConfig(time_column="t", known_columns="price", target_columns="y", input_columns="x"),
    )
    series = pa.table({"t": times, "price": np.zeros(20), "y": np.zeros(20), "x": np.zeros(20)})
    found = look(pa.table({"price": np.arange(40.0), "t": later}), horizon=5, series=series, config=config)
    assert found.ravel().tolist() == [20, 21, 22, 23, 24]
    with pytest.raises(DataError, match=r"and 2 more; expected those of 25 steps behind each series, 25 in all"):
        look(pa.table({"price": np.arange(40.0), "t": later}), horizon=25, series=series, config=config)
    dates = np.arange(40).astype("M8[us]")
    with pytest.raises(DataError, match="found dates for the times of the numbers known ahead; expected numbers"):
        look(pa.table({"price": np.arange(40.0), "t": dates}), horizon=5, series=series, config=config)


def test_without_times_the_order_counts() -> None:
    columns = dataclasses.replace(CONFIG.columns, time_column=None)
    config = dataclasses.replace(CONFIG, columns=columns)
    series = history().drop_columns("day")
    source = {"shop": ["b", "a", "b", "a", "a"], "price": [1.0, 2, 3, 4, 5], "holiday": [0] * 5}
    assert look(pa.table(source), series=series, config=config)[:, 0].tolist() == [2, 4, 1, 3]
    with pytest.raises(DataError, match="for step 3 of 'b'; expected those of 3 steps behind each series, 6 in all"):
        look(pa.table(source), series=series, config=config, horizon=3)


def test_marks_of_what_is_missing_are_read_too() -> None:
    columns = dataclasses.replace(CONFIG.columns, missing="mask")
    config = dataclasses.replace(CONFIG, columns=columns)
    source = pa.table(ahead(price=[None, 2.2, 0.0, 2.1, 1.1, 0.0, 2.3]))
    assert look(source, config=config).tolist() == [[1.1, 11, 0, 0], [0, 12, 1, 0], [2.1, 21, 0, 0], [2.2, 22, 0, 0]]


def test_wide_tables_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").write_text(
        '{"id": "a", "ds": ["2024-01-01", "2024-01-02"], "y": [1, 2], "p": [3, 4]}\n'
        '{"id": "b", "ds": ["2024-01-02", "2024-01-03"], "y": [1, 2], "p": [5, 6]}\n'
    )
    sequences = jaxrnn.read(tmp_path / "known.jsonl", time_column="ds", target_columns="y", known_columns="p")
    assert repr(sequences) == "Sequences(2, of 2 to 2 steps: 1 targets; 1 known; times; ids)"
    assert sequences.steps["known"].values.ravel().tolist() == [3, 4, 5, 6]
    config = Config(task=FORECAST, columns=ColumnsConfig(time_column="ds", target_columns="y", known_columns="p"))
    (tmp_path / "ahead.jsonl").write_text(
        '{"id": "b", "ds": ["2024-01-04"], "p": [8]}\n{"id": "a", "ds": ["2024-01-03"], "p": [7]}\n'
    )
    found = future_known(sequences, tmp_path / "ahead.jsonl", config, Frequency.of(sequences), 1)
    assert found.ravel().tolist() == [7, 8]
