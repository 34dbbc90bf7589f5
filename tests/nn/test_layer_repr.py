"""What a layer and a cell look like: the call that builds them, and Flax's tree."""

import functools
from typing import Any

import jax.numpy as jnp
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn import cells

rngs = nnx.Rngs(0)
SHOWN: dict[str, Any] = {
    "RNN(3, 4)": lambda: jaxrnn.RNN(3, 4, rngs=rngs),
    "RNN(3, 4, nonlinearity='relu', bias=False)": lambda: jaxrnn.RNN(3, 4, nonlinearity="relu", bias=False, rngs=rngs),
    "LSTM(3, 4, num_layers=2, bidirectional=True, backend='scan')": lambda: jaxrnn.LSTM(
        3, 4, num_layers=2, bidirectional=True, backend="scan", rngs=rngs
    ),
    "LSTM(3, 4, proj_size=2, num_layers=2, dropout=0.5, remat_steps=7, compute_dtype='bfloat16', custom_gradient=False,"
    " param_dtype='float16')": lambda: jaxrnn.LSTM(
        3,
        4,
        num_layers=2,
        dropout=0.5,
        proj_size=2,
        remat_steps=7,
        compute_dtype=jnp.bfloat16,
        custom_gradient=False,
        param_dtype=jnp.float16,
        rngs=rngs,
    ),
    "GRU(3, 4)": lambda: jaxrnn.GRU(3, 4, backend="auto", rngs=rngs),
    "RecurrentLayer(Equation(gru_step, num_gates=3), 3, 4, num_layers=2)": lambda: jaxrnn.RecurrentLayer(
        cells.GRU, 3, 4, num_layers=2, rngs=rngs
    ),
    "RNNCell(3, 4, nonlinearity='relu')": lambda: jaxrnn.RNNCell(3, 4, nonlinearity="relu", rngs=rngs),
    "LSTMCell(3, 4, bias=False)": lambda: jaxrnn.LSTMCell(3, 4, bias=False, rngs=rngs),
    "GRUCell(3, 4)": lambda: jaxrnn.GRUCell(3, 4, rngs=rngs),
}


@pytest.mark.parametrize("shown", SHOWN)
def test_repr_is_the_call_without_what_is_the_default(shown: str) -> None:
    module = SHOWN[shown]()
    assert repr(module) == shown
    assert repr(nnx.merge(*nnx.split(module))) == shown
    if "Equation" not in shown:  # what is shown builds the same again
        arguments = shown.replace(")", ", rngs=rngs)")
        assert repr(eval(f"jaxrnn.{arguments}", {"jaxrnn": jaxrnn, "rngs": rngs})) == shown


def test_options_set_later_are_shown() -> None:
    layer = jaxrnn.GRU(3, 4, rngs=rngs)
    layer.remat_steps = 5
    assert repr(layer) == "GRU(3, 4, remat_steps=5)"


def test_a_module_that_is_not_whole_is_shown_too() -> None:
    layer = jaxrnn.GRU(3, 4, rngs=rngs)
    del layer.weight_ih_l0, layer.bias
    assert repr(layer) == "GRU(3, 4)"


class Model(nnx.Module):
    def __init__(self) -> None:
        self.encoder = jaxrnn.LSTM(3, 4, backend="scan", rngs=nnx.Rngs(0))


def test_the_tree_shows_options_and_shapes_and_no_address() -> None:
    for tree in (str(jaxrnn.LSTM(3, 4, backend="scan", rngs=nnx.Rngs(0))), repr(Model()), str(Model())):
        for part in (
            "equation=Equation(lstm_step, num_gates=4),",
            "backend='scan',",
            "remat_steps=None,",
            "compute_dtype=None,",
            "custom_gradient=True,",
            "weight_hh_l0=Param( # 64 (256 B)",
            "shape=(16, 4)",
        ):
            assert part in tree
        assert " at 0x" not in tree
    nnx.display(Model())


def test_an_equation_is_named_after_its_function() -> None:
    def own_step(h: Any, input_gates: Any, hidden_gates: Any, scale: float) -> Any:
        return jnp.tanh(scale * (input_gates + hidden_gates))

    class Step:
        def __call__(self, h: Any, input_gates: Any, hidden_gates: Any) -> Any:
            return jnp.tanh(input_gates + hidden_gates)

    for pointwise, name in (
        (own_step, "own_step"),
        (functools.partial(own_step, scale=2.0), "own_step"),
        (Step(), "Step"),
        (lambda *a: a[0], "<lambda>"),
    ):
        equation = jaxrnn.Equation(1, pointwise, lambda hidden, output: output)
        assert repr(equation) == f"Equation({name}, num_gates=1)"
