"""Types that other writers give numbers, texts and times, and what each format makes of the same ones."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxrnn
from jaxrnn.data.tables.lists import read_arrays
from jaxrnn.foundation.errors import DataError, UserError

ROLES = {"id_column": "id", "time_column": "t", "input_columns": "x"}


def table_of(**columns):
    return pa.table({"id": ["a", "a", "b"], "t": [1, 2, 1], "x": [1.0, 2.0, 3.0]} | columns)


def csv_of(path, table):
    rows = zip(*[[str(value) for value in column.to_pylist()] for column in table.columns], strict=True)
    path.write_text("\n".join([",".join(table.column_names), *map(",".join, rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1704067200000000001, 2**53 + 1, -(2**63)]),
        pa.array([2**64 - 1, 1, 2], pa.uint64()),
        pa.array([2**53 + 1, 0, 1]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("role", ["input_columns", "target_columns", "static_columns"])
def test_whole_numbers_beyond_float64_are_rounded_in_every_format(tmp_path, values, role):
    table = table_of(x=values, id=["a", "b", "c"])
    pq.write_table(table, tmp_path / "table.parquet")
    roles = ROLES | {"input_columns": "t", "time_column": None} | {role: "x"}
    expected = jaxrnn.read(csv_of(tmp_path / "table.csv", table), **roles)
    assert jaxrnn.read(tmp_path / "table.parquet", **roles) == expected
    assert jaxrnn.read(table, **roles) == expected
    kind = pa.list_(pa.uint64() if "uint" in str(values.type) else pa.int64())
    lists = pa.table({"id": ["a"], "x": pa.array([values.to_pylist()], kind)})
    found = jaxrnn.read(lists, id_column="id", input_columns="x").arrays()[0][:, 0]
    assert found.tolist() == [float(value) for value in values.to_pylist()]


TEXTS = ["warm", "größer", "warm"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([text.encode() for text in TEXTS]),
        pa.array([text.encode() for text in TEXTS], pa.large_binary()),
        pa.array([text.encode() for text in TEXTS], pa.binary_view()),
        pa.array([text.encode() for text in TEXTS]).dictionary_encode(),
        pa.chunked_array([pa.array([text.encode()]).dictionary_encode() for text in TEXTS]),
        pa.array(TEXTS, pa.string_view()),
    ],
)
def test_bytes_that_are_text_are_that_text(tmp_path, values):
    roles = ROLES | {"category_columns": "k"}
    expected = jaxrnn.read(csv_of(tmp_path / "table.csv", table_of(k=TEXTS)), **roles)
    assert jaxrnn.read(table_of(k=values), **roles) == expected
    if "view" not in str(values.type):
        pq.write_table(table_of(k=values), tmp_path / "table.parquet")
        assert jaxrnn.read(tmp_path / "table.parquet", **roles) == expected
    ids = pa.array([b"u1", b"u1", b"u2"], pa.binary(2))
    assert jaxrnn.read(table_of(id=ids), **ROLES).ids() == ["u1", "u2"]


def test_bytes_that_are_no_text_are_refused_by_the_name_of_their_column(tmp_path):
    table = table_of(k=[b"warm", b"\xff", b"cold"])
    pq.write_table(table, tmp_path / "table.parquet")
    for source in (table, tmp_path / "table.parquet"):
        with pytest.raises(DataError, match="found bytes that are not UTF-8 in 'k'; expected text"):
            jaxrnn.read(source, **ROLES, category_columns="k")
        assert jaxrnn.read(source, **ROLES) == jaxrnn.read(table_of(), **ROLES), "nobody reads them"
    with pytest.raises(UserError, match="labels 1: got 'bytes'; expected a text or a number; decode them"):
        read_arrays([np.ones(2), np.ones(3)], labels=["a", b"a"])


def test_frames_of_mixed_columns(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = table_of().to_pandas()
    frame["y"] = np.array([1, "2", 3.0], object)
    with pytest.raises(DataError, match="the table: found values of different kinds in the column 'y'"):
        jaxrnn.read(frame, **ROLES)
    zone, time = datetime.UTC, pd.Timestamp("2024-01-02")
    frame["y"], frame["t"] = 1.0, pd.Series([time.tz_localize(zone), time, time], dtype=object)
    with pytest.raises(
        DataError, match=r"the table:1:2: found '2024-01-02 00:00:00.00:00'; expected a zone at every time"
    ):
        jaxrnn.read(frame, **ROLES)
    assert len(jaxrnn.read(frame, **ROLES | {"time_column": None})) == 2, "nobody reads them"
    frame["t"] = pd.Series([pd.NaT, time.tz_localize(zone), time.tz_localize(zone)], dtype=object)
    with pytest.raises(DataError, match="the table:1:2: found no time"):
        jaxrnn.read(frame, **ROLES)
    frame.columns = ["id", "t", "x", "x"]
    with pytest.raises(DataError, match="the table: found two columns named 'x'; expected names that differ; rename"):
        jaxrnn.read(frame, **ROLES)
    frame.columns = ["id", "t", "x", "y"]
    frame["t"] = pd.Series([time, time + pd.Timedelta(days=1), time], dtype=object)
    assert jaxrnn.read(frame, **ROLES).steps["times"].values[1, 0] == np.datetime64("2024-01-03")


def test_times_finer_than_a_microsecond_are_refused_with_their_row():
    times = np.array(["2024-01-01", "2024-01-02T00:00:00.000000001", "2024-01-03"], "M8[ns]")
    with pytest.raises(DataError, match=r"the table:2:2: found '2024-01-02T00:00:00.000000001'; expected microseconds"):
        jaxrnn.read(table_of(t=times), **ROLES)
    assert jaxrnn.read(table_of(t=times.astype("M8[D]").astype("M8[ns]")), **ROLES)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("1", "1e400", "found '1e400'"),
        ("9007199254740993.0", "9007199254740992.0", "in 64 bits the same number as '9007199254740993.0' in line 2"),
        ("1", "1.0", "found the time '1.0' of 'a' again, as in line 2"),
        ("2024-01-01", "2024-01-01 00:00", "of 'a' again, as in line 2"),
        ("20240101", "20240101", "of 'a' again, as in line 2"),
    ],
)
def test_times_that_are_the_same_or_none(tmp_path, first, second, said):
    path = tmp_path / "table.csv"
    path.write_text(f"id,t,x\na,{first},1\na,{second},2\n")
    with pytest.raises(DataError, match=r"table.csv:3:2: ") as refusal:
        jaxrnn.read(path, **ROLES)
    assert said in str(refusal.value)


def test_json_lines_with_huge_numbers_and_lists_of_objects(tmp_path):
    path = tmp_path / "rows.jsonl"
    for key, huge in (("id", "123456789012345678901"), ("values", "[1, 123456789012345678901]")):
        other = {"id": "1", "values": "[1, 2]"} | {key: huge}
        path.write_text('{"id": 1, "values": [1]}\n' + f'{{"id": {other["id"]}, "values": {other["values"]}}}\n')
        with pytest.raises(
            DataError, match=rf"rows.jsonl:2: found a huge whole number in '{key}'; expected one that 64"
        ):
            jaxrnn.read(path)
    path.write_text(' [\n{"id": 1, "values": [1, 2]}]')
    with pytest.raises(DataError, match=r"rows.jsonl:1: found a list of objects; expected an object a line; write one"):
        jaxrnn.read(path)


def test_a_label_that_is_no_number_is_named_with_its_sequence():
    model = pytest.importorskip("made_models").make_model({"task": "regress"}, inputs=1, categories=(), statics=0)
    table = table_of(x0=[1.0, 2.0, 3.0], y=["1.5", "1.5", "?"])
    sequences = jaxrnn.read(table, id_column="id", input_columns="x0", label_column="y")
    with pytest.raises(DataError, match=r"sequence 'b': column 'y': found '\?'; expected a number with task = regress"):
        model.evaluate(sequences)


def test_arguments_of_other_types(tmp_path):
    for path in (None, 5, ["rows.csv"]):
        with pytest.raises(TypeError, match=r"path: got \w+; expected the path of a file"):
            jaxrnn.read_sequences(path)
    with pytest.raises(UserError, match="input_columns: got 5; expected a name, or several"):
        jaxrnn.read(table_of(), input_columns=5)


def test_a_time_behind_the_year_9999_that_is_there_twice():
    times = pa.array([2**60, 2**60, 0]).cast(pa.timestamp("us"))
    with pytest.raises(DataError, match=r"the table:2:2: found the time '38504-\d\d-\d\d.* again, as in line 1"):
        jaxrnn.read(table_of(t=times), **ROLES)
