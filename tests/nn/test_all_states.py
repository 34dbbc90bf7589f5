"""`all_states`: the state after every step, against calls on ever longer beginnings of the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn.cells import LSTMState

LENGTHS = np.array([4, 2, 0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_every_steps_state_is_the_final_one_of_the_row_up_to_there(kind):
    options = {"proj_size": 2} if kind == "LSTM" else {}
    layer = getattr(jaxrnn, kind)(2, 3, num_layers=2, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options)
    inputs = jax.random.normal(jax.random.key(0), (3, 4, 2), jnp.float64)
    run = jax.jit(lambda lengths: layer(inputs, lengths=lengths)[1])
    found = jax.jit(lambda lengths: layer.all_states(inputs, lengths=lengths))(LENGTHS)
    states = jax.tree.map(np.asarray, found)
    assert isinstance(states, LSTMState) == (kind == "LSTM")
    for step in range(4):
        counted = step < LENGTHS
        final = jax.tree.map(np.asarray, run(np.where(counted, step + 1, 0)))
        for every, last in zip(jax.tree.leaves(states), jax.tree.leaves(final), strict=True):
            assert every.shape == (2, 3, 4, last.shape[-1])
            np.testing.assert_allclose(every[:, counted, step], last[:, counted], rtol=0, atol=1e-12)
            np.testing.assert_array_equal(every[:, ~counted, step], 0)


@pytest.mark.usefixtures("x64")
def test_the_reverse_direction_and_a_single_row():
    layer = jaxrnn.LSTM(2, 3, bidirectional=True, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(0), (4, 2), jnp.float64)
    found = jax.jit(lambda inputs: (layer.all_states(inputs), layer(inputs)))(inputs)
    states, (outputs, final) = jax.tree.map(np.asarray, found)
    assert states.c.shape == (2, 4, 3)
    np.testing.assert_allclose(np.concatenate([states.h[0], states.h[1]], -1), outputs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(states.c[1, 0], final.c[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(states.c[0, -1], final.c[0], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradients_flow_through_the_cell_states():
    layer = jaxrnn.LSTM(2, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(0), (1, 3, 2), jnp.float64)

    @jax.jit
    @jax.value_and_grad
    def total(inputs):
        return layer.all_states(inputs, lengths=jnp.array([2])).c.sum()

    gradient = np.asarray(total(inputs)[1])
    step = 1e-6
    for t, feature in ((0, 0), (1, 1), (2, 0)):
        along = step * (np.indices((1, 3, 2)) == np.array([0, t, feature]).reshape(3, 1, 1, 1)).all(axis=0)
        moved = [total(inputs + sign * along)[0] for sign in (1, -1)]
        np.testing.assert_allclose(gradient[0, t, feature], (moved[0] - moved[1]) / (2 * step), rtol=0, atol=1e-8)
    assert (gradient[0, 2] == 0).all()
