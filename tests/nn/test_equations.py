"""Equations of a user's own: states of any structure, and what is wrong with one said before it is run."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn.cells import Equation, lstm_step

BATCH, TIME, INPUT, HIDDEN, PROJ = 3, 4, 2, 4, 2
INPUTS = jnp.asarray(oracle.draw(1, BATCH, TIME, INPUT), jnp.float32)
LENGTHS = jnp.array([4, 2, 0])
RESETS = jnp.zeros((BATCH, TIME), bool).at[0, 2].set(True)


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Memory:
    hidden: Any
    cell: Any


STRUCTURES: dict[str, Callable[[Any, Any], Any]] = {
    "tuple": lambda h, c: (h, c),
    "list": lambda h, c: [h, c],
    "dict": lambda h, c: {"a": h, "b": c},
    "named tuple": Pair,
    "dataclass": Memory,
    "nested": lambda h, c: {"a": (h,), "b": {"memory": [c]}},
}


def lstm_of(structure: Callable[[Any, Any], Any]) -> Equation:
    """An LSTM whose state is `structure(h, c)`."""

    def step(state: Any, input_gates: Any, hidden_gates: Any) -> Any:
        return structure(*lstm_step(jaxrnn.LSTMState(*jax.tree.leaves(state)), input_gates, hidden_gates))

    return Equation(4, step, lambda hidden, output: structure(output, hidden), summed_gates=4)


def everything(layer: Any) -> Any:
    """What a layer's doors return, with the state as leaves, and the gradient of all its arrays."""
    graphdef, parameters = nnx.split(layer)

    @jax.jit
    def run(parameters: Any, inputs: Any) -> Any:
        def results(parameters: Any, inputs: Any) -> Any:
            layer = nnx.merge(graphdef, parameters)
            start = jax.tree.map(lambda leaf: leaf + 0.5, layer.initial_state(BATCH))
            options = {"lengths": LENGTHS, "resets": RESETS, "reset_state": start}
            outputs, final = layer(inputs, start, **options)
            states = layer.all_states(inputs, start, **options)
            stepped = layer.step(inputs[:, 0], final)
            row = layer(inputs[0], jax.tree.map(lambda leaf: leaf[:, 0], start))
            return [jax.tree.leaves(tree) for tree in (outputs, final, states, stepped, row)]

        found, pull = jax.vjp(results, parameters, inputs)
        return found, [jax.tree.leaves(tree) for tree in pull(jax.tree.map(jnp.cos, found))]

    return run(parameters, INPUTS)


@functools.cache
def expected() -> Any:
    return everything(jaxrnn.LSTM(INPUT, HIDDEN, proj_size=PROJ, backend="scan", rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    "structure", [name if name == "nested" else pytest.param(name, marks=pytest.mark.slow) for name in STRUCTURES]
)
def test_a_state_may_be_any_tree(structure: str) -> None:
    layer = jaxrnn.RecurrentLayer(lstm_of(STRUCTURES[structure]), INPUT, HIDDEN, proj_size=PROJ, rngs=nnx.Rngs(0))
    oracle.assert_close(oracle.flat(everything(layer)), oracle.flat(expected()), 1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_initial_state_makes_is_taken_back_in_its_structure(structure: str) -> None:
    layer = jaxrnn.RecurrentLayer(lstm_of(STRUCTURES[structure]), INPUT, HIDDEN, rngs=nnx.Rngs(0))
    state = layer.initial_state(BATCH)
    found = jax.eval_shape(layer, INPUTS, state)[1]
    assert jax.tree.structure(found) == jax.tree.structure(state) == jax.tree.structure(STRUCTURES[structure](0, 0))


@pytest.mark.parametrize(
    ("structure", "state", "error", "message"),
    [
        ("tuple", [0, 0], TypeError, "state: got a list of 2; expected a tuple of 2"),
        ("dict", {"a": 0}, TypeError, "state: got a dict of 'a'; expected a dict of 'a', 'b'"),
        ("dict", (0, 0), TypeError, "state: got a tuple of 2; expected a dict of 'a', 'b'"),
        ("named tuple", (0, 0), TypeError, r"state: got a tuple of 2; expected Pair\(first, second\): use Pair\("),
        (
            "nested",
            {"a": (0,), "b": {"memory": 0}},
            TypeError,
            r"state: got PyTreeDef\({'a': \(\*,\), 'b': {'memory': \*",
        ),
        ("dict", {"a": 0, "b": None}, TypeError, r"state b: got NoneType; expected an array"),
        ("dict", {"a": 0, "b": 1}, ValueError, r"state b: got an array of shape \(1, 3, 5\); expected \(1, 3, 4\)"),
        ("nested", {"a": (0,), "b": {"memory": [1]}}, ValueError, r"state b.memory.0: got an array of shape"),
    ],
)
def test_a_state_of_another_structure_is_refused(
    structure: str, state: Any, error: type[Exception], message: str, unchecked: None
) -> None:
    layer = jaxrnn.RecurrentLayer(lstm_of(STRUCTURES[structure]), INPUT, HIDDEN, rngs=nnx.Rngs(0))
    state = jax.tree.map(lambda number: np.zeros((1, BATCH, HIDDEN + number), np.float32), state)
    with pytest.raises(error, match=message):
        layer(INPUTS, state)


def only_hidden(hidden: int, output: int) -> int:
    return output


def wrong(pointwise: Callable[..., Any], **options: Any) -> Equation:
    pointwise.__name__ = "own_step"
    return Equation(**{"num_gates": 1, "state_sizes": only_hidden} | options, pointwise=pointwise)


WRONG_STEPS: dict[str, tuple[Any, type[Exception], str]] = {
    "too few arguments": (
        wrong(lambda h, gates: h),
        TypeError,
        r"equation own_step: called with a state float32\[3,4\], gates float32\[3,4\] and float32\[3,4\], raised"
        r" TypeError: .* takes 2 positional arguments but 3 were given",
    ),
    "a parameter too few": (
        wrong(lambda h, a, b, scale: h),
        TypeError,
        "equation own_step: .* missing 1 required positional argument: 'scale'",
    ),
    "a parameter too many": (
        wrong(lambda h, a, b: h, extra_parameters=lambda hidden: {"scale": jnp.ones(hidden)}),
        TypeError,
        "equation own_step: .* and 1 parameters of its own, raised TypeError: .* but 4 were given",
    ),
    "a pair": (
        wrong(lambda h, a, b: (a, b)),
        TypeError,
        r"equation own_step: .*, returned \(float32\[3,4\], float32\[3,4\]\); expected a state float32\[3,4\]",
    ),
    "nothing": (wrong(lambda h, a, b: None), TypeError, "returned None; expected a state"),
    "a plain tuple": (
        wrong(lambda s, a, b: (a, b), state_sizes=lambda hidden, output: jaxrnn.LSTMState(output, hidden)),
        TypeError,
        r"returned \(float32.*; expected a state LSTMState\(h=float32\[3,4\], c=float32\[3,4\]\)",
    ),
    "all gates": (
        wrong(lambda h, a, b: a + b, num_gates=3),
        ValueError,
        r"gates float32\[3,12\] and float32\[3,12\], returned float32\[3,12\]; expected a state float32\[3,4\]",
    ),
    "gates that do not split": (
        wrong(lambda h, a, b: jnp.split(a, 3, axis=-1)[0]),
        ValueError,
        r"equation own_step: .*, raised ValueError: array split does not result in an equal division",
    ),
    "another type": (
        wrong(lambda h, a, b: (a + b).astype(jnp.bfloat16)),
        TypeError,
        r"returned bfloat16\[3,4\]; expected a state float32\[3,4\]",
    ),
    "a sum over rows": (wrong(lambda h, a, b: (a + b).sum(0)), ValueError, r"returned float32\[4\]; expected"),
}


@pytest.mark.parametrize("case", WRONG_STEPS)
def test_a_wrong_equation_is_refused_by_its_name(case: str) -> None:
    equation, error, message = WRONG_STEPS[case]
    layer = jaxrnn.RecurrentLayer(equation, INPUT, HIDDEN, rngs=nnx.Rngs(0))
    for call in (
        lambda: layer(INPUTS),
        lambda: jax.jit(lambda inputs: layer(inputs))(INPUTS),
        lambda: layer.step(INPUTS[:, 0]),
        lambda: jax.grad(lambda inputs: layer(inputs)[0].sum())(INPUTS),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_projected_equation_is_held_to_its_state_before_the_projection() -> None:
    equation = wrong(lambda h, a, b: jnp.tanh(a + b))
    layer = jaxrnn.RecurrentLayer(equation, INPUT, HIDDEN, proj_size=PROJ, rngs=nnx.Rngs(0))
    assert jax.eval_shape(layer, INPUTS)[1].shape == (1, BATCH, PROJ)
    layer = jaxrnn.RecurrentLayer(wrong(lambda h, a, b: h), INPUT, HIDDEN, proj_size=PROJ, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"returned float32\[3,2\]; expected a state float32\[3,4\]"):
        layer(INPUTS)


def test_an_equation_may_read_what_is_around_it() -> None:
    def run(scale: Any) -> Any:
        equation = wrong(lambda h, a, b: jnp.tanh(scale * (a + b)))
        return jaxrnn.RecurrentLayer(equation, INPUT, HIDDEN, rngs=nnx.Rngs(0))(INPUTS)[0]

    assert jax.eval_shape(jax.grad(lambda scale: run(scale).sum()), jnp.ones((BATCH, 1))).shape == (BATCH, 1)


def test_a_wrong_equation_in_a_cell_is_refused_by_its_name() -> None:
    class Cell(jaxrnn.nn.cells.AbstractCell):
        def __init__(self, equation: Equation):
            super().__init__(equation, INPUT, HIDDEN, bias=True, param_dtype=jnp.float32, rngs=nnx.Rngs(0))

    assert Cell(wrong(lambda h, a, b: jnp.tanh(a + b)))(INPUTS[:, 0]).shape == (BATCH, HIDDEN)
    with pytest.raises(TypeError, match=r"equation own_step: .* takes 1 positional argument but 3 were given"):
        Cell(wrong(lambda h: h))(INPUTS[:, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_gates": 0}, ValueError, "equation tanh: num_gates: got 0; expected at least 1"),
        ({"num_gates": 1.5}, TypeError, "equation tanh: num_gates: got 1.5"),
        ({"summed_gates": 2}, ValueError, "equation tanh: summed_gates: got 2; expected at most num_gates = 1"),
        ({"summed_gates": -1}, ValueError, "equation tanh: summed_gates: got -1; expected at least 0"),
        ({"pointwise": "tanh"}, TypeError, "Equation: pointwise: got str; expected a function"),
        ({"state_sizes": 3}, TypeError, "Equation: state_sizes: got int; expected a function"),
        ({"extra_parameters": {}}, TypeError, "Equation: extra_parameters: got dict; expected a function"),
    ],
)
def test_wrong_fields_are_refused(options: dict, error: type[Exception], message: str, unchecked: None) -> None:
    with pytest.raises(error, match=message):
        Equation(**{"num_gates": 1, "pointwise": jnp.tanh, "state_sizes": only_hidden} | options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state_sizes": lambda h, o: 2.5}, TypeError, r"own_step: state_sizes\(4, 4\): got 2.5; expected integers"),
        ({"state_sizes": lambda h, o: (h, 0)}, ValueError, r"got \(4, 0\); expected sizes of at least 1"),
        ({"state_sizes": lambda h, o: (h + 1, h)}, ValueError, r"got \(5, 4\); .* first that of the hidden vector: 4"),
        ({"state_sizes": lambda h, o: ()}, ValueError, r"got \(\); expected sizes"),
        (
            {"state_sizes": lambda h, o: {"h": o, "c": h}},
            ValueError,
            "got a dict whose first key is 'h'; expected 'c': JAX sorts the keys",
        ),
        ({"state_sizes": lambda h, o: ({"h": o, "c": h}, h)}, ValueError, "got a dict whose first key is 'h'"),
        ({"extra_parameters": lambda h: [h]}, TypeError, "own_step: extra_parameters: got list; expected a dict"),
        (
            {"extra_parameters": lambda h: {"bias_ih": jnp.ones(h)}},
            ValueError,
            "extra_parameters: got 'bias_ih'; expec",
        ),
    ],
)
def test_wrong_sizes_are_refused(options: dict, error: type[Exception], message: str, unchecked: None) -> None:
    with pytest.raises(error, match=message):
        jaxrnn.RecurrentLayer(wrong(lambda h, a, b: h, **options), INPUT, HIDDEN, rngs=nnx.Rngs(0))
