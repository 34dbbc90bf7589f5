"""What a trained model reads of files: its own columns, whatever else is there and whichever answers are missing."""

import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.scaling import Scaling
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import TaskConfig


def config_of(task="classify", **columns):
    return Config(task=TaskConfig(task=task), columns=ColumnsConfig(**columns))


def encoding_of(*names, classes=("well", "sick")):
    return Encoding(inputs=Scaling(names, (Normalizer(0.0, 1.0),) * len(names)), classes=classes)


ROLES = {"id_column": "unit", "label_column": "state"}
HEADER = ["unit", "state", "x", "y"]
ROWS = [["a", "well", "1", "2"], ["a", "well", "3", "4"], ["b", "sick", "5", "6"]]


@pytest.fixture
def write(tmp_path):
    def write(header, rows):
        path = tmp_path / "table.csv"
        path.write_text("".join(",".join(row) + "\n" for row in [header, *rows]))
        return str(path)

    return write


def inputs_of(sequences):
    field = sequences.steps["inputs"]
    return field.names, field.values.tolist()


@pytest.mark.parametrize("with_answers", [True, False])
def test_columns_that_the_model_does_not_read_are_passed_over(write, with_answers):
    config, encoding = config_of(**ROLES), encoding_of("x", "y")
    expected = inputs_of(load_sequences(write(HEADER, ROWS), config))
    more = [("note", "so, so"), ("time", "1"), ("z", "0.5"), ("day", "2024-01-01")]
    for name, cell in more:
        path = write([name, *HEADER], [[f'"{cell}"', *row] for row in ROWS])
        found = load_sequences(path, config, with_answers=with_answers, encoding=encoding)
        assert inputs_of(found) == expected, name
        assert found.rows["labels"].texts() == ["well", "sick"]
    with pytest.raises(DataError, match="the column 'note', which is not of numbers, without a role"):
        load_sequences(write([*HEADER, "note"], [[*row, "so"] for row in ROWS]), config)
    named = config_of(**ROLES, input_columns="y")
    assert inputs_of(load_sequences(path, named, encoding=encoding)) == (("y",), [[2.0], [4.0], [6.0]])


def test_a_model_of_categories_alone_reads_no_numbers(write):
    config = config_of(**ROLES, category_columns="x")
    path = write([*HEADER, "note"], [[*row, "so"] for row in ROWS])
    assert "inputs" not in load_sequences(path, config, encoding=encoding_of()).steps


def test_marks_of_missing_inputs_are_no_columns(write):
    config = config_of(**ROLES, missing="mask")
    path = write([*HEADER, "note"], [[*row, "so"] for row in ROWS])
    marked = ("x", "y", "x is missing", "y is missing")
    assert load_sequences(path, config, encoding=encoding_of(*marked)).steps["inputs"].names == marked
    path = write([*HEADER, "x is missing"], [[*row, "1"] for row in ROWS])
    found = load_sequences(path, config, encoding=encoding_of(*marked)).steps["inputs"]
    assert found.names == marked
    assert not found.values[:, 2:].any(), "a column of that name is another"


def test_an_input_that_is_missing_is_named(write):
    config, encoding = config_of(**ROLES), encoding_of("x", "y", "z")
    path = write([*HEADER, "note"], [[*row, "so"] for row in ROWS])
    found = load_sequences(path, config, with_answers=False, encoding=encoding)
    with pytest.raises(DataError, match=r"found the input columns x, y; expected 'z' too, as the model was trained"):
        encoding.encode(found, "classify", with_targets=False)


def test_answers_and_groups_may_be_missing(write):
    config = config_of(**ROLES, group_column="home", static_columns="age")
    path = write(["unit", "x", "y", "age", "note"], [["a", "1", "2", "7", "so"], ["b", "3", "4", "8", "so"]])
    found = load_sequences(path, config, with_answers=False, encoding=encoding_of("x", "y"))
    assert set(found.rows) == {"ids", "statics"}
    with pytest.raises(DataError, match="no column 'state'"):
        load_sequences(path, config, encoding=encoding_of("x", "y"))
    path = write([*HEADER, "age"], [[*row, "7"] for row in ROWS])
    assert set(load_sequences(path, config, encoding=encoding_of("x", "y")).rows) == {"ids", "labels", "statics"}
    with pytest.raises(DataError, match="no column 'home'"):
        load_sequences(path, config)


def test_what_is_needed_is_named_and_not_the_answer_that_is_missing_too(write):
    config = config_of(**ROLES, static_columns="age")
    path = write(["unit", "x", "y"], [["a", "1", "2"]])
    with pytest.raises(DataError, match="no column 'age'"):
        load_sequences(path, config, with_answers=False, encoding=encoding_of("x", "y"))
    path = write(HEADER, [["a", "", "1", "2"], ["b", "well", "oops", "4"]])
    with pytest.raises(DataError, match=r"table.csv:3:3: found 'oops'"):
        load_sequences(path, config_of(**ROLES), with_answers=False, encoding=encoding_of("x", "y"))
    path = write(HEADER, [["a", "", "1", "2"], ["b", "well", "3", "4"]])
    found = load_sequences(path, config_of(**ROLES), with_answers=False, encoding=encoding_of("x", "y"))
    assert set(found.rows) == {"ids"}, "a label is missing: none is needed"


def test_rows_that_lack_the_class_of_training(tmp_path):
    path, config = tmp_path / "rows.csv", config_of(label_column="first")
    expected = [[1.0], [2.0, 3.0], [2.5, 3.5, 4.5]]

    def read(classes, text, **columns):
        path.write_text(text)
        given = config_of(**columns) if columns else config
        found = load_sequences(str(path), given, with_answers=False, encoding=encoding_of("values", classes=classes))
        return [array[:, 0].tolist() for array in found.arrays()]

    assert read(("up", "down"), "up,1\ndown,2,3\nup,2.5,3.5,4.5\n") == expected
    assert read(("up", "down"), "other,1\ndown,2,3\nnew,2.5,3.5,4.5\n") == expected
    assert read(("up", "down"), "other,1\nnew,2,3\nnew,2.5,3.5,4.5\n") == expected, "classes it has not seen"
    assert read(("up", "down"), "1\n2,3\n2.5,3.5,4.5\n") == expected
    assert read(("7", "8"), "7,1\n8,2,3\n7,2.5,3.5,4.5\n") == expected
    assert read(("7", "8"), "1\n2,3\n2.5,3.5,4.5\n") == expected
    assert read(("7", "8"), "7,2\n8,2,3\n", label_column="none") == [[7.0, 2.0], [8.0, 2.0, 3.0]]
    with pytest.raises(DataError, match=r"rows.csv:2:2: found 'x'"):
        read(("up", "down"), "up,1\ndown,x\n")
    with pytest.raises(DataError, match="the table: found no column 'first'"):
        load_sequences(pa.table({"x": [1.0]}), config, encoding=encoding_of("x"))
    with pytest.raises(DataError, match="the table: found the column 'x' of type 'struct"):
        load_sequences(pa.table({"x": [{"a": 1}]}), config, with_answers=False, encoding=encoding_of("x"))


def test_rows_that_may_lack_the_number_of_training(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("1,5,6\n2,7\n3,8,9,10\n")

    def read(**columns):
        encoding = encoding_of("values", classes=())
        given = config_of("regress", **columns)
        return load_sequences(str(path), given, with_answers=False, encoding=encoding).lengths.tolist()

    for label in ("first", "last"):
        assert read(label_column=label) == [2, 1, 3]
        said = capsys.readouterr().err
        assert f"took the {label} value of each row as its label, as in training" in said
        assert "--label-column=none" in said
    assert read(label_column="none") == [3, 2, 4]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("column", [2, 3])
def test_a_cell_that_is_no_number_among_numbers_is_named_where_no_inputs_are(write, column):
    rows = [[*row] for row in ROWS]
    rows[1][column] = '"72,5"'
    with pytest.raises(DataError, match=rf"table.csv:3:{column + 1}: found '72,5'; expected a number"):
        jaxrnn.read(write(HEADER, rows), **ROLES)
    rows[0][column], rows[1][column] = "low", ""
    with pytest.raises(DataError, match="which is not of numbers, without a role"):
        jaxrnn.read(write(HEADER, rows), **ROLES)


def test_none_of_the_columns_of_the_model(write):
    config = config_of(**ROLES, category_columns="note")
    path = write(["unit", "state", "note", "z"], [["a", "well", "so", "1"], ["b", "sick", "so", "2"]])
    for with_answers in (True, False):
        with pytest.raises(DataError, match=r"none of the columns that the model reads, such as 'x'; expected all of"):
            load_sequences(path, config, with_answers=with_answers, encoding=encoding_of("x", "y"))


def test_columns_that_are_named_now_have_to_be_there(write):
    config, encoding = config_of(**ROLES, group_column="home"), encoding_of("x", "y")
    path = write(HEADER, ROWS)
    assert "groups" not in load_sequences(path, config, encoding=encoding, given=("input_columns",)).rows
    with pytest.raises(DataError, match="no column 'home'"):
        load_sequences(path, config, encoding=encoding, given=("group_column",))
    wrong = config_of(id_column="unit", label_column="stat")
    with pytest.raises(DataError, match="no column 'stat'"):
        load_sequences(path, wrong, with_answers=False, encoding=encoding, given=("label_column",))
    assert "labels" not in load_sequences(path, wrong, with_answers=False, encoding=encoding).rows


def test_lists_that_the_model_does_not_read_are_passed_over(tmp_path):
    path, config = tmp_path / "rows.jsonl", config_of()
    encoding = encoding_of("values.0", "values.1")
    row = '{"id": "a", "label": "well", "values": [[1, 2], [3, 4]], "words": ["p"], "other": [], "one": [1, 2]}'
    path.write_text(row + "\n")
    for with_answers in (True, False):
        found = load_sequences(str(path), config, with_answers=with_answers, encoding=encoding)
        assert inputs_of(found) == (("values.0", "values.1"), [[1.0, 2.0], [3.0, 4.0]])
    categories = config_of(category_columns="words")
    found = load_sequences(str(path), categories, encoding=encoding_of())
    assert "inputs" not in found.steps
    assert found.steps["categories"].texts() == ["p"]


@pytest.mark.parametrize("name", ["first", "last", "none"])
def test_a_label_column_of_a_table_that_is_called_as_a_place_is(write, capsys, name):
    path = write(["unit", name, "x", "y"], [["a", "1", "1", "2"], ["b", "2", "5", "6"]])
    config = config_of("regress", id_column="unit", label_column=name)
    found = load_sequences(path, config, with_answers=False, encoding=encoding_of("x", "y", classes=()))
    assert inputs_of(found) == (("x", "y"), [[1.0, 2.0], [5.0, 6.0]])
    assert not capsys.readouterr().err
