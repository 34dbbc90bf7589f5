"""Cells against NumPy and one step of a layer; the engine with an equation of the user's own; initial values."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn import cells
from jaxrnn.nn.engine import loops, recurrence

BATCH, TIME, INPUT, HIDDEN = 4, 6, 2, 3
CELLS: dict[str, tuple[Any, Any, Any]] = {  # the cell, the layer of the same equation, one step in NumPy
    "rnn_tanh": (jaxrnn.RNNCell, jaxrnn.RNN, oracle.numpy_rnn_cell),
    "rnn_relu": (
        functools.partial(jaxrnn.RNNCell, nonlinearity="relu"),
        functools.partial(jaxrnn.RNN, nonlinearity="relu"),
        functools.partial(oracle.numpy_rnn_cell, nonlinearity="relu"),
    ),
    "lstm": (jaxrnn.LSTMCell, jaxrnn.LSTM, oracle.numpy_lstm_cell),
    "gru": (jaxrnn.GRUCell, jaxrnn.GRU, oracle.numpy_gru_cell),
}
every_cell = pytest.mark.parametrize("kind", CELLS)
with_and_without_bias = pytest.mark.parametrize("bias", [True, False])


def build(kind: str, *, bias: bool = True, dtype: Any = jnp.float64) -> Any:
    cell = CELLS[kind][0](INPUT, HIDDEN, bias=bias, param_dtype=dtype, rngs=nnx.Rngs(0))
    oracle.perturb(cell)
    return cell


def drawn_state(cell: Any, batch: int = BATCH) -> Any:
    state = cell.initial_state(batch)
    leaves = [
        jnp.asarray(oracle.draw(10 + i, *leaf.shape), leaf.dtype) for i, leaf in enumerate(jax.tree.leaves(state))
    ]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def parameters_of(module: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value.get_value()) for name, value in oracle.named_parameters(module).items()}


@every_cell
@with_and_without_bias
def test_cells_compute_the_equations(kind: str, bias: bool, x64: None) -> None:
    cell = build(kind, bias=bias)
    inputs, state = oracle.draw(1, BATCH, INPUT), drawn_state(cell)
    expected = CELLS[kind][2](parameters_of(cell), inputs, *[np.asarray(leaf) for leaf in jax.tree.leaves(state)])
    found = cell(jnp.asarray(inputs), state)
    assert isinstance(found, jaxrnn.LSTMState) == (kind == "lstm")
    oracle.assert_close(
        oracle.flat(tuple(jax.tree.leaves(found))), oracle.flat(expected if kind == "lstm" else (expected,))
    )


@every_cell
def test_the_plain_loop_agrees_with_numpy(kind: str, x64: None) -> None:
    # The two references of these tests are written apart; this holds them to each other.
    cell = build(kind)
    inputs, state = oracle.draw(1, BATCH, INPUT), jax.tree.leaves(drawn_state(cell))
    expected = CELLS[kind][2](parameters_of(cell), inputs, *[np.asarray(leaf) for leaf in state])
    for row in range(BATCH):
        found = oracle.CELLS[kind](parameters_of(cell), inputs[row], tuple(leaf[row] for leaf in state))
        of_row = tuple(leaf[row] for leaf in (expected if kind == "lstm" else (expected,)))
        oracle.assert_close(oracle.flat(found), oracle.flat(of_row))


@every_cell
@with_and_without_bias
def test_a_cell_is_one_step_of_a_layer(kind: str, bias: bool, x64: None) -> None:
    cell = build(kind, bias=bias)
    layer = CELLS[kind][1](INPUT, HIDDEN, bias=bias, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    names = list(oracle.named_parameters(cell))
    assert [f"{name}_l0" for name in names] == list(oracle.named_parameters(layer))
    for name in names:
        getattr(layer, f"{name}_l0").set_value(getattr(cell, name).get_value())
    inputs, state = jnp.asarray(oracle.draw(1, BATCH, INPUT)), drawn_state(cell)
    weights = jax.tree.map(lambda leaf: jnp.asarray(oracle.draw(3, *leaf.shape)), state)

    def results_and_gradients(module: Any, run: Any) -> Any:
        graphdef, parameters = nnx.split(module)

        @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
        def loss(parameters: Any, inputs: Any, state: Any) -> Any:
            new_state = run(nnx.merge(graphdef, parameters), inputs, state)
            return oracle.weigh(new_state, weights), new_state

        (_, new_state), (d_parameters, d_inputs, d_state) = jax.jit(loss)(parameters, inputs, state)
        flat = {path[0].removesuffix("_l0"): leaf.get_value() for path, leaf in nnx.to_flat_state(d_parameters)}
        return oracle.flat({"state": new_state, "d": flat, "d inputs": d_inputs, "d state": d_state})

    def layer_step(layer: Any, inputs: Any, state: Any) -> Any:
        _, final = layer(inputs[:, None], jax.tree.map(lambda leaf: leaf[None], state))
        return jax.tree.map(lambda leaf: leaf[0], final)

    found = results_and_gradients(cell, lambda cell, inputs, state: cell(inputs, state))
    oracle.assert_close(found, results_and_gradients(layer, layer_step))


@every_cell
def test_single_rows_and_zero_states(kind: str, x64: None) -> None:
    cell = build(kind)
    inputs, state = jnp.asarray(oracle.draw(1, BATCH, INPUT)), drawn_state(cell)
    row = cell(inputs[2], jax.tree.map(lambda leaf: leaf[2], state))
    oracle.assert_close(oracle.flat(row), oracle.flat(jax.tree.map(lambda leaf: leaf[2], cell(inputs, state))))
    zeros = jax.tree.map(jnp.zeros_like, state)
    oracle.assert_identical(oracle.flat(cell(inputs)), oracle.flat(cell(inputs, zeros)))
    oracle.assert_close(oracle.flat(cell(inputs[2])), oracle.flat(jax.tree.map(lambda leaf: leaf[2], cell(inputs))))
    assert {leaf.shape for leaf in jax.tree.leaves(cell.initial_state())} == {(HIDDEN,)}


def test_wrong_arguments_are_refused(unchecked: None) -> None:
    cell = build("lstm", dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"inputs: inconsistent input_size: got 3 in shape \(4, 3\); expected 2"):
        cell(jnp.zeros((BATCH, INPUT + 1)))
    with pytest.raises(ValueError, match=r"inputs: got 3 dimensions, .*; expected \(batch, 2\), or \(2,\)"):
        cell(jnp.zeros((1, BATCH, INPUT)))
    with pytest.raises(TypeError, match="inputs: got int32; expected floating point"):
        cell(jnp.zeros((BATCH, INPUT), jnp.int32))
    with pytest.raises(ValueError, match=r"state h: got an array of shape \(1, 3\); expected \(3,\)"):
        cell(jnp.zeros(INPUT), cell.initial_state(1))
    with pytest.raises(TypeError, match=r"state: got an array; expected LSTMState\(h, c\)"):
        cell(jnp.zeros((BATCH, INPUT)), jnp.zeros((BATCH, HIDDEN)))
    with pytest.raises(ValueError, match=r"state h: got an array of shape \(3, 3\); expected \(4, 3\)"):
        cell(jnp.zeros((BATCH, INPUT)), cell.initial_state(3))
    with pytest.raises(ValueError, match="nonlinearity: got 'sigmoid'; expected 'tanh' or 'relu'"):
        jaxrnn.RNNCell(1, 2, nonlinearity="sigmoid", rngs=nnx.Rngs(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden_size: got 0; expected at least 1"):
        jaxrnn.GRUCell(1, 0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "build_layer", [jaxrnn.RNN, jaxrnn.LSTM, jaxrnn.GRU, jaxrnn.RNNCell, jaxrnn.LSTMCell, jaxrnn.GRUCell]
)
@pytest.mark.parametrize("proj_size", [0, 40])
def test_initial_values_fill_pytorchs_interval(build_layer: Any, proj_size: int) -> None:
    if proj_size and build_layer is not jaxrnn.LSTM:
        return
    hidden = 64
    options: dict[str, Any] = {"proj_size": proj_size} if proj_size else {}
    if not issubclass(build_layer, cells.AbstractCell):
        options |= {"num_layers": 2, "bidirectional": True}
    module = build_layer(50, hidden, **options, rngs=nnx.Rngs(0))
    bound = 1 / math.sqrt(hidden)  # of hidden_size, also where there is a projection
    parameters = parameters_of(module)
    for name, value in parameters.items():
        assert np.abs(value).max() <= bound, f"{name}: outside the interval"
        size = value.size
        # A uniform distribution's mean, variance and extremes; 5 standard deviations or a chance below 1e-6.
        assert abs(value.mean()) < 5 * bound / math.sqrt(3 * size), f"{name}: mean {value.mean()}"
        assert abs(value.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / size), f"{name}: variance {value.var()}"
        edge = bound * (1 - 2 * 14 / size)
        assert value.max() > edge, f"{name}: at most {value.max()}"
        assert value.min() < -edge, f"{name}: at least {value.min()}"
    first_values = [value.flat[0] for value in parameters.values()]
    assert len(set(first_values)) == len(first_values), "parameters share their numbers"


# The engine with an equation of the user's own.


def layer_norm(x: Any, gain: Any, shift: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return gain * centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) + shift


def layer_norm_lstm_step(state: Any, input_gates: Any, hidden_gates: Any, gain: Any, shift: Any, of_cell: Any) -> Any:
    """An LSTM that normalises its gates and its cell, with learned gains and shifts."""
    total = layer_norm(input_gates, gain[None], shift[None]) + hidden_gates
    i, f, g, o = jnp.split(total, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(layer_norm(c, of_cell["gain"][None], of_cell["shift"][None]))
    return jaxrnn.LSTMState(h, c)


def drawn(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(oracle.draw(seed, *shape))


@pytest.mark.parametrize(("reverse", "projected"), [(False, True), (True, False)])
def test_the_engine_differentiates_an_equation_of_the_users_own(reverse: bool, projected: bool, x64: None) -> None:
    output = 2 if projected else HIDDEN
    weights = loops.Weights(
        drawn(14, 4 * HIDDEN, INPUT),
        drawn(1, 4 * HIDDEN, output),
        drawn(15, 4 * HIDDEN),
        drawn(2, 4 * HIDDEN),
        drawn(3, output, HIDDEN) if projected else None,
    )
    extras = (drawn(4, 4 * HIDDEN), drawn(5, 4 * HIDDEN), {"gain": drawn(6, HIDDEN), "shift": drawn(7, HIDDEN)})
    inputs, start = drawn(8, TIME, BATCH, INPUT), jaxrnn.LSTMState(drawn(9, BATCH, output), drawn(10, BATCH, HIDDEN))
    lengths = np.array([6, 0, 3, 5])
    valid = np.arange(TIME)[:, None] < lengths[None]
    reset = np.zeros((TIME, BATCH), bool)
    reset[2, 0] = reset[4, 3] = True
    out_weights = drawn(11, TIME, BATCH, output), drawn(12, BATCH, output), drawn(13, BATCH, HIDDEN)

    def engine(weights: Any, inputs: Any, start: Any, extras: Any) -> Any:
        outputs, final = recurrence.recur(
            layer_norm_lstm_step,
            inputs,
            weights,
            start,
            valid=jnp.asarray(valid),
            reset=jnp.asarray(reset, jnp.uint8),
            targets=(start,),
            extras=extras,
            reverse=reverse,
        )
        return outputs, *final

    def plain(weights: Any, inputs: Any, start: Any, extras: Any) -> Any:
        outputs, finals = [[jnp.zeros(output)] * TIME for _ in range(BATCH)], []
        for b in range(BATCH):
            first = jaxrnn.LSTMState(start.h[b : b + 1], start.c[b : b + 1])
            state = first
            for t in range(lengths[b])[:: -1 if reverse else 1]:
                if reset[t, b]:
                    state = first
                hidden_gates = state.h @ weights.weight_hh.T + weights.bias_hh
                input_gates = inputs[t, b : b + 1] @ weights.weight_ih.T + weights.bias_ih
                state = layer_norm_lstm_step(state, input_gates, hidden_gates, *extras)
                if projected:
                    state = jaxrnn.LSTMState(state.h @ weights.weight_hr.T, state.c)
                outputs[b][t] = state.h[0]
            finals.append(state)
        by_row = jnp.stack([jnp.stack(row) for row in outputs])
        return jnp.swapaxes(by_row, 0, 1), *(jnp.concatenate(leaves) for leaves in zip(*finals, strict=True))

    def results_and_gradients(run: Any) -> Any:
        results, pullback = jax.vjp(run, weights, inputs, start, extras)
        d_weights, d_inputs, d_start, d_extras = pullback(out_weights)
        names = ("outputs", "h", "c")
        return oracle.flat(
            dict(zip(names, results, strict=True))
            | {"d weights": d_weights, "d inputs": d_inputs, "d start": d_start, "d extras": d_extras}
        )

    oracle.assert_close(results_and_gradients(jax.jit(engine)), results_and_gradients(plain))


@every_cell
def test_one_step_of_the_engine_is_one_turn_of_its_loop(kind: str, x64: None) -> None:
    cell = build(kind)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = loops.Weights(*(getattr(cell, name).get_value() for name in names))
    inputs, state = drawn(1, 1, BATCH, INPUT), drawn_state(cell)
    options = {"num_summed": cell.equation.summed_gates * HIDDEN}
    _, final = recurrence.recur(cell.equation.pointwise, inputs, weights, state, **options)
    single = recurrence.step(cell.equation.pointwise, state, inputs[0], weights, **options)
    oracle.assert_close(oracle.flat(single), oracle.flat(final))
