"""Layers in nnx.Sequential: what follows them must take the outputs and the state."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxrnn

INPUTS = jnp.zeros((2, 3, 4))
rngs = nnx.Rngs(0)


def gru() -> jaxrnn.GRU:
    return jaxrnn.GRU(4, 4, rngs=rngs)


class TakesBoth(nnx.Module):
    def __call__(self, outputs: Any, state: Any) -> Any:
        return outputs[:, -1]


class TakesOne(nnx.Module):
    def __call__(self, outputs: Any) -> Any:
        return outputs


REFUSED = {
    "Linear": lambda: nnx.Linear(4, 2, rngs=rngs),
    "Dropout": lambda: nnx.Dropout(0.5, rngs=rngs),
    "LSTM": lambda: jaxrnn.LSTM(4, 4, rngs=rngs),
    "GRU": gru,
    "GRUCell": lambda: jaxrnn.GRUCell(4, 4, rngs=rngs),
    "relu": lambda: jax.nn.relu,
    "TakesOne": TakesOne,
    "Sequential": lambda: nnx.Sequential(nnx.Linear(4, 2, rngs=rngs)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_the_outputs_alone_is_refused_behind_a_layer(name: str) -> None:
    message = f"nnx.Sequential: got GRU followed by {name}, .* use lambda outputs, state: outputs"
    model = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), gru(), REFUSED[name]())
    for run in (model, jax.jit(model), lambda inputs: nnx.jit(lambda model: model(inputs))(model)):
        with pytest.raises(TypeError, match=message):
            jax.eval_shape(run, INPUTS)


ALLOWED = {
    "nothing": (lambda: (), ((2, 3, 4), (1, 2, 4))),
    "a function": (lambda: (lambda outputs, state: outputs, nnx.Linear(4, 2, rngs=rngs)), (2, 3, 2)),
    "any arguments": (lambda: (lambda *both: both[1],), (1, 2, 4)),
    "a module": (lambda: (TakesBoth(), nnx.Linear(4, 2, rngs=rngs)), (2, 2)),
    "a sequence": (lambda: (nnx.Sequential(TakesBoth(), TakesOne()),), (2, 4)),
    "a layer": (lambda: (lambda outputs, state: outputs, gru()), ((2, 3, 4), (1, 2, 4))),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_takes_outputs_and_state_may_follow(case: str) -> None:
    following, shapes = ALLOWED[case]
    model = nnx.Sequential(gru(), *following())
    found = jax.eval_shape(model, INPUTS)
    assert jax.tree.map(lambda leaf: leaf.shape, found) == shapes
    assert "weight_hh_l0" in str(nnx.state(model, nnx.Param)), "its parameters are the model's"


def test_a_layer_called_by_another_in_a_sequence_is_not_meant() -> None:
    class Encoder(nnx.Module):
        def __init__(self) -> None:
            self.gru = gru()

        def __call__(self, inputs: Any) -> Any:
            return self.gru(inputs)[0]

    model = nnx.Sequential(Encoder(), nnx.Linear(4, 2, rngs=rngs))
    assert jax.eval_shape(model, INPUTS).shape == (2, 3, 2)
    layer = gru()
    assert jax.eval_shape(nnx.Sequential(lambda x: layer(x)[0], nnx.relu), INPUTS).shape == (2, 3, 4)
