"""What `jaxrnn.fit` takes for settings, and what its model takes for rows."""

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.commands.sequence_prediction import lay_out
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequences import Field
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.config import Config
from jaxrnn.tasks.judgement import alike, alike_warnings

TINY = {"cell": "rnn", "hidden_size": 2, "epochs": 1, "progress": False}


def test_settings_may_be_numbers_of_numpy_and_name_no_files():
    rows = [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    tiny = {"cell": "rnn", "hidden_size": np.int32(2), "epochs": np.int64(1), "learning_rate": np.float32(0.5)}
    model = jaxrnn.fit(rows, **tiny, split_fractions=np.array([1.0, 0.0, 0.0]), progress=False)
    assert (model.config.training.epochs, model.config.optimizer.learning_rate) == (1, 0.5)
    assert (model.predict(rows) == model.predict(jaxrnn.Ragged.from_rows(rows))).all()
    assert model.evaluate(rows).figures == model.evaluate(jaxrnn.Ragged.from_rows(rows)).figures
    with pytest.raises(UserError, match=r"^data: got 'other.csv'; expected none: the rows are given, to train"):
        jaxrnn.fit(rows, data="other.csv")


def test_a_model_with_marks_of_what_is_missing_takes_files_that_lack_nothing():
    columns = {"unit": [0, 0, 1, 1], "x": [1.0, None, 2.0, 3.0], "side": ["a", "a", "b", "b"]}
    roles = {"id_column": "unit", "label_column": "side", "input_columns": "x", "missing": "mask"}
    tiny = {"cell": "rnn", "hidden_size": 2, "epochs": 1, "progress": False}
    whole = pa.table(columns | {"x": [1.0, 5.0, 2.0, 3.0]})
    for training in (pa.table(columns), whole):
        model = jaxrnn.fit(training, task="classify", **roles, **tiny)
        assert model.encoding.inputs.names == ("x", "x is missing")
        for table in (pa.table(columns), whole):
            assert len(model.predict(table)) == 2


def test_what_is_to_be_told_may_not_be_missing():
    table = pa.table({"unit": [0, 1], "x": [1.0, 2.0], "y": [None, 2.0]})
    with pytest.raises(UserError, match=r"a missing value in 'y', .*; --missing is of inputs only"):
        jaxrnn.read(table, id_column="unit", target_columns="y", missing="mask")
    with pytest.raises(UserError, match=r"missing: got 'mask'; expected error or forward with task = next, or target"):
        jaxrnn.fit(table, missing="mask")


def test_marks_are_read_for_the_next_value_of_a_target_but_never_told():
    table = pa.table({"unit": [0, 0, 1, 1, 1], "x": [1.0, None, 2.0, 3.0, None], "y": [1.0, 2.0, 4.0, 5.0, 6.0]})
    roles = {"id_column": "unit", "input_columns": "x,y", "missing": "mask"}
    model = jaxrnn.fit(table, **roles, target_columns="y", **TINY)
    assert model.encoding.inputs.names == ("x", "y", "x is missing", "y is missing")
    assert model.encoding.targets.names == ("y",)
    assert model.predict(table).shape == (2, 1)
    marked = jaxrnn.read(table, **roles | {"input_columns": ["x", "y"]})
    with pytest.raises(UserError, match=r"column 'x': found marks of what is missing; .* by --target-columns"):
        jaxrnn.fit(marked, **TINY)
    taken = table.append_column("x is missing", table["y"])
    with pytest.raises(UserError, match=r"found 'x is missing'; expected no such name: missing = mask adds it"):
        jaxrnn.read(taken, id_column="unit", input_columns=["x", "x is missing"], missing="mask")


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["word", "byte"])
def test_a_model_of_texts_takes_a_list_of_them(tokens, tmp_path):
    texts, labels = ["so good", "so, so bad", "good", "bad and bad"], ["a", "b", "a", "b"]
    training = jaxrnn.read(texts, tokens=tokens, labels=labels)
    if tokens == "byte":
        table = pa.table({"review": texts, "side": labels})
        training = jaxrnn.read(table, text_column="review", tokens=tokens, label_column="side")
    model = jaxrnn.fit(training.take(np.arange(4)), task="classify", **TINY)
    np.testing.assert_array_equal(model.predict_proba(texts), model.predict_proba(training))
    (tmp_path / "new.csv").write_text(f"{training.steps['categories'].names[0]},n\nbad,1\nso good and so on,2\n")
    from_file = model.predict_proba(str(tmp_path / "new.csv"))
    np.testing.assert_array_equal(model.predict_proba(["bad", "so good and so on"]), from_file)


def test_classes_and_categories_that_are_nearly_the_same_are_named(capsys):
    columns = {"unit": [0, 1, 2, 3], "x": [1.0, 2.0, 3.0, 4.0], "side": ["Left", "left ", "right", "left"]}
    roles = {"id_column": "unit", "label_column": "side", "input_columns": "x", "category_columns": "place"}
    table = pa.table(columns | {"place": ["Oslo", "Rome", "Rome", "oslo"]})
    jaxrnn.fit(table, task="classify", **roles, **TINY)
    single, classes, categories = capsys.readouterr().err.splitlines()
    assert single.startswith("warning: every sequence has a single step, so that nothing recurs")
    assert classes.startswith("warning: the classes 'Left' and 'left' and 'left ' differ in case or white space alone")
    assert categories.startswith("warning: the categories of place 'Oslo' and 'oslo' differ in case or white space")
    # Tokens are left out: "So" is another word than "so".
    config = Config().replace_flat({"text_column": "place"})
    assert alike_warnings(Encoding(categories=(("place", ("Oslo", "oslo")),)), config) == []
    assert alike(["a b", "A B", "ab", "b", "ß", "SS"]) == [["a b", "A B", "ab"], ["ß", "SS"]]


@pytest.mark.slow
def test_targets_named_as_other_columns_are_lose_nothing():
    table = pa.table({"unit": ["u", "v"], "x": [1.0, 2.0], "id": [1.0, 2.0], "id_2": [3.0, 5.0], "time": [0.0, 9.0]})
    roles = {"id_column": "unit", "input_columns": "x", "target_columns": "id,id_2,time"}
    model = jaxrnn.fit(table, task="regress", **roles, **TINY)
    sequences = jaxrnn.read(table, id_column="unit", input_columns=["x"])
    header, lines = lay_out(model, sequences)
    assert header == ["id", "id_3", "id_2", "time"]
    assert [line[0] for line in lines] == ["u", "v"]
    with pytest.raises(ValueError, match="names: got a, a; expected names that differ"):
        Field(("a", "a"), np.zeros((1, 2)))
