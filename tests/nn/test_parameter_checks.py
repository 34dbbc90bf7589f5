"""Parameters that do not fit a module's sizes are refused by name, before anything is computed from them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn.cells import Equation, gru_step

BATCH, TIME, INPUT, HIDDEN = 2, 3, 3, 4
INPUTS = np.zeros((BATCH, TIME, INPUT), np.float32)


def gru(input_size: int = INPUT, hidden_size: int = HIDDEN, **options: Any) -> jaxrnn.GRU:
    return jaxrnn.GRU(input_size, hidden_size, rngs=nnx.Rngs(0), **options)


def with_parameters_of(other: nnx.Module) -> jaxrnn.GRU:
    layer = gru()
    nnx.update(layer, nnx.state(other))
    return layer


def stacked_members() -> jaxrnn.GRU:
    @functools.partial(nnx.vmap, in_axes=0, out_axes=0)
    def members(key: Any) -> jaxrnn.GRU:
        return jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(key))

    return members(jax.random.split(jax.random.key(0), 5))


def with_attribute(name: str, value: Any, **options: Any) -> jaxrnn.GRU:
    layer = gru(**options)
    setattr(layer, name, value)
    return layer


def with_value(name: str, value: Any) -> jaxrnn.GRU:
    layer = gru(num_layers=2, bidirectional=True)
    getattr(layer, name).set_value(value)
    return layer


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "fewer hidden units": (
        lambda: with_parameters_of(gru(INPUT, 2)),
        r"weight_ih_l0: got shape \(6, 3\); expected \(12, 3\): a parameter of other sizes",
    ),
    "more hidden units": (lambda: with_parameters_of(gru(INPUT, 16)), r"weight_ih_l0: got shape \(48, 3\)"),
    "another cell's": (
        lambda: with_parameters_of(jaxrnn.LSTM(INPUT, HIDDEN, rngs=nnx.Rngs(0))),
        r"weight_ih_l0: got shape \(16, 3\); expected \(12, 3\)",
    ),
    "a forgotten vmap": (
        stacked_members,
        r"weight_ih_l0: got shape \(5, 12, 3\); expected \(12, 3\): \(5,\) in front is that of members stacked by"
        " nnx.vmap: call the GRU under nnx.vmap too",
    ),
    "a size changed": (
        lambda: with_attribute("hidden_size", 9),
        r"weight_ih_l0: got shape \(12, 3\); expected \(27, 3\): .* the GRU's sizes were changed",
    ),
    "layers added": (
        lambda: with_attribute("num_layers", 2),
        r"weight_ih_l1: got none; expected a parameter of shape \(12, 4\)",
    ),
    "a direction added": (lambda: with_attribute("bidirectional", True), "weight_ih_l0_reverse: got none"),
    "a bias too few": (lambda: with_attribute("bias_hh_l0", None), r"bias_hh_l0: got none; expected .* \(12,\)"),
    "a bias too many": (
        lambda: with_attribute("bias_hh_l0", nnx.Param(jnp.zeros(12)), bias=False),
        "bias_hh_l0: got a parameter; expected none: the GRU was built without it",
    ),
    "a projection": (
        lambda: with_attribute("weight_hr_l0", nnx.Param(jnp.zeros((4, 4)))),
        "weight_hr_l0: got a parameter; expected none",
    ),
    "no parameter": (lambda: with_attribute("weight_hh_l0", 3.0), r"weight_hh_l0: got \w+; expected an nnx.Param"),
    "integers": (lambda: with_value("bias_ih_l1", jnp.zeros(12, int)), "bias_ih_l1: got int32; expected floating"),
    "the last one": (
        lambda: with_value("bias_hh_l1_reverse", jnp.zeros(13)),
        r"bias_hh_l1_reverse: got shape \(13,\); expected \(12,\)",
    ),
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "call": lambda layer: layer(INPUTS),
    "jitted call": lambda layer: nnx.jit(lambda layer: layer(INPUTS))(layer),
    "final_state": lambda layer: layer.final_state(INPUTS),
    "all_states": lambda layer: layer.all_states(INPUTS),
    "step": lambda layer: layer.step(INPUTS[:, 0]),
    "gradient": lambda layer: nnx.grad(lambda layer: layer(INPUTS)[0].sum())(layer),
}


@pytest.mark.parametrize("backend", ["auto", "scan"])
@pytest.mark.parametrize("case", WRONG)
def test_a_layer_refuses_parameters_that_do_not_fit(case: str, backend: Any) -> None:
    build, message = WRONG[case]
    layer = build()
    layer.backend = backend
    for name, call in CALLS.items():
        if (name == "step" and layer.bidirectional) or (name == "gradient" and case == "integers"):
            continue  # refused for what they are
        with pytest.raises(ValueError, match=message):
            call(layer)


def test_a_cell_refuses_parameters_that_do_not_fit() -> None:
    cell, other = (jaxrnn.LSTMCell(INPUT, size, rngs=nnx.Rngs(0)) for size in (HIDDEN, 2))
    nnx.update(cell, nnx.state(other))
    for call in (cell, lambda inputs: nnx.grad(lambda cell: cell(inputs).h.sum())(cell)):
        with pytest.raises(ValueError, match=r"weight_ih: got shape \(8, 3\); expected \(16, 3\)"):
            call(INPUTS[:, 0])
    cell = jaxrnn.GRUCell(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    cell.bias_ih = None
    with pytest.raises(ValueError, match=r"bias_ih: got none; expected a parameter of shape \(12,\)"):
        cell(INPUTS[:, 0])


def test_an_equations_own_parameters_are_held_to_their_shapes() -> None:
    equation = Equation(
        3,
        lambda h, a, b, scale, shift: gru_step(h, a * scale[None], b + shift[None]),
        lambda hidden, output: output,
        lambda hidden: {"scale": jnp.ones(3 * hidden), "shift": jnp.zeros(3 * hidden)},
    )
    layer = jaxrnn.RecurrentLayer(equation, INPUT, HIDDEN, rngs=nnx.Rngs(0))
    layer.shift_l0.set_value(jnp.zeros(HIDDEN))
    with pytest.raises(ValueError, match=r"shift_l0: got shape \(4,\); expected \(12,\)"):
        layer(INPUTS)
    del layer.scale_l0
    with pytest.raises(ValueError, match="scale_l0: got none"):
        nnx.jit(lambda layer: layer(INPUTS))(layer)


def test_a_forgotten_vmap_works_once_it_is_there() -> None:
    run = nnx.vmap(lambda layer, inputs: layer(inputs)[0], in_axes=(0, None))
    assert run(stacked_members(), INPUTS).shape == (5, BATCH, TIME, HIDDEN)


@pytest.mark.parametrize(
    "build", [jaxrnn.RNN, jaxrnn.LSTM, jaxrnn.GRU, jaxrnn.RNNCell, jaxrnn.LSTMCell, jaxrnn.GRUCell]
)
def test_sizes_beyond_32_bits_are_refused_before_anything_is_allocated(build: Any, unchecked: None) -> None:
    for sizes in ((3, 2**31), (2**31, 1), (2**15, 2**16), (np.int32(2**16), np.int32(2**16))):
        with pytest.raises(
            ValueError, match=r"weight_(ih|hh)\w*: got \d+ elements, shape .*; expected at most 2147483647"
        ):
            build(*sizes, rngs=nnx.Rngs(0))


def test_sizes_of_upper_layers_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match=r"weight_ih_l1: got 2147483648 elements, shape \(32768, 65536\)"):
        jaxrnn.RNN(1, 2**15, num_layers=2, bidirectional=True, rngs=nnx.Rngs(0))


def test_sizes_may_be_numpys_integers(unchecked: None) -> None:
    layer = gru(np.int32(INPUT), np.int64(HIDDEN), num_layers=np.int8(1))
    assert [type(size) for size in (layer.input_size, layer.hidden_size, layer.num_layers)] == [int] * 3
    assert layer.initial_state(np.int32(2)).shape == (1, 2, HIDDEN)
