"""What `jaxrnn.fit` takes for settings, and what its model takes for rows."""

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.foundation.errors import UserError


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
    with pytest.raises(UserError, match=r"missing: got 'mask'; expected error or forward with task = next"):
        jaxrnn.fit(table, missing="mask")
