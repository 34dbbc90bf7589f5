"""What `jaxrnn.fit` takes for settings, and what its model takes for rows."""

import numpy as np
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
