"""Figures against their definitions, and sums that add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrnn.tasks import metrics


def measured(predicted, actual, weight=None):
    predicted, actual = np.asarray(predicted, float), np.asarray(actual, float)
    weight = np.ones(len(actual)) if weight is None else np.asarray(weight, float)
    return metrics.measure(predicted, actual, weight, loss=(3.0, 2.0), accuracy_epsilon=0.005)


def test_figures_are_their_definitions():
    figures = metrics.as_floats(measured([1.0, 2.5, -3.0], [1.5, 2.0, -5.0]).compute())
    relative = np.mean([0.5 / 1.505, 0.5 / 2.005, 2 / 5.005])
    expected = {
        "loss": 1.5,
        "accuracy": 1 - relative,
        "mae": 1.0,
        "rmse": np.sqrt(np.mean([0.25, 0.25, 4.0])),
        "within_half": 2 / 3,
    }
    assert figures == pytest.approx(expected)
    assert list(figures) == list(expected)


def test_accuracy_is_the_tutorials_in_divided_units():
    generator = np.random.default_rng(0)
    actual, predicted = generator.normal(size=(2, 100)) * 20
    divided = 1 - np.mean(abs(predicted / 50 - actual / 50) / (abs(actual / 50) + 0.0001))
    assert measured(predicted, actual).compute()["accuracy"] == pytest.approx(divided)


def test_batches_of_any_size_add_up():
    generator = np.random.default_rng(1)
    predicted, actual = generator.normal(size=(2, 37))
    parts = [slice(0, 16), slice(16, 32), slice(32, 37)]
    total = metrics.MetricSums.zero()
    for part in parts:
        total = total + measured(predicted[part], actual[part])
    whole = measured(predicted, actual).compute()
    for name in ("accuracy", "mae", "rmse", "within_half"):
        assert total.compute()[name] == pytest.approx(whole[name], rel=1e-6)


def test_rows_that_fill_a_batch_count_for_nothing():
    filled = measured([1.0, 9.0], [2.0, 0.0], weight=[1, 0]).compute()
    assert filled == measured([1.0], [2.0]).compute()


def test_predictions_and_targets_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got predicted \(3, 1\), actual \(3,\)"):
        metrics.measure(np.zeros((3, 1)), np.zeros(3), np.ones(3), loss=(0, 1), accuracy_epsilon=0.005)


@pytest.mark.parametrize("module", [np, jnp], ids=["numpy", "jax"])
def test_losses_are_their_definitions(module):
    predicted, actual = module.array([0.0, 0.5, 3.0, -3.0]), module.array([0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(metrics.elementwise_loss("mse", predicted, actual), [0, 0.25, 9, 9])
    np.testing.assert_allclose(metrics.elementwise_loss("mae", predicted, actual), [0, 0.5, 3, 3])
    np.testing.assert_allclose(metrics.elementwise_loss("huber", predicted, actual), [0, 0.125, 2.5, 2.5])


def test_sums_of_hundreds_of_millions_of_targets_lose_nothing():
    """375 million targets in batches that float32 cannot add up exactly: 3,000.7 each."""
    batch = metrics.MetricSums(np.float32(1000.1), np.float32(3000.7), np.zeros(5, np.float32))
    number = 125_000

    begin = jax.tree.map(jnp.asarray, metrics.MetricSums.zero())
    total, plain = lax.fori_loop(
        0, number, lambda _, totals: (totals[0] + batch, totals[1] + batch.loss_weight), (begin, jnp.float32(0))
    )
    kept = float(total.loss_weight) + float(total.lost[1])
    assert kept == pytest.approx(number * float(np.float32(3000.7)), rel=1e-9)
    assert abs(float(plain) / kept - 1) > 1e-4, "or the test shows nothing"
    loss = float(np.float32(1000.1)) / float(np.float32(3000.7))
    assert float(total.compute()["loss"]) == pytest.approx(loss, rel=2e-7)
