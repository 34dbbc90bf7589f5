"""Tables in memory, as the libraries that make them lay them out."""

import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.foundation.errors import DataError


def test_texts_of_polars_are_read_from_all_its_types():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"v": [[1.0, 2.0], [3.0]], "state": ["up", "down"]})
    expected = jaxrnn.read(frame.to_arrow(), input_columns="v", label_column="state")
    assert expected.rows["labels"].texts() == ["up", "down"]
    for kind in (polars.String, polars.Categorical, polars.Enum(["up", "down"])):
        typed = frame.with_columns(polars.col("state").cast(kind))
        assert jaxrnn.read(typed, input_columns="v", label_column="state") == expected


def test_views_of_texts_are_read(tmp_path):
    table = pa.table({"v": pa.array([[1.0, 2.0], [3.0]]), "state": pa.array(["up", "down"], pa.string_view())})
    with pa.ipc.new_file(tmp_path / "views.arrow", table.schema) as file:
        file.write_table(table)
    for source in (table, tmp_path / "views.arrow"):
        assert jaxrnn.read(source, input_columns="v", label_column="state").rows["labels"].texts() == ["up", "down"]


def test_a_column_alone_is_no_table():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="source: got Series; expected"):
        jaxrnn.read(pandas.Series([1.0, 2.0], name="a"))
    twice = pandas.DataFrame([[1.0, 2.0]], columns=["a", "a"])
    with pytest.raises(DataError, match=r"^the table: found two columns named 'a'; expected names that differ"):
        jaxrnn.read(twice)
