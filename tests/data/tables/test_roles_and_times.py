"""Tables as people have them: times in their forms, and refusals that name the flag which reads the file."""

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.foundation.errors import DataError

PANEL = {"id_column": "shop", "time_column": "month", "target_columns": "sales"}


@pytest.fixture
def table(tmp_path):
    def write(*lines: str) -> str:
        (tmp_path / "shops.csv").write_text("\n".join(lines) + "\n")
        return str(tmp_path / "shops.csv")

    return write


def test_a_month_is_its_first_day(table):
    found = jaxrnn.read(table("shop,month,sales", "a,2023-12,1", "a, 2024-01,2"), **PANEL)
    assert found.steps["times"].values[:, 0].astype("M8[D]").astype(str).tolist() == ["2023-12-01", "2024-01-01"]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("31.12.2024", "31.01.2025"), "found '31.12.2024'; expected .* such as 2024-05-31 .*; mend it, the year"),
        (("2024-13", "2024-14"), "found '2024-13'; expected a whole number, a number, or a time"),
        (("2024-01-01 00:00+02:00", "2024-01-01 01:00"), "expected a zone at every time, or at none; mend it"),
        (("2024-05-31", "2024-05-31"), "found the time '2024-05-31' of 'a' again, as in line 2"),
        (("2024-05-31 08:00", "2024-05-31 08:00"), "found the time '2024-05-31 08:00:00' of 'a' again, as in line 2"),
    ],
)
def test_times_that_cannot_be_are_refused(times, message, table):
    path = table("shop,month,sales", *(f"a,{time},1" for time in times))
    with pytest.raises(DataError, match=message):
        jaxrnn.read(path, **PANEL)


@pytest.mark.parametrize(
    ("roles", "flag"),
    [
        ({"id_column": "shop"}, "--time-column=month"),
        ({"time_column": "month"}, "--id-column=shop"),
        ({"id_column": "shop", "time_column": "month"}, "--input-columns=sales"),
    ],
)
def test_a_refusal_names_the_flag_that_is_missing(roles, flag, table):
    rows = [f"{shop},2024-0{month},{month},x" for shop in "ab" for month in (1, 2, 3)]
    with pytest.raises(DataError, match=f"without a role; .*, for one {flag}$"):
        jaxrnn.read(table("shop,month,sales,note", *rows), **roles)


def test_times_of_a_frame_have_their_role(table):
    months = pa.array(np.array(["2024-01", "2024-02"], "M8[us]"))
    frame = pa.table({"month": months, "sales": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"the column 'month'.*, for one --time-column=month$"):
        jaxrnn.read(frame)
    spans = pa.table({"span": pa.array([1, 2], pa.duration("s")), "sales": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"found the column 'span' of type .* expected a whole number, .*to_timestamp"):
        jaxrnn.read(spans, time_column="span")
