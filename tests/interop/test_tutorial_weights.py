"""The tutorial's trained weights give the tutorial's predictions."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.models.next_value import NextValueModel

SCALE = 50  # positions are divided by it before, and multiplied by it after


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((Path(__file__).resolve().parents[1] / "golden" / "tutorial_rnn.json").read_text())


@pytest.fixture(scope="module")
def model(golden: dict) -> NextValueModel:
    rngs = nnx.Rngs(0)
    model = NextValueModel(jaxrnn.RNN(1, 8, rngs=rngs), rngs=rngs)
    weights = {name: np.asarray(value, np.float32) for name, value in golden["weights"].items()}
    jaxrnn.load_torch_state_dict(model, weights)
    return model


def test_each_row_gives_the_published_prediction(model: NextValueModel, golden: dict) -> None:
    for case, published in zip(golden["cases"], golden["published"], strict=True):
        row = jnp.asarray([case["positions"]], jnp.float32) / SCALE
        predicted = model.predict_last(row, jnp.asarray([row.shape[1]]))
        assert predicted.shape == (1,)
        assert abs(float(predicted[0]) * SCALE - published) < 1e-4, case["positions"]


def test_padded_rows_give_the_published_predictions(model: NextValueModel, golden: dict) -> None:
    rows = [case["positions"] for case in golden["cases"]]
    lengths = jnp.asarray([len(row) for row in rows])
    padded = jnp.asarray([row + [np.nan] * (9 - len(row)) for row in rows], jnp.float32) / SCALE
    expected = np.array(golden["published"])
    for predicted in (
        model.predict_last(padded, lengths),
        model.predict_every(padded, lengths)[jnp.arange(len(rows)), lengths - 1],
        model.forecast(padded, lengths, 2)[:, 0],
    ):
        np.testing.assert_allclose(np.asarray(predicted) * SCALE, expected, rtol=0, atol=1e-4)


def test_the_weights_come_back_bit_for_bit(model: NextValueModel, golden: dict) -> None:
    returned = jaxrnn.to_torch_state_dict(model)
    assert set(returned) == set(golden["weights"])
    for name, value in golden["weights"].items():
        np.testing.assert_array_equal(returned[name], np.asarray(value, np.float32), err_msg=name)
