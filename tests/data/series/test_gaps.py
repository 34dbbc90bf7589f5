"""Steps that are missing are refused by name, filled, or marked, and their times put in."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.sequences import Field, Sequences
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.gaps import fill_gaps, find_gaps
from jaxrnn.foundation.errors import DataError

ROLES: dict[str, Any] = {
    "id_column": "shop", "time_column": "month", "input_columns": "visits", "target_columns": "sales",
    "known_columns": "price", "category_columns": "weather", "targets_may_be_missing": True,
}  # fmt: skip
TABLE = pa.table(
    {
        "shop": ["b", "b", "b", "a", "a", "a"],
        "month": ["2024-01-31", "2024-02-29", "2024-05-31", "2023-12-31", "2024-01-31", "2024-02-29"],
        "visits": [1.0, 2.0, 5.0, 10.0, 11.0, 12.0],
        "sales": [1.5, 2.5, 5.5, 0.5, 1.5, 2.5],
        "price": [7.0, 8.0, 9.0, 1.0, 1.0, 1.0],
        "weather": ["sun", "rain", "sun", "rain", "rain", "rain"],
    }
)


def read(missing: str, table: pa.Table = TABLE) -> tuple[Sequences, Frequency]:
    sequences = jaxrnn.read(table, **ROLES, missing=missing)
    return sequences, Frequency.of(sequences)


def test_a_gap_is_refused_with_its_series_and_its_times() -> None:
    sequences, frequency = read("error")
    message = (
        r"^series 'b': found 2 steps missing between 2024-02-29 and 2024-05-31; expected every step \(monthly\); give "
        "--missing=forward to repeat the step before, --missing=mask to mark them, or add the rows$"
    )
    with pytest.raises(DataError, match=message):
        fill_gaps(sequences, frequency, "error")
    table = pa.table({"t": [0, 1, 3, 4, 9, 10, 11], "x": [0.0] * 7})
    sequences = jaxrnn.read(table, time_column="t")
    with pytest.raises(DataError, match="series 0: found 1 step missing between 1 and 3, 5 in 2 gaps of all series;"):
        fill_gaps(sequences, Frequency.of(sequences), "error")


def test_forward_repeats_the_step_before() -> None:
    sequences, frequency = read("forward")
    found = fill_gaps(sequences, frequency, "forward")
    assert found.lengths.tolist() == [3, 5]
    assert found.steps["inputs"].values.ravel().tolist() == [10, 11, 12, 1, 2, 2, 2, 5]
    assert found.steps["targets"].values.ravel().tolist() == [0.5, 1.5, 2.5, 1.5, 2.5, 2.5, 2.5, 5.5]
    assert found.steps["known"].values.ravel().tolist() == [1, 1, 1, 7, 8, 8, 8, 9]
    assert found.steps["categories"].texts() == ["rain"] * 3 + ["sun", "rain", "rain", "rain", "sun"]
    days = found.steps["times"].values[3:, 0].astype("M8[D]").astype(str).tolist()
    assert days == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]
    assert found.rows["ids"] == sequences.rows["ids"]
    assert fill_gaps(found, frequency, "error") is found
    assert find_gaps(found, frequency).total == 0


def test_mask_marks_them() -> None:
    sequences, frequency = read("mask")
    found = fill_gaps(sequences, frequency, "mask")
    assert found.steps["inputs"].values[3:].tolist() == [[1, 0], [2, 0], [0, 1], [0, 1], [5, 0]]
    assert found.steps["known"].values[3:].tolist() == [[7, 0], [8, 0], [0, 1], [0, 1], [9, 0]]
    np.testing.assert_array_equal(found.steps["targets"].values[3:, 0], [1.5, 2.5, np.nan, np.nan, 5.5])
    assert found.steps["categories"].texts()[3:] == ["sun", "rain", "rain", "rain", "sun"]
    sequences, frequency = read("forward")
    with pytest.raises(ValueError, match="inputs: got no mark of visits"):
        fill_gaps(sequences, frequency, "mask")


def test_each_kind_of_time_is_put_in() -> None:
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(5)
    series = [
        pandas.date_range("1969-11-28", periods=80, freq=freq).to_numpy() for freq in ("B", "ME", "QS", "6h", "W")
    ]
    series += [np.arange(80) * 7 - 100, np.arange(80) * 0.1 - 3]
    for times in series:
        lost = generator.choice(np.arange(1, 79), 20, replace=False)
        kept = np.concatenate([np.delete(times, lost), times])
        field = Field(("t",), kept[:, None].astype("M8[us]") if kept.dtype.kind == "M" else kept[:, None])
        values = Field(("x",), np.concatenate([np.delete(np.arange(80.0), lost), np.arange(80.0)])[:, None])
        sequences = Sequences(np.array([0, 60, 140]), {"times": field, "inputs": values})
        frequency = Frequency.of(sequences)
        assert find_gaps(sequences, frequency).total == 20
        found = fill_gaps(sequences, frequency, "forward")
        assert found.lengths.tolist() == [80, 80]
        filled = found.steps["times"].values[:, 0].reshape(2, 80)
        if times.dtype.kind == "f":
            np.testing.assert_allclose(filled[0], times, rtol=0, atol=1e-12)
        else:
            assert (filled == times).all()
        previous = np.maximum.accumulate(np.where(np.isin(np.arange(80), lost), 0, np.arange(80)))
        assert found.arrays()[0].ravel().tolist() == previous.tolist()


def test_without_times_nothing_is_missing() -> None:
    sequences = jaxrnn.read([[1.0, 2.0], [3.0]])
    assert fill_gaps(sequences, Frequency.of(sequences), "error") is sequences


def test_a_wrong_time_does_not_make_a_million_steps() -> None:
    table = pa.table({"t": [0, 1, 2, 3, 2**62], "x": [0.0] * 5})
    sequences = jaxrnn.read(table, time_column="t")
    for missing in ("forward", "mask", "error"):
        with pytest.raises(DataError, match=r"found 4611686018427387900 steps missing between 3 and .* check the"):
            fill_gaps(sequences, Frequency.of(sequences), missing)  # type: ignore[arg-type]


def test_a_thousand_gaps_in_a_million_steps_are_filled() -> None:
    times = np.delete(np.arange(10**6) * 3_600_000_000, np.arange(5, 10**6, 1000)).view("M8[us]")
    steps = {"times": Field(("t",), times[:, None]), "inputs": Field(("x",), np.zeros((times.size, 1)))}
    sequences = Sequences(np.array([0, times.size]), steps)
    assert fill_gaps(sequences, Frequency("microsecond", 3_600_000_000), "forward").num_steps == 10**6
