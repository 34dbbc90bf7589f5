"""One type throughout: states and outputs have that of the parameters, whatever the inputs have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxrnn
from jaxrnn.nn import cells

BATCH, TIME, INPUT, HIDDEN = 2, 3, 2, 3
B, H, F, D = jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64
PAIRS = [(B, B), (B, F), (H, B), (F, B), (F, D), (D, F)]  # the parameters' type, the inputs'
LAYERS: dict[str, Any] = {
    "lstm": lambda *sizes, **options: jaxrnn.LSTM(*sizes, proj_size=2, **options),
    "own": lambda *sizes, **options: jaxrnn.RecurrentLayer(cells.GRU, *sizes, **options),
}


def types_of(tree: Any) -> set[Any]:
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_loop_over_step_carries_one_type(kind: str, x64: None) -> None:
    # Traced only: a loop whose carry changes its type is refused there.
    for parameters_type, inputs_type in PAIRS:
        layer = LAYERS[kind](INPUT, HIDDEN, param_dtype=parameters_type, rngs=nnx.Rngs(0))
        layer.compute_dtype = B if inputs_type == F else None

        def loop(inputs: Any, layer: Any = layer) -> Any:
            return lax.scan(lambda state, x: layer.step(x, state)[::-1], layer.initial_state(BATCH), inputs)

        found = jax.eval_shape(loop, jnp.zeros((TIME, BATCH, INPUT), inputs_type))
        assert types_of(found) == {jnp.dtype(parameters_type)}


@pytest.mark.parametrize("build", [jaxrnn.LSTMCell, jaxrnn.GRUCell])
def test_a_loop_over_a_cell_carries_one_type(build: Any, x64: None) -> None:
    for parameters_type, inputs_type in PAIRS:
        cell = build(INPUT, HIDDEN, param_dtype=parameters_type, rngs=nnx.Rngs(0))

        def loop(inputs: Any, cell: Any = cell) -> Any:
            return lax.scan(lambda state, x: (cell(x, state), None), cell.initial_state(BATCH), inputs)[0]

        final = jax.eval_shape(loop, jnp.zeros((TIME, BATCH, INPUT), inputs_type))
        assert types_of(final) == {jnp.dtype(parameters_type)}


def test_everything_that_a_layer_returns_has_the_parameters_type(x64: None) -> None:
    layer = jaxrnn.LSTM(INPUT, HIDDEN, bidirectional=True, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    inputs = jnp.zeros((BATCH, TIME, INPUT), jnp.float32)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), layer.initial_state(BATCH))
    for state in (None, wide):
        found = jax.eval_shape(
            lambda inputs, s=state: (layer(inputs, s), layer.all_states(inputs, s), layer.final_state(inputs, s)),
            inputs,
        )
        assert types_of(found) == {jnp.dtype(jnp.bfloat16)}


def test_narrower_inputs_are_taken_exactly(x64: None) -> None:
    layer = jaxrnn.GRU(INPUT, HIDDEN, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    for found, expected in zip(layer(inputs), layer(inputs.astype(np.float64)), strict=True):
        assert found.dtype == jnp.float64
        np.testing.assert_array_equal(found, expected)


def test_parameters_of_several_types_are_held_by_one(x64: None) -> None:
    layer = jaxrnn.LSTM(INPUT, HIDDEN, num_layers=2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.bias_hh_l1.set_value(layer.bias_hh_l1.get_value().astype(jnp.float32))
    inputs = jnp.zeros((BATCH, TIME, INPUT), jnp.bfloat16)
    assert types_of(layer.initial_state(BATCH)) == {jnp.dtype(jnp.float32)}
    assert types_of(jax.eval_shape(layer, inputs)) == {jnp.dtype(jnp.float32)}
    graphdef, parameters = nnx.split(layer)
    gradient = jax.eval_shape(jax.grad(lambda p: nnx.merge(graphdef, p)(inputs)[0].sum()), parameters)
    for (name, found), (_, own) in zip(nnx.to_flat_state(gradient), nnx.to_flat_state(parameters), strict=True):
        assert found.get_value().dtype == own.get_value().dtype, name
