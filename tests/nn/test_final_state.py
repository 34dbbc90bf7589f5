"""The final state alone: that of a call, at every length, without memory for outputs that nobody reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn

LAYERS = {
    "rnn": lambda **options: jaxrnn.RNN(2, 5, **options),
    "lstm": lambda **options: jaxrnn.LSTM(2, 5, **options),
    "lstm_proj": lambda **options: jaxrnn.LSTM(2, 5, proj_size=3, **options),  # served by the loop
    "gru": lambda **options: jaxrnn.GRU(2, 5, **options),
}
GIVEN = {
    "lengths": {"lengths": jnp.asarray([7, 0, 3])},
    "resets": {
        "mask": jnp.asarray([[1, 1, 0, 1, 1, 0, 1], [1] * 7, [0] * 7], bool),
        "resets": jnp.asarray([[0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 1], [1] * 7], bool),
    },
}


def sum_of_sines(states):
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(states))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("given", GIVEN)
def test_it_is_that_of_a_call(name, given):
    layer = LAYERS[name](num_layers=2, bidirectional=True, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(layer)
    inputs = jax.random.normal(jax.random.key(1), (3, 7, 2))

    def run(take):
        def loss(params, inputs):
            states = take(nnx.merge(graphdef, params), inputs)
            return sum_of_sines(states), states

        (_, states), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, inputs)
        plain = take(nnx.merge(graphdef, params), inputs)  # of a call without a gradient
        return states, plain, gradients

    expected, got = jax.jit(
        lambda: (
            run(lambda layer, inputs: layer(inputs, **GIVEN[given])[1]),
            run(lambda layer, inputs: layer.final_state(inputs, **GIVEN[given])),
        )
    )()
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_of_a_single_row_and_under_other_transformations():
    layer = jaxrnn.GRU(2, 5, rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(1), (3, 7, 2))
    whole = layer.final_state(inputs)
    np.testing.assert_allclose(layer.final_state(inputs[1]), whole[:, 1], rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(layer.final_state)(inputs[:, None])[1, :, 0], whole[:, 1], rtol=1e-6)

    def second_order(take):
        def squared_gradient(x):
            return jnp.sum(jax.grad(lambda x: sum_of_sines(take(x)))(x) ** 2)

        return jax.jit(jax.grad(squared_gradient))(inputs)

    expected = second_order(lambda x: layer(x)[1])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(second_order(layer.final_state), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.real_flags
@pytest.mark.parametrize("remat_steps", [None, 16])
def test_outputs_take_no_memory(remat_steps):
    if jax.default_backend() != "cpu":
        pytest.skip("other devices multiply the inputs of all steps before the loop, which takes more than the outputs")
    layer = jaxrnn.LSTM(1, 32, rngs=nnx.Rngs(0))
    layer.remat_steps = remat_steps
    inputs = jax.ShapeDtypeStruct((8, 512, 1), jnp.float32)
    planned = jax.jit(layer.final_state).lower(inputs).compile().memory_analysis().temp_size_in_bytes
    outputs = 8 * 512 * 32 * 4
    assert 0 < planned < outputs / 4, f"{planned} bytes, where the outputs would be {outputs}"
