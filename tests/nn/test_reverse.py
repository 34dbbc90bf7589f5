"""Layers that read from the last step to the first: the second direction of a bidirectional layer, on its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from layer_cases import BATCH, HIDDEN, INPUT, PATTERNS, TIME, build, drawn_inputs, valid_of

import jaxrnn


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("lstm_proj", "scan"), ("gru", "auto"), pytest.param("rnn_tanh", "auto", marks=pytest.mark.slow)],
)
def test_it_is_the_second_direction_of_a_bidirectional_layer(kind: str, backend: Any) -> None:
    both = build(kind, bidirectional=True, dtype=jnp.float32, backend=backend)
    layer = build(kind, reverse=True, dtype=jnp.float32, backend=backend)
    for name, parameter in oracle.named_parameters(layer).items():
        parameter.set_value(getattr(both, f"{name}_reverse").get_value())
    inputs, state, weights = drawn_inputs(both)
    options = PATTERNS["everything"]
    inputs = jnp.where(valid_of(BATCH, TIME, options)[:, :, None], inputs, jnp.nan)
    # The forward direction is not read: its weight is 0.
    size = layer.output_size
    of_both = (weights[0].at[..., :size].set(0), jax.tree.map(lambda leaf: leaf.at[0].set(0), weights[1]))
    expected = oracle.outcome(both, inputs, state, of_both, **options)
    second = jax.tree.map(lambda leaf: leaf[1:], (state, weights[1]))
    found = oracle.outcome(layer, inputs, second[0], (weights[0][..., size:], second[1]), **options)
    wanted = {name.removesuffix("_reverse"): value for name, value in expected.items() if name.endswith("_reverse")}
    wanted |= {"outputs": expected["outputs"][..., size:], "d inputs": expected["d inputs"]}
    wanted |= {name: value[1:] for name, value in expected.items() if name.startswith(("final", "d initial"))}
    oracle.assert_close(found, wanted, 1e-5)


def test_stacked_it_is_a_forward_layer_on_the_rows_turned_round() -> None:
    options = {"num_layers": 2, "rngs": nnx.Rngs(0)}
    layer = jaxrnn.GRU(INPUT, HIDDEN, reverse=True, **options)
    forward = nnx.merge(*nnx.split(layer))
    forward.reverse = False
    assert (layer.directions, forward.directions) == ((True,), (False,))
    inputs = jnp.asarray(oracle.draw(1, BATCH, TIME, INPUT), jnp.float32)

    def turned(inputs: Any) -> Any:
        outputs, final = forward(inputs[:, ::-1])
        return outputs[:, ::-1], final, forward.all_states(inputs[:, ::-1])[:, :, ::-1]

    found = jax.jit(lambda inputs: (*layer(inputs), layer.all_states(inputs)))(inputs)
    oracle.assert_close(oracle.flat(found), oracle.flat(jax.jit(turned)(inputs)), 1e-5)


def test_its_parameters_have_the_names_of_a_forward_layer() -> None:
    layers = [jaxrnn.LSTM(INPUT, HIDDEN, num_layers=2, reverse=flag, rngs=nnx.Rngs(0)) for flag in (True, False)]
    names = [sorted(jaxrnn.to_torch_state_dict(layer)) for layer in layers]
    assert names[0] == names[1]
    assert repr(layers[0]) == "LSTM(2, 3, num_layers=2, reverse=True)"
    assert layers[0].num_directions == 1
    np.testing.assert_array_equal(layers[0].weight_hh_l1.get_value(), layers[1].weight_hh_l1.get_value())


def test_both_together_are_refused_whenever_they_come_together() -> None:
    layer = jaxrnn.GRU(INPUT, HIDDEN, bidirectional=True, rngs=nnx.Rngs(0))
    layer.reverse = True
    with pytest.raises(ValueError, match="reverse: got True with bidirectional=True; expected one of them"):
        layer(jnp.zeros((BATCH, TIME, INPUT)))
