"""Between sequences and arrays: which numbers are to be predicted, and features that are only counted."""

import dataclasses

import numpy as np
import pytest

import jaxrnn
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequences import TARGETS, Field
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.config import Config

ROWS = [np.arange(6.0).reshape(3, 2), np.arange(4.0).reshape(2, 2) ** 2]
CLASSIFY = Config().replace_flat({"task": "classify"})


def test_targets_of_rows_are_the_numbers_to_predict():
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    sequences = dataclasses.replace(jaxrnn.read(ROWS), rows={TARGETS: Field(("a", "b"), values)})
    config = Config().replace_flat({"task": "regress", "normalizer": "none"})
    encoding = Encoding.fit(sequences, config)
    assert encoding.targets.names == ("a", "b")
    assert encoding.target_means == (2.0, 3.5)
    np.testing.assert_array_equal(encoding.encode(sequences, "regress").targets, values)


@pytest.mark.parametrize("num_features", [1, 3])
def test_arrays_with_other_features_are_refused(num_features):
    encoding = Encoding.fit(jaxrnn.read(ROWS, labels=["x", "y"]), CLASSIFY)
    others = jaxrnn.read([np.ones((4, num_features))])
    with pytest.raises(DataError, match=f"found {num_features} features a step; expected 2"):
        encoding.encode(others, "classify", with_targets=False)
