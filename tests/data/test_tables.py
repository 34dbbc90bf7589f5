"""Sequences out of tables: the same steps give the same sequences, and what cannot be read names its place."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxrnn
from benchmarks.fuzz_tables import main
from jaxrnn.data.readers import csv_split, sources
from jaxrnn.data.readers.native import plain_text, records
from jaxrnn.data.tables import delimited
from jaxrnn.data.tables.columns import Columns
from jaxrnn.foundation.errors import DataError, UserError

LENGTHS = [3, 1, 2, 5]
LABELS = ["left", "right", "left", "middle"]
COLUMNS: dict[str, Any] = {"id_column": "unit", "time_column": "hour", "label_column": "side"}


def drawn() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(length, 2)) for length in LENGTHS]


def long_rows() -> list[list[Any]]:
    """unit, hour, speed, load, side of every step, shuffled; units 0 to 3 and not 0, 10, 2, ..: sorted by size."""
    rows = [
        [number * 5, hour, *map(float, step), label]
        for number, (array, label) in enumerate(zip(drawn(), LABELS, strict=True))
        for hour, step in enumerate(array)
    ]
    np.random.default_rng(1).shuffle(rows)  # type: ignore[arg-type]
    return rows


NAMES = ["unit", "hour", "speed", "load", "side"]


def text_of(delimiter: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([NAMES, *long_rows()])
    return out.getvalue().encode()


def zstd_of(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def long_table() -> pa.Table:
    return pa.table({name: list(values) for name, values in zip(NAMES, zip(*long_rows(), strict=True), strict=True)})


def wide_table() -> pa.Table:
    found = {"unit": [0, 5, 10, 15], "hour": [list(range(length)) for length in LENGTHS], "side": LABELS}
    return pa.table(found | {name: [a[:, k].tolist() for a in drawn()] for k, name in enumerate(NAMES[2:4])})


def parquet_of(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=3)
    return out.getvalue()


def arrow_of(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def ts_of() -> bytes:
    lines = ["# made here", "@problemName drawn", "@timeStamps false", "@dimensions 2"]
    lines += ["@classLabel true left right middle", "@data"]
    for array, label in zip(drawn(), LABELS, strict=True):
        lines.append(":".join([*(",".join(map(repr, column.tolist())) for column in array.T), label]))
    return "\r\n".join(lines).encode()


def json_of() -> bytes:
    rows = [
        {"id": str(5 * number), "values": array.tolist(), "label": label}
        for number, (array, label) in enumerate(zip(drawn(), LABELS, strict=True))
    ]
    return "\n".join(json.dumps(row) for row in rows[::-1]).encode()


FILES: dict[str, tuple[Any, dict[str, Any]]] = {
    "csv": (lambda: text_of(","), COLUMNS),
    "csv, compressed": (lambda: gzip.compress(text_of(",")), COLUMNS),
    "csv, of zstd": (lambda: zstd_of(text_of(",")), COLUMNS),
    "tsv, with a byte order mark": (lambda: b"\xef\xbb\xbf" + text_of("\t"), COLUMNS),
    "decimal commas": (lambda: text_of(";").replace(b".", b","), COLUMNS | {"decimal": ","}),
    "comments": (lambda: b"made here\n# here\n" + text_of(","), COLUMNS | {"skip_lines": 1, "comment": "#"}),
    "parquet": (lambda: parquet_of(long_table()), COLUMNS),
    "arrow": (lambda: arrow_of(long_table()), COLUMNS),
    "parquet of lists": (lambda: parquet_of(wide_table()), COLUMNS),
    "json lines": (json_of, {}),
    "ts": (ts_of, {}),
}


def same(found: jaxrnn.Sequences) -> None:
    expected = jaxrnn.read(drawn(), labels=LABELS)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.steps["inputs"].values, expected.steps["inputs"].values)
    assert found.rows["labels"].texts() == LABELS
    np.testing.assert_array_equal(found.rows["labels"].values, expected.rows["labels"].values)


@pytest.mark.parametrize("form", FILES)
def test_every_file_gives_the_same_sequences(form: str, tmp_path: Path) -> None:
    make, columns = FILES[form]
    (tmp_path / "rows").write_bytes(make())
    found = jaxrnn.read(tmp_path / "rows", **columns)
    same(found)
    if form != "ts":
        assert found.rows["ids"].texts() == ["0", "5", "10", "15"]
    if "time_column" in columns:
        assert found.steps["times"].values[:, 0].tolist() == [h for length in LENGTHS for h in range(length)]
        assert found.steps["inputs"].names == ("speed", "load")


@pytest.mark.parametrize("table", [long_table, wide_table])
def test_anything_that_gives_an_arrow_stream_is_read(table: Any) -> None:
    class Frame:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return table().__arrow_c_stream__(requested_schema)

    same(jaxrnn.read(Frame(), **COLUMNS))


def test_one_series_needs_no_id_and_keeps_the_order_of_the_file() -> None:
    table = pa.table({"hour": [2, 0, 1], "speed": [3.0, 1.0, 2.0]})
    assert jaxrnn.read(table, time_column="hour").arrays()[0][:, 0].tolist() == [1, 2, 3]
    found = jaxrnn.read(table, input_columns="speed")
    assert (len(found), found.ragged()[0].tolist()) == (1, [3, 1, 2])
    assert jaxrnn.read([[3.0, 1.0], [2.0]]) == jaxrnn.read([np.array([[3], [1]]), np.array([2])])


def test_fields_hold_what_their_columns_say() -> None:
    table = pa.table(
        {
            "unit": ["b", "a", "b"],
            "day": ["2024-02-01", "2024-01-31", "2024-01-30"],
            "speed": [1, 2, 3],
            "weather": ["rain", "sun", "rain"],
            "demand": [1.5, 2.5, 3.5],
            "height": [7.0, 8.0, 7.0],
            "state": [1.0, 2.0, 2.0],
        }
    )
    found = jaxrnn.read(
        table,
        id_column="unit",
        time_column="day",
        input_columns=["speed"],
        category_columns="weather",
        target_columns=["demand", "speed"],  # what is predicted may be read too
        static_columns="height",
        label_column="state",
        each_step_has_a_label=True,
    )
    assert found.lengths.tolist() == [1, 2]
    assert found.steps["inputs"].values.ravel().tolist() == [2, 3, 1]
    assert found.steps["targets"].values.tolist() == [[2.5, 2], [3.5, 3], [1.5, 1]]
    assert found.steps["categories"].texts() == ["sun", "rain", "rain"]
    assert found.steps["labels"].texts() == ["2", "2", "1"]  # whole numbers have no point
    assert found.steps["times"].values[:, 0].astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-31",
        "2024-01-30",
        "2024-02-01",
    ]
    assert found.rows["statics"].values.tolist() == [[8], [7]]
    assert repr(found) == (
        "Sequences(2, of 1 to 2 steps: 1 inputs; 1 categories; 2 targets; times; labels; ids; 1 statics)"
    )
    assert found.take([1, 0])[1] == found[0]
    assert [len(one) for one in found] == [1, 1]
    with pytest.raises(IndexError):
        found[2]
    with pytest.raises(ValueError, match="targets: got 2 columns"):
        found.ragged("targets")


def test_missing_values_are_filled_or_marked() -> None:
    table = pa.table({"unit": [1, 1, 1, 0, 0], "speed": [1.0, None, float("nan"), 7, 8], "load": [1.0, 2, 4, 8, 16]})
    found = jaxrnn.read(table, id_column="unit", missing="forward")
    assert found.steps["inputs"].values.tolist() == [[7, 8], [8, 16], [1, 1], [1, 2], [1, 4]]
    found = jaxrnn.read(table, id_column="unit", missing="mask")
    assert found.steps["inputs"].names == ("speed", "load", "speed is missing", "load is missing")
    assert found.steps["inputs"].values[2:].tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 4, 1, 0]]


def test_a_line_of_empty_cells_is_not_blank(tmp_path: Path) -> None:
    for text, marks in (("x,y\n1,2\n,\n", 2), ('x\n1\n""\n', 1)):
        (tmp_path / "rows").write_text(text)
        assert jaxrnn.read(tmp_path / "rows", missing="mask").steps["inputs"].values[1].tolist()[marks:] == [1] * marks


def test_a_line_that_goes_on_with_a_cell_is_no_comment_and_a_cell_may_be_long(tmp_path: Path) -> None:
    long = "a\n" * 2_000_000
    text = f'#one\nunit,x\n#two\n"b\n#c",1\n"{long}",2\n#three\n"b\n#c",3\n'
    (tmp_path / "rows").write_text(text, encoding="utf-8", newline="")
    found = jaxrnn.read(tmp_path / "rows", id_column="unit", input_columns="x", comment="#")
    assert found.rows["ids"].texts() == [long, "b\n#c"]
    assert [array.tolist() for array in found.arrays()] == [[[2]], [[1], [3]]]


LONG: dict[str, Any] = {"id_column": "id", "time_column": "t"}
READ_X = LONG | {"input_columns": "x"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("id,t,x\n1,2,3\n2,1,5\n1,2,2\n", LONG, "FILE:4:2: found the time '2' of '1' again, as in line 2; expected each"),
    ("id,t,x\n1,2,3\n1,1,abc\n", LONG | {"input_columns": "x"}, "FILE:3:3: found 'abc'; expected a number; mend"),
    ("id,t,x\n1,2,3\n1,1,abc\n", LONG, "FILE: found the column 'x', which is not of numbers, without a role"),
    ("id,t,x\n1,2,3\n1,1\n", LONG, "FILE:3:3: found 2 cells; expected 3, as the header has names"),
    ("id,t,x\n1,2,3\n1,1,3,4\n", LONG, "FILE:3:4: found 4 cells; expected 3"),
    ("id,t,x\n1,2,\n1,1,NA\n", READ_X, "FILE:2:3: found a missing value in 'x', the first of 2; expected"),
    ("id,t,x\n1,2,\n1,1,\n", READ_X | {"missing": "forward"}, "FILE:2:3: found a missing value before the first"),
    ("id,t,x\n1,1,5\n2,2,\n", READ_X | {"missing": "forward"}, "FILE:3:3: found a missing value before the first"),
    ("id,t,x\n  ,1,5\n", LONG, "FILE:2:1: found nothing in 'id'"),
    ("id,t,x\n1,2,0x10\n", LONG | {"input_columns": "x"}, "FILE:2:3: found '0x10'; expected a number"),
    ("id,t,x\n1,2,1_0\n", LONG | {"input_columns": "x"}, "FILE:2:3: found '1_0'; expected a number"),
    ("id,t,x\n1,2,1e39\n", LONG, "FILE:2:3: found '1e39'; expected a number that float32 can hold"),
    ("id,t,x\n1,2,1e999\n", LONG, "FILE:2:3: found '1e999'; expected a number"),
    ("id,t,x\n1,soon,1\n", LONG, "FILE:2:2: found 'soon'; expected a whole number, a number, or a time such as"),
    ("id,t,x\n1,2024-01-31,1\n1,2024-02-31,1\n", LONG, "FILE:3:2: found '2024-02-31'; expected a whole number"),
    ("id,t,x\n1,0x10,1\n", LONG, "FILE:2:2: found '0x10'; expected a whole number"),
    ("id,t,x\n1,,1\n", LONG, "FILE:2:2: found ''; expected a whole number"),
    ("id,t,x\n,1,1\n", LONG, "FILE:2:1: found nothing in 'id'; expected a text or a number"),
    ("id,x,c\na,1,l\na,2,r\n", {"id_column": "id", "label_column": "c"},
     "FILE:3:3: found 'r' where line 2 of the same sequence has 'l'; expected one value for a whole sequence"),
    ('id,x,c\n"a\nb",1,l\n"a\nb",2,r\n', {"id_column": "id", "label_column": "c"},
     "FILE:4:3: found 'r' where line 2 of the same sequence has 'l'"),
    ("id,x,s\na,1,2\na,2,3\n", {"id_column": "id", "static_columns": "s"},
     "FILE:3:3: found '3.0' where line 2 of the same sequence has '2.0'"),
    ("year,count\n1821,269\n1822,321\n1823,585\n", {},
     "FILE: found the column 'year' without a role; expected values: it looks like an index, an id or a time"),
    ("n,count\n" + "".join(f"{n},{n * n}\n" for n in range(7, 17)), {}, "--input-columns=n,count"),
    (",count\n7,269\n3,321\n", {}, "FILE: found the column '' without a role"),
    ("0,1\n3,4\n", {}, "FILE:1: found only numbers ('0', '1') where the names of columns should be"),
    ("x;y,z\n3;4,5\n", {}, "FILE:1: found ',' and ';' in the header; expected one of them between"),
    ("x,x\n3,4\n", {}, "FILE: found 2 columns named 'x'; expected names that differ"),
    ("x,y\n3,4\n", {"target_columns": "z"}, "FILE: found no column 'z'; expected one of 'x', 'y'; mend --target"),
    ("", {}, "FILE: found an empty file; expected a header"),
    ("x,y\n", {}, "FILE: found no rows"),
    ('id,x\n"a,1\n', {}, "FILE:2: found a cell that cannot be read"),
    ("x\n\0\n", {}, "FILE:2: found a NUL byte"),
    ("x,y\n1,2\n\n3,4\n", {"missing": "mask"}, "FILE:3:1: found a blank line; expected 2 cells; remove the line"),
    ("x\n1\n\n", {"missing": "mask"}, "FILE:3:1: found a blank line; expected 1 cell; remove the line"),
    ('{"values":[1,2]}\n{"values":[1,"a"]}\n', {},
     "FILE:2: found '[1, \"a\"]' in 'values'; expected a list of numbers, as in line 1"),
    ('{"values":[1,2]}\n{"values":[1,NaN]}\n', {}, "FILE:2: found no JSON ('NaN is no number of JSON')"),
    ('{"values":[1,2],"values":[2]}\n', {}, "FILE:1: found no JSON ('a key twice')"),
    ('{"values":[1,2]}\n{"value":[1]}\n', {}, "FILE:2: found other keys than in line 1 ('value', 'values')"),
    ('{"values":[1,2]}\n[3]\n', {}, "FILE:2: found '[3]'; expected an object such as"),
    ('{"values":[1,2]}\n\n{"values":[]}\n', {}, "FILE:3:1: found 0 steps; expected a step at least"),
    ('{"a":[1,2],"b":[1]}\n', {}, "FILE:1:2: found 1 step; expected as many steps as 'a' has there"),
    ('{"a":[[1,2]]}\n{"a":[[1,2],[1]]}\n', {}, "FILE:2:1: found a step of 1 feature; expected 2, as the first step"),
    ('{"a":[1,2]}\n', {"target_columns": "b"}, "FILE: found no column 'b'; expected one of 'a'; mend --target-columns"),
    ('{"id":" a","v":[1]}\n{"id":" a","v":[1]}\n', {}, "FILE:2:1: found the id ' a' again, as in line 1"),
    ('{"a":[1,null]}\n', {}, "FILE:1:1: found a missing value in 'a', the only one"),
    ('{"id":1,"a":[1]}\n{"id":1,"a":[2]}\n', {}, "FILE:2:1: found the id '1' again, as in line 1; expected each id"),
    ("@classLabel true l r\n@data\n1,2:3,4:l\n1:2:z\n", {}, "FILE:4:3: found 'z'; expected a class of @class"),
    ("@classLabel true\n@data\n1,2:3:l\n", {}, "FILE:3: found dimensions of 1, 2 values; expected all of one length"),
    ("@dimensions 3\n@classLabel true\n@data\n1,2:3,4:l\n", {}, "FILE:4: found 2 dimensions; expected 3, as"),
    ("@targetLabel true\n@data\n1,x:3\n", {}, "FILE:3:1: found 'x'; expected a finite number"),
    ("@targetLabel true\n@data\n1,inf:3\n", {}, "FILE:3:1: found 'inf'; expected a finite number"),
    ("@targetLabel true\n@data\n1,?:3\n", {}, "FILE:3:1: found a missing value in 'values', the only one"),
    ("@timeStamps true\n@data\n", {}, "FILE:2: found @timeStamps true; expected values alone"),
    ("@dimensions\n@\n@data\n", {}, "FILE: found no sequences"),
    ("@dimensions\n@data\n1,x", {}, "FILE:3:1: found 'x'; expected a finite number"),
    ("@dimensions \u00b2\n@data\n1,x", {}, "FILE:3:1: found 'x'; expected a finite number"),
    ("@data\nhello", {}, "FILE:2:1: found 'hello'; expected a finite number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "columns", "message"), REFUSED)
def test_what_cannot_be_read_names_its_place(
    text: str, columns: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        jaxrnn.read("FILE", **columns)
    assert message in str(caught.value)


def test_bytes_that_are_no_table_are_refused(tmp_path: Path) -> None:
    whole = parquet_of(long_table())
    for content in (b"a,b\n1,\xff\n", whole[:-40], whole[:60] + whole[90:], arrow_of(long_table())[:-9]):
        (tmp_path / "rows").write_bytes(content)
        with pytest.raises(DataError, match="rows"):
            jaxrnn.read(tmp_path / "rows", **COLUMNS)
    for content in (whole, arrow_of(long_table()), text_of(","), gzip.compress(bytes(10_000))):
        (tmp_path / "rows").write_bytes(content)
        with pytest.raises(DataError, match="more than 50 bytes"):
            jaxrnn.read(tmp_path / "rows", **COLUMNS, max_bytes=50)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(json_of())
    with pytest.raises(UserError, match=r"delimiter: got ';'; expected none: .* is no CSV or TSV"):
        jaxrnn.read(tmp_path / "rows", delimiter=";")
    for options, message in (
        ({"id_column": "a", "label_column": "a"}, "label_column: got 'a'; expected a column without another role"),
        ({"input_columns": ["a", "a"]}, "input_columns: .* expected each column once"),
        ({"missing": "drop"}, "missing: got 'drop'; expected error, forward or mask"),
        ({"labels": ["a"]}, "labels: .* a table has them in its label_column"),
        ({"delimiter": "ab"}, "delimiter: got 'ab'; expected one ASCII character"),
        ({"delimiter": ",", "decimal": ","}, "decimal: .* another character than the delimiter"),
        ({"skip_lines": -1}, "skip_lines: got -1; expected at least 0"),
    ):
        with pytest.raises(UserError, match=message):
            jaxrnn.read(tmp_path / "rows", **options)  # type: ignore[arg-type]
    for arrays, options, message in (
        ([[1.0, 2.0], [[1.0, 2.0]]], {}, "array 1: got '2 features'; expected 1, as the first has"),
        ([[float("nan")]], {}, "array 0: got 'NaN or infinite values'"),
        ([["a"]], {}, "array 0: .* real numbers"),
        ([[[1.0], [1.0, 2.0]]], {}, "array 0: got lists of different lengths; expected"),
        ([[1.0]], {"labels": ["a", "b"]}, "labels: got '2'; expected 1, one for each array"),
        ([[1.0]], {"id_column": "a"}, "columns: .* arrays have no names"),
        ([], {}, "source: .* at least one"),
    ):
        with pytest.raises(UserError, match=message):
            jaxrnn.read(arrays, **options)  # type: ignore[arg-type]
    for source in ([[1.0]], long_table()):
        with pytest.raises(UserError, match="decimal: got ','; expected none: the source is no CSV or TSV"):
            jaxrnn.read(source, decimal=",")
    with pytest.raises(DataError, match="the table: found no rows"):
        jaxrnn.read(wide_table().slice(0, 0), **COLUMNS)
    with pytest.raises(TypeError, match="source: got int; expected a path, a DataFrame"):
        jaxrnn.read(3)


def plain(rows: list[list[str]], *, by_time: bool) -> dict[str, list[list[float]]]:
    """Groups and sorts with nothing but Python."""
    found: dict[str, list[tuple[float, list[float]]]] = {}
    for position, (unit, hour, *values) in enumerate(rows):
        found.setdefault(unit, []).append((float(hour) if by_time else position, list(map(float, values))))
    return {unit: [values for _, values in sorted(steps, key=lambda step: step[0])] for unit, steps in found.items()}


def test_random_tables_are_read_as_plain_python_reads_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    units = ['a "b"', "c,d", "e\nf", "7", "07", "ü", " g", "g"]  # what differs in a space is another one
    for _ in range(150):
        number = int(generator.integers(1, 40))
        hours = generator.permutation(number) / generator.choice([1, 4, 7])
        numbers = generator.choice([0, 1, -3, 1e-7, 12345.678, 3e38], (number, 2)) * generator.random((number, 2))
        rows = [
            [units[generator.integers(len(units))], repr(hour) if hour % 1 else str(int(hour)), *map(repr, pair)]
            for hour, pair in zip(hours.tolist(), numbers.tolist(), strict=True)
        ]
        delimiter = str(generator.choice([",", "\t", ";"]))
        out = io.StringIO(newline="")
        quoting = csv.QUOTE_ALL if generator.random() < 0.3 else csv.QUOTE_MINIMAL
        ending = str(generator.choice(["\n", "\r\n"]))
        csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending).writerows(  # type: ignore[arg-type]
            [["unit", "hour", "x", "y"], *rows]
        )
        (tmp_path / "rows").write_bytes(out.getvalue().encode())
        by_time = bool(generator.random() < 0.7)
        options = {"time_column": "hour"} if by_time else {}
        found = jaxrnn.read(tmp_path / "rows", id_column="unit", input_columns=["x", "y"], **options)
        wanted = plain(rows, by_time=by_time)
        ids = found.rows["ids"].texts()
        assert sorted(ids) == sorted(wanted)
        for unit, array in zip(ids, found.arrays(), strict=True):
            assert array.tolist() == wanted[unit]


def test_drawn_tables_rows_and_texts_are_read_as_pandas_reads_them(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("pandas")
    assert main(["--cases=240", "--seed=3"]) == 0
    assert capsys.readouterr().out.endswith("240 cases, 0 failed\n")


def test_times_that_name_their_zone_are_those_of_utc(tmp_path):
    path = tmp_path / "zones.csv"
    times = ["2024-03-01T12:00:00Z", "2024-03-01T12:30:00+02:00", "2024-03-01 11:00:00.5+00:00"]
    path.write_text("t,x\n" + "".join(f"{time},{number}\n" for number, time in enumerate(times)))
    found = jaxrnn.read(path, time_column="t")
    assert found.steps["inputs"].values[:, 0].tolist() == [1.0, 2.0, 0.0]
    assert found.steps["times"].values[:, 0].astype(str).tolist() == [
        "2024-03-01T10:30:00.000000", "2024-03-01T11:00:00.500000", "2024-03-01T12:00:00.000000",
    ]  # fmt: skip
    table = pa.table({"t": pa.array(times).cast(pa.timestamp("us", tz="UTC")), "x": [0.0, 1.0, 2.0]})
    assert jaxrnn.read(table, time_column="t") == found
    path.write_text(path.read_text().replace("Z,", ","))
    with pytest.raises(DataError, match=r"zones.csv:2:1: found '2024-03-01T12:00:00'; .* all in one form"):
        jaxrnn.read(path, time_column="t")


def many_rows(ending: str) -> str:
    lines = ["unit,hour,speed,load,side"]
    lines += [f"{row // 7},{row % 7},{row / 8},{-row}e-1,{'left' if row % 14 < 7 else 'right'}" for row in range(300)]
    return "".join(line + ending for line in lines)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_blocks_that_threads_split_are_one_table(tmp_path, monkeypatch, ending):
    columns = COLUMNS | {"input_columns": ["speed", "load"]}
    (tmp_path / "whole.csv").write_text(many_rows(ending), newline="")
    whole = jaxrnn.read(tmp_path / "whole.csv", **columns)
    monkeypatch.setattr(records, "BLOCK_BYTES", 60)
    assert jaxrnn.read(tmp_path / "whole.csv", **columns) == whole
    monkeypatch.setattr(plain_text, "library", lambda: None)
    monkeypatch.setattr(csv_split, "BLOCK_BYTES", 60)
    assert jaxrnn.read(tmp_path / "whole.csv", **columns) == whole
    assert [len(whole), whole.arrays()[41].tolist()] == [43, [[row / 8, -row / 10] for row in range(287, 294)]]
    faults = {"36.25,-290e-1": ":292:5: found 4 cells", "x,-29,": ":292:3: found 'x'", "": ":292:4: found 3 cells"}
    for wrong, said in faults.items():
        (tmp_path / "odd.csv").write_text(many_rows(ending).replace("36.25,-290e-1,", wrong), newline="")
        with pytest.raises(DataError, match=said):
            jaxrnn.read(tmp_path / "odd.csv", **columns)
    (tmp_path / "long.csv").write_text(many_rows(ending).replace("right", 100 * "right"), newline="")
    assert jaxrnn.read(tmp_path / "long.csv", **columns).rows["labels"].texts()[1] == 100 * "right"
    (tmp_path / "quoted.csv").write_text(many_rows(ending).replace("right", '"right\n"', 1), newline="")
    columns |= {"label_column": None, "category_columns": "side"}
    assert "right\n" in jaxrnn.read(tmp_path / "quoted.csv", **columns).steps["categories"].texts()


def test_times_and_numbers_of_a_column_with_one_odd_cell_are_those_of_one_without(tmp_path, monkeypatch):
    """Most columns are read without a look at their characters' order; one cell takes the other way."""
    monkeypatch.setattr(csv_split, "BLOCK_BYTES", 60)
    plain = many_rows("\n")
    (tmp_path / "plain.csv").write_text(plain)
    for old, new in (
        ("\n40,3,", "\n40,+3,"),
        (",35.375,", ", 35.375,"),
        (",35.375,", ",+35.375,"),
        ("\n40,3,", "\n40, 3,"),
    ):
        assert plain.count(old) == 1
        (tmp_path / "odd.csv").write_text(plain.replace(old, new))
        found, expected = (jaxrnn.read(tmp_path / name, **COLUMNS) for name in ("odd.csv", "plain.csv"))
        np.testing.assert_array_equal(found.steps["inputs"].values, expected.steps["inputs"].values)
        np.testing.assert_array_equal(found.steps["times"].values, expected.steps["times"].values)


def test_rows_in_order_and_out_of_order_are_the_same_sequences(tmp_path):
    lines = many_rows("\n").splitlines()
    generator = np.random.default_rng(0)
    for name, rows in (("in.csv", lines[1:]), ("out.csv", generator.permutation(lines[1:]))):
        (tmp_path / name).write_text("\n".join([lines[0], *rows]) + "\n")
    assert jaxrnn.read(tmp_path / "in.csv", **COLUMNS) == jaxrnn.read(tmp_path / "out.csv", **COLUMNS)
    (tmp_path / "twice.csv").write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(DataError, match=r":302:2: found the time '5' of '42' again, as in line 301"):
        jaxrnn.read(tmp_path / "twice.csv", **COLUMNS)


ODD_NUMBERS = [
    "inf",
    "-Infinity",
    "nan",
    "1e39",
    "-4e38",
    "1e-400",
    "",
    "abc",
    " 5",
    "+5",
    "0x10",
    "1_000",
    "5.",
    ".5",
    "1e5",
]
ODD_TIMES = ["0x10", "0X1f", "5.5", "", "-3", "2024-05-01", " 7", "007", "+9", "99999999999999999999", "null"]
ODD_IDS = ["", "NULL", "nan", "7", " 7", "007", "unit 0x3"]


def test_numbers_read_at_once_are_those_of_cells_read_as_text(tmp_path, monkeypatch):
    """Whatever one cell holds: the same sequences, or the same complaint."""
    columns = COLUMNS | {"input_columns": "speed", "target_columns": "load"}

    def outcome() -> Any:
        try:
            return jaxrnn.read(tmp_path / "odd.csv", **columns)
        except DataError as error:
            return str(error)

    plain, refused = many_rows("\n"), 0
    monkeypatch.setattr(csv_split, "BLOCK_BYTES", 90)
    monkeypatch.setattr(records, "BLOCK_BYTES", 90)
    monkeypatch.setattr(records, "FILE_BLOCK_BYTES", 90)
    kinds = delimited._kinds_of(plain.split("\n")[1].encode(), NAMES, Columns(**columns), ",")
    assert kinds.keys() == {"unit", "hour", "speed", "load"}
    cells = [("\n30,3,", f"\n30,{odd},") for odd in ODD_TIMES] + [("\n30,3,", f"\n{odd},3,") for odd in ODD_IDS]
    cells += [("-213e-1", odd) for odd in ODD_NUMBERS] + [(",26.625,", f",{odd},") for odd in ODD_NUMBERS]
    for old, new in cells:
        assert plain.count(old) == 1
        (tmp_path / "odd.csv").write_text(plain.replace(old, new))
        found = outcome()
        with monkeypatch.context() as patch:
            patch.setattr(sources, "LARGE_BYTES", 0)
            assert found == outcome(), new
            patch.setattr(plain_text, "library", lambda: None)
            assert found == outcome(), new
            patch.setattr(delimited, "_kinds_of", lambda *_: {})
            assert found == outcome(), new
        refused += isinstance(found, str)
    assert 15 < refused < len(cells) - 15


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('size 5",weight', ['size 5"', "weight"]),
        ('a",b', ['a"', "b"]),
        ('"a\nc",b', ["a\nc", "b"]),
        ("é,b", ["é", "b"]),
    ],
)
def test_what_stands_behind_the_header_is_all_there(tmp_path, header, names):
    """A quote within an unquoted name closes nothing."""
    (tmp_path / "rows.csv").write_text(header + "\n" + "".join(f"{row},{row / 4}\n" for row in range(40)))
    read = jaxrnn.read(tmp_path / "rows.csv", input_columns=names)
    assert read.arrays()[0].tolist() == [[row, row / 4] for row in range(40)]
    (tmp_path / "mark.csv").write_text("id,x\n\ufeffa,1\nb,2\n")
    assert jaxrnn.read(tmp_path / "mark.csv", id_column="id", input_columns="x").rows["ids"].texts() == ["b", "\ufeffa"]
