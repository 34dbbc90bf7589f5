"""What a user may write: a type checker accepts all of it, and complains where a line says so (test_typing.py)."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn

layer = jaxrnn.LSTM(
    3,
    4,
    num_layers=2,
    bidirectional=True,
    dropout=0.1,
    backend="scan",
    remat_steps=8,
    compute_dtype=jnp.bfloat16,
    recurrent_init=nnx.initializers.orthogonal(),
    forget_bias=1,
    rngs=nnx.Rngs(0),
)
assert_type(layer, jaxrnn.LSTM)
inputs = np.zeros((2, 5, 3), np.float32)
start: jaxrnn.LSTMState = layer.initial_state(2)
outputs, state = layer(inputs, start, lengths=[5, 2], mask=np.ones((2, 5), np.int32))
assert_type(outputs, jax.Array)
final: jaxrnn.LSTMState = state
assert_type(final.c, jax.Array)
every: jaxrnn.LSTMState = layer.all_states(jnp.asarray(inputs), segment_ids=[[1] * 5] * 2)
last: jaxrnn.LSTMState = layer.final_state(inputs, resets=jnp.zeros((2, 5), bool), reset_state=start)
assert_type(layer.weight_hh_l0, nnx.Param[Any])
layer.backend = "auto"
layer.remat_steps = None

gru = jaxrnn.GRU(3, 4, reverse=True, rngs=nnx.Rngs(0))
output, carry = jaxrnn.RNN(3, 4, nonlinearity="relu", rngs=nnx.Rngs(0)).step(inputs[:, 0])
assert_type(output, jax.Array)


def step(h: jax.Array, input_gates: jax.Array, hidden_gates: jax.Array) -> jax.Array:
    return jnp.tanh(input_gates + hidden_gates)


equation = jaxrnn.Equation(1, step, lambda hidden, output: output, summed_gates=1)
own = jaxrnn.RecurrentLayer(equation, 3, 4, proj_size=2, rngs=nnx.Rngs(0))
cell = jaxrnn.LSTMCell(3, 4, bias=False, rngs=nnx.Rngs(0))
after: jaxrnn.LSTMState = cell(inputs[:, 0])
assert_type(cell.weight_ih, nnx.Param[Any])

# Mistakes.
jaxrnn.LSTM(3, 4, num_layer=2, rngs=nnx.Rngs(0))  # type: ignore[call-arg]
jaxrnn.LSTM(3, 4, num_layers="2", rngs=nnx.Rngs(0))  # type: ignore[arg-type]
jaxrnn.GRU(3, 4, backend="sacn", rngs=nnx.Rngs(0))  # type: ignore[arg-type]
jaxrnn.GRU(3, 4, proj_size=2, rngs=nnx.Rngs(0))  # type: ignore[call-arg]
jaxrnn.GRU(3, 4)  # type: ignore[call-arg]
jaxrnn.LSTMCell(3, 4, num_layers=2, rngs=nnx.Rngs(0))  # type: ignore[call-arg]
layer(inputs, length=[5, 2])  # type: ignore[call-arg]
layer.backend = "sacn"  # type: ignore[assignment]
layer.bakend = "scan"  # type: ignore[attr-defined]
