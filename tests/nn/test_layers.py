"""The layers, held to a plain loop and to the contract on sequences of different lengths."""

import contextlib
import functools
import itertools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from layer_cases import (
    BATCH,
    HIDDEN,
    INPUT,
    LENGTHS,
    MASK,
    NEUTRAL,
    PATTERNS,
    PROJ,
    RESETS,
    TIME,
    build,
    check_padding,
    contract_layer,
    drawn_inputs,
    drawn_like,
    every_kind,
    every_pattern,
    one_kind_and_slow_ones,
    plain_parameters,
    poison,
    run,
    run_separately,
    some_kinds,
    valid_of,
)

import jaxrnn
from jaxrnn.nn import cells
from jaxrnn.nn.engine import forms, loops, recurrence

# Layers, bias, bidirectional, padded, state given: a few of all, which the slow test goes through.
EVERYDAY = [
    (2, False, True, True, True),
    (1, True, True, False, False),
    (1, True, False, True, True),
]


def check_against_loop(kind: str, layer: Any, inputs: Any, state: Any, weights: Any, **options: Any) -> None:
    """Outputs, states and all gradients are those of the plain loop, whatever stands at padding."""
    valid = valid_of(*inputs.shape[:2], options)
    found = oracle.outcome(layer, poison(inputs, valid), state, weights, **options)
    check_padding(found, valid)
    zeros = layer.initial_state(inputs.shape[0])
    expected = oracle.reference_outcome(
        kind,
        plain_parameters(layer),
        inputs,
        tuple(jax.tree.leaves(zeros if state is None else state)),
        weights,
        oracle.pieces_of(*inputs.shape[:2], **options),
        num_layers=layer.num_layers,
        bidirectional=layer.bidirectional,
    )
    if state is None:
        expected = {name: value for name, value in expected.items() if not name.startswith("d initial")}
    oracle.assert_close(found, expected)


def check_configuration(
    kind: str, num_layers: int, bias: bool, bidirectional: bool, padded: bool, with_state: bool
) -> None:
    layer = build(kind, num_layers=num_layers, bias=bias, bidirectional=bidirectional)
    inputs, state, weights = drawn_inputs(layer)
    options = {"lengths": LENGTHS} if padded else {}
    check_against_loop(kind, layer, inputs, state if with_state else None, weights, **options)


@pytest.mark.parametrize(
    ("kind", "num_layers", "bias", "bidirectional", "padded", "with_state"),
    [(kind, *choices) for kind in ("rnn_tanh", "lstm_proj", "gru") for choices in EVERYDAY]
    + [pytest.param(k, *choices, marks=pytest.mark.slow) for k in ("rnn_relu", "lstm") for choices in EVERYDAY[:1]],
)
def test_layers_compute_the_plain_loop(
    kind: str, num_layers: int, bias: bool, bidirectional: bool, padded: bool, with_state: bool, x64: None
) -> None:
    check_configuration(kind, num_layers, bias, bidirectional, padded, with_state)


@pytest.mark.slow
@every_kind
def test_every_configuration_computes_the_plain_loop(kind: str, x64: None) -> None:
    # Full lengths stand for none and zeros for no state, so that each layer compiles once: what is left out means
    # these, as tests below show. The plain loop runs once for all four: no bias is a bias of zeros.
    for bidirectional in (False, True):
        layers = [build(kind, num_layers=2, bias=bias, bidirectional=bidirectional) for bias in (True, False)]
        inputs, state, weights = drawn_inputs(layers[0])
        named = plain_parameters(layers[0])
        given = [named, jax.tree.map(np.zeros_like, named) | plain_parameters(layers[1])]
        cases = list(itertools.product((0, 1), [state, layers[0].initial_state(BATCH)]))
        parameters = jax.tree.map(lambda *leaves: np.stack(leaves), *(given[number] for number, _ in cases))
        starts = jax.tree.map(lambda *leaves: np.stack(leaves), *(tuple(jax.tree.leaves(start)) for _, start in cases))
        for lengths in (LENGTHS, np.full(BATCH, TIME)):
            valid, pieces = valid_of(BATCH, TIME, {"lengths": lengths}), oracle.pieces_of(BATCH, TIME, lengths=lengths)
            expected = oracle.reference_outcomes(
                kind, parameters, inputs, starts, weights, pieces, num_layers=2, bidirectional=bidirectional
            )
            for place, (number, start) in enumerate(cases):
                found = oracle.outcome(layers[number], poison(inputs, valid), start, weights, lengths=lengths)
                check_padding(found, valid)
                wanted = {name: value[place] for name, value in expected.items() if number == 0 or "bias" not in name}
                oracle.assert_close(found, wanted)


@pytest.mark.slow
@one_kind_and_slow_ones
def test_wide_layers_over_many_steps_compute_the_plain_loop(kind: str, x64: None) -> None:
    # Past the sizes up to which the engine unrolls its loop and multiplies without a matmul call; one feature is
    # the size at which the input's linear map is an outer product.
    time, hidden = forms.MAX_UNROLLED_STEPS + 2, forms.MAX_HIDDEN_FOR_FEATURES_MAJOR + 3
    layer = build(kind, sizes=(1, hidden))
    inputs, state, weights = drawn_inputs(layer, batch=2, time=time)
    check_against_loop(kind, layer, inputs, state, weights, lengths=np.array([time, time - 5]))


@pytest.mark.slow
@some_kinds
def test_float32_follows_the_plain_loop_in_float64(kind: str) -> None:
    layer = build(kind, bidirectional=True, dtype=jnp.float32)
    inputs, state, weights = drawn_inputs(layer)
    found = oracle.outcome(layer, inputs, state, weights, lengths=LENGTHS)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), (plain_parameters(layer), inputs, state, weights))
    parameters, inputs, state, weights = exact
    elsewhere = jax.default_backend() == "tpu"  # which has no float64
    device = jax.default_device(jax.local_devices(backend="cpu")[0]) if elsewhere else contextlib.nullcontext()
    with jax.enable_x64(True), device:
        expected = oracle.reference_outcome(
            kind,
            *jax.tree.map(jnp.asarray, (parameters, inputs, tuple(jax.tree.leaves(state)), weights)),
            oracle.pieces_of(BATCH, TIME, lengths=LENGTHS),
            bidirectional=True,
        )
    assert {value.dtype.name for value in found.values()} == {"float32"}
    oracle.assert_close(found, expected, 1e-5)


@some_kinds
@every_pattern
def test_every_pattern_of_steps_equals_its_sequences_on_their_own(kind: str, pattern: str, x64: None) -> None:
    inputs, state, weights = drawn_inputs(contract_layer(kind))
    options = PATTERNS[pattern]
    found = run(kind, poison(inputs, valid_of(BATCH, TIME, options)), state, weights, **options)
    check_padding(found, valid_of(BATCH, TIME, options))
    pieces = oracle.pieces_of(BATCH, TIME, **options)
    oracle.assert_close(found, run_separately(kind, inputs, state, weights, pieces))


@pytest.mark.slow
@some_kinds
@every_pattern
def test_every_pattern_of_steps_computes_the_plain_loop(kind: str, pattern: str, x64: None) -> None:
    layer = contract_layer(kind)
    check_against_loop(kind, layer, *drawn_inputs(layer), **NEUTRAL | PATTERNS[pattern])


@some_kinds
def test_length_0_returns_the_initial_state(kind: str, x64: None) -> None:
    inputs, state, weights = drawn_inputs(contract_layer(kind))
    found = run(kind, poison(inputs, np.zeros((BATCH, TIME), bool)), state, weights, lengths=np.zeros(BATCH, int))
    for name, start, weight in zip("hc", jax.tree.leaves(state), jax.tree.leaves(weights[1]), strict=False):
        np.testing.assert_array_equal(found[f"final {name}"], start, err_msg=name)
        np.testing.assert_array_equal(found[f"d initial {name}"], weight, err_msg=name)
    zeros = [name for name in found if not name.startswith(("final", "d initial"))]
    assert not [name for name in zeros if found[name].any()]


@pytest.mark.slow
def test_options_left_out_mean_every_step_and_one_sequence(x64: None) -> None:
    layer = build("gru", bidirectional=True)
    inputs, state, weights = drawn_inputs(layer)
    full = oracle.outcome(layer, inputs, state, weights, **NEUTRAL)
    oracle.assert_close(oracle.outcome(layer, inputs, state, weights), full)
    from_zeros = oracle.outcome(layer, inputs, layer.initial_state(BATCH), weights, **NEUTRAL)
    del from_zeros["d initial h"]
    oracle.assert_close(oracle.outcome(layer, inputs, None, weights, **NEUTRAL), from_zeros)
    for name, value in PATTERNS["everything"].items():
        alone = oracle.outcome(layer, inputs, state, weights, **{name: value})
        oracle.assert_close(alone, oracle.outcome(layer, inputs, state, weights, **NEUTRAL | {name: value}))


# Ways to call a layer.


@one_kind_and_slow_ones
def test_a_single_row_needs_no_batch(kind: str, x64: None) -> None:
    layer = contract_layer(kind)
    inputs, state, weights = drawn_inputs(layer)
    options = {name: value[:1] for name, value in PATTERNS["everything"].items()}
    one = jax.tree.map(lambda leaf: leaf[:, :1], (state, weights[1]))
    batched = oracle.outcome(layer, inputs[:1], one[0], (weights[0][:1], one[1]), **options)
    found = oracle.outcome(
        layer,
        inputs[0],
        jax.tree.map(lambda leaf: leaf[:, 0], state),
        (weights[0][0], jax.tree.map(lambda leaf: leaf[:, 0], weights[1])),
        **{name: value[0] for name, value in options.items()},
    )
    for name in ("outputs", "d inputs"):
        batched[name] = batched[name][0]
    for name in batched:
        if name.startswith(("final", "d initial")):
            batched[name] = batched[name][:, 0]
    oracle.assert_close(found, batched)


@one_kind_and_slow_ones
def test_vmap_runs_an_ensemble(kind: str, x64: None) -> None:
    layers = [build(kind, bidirectional=True) for _ in range(3)]
    for seed, layer in enumerate(layers):
        oracle.perturb(layer, seed=100 * seed)
    parameters = [nnx.split(layer)[1] for layer in layers]
    graphdef = nnx.split(layers[0])[0]
    drawn = [drawn_inputs(layer, seed=seed) for seed, layer in enumerate(layers)]
    weights = drawn[0][2]
    lengths = np.stack([LENGTHS, LENGTHS[::-1], np.full(BATCH, 2)])

    def loss(parameters: Any, inputs: Any, state: Any, lengths: Any) -> Any:
        results = nnx.merge(graphdef, parameters)(inputs, state, lengths=lengths)
        return oracle.weigh(results, weights), results

    run_all = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1, 2), has_aux=True)))
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    (_, results), gradients = run_all(
        stack(*parameters), stack(*[d[0] for d in drawn]), stack(*[d[1] for d in drawn]), lengths
    )
    for member, layer in enumerate(layers):
        found = oracle.by_name(*jax.tree.map(lambda leaf, m=member: leaf[m], (results, gradients)))
        inputs, state, _ = drawn[member]
        oracle.assert_close(found, oracle.outcome(layer, inputs, state, weights, lengths=lengths[member]))


@pytest.mark.slow
@one_kind_and_slow_ones
@pytest.mark.parametrize("mode", ["reverse over reverse", "forward over reverse"])
def test_second_derivatives_are_those_of_the_plain_loop(kind: str, mode: str, x64: None) -> None:
    layer = build(kind)
    drawn = drawn_inputs(layer, batch=2, time=3)
    inputs, state, weights = drawn
    options = {"lengths": jnp.array([3, 2]), "resets": jnp.array([[0, 1, 0], [0, 0, 0]], bool)}
    pieces = oracle.pieces_of(2, 3, **options)
    structure = jax.tree.structure(state)
    parameters = {name: jnp.asarray(value) for name, value in plain_parameters(layer).items()}
    direction = drawn_like((parameters, inputs, state), 50)
    graphdef, nested = nnx.split(layer)

    def layer_loss(arrays: Any) -> Any:
        parameters, inputs, state = arrays
        own = jax.tree.map(lambda leaf: leaf, nested)
        nnx.replace_by_pure_dict(own, parameters)
        # Squared, so that the second derivative is not that of a linear function of the results.
        results = nnx.merge(graphdef, own)(inputs, state, reset_state=state, **options)
        return oracle.weigh(jax.tree.map(jnp.square, results), weights)

    def plain_loss(arrays: Any) -> Any:
        parameters, inputs, state = arrays
        leaves = tuple(jax.tree.leaves(state))
        outputs, final = oracle.reference(kind, parameters, inputs, leaves, pieces)
        results = outputs, jax.tree.unflatten(structure, final)
        return oracle.weigh(jax.tree.map(jnp.square, results), weights)

    def product(loss: Any, arrays: Any) -> Any:
        if mode == "forward over reverse":
            return jax.jvp(jax.grad(loss), (arrays,), (direction,))[1]
        return jax.grad(lambda a: oracle.weigh(jax.grad(loss)(a), direction))(arrays)

    arrays = (parameters, inputs, state)
    found = jax.jit(functools.partial(product, layer_loss))(arrays)
    expected = jax.jit(functools.partial(product, plain_loss))(arrays)
    oracle.assert_close(oracle.flat(found), oracle.flat(expected))


# Types and sizes at the edges.


@pytest.mark.slow
def test_bfloat16_runs_and_stays_near_float32() -> None:
    for parameters_type in (jnp.float32, jnp.bfloat16):
        exact_layer = build("lstm_proj", bidirectional=True, dtype=jnp.float32)
        layer = build("lstm_proj", bidirectional=True, dtype=parameters_type)
        for name, parameter in oracle.named_parameters(layer).items():
            parameter.set_value(getattr(exact_layer, name).get_value().astype(parameters_type))
        inputs, state, weights = drawn_inputs(exact_layer)
        expected = oracle.outcome(exact_layer, inputs, state, weights, lengths=LENGTHS)
        found = oracle.outcome(layer, inputs.astype(jnp.bfloat16), state, weights, lengths=LENGTHS)
        assert found["outputs"].dtype == parameters_type
        assert found["d inputs"].dtype == jnp.bfloat16
        check_padding(found, valid_of(BATCH, TIME, {"lengths": LENGTHS}))
        # bfloat16 keeps 8 bits: 0.4% a rounding, of which several add up.
        oracle.assert_close(found, expected, 0.03)


@one_kind_and_slow_ones
def test_states_computed_again_give_the_same_gradients(kind: str, x64: None) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    inputs, state, weights = drawn_inputs(layer)
    expected = run(kind, inputs, state, weights, layer=layer, **PATTERNS["everything"])
    for steps in (4, TIME):  # the second keeps all of them
        layer.remat_steps = steps
        oracle.assert_close(run(kind, inputs, state, weights, layer=layer, **PATTERNS["everything"]), expected)


@pytest.mark.slow
@some_kinds
def test_matmuls_in_bfloat16_keep_float32_states_and_stay_near(kind: str) -> None:
    layer = build(kind, bidirectional=True, dtype=jnp.float32)
    inputs, state, weights = drawn_inputs(layer)
    expected = oracle.outcome(layer, inputs, state, weights, lengths=LENGTHS)
    layer.compute_dtype = jnp.bfloat16
    found = oracle.outcome(layer, inputs, state, weights, lengths=LENGTHS)
    assert {value.dtype.name for value in found.values()} == {"float32"}
    assert any((found[name] != expected[name]).any() for name in found), "the operands are shorter"
    check_padding(found, valid_of(BATCH, TIME, {"lengths": LENGTHS}))
    oracle.assert_close(found, expected, 0.03)  # bfloat16 keeps 8 bits: 0.4% a rounding, of which several add up


def test_gradients_have_the_type_of_what_they_belong_to() -> None:
    for parameters_type, inputs_type in itertools.product([jnp.float32, jnp.bfloat16], repeat=2):
        layer = build("lstm_proj", dtype=parameters_type)
        inputs, state, weights = drawn_inputs(layer)
        found = oracle.outcome(layer, inputs.astype(inputs_type), state, weights, lengths=LENGTHS)
        types = {name: value.dtype for name, value in found.items() if name.startswith("d ")}
        expected = dict.fromkeys(types, jnp.dtype(parameters_type)) | {"d inputs": jnp.dtype(inputs_type)}
        assert types == expected


@pytest.mark.parametrize(("batch", "time"), [(BATCH, 0), (0, TIME)])
def test_no_steps_and_no_rows_are_allowed(batch: int, time: int) -> None:
    layer = build("lstm", bidirectional=True, dtype=jnp.float32)
    inputs, state, weights = drawn_inputs(layer, batch=batch, time=time)
    steps = np.zeros((batch, time), int)
    options = {"lengths": np.zeros(batch, int), "mask": steps > 0, "segment_ids": steps, "resets": steps > 0}
    found = oracle.outcome(layer, inputs, state, weights, **options)
    assert found["outputs"].shape == (batch, time, 2 * HIDDEN)
    np.testing.assert_array_equal(found["final c"], state.c)
    np.testing.assert_array_equal(found["d initial c"], weights[1].c)


def test_states_have_pytorchs_layout() -> None:
    layer = build("lstm_proj", num_layers=2, bidirectional=True, dtype=jnp.float32)
    state = layer.initial_state(BATCH)
    assert isinstance(state, jaxrnn.LSTMState)
    assert (state.h.shape, state.c.shape) == ((4, BATCH, PROJ), (4, BATCH, HIDDEN))
    assert layer.initial_state().h.shape == (4, PROJ)
    assert build("gru", dtype=jnp.float32).initial_state(BATCH).shape == (1, BATCH, HIDDEN)


# Dropout.

RATE = 0.3


def transparent_layer(rate: float, *, num_layers: int = 2) -> jaxrnn.RNN:
    """A layer whose output is 1 everywhere, or what dropout makes of the 1s between its layers."""
    size = 32
    layer = jaxrnn.RNN(1, size, num_layers=num_layers, nonlinearity="relu", dropout=rate, rngs=nnx.Rngs(0))
    for parameter in oracle.named_parameters(layer).values():
        parameter.set_value(jnp.zeros_like(parameter.get_value()))
    layer.bias_ih_l0.set_value(jnp.ones(size))
    for number in range(1, num_layers):
        getattr(layer, f"weight_ih_l{number}").set_value(jnp.eye(size))
    return layer


def test_dropout_zeroes_elements_between_layers_in_training_only() -> None:
    layer = transparent_layer(RATE)
    inputs, lengths = jnp.ones((64, 10, 1)), jnp.full(64, 8)
    layer.train()
    outputs, state = layer(inputs, lengths=lengths)
    kept = np.asarray(outputs[:, :8])
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - RATE)], rtol=1e-6)
    # Once, between the layers: were the last layer's output dropped too, 1 - (1 - RATE)**2 of it would be 0.
    deviation = np.sqrt(RATE * (1 - RATE) / kept.size)
    assert abs((kept == 0).mean() - RATE) < 5 * deviation
    for axis in range(3):  # every element on its own: no row, step or unit is dropped as a whole
        assert (kept == 0).any(axis).mean() > 0.9
        assert (kept != 0).any(axis).mean() > 0.9
    np.testing.assert_array_equal(state[0], 1)
    np.testing.assert_array_equal(outputs[:, 8:], 0)
    again, _ = layer(inputs, lengths=lengths)
    assert (np.asarray(again) != np.asarray(outputs)).any()

    layer.eval()
    for _ in range(2):
        np.testing.assert_array_equal(layer(inputs, lengths=lengths)[0][:, :8], 1)


def test_dropout_of_1_leaves_nothing() -> None:
    layer = transparent_layer(1.0)
    np.testing.assert_array_equal(layer(jnp.ones((1, 2, 1)))[0], 0)


def test_dropout_with_one_layer_warns_and_does_nothing() -> None:
    with pytest.warns(UserWarning, match=r"dropout = 0.3 has no effect with num_layers = 1") as caught:
        layer = transparent_layer(RATE, num_layers=1)
    assert caught[0].filename == __file__, "the warning points at the caller"
    np.testing.assert_array_equal(layer(jnp.ones((4, 3, 1)))[0], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transparent_layer(0.0, num_layers=1)
        transparent_layer(RATE)


# What is refused. The annotations would refuse some of it before the layers do, less plainly.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size: got 0; expected at least 1"),
        ({"hidden_size": -3}, ValueError, "hidden_size: got -3; expected at least 1"),
        ({"hidden_size": 2.0}, TypeError, r"hidden_size: got 2.0 \(float\); expected an integer"),
        ({"num_layers": 0}, ValueError, "num_layers: got 0; expected at least 1"),
        ({"num_layers": True}, TypeError, r"num_layers: got True \(bool\); expected an integer"),
        ({"proj_size": 3}, ValueError, "proj_size: got 3; expected less than hidden_size = 3"),
        ({"proj_size": -1}, ValueError, "proj_size: got -1; expected at least 0"),
        ({"dropout": 1.5}, ValueError, "dropout: got 1.5; expected a probability"),
        ({"dropout": -0.1}, ValueError, "dropout: got -0.1; expected a probability"),
        ({"dropout": "a"}, TypeError, r"dropout: got 'a' \(str\); expected a probability"),
        ({"dropout": True}, TypeError, r"dropout: got True \(bool\); expected a probability"),
        ({"dropout": float("nan")}, ValueError, "dropout: got nan; expected a probability"),
        ({"bias": 1}, TypeError, r"bias: got 1 \(int\); expected True or False"),
        ({"reverse": 1}, TypeError, r"reverse: got 1 \(int\); expected True or False"),
        (
            {"reverse": True, "bidirectional": True},
            ValueError,
            "reverse: got True with bidirectional=True; expected one",
        ),
        ({"bidirectional": "no"}, TypeError, r"bidirectional: got 'no' \(str\); expected True or False"),
        ({"param_dtype": jnp.int32}, TypeError, "param_dtype: got .*int32.*; expected a floating-point type"),
        ({"param_dtype": None}, TypeError, "param_dtype: got None; expected a floating-point type"),
        ({"rngs": 0}, TypeError, r"rngs: got int; expected flax.nnx.Rngs: use nnx.Rngs\(0\)"),
        ({"rngs": nnx.Rngs(noise=0)}, ValueError, "rngs: got no stream 'params'"),
        ({"rngs": nnx.Rngs(params=0), "dropout": 0.5, "num_layers": 2}, ValueError, "rngs: got no stream 'dropout'"),
        ({"param_dtype": "half precision"}, TypeError, "param_dtype: got 'half precision'; expected a floating"),
    ],
)
def test_wrong_options_are_refused(options: dict, error: type[Exception], message: str, unchecked: None) -> None:
    with pytest.raises(error, match=message):
        jaxrnn.LSTM(**{"input_size": INPUT, "hidden_size": HIDDEN, "rngs": nnx.Rngs(0)} | options)


def test_wrong_calls_beside_the_main_one_are_refused(unchecked: None) -> None:
    layer = jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"state: got int32 \(4,\); expected a state: lengths=, mask= go by name"):
        layer(FLOATS, LENGTHS.astype(np.int32))
    with pytest.raises(ValueError, match=r"expected \(1, 4, 3\): \(num_layers \* num_directions, batch, size\)"):
        layer(FLOATS, FLOATS[:, 0])
    for batch_size, error in ((-1, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch_size: got"):
            layer.initial_state(batch_size)
    for place in ((1, 0), (0, 1), (-1, 0)):
        with pytest.raises(IndexError, match="cell_parameters: got layer"):
            layer.cell_parameters(*place)


def test_an_unknown_nonlinearity_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="nonlinearity: got 'sigmoid'; expected 'tanh' or 'relu'"):
        jaxrnn.RNN(1, 2, nonlinearity="sigmoid", rngs=nnx.Rngs(0))  # type: ignore[arg-type]


FLOATS = np.zeros((BATCH, TIME, INPUT), np.float32)
BITS = np.ones((BATCH, TIME), bool)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"inputs": FLOATS[None]},
            ValueError,
            r"inputs: got 4 dimensions, shape \(1, 4, 6, 2\); expected \(batch, time, 2",
        ),
        ({"inputs": FLOATS[..., :1]}, ValueError, "inconsistent input_size: got 1 .* expected 2"),
        ({"inputs": FLOATS.astype(int)}, TypeError, "inputs: got int64; expected floating point"),
        ({"inputs": FLOATS.tolist()}, TypeError, "inputs: got list; expected an array"),
        (
            {"initial_state": np.zeros((1, BATCH, HIDDEN))},
            TypeError,
            r"state: got an array; expected LSTMState\(h, c\)",
        ),
        (
            {"initial_state": (np.zeros((1, BATCH, HIDDEN)),) * 2},
            TypeError,
            r"state: got a tuple of 2; expected LSTMState\(h, c\): use jaxrnn.LSTMState\(\*state\)",
        ),
        (
            {"initial_state": jaxrnn.LSTMState(*[np.zeros((1, BATCH, HIDDEN), int)] * 2)},
            TypeError,
            "state h: got int64; expected floating point",
        ),
        (
            {"initial_state": jaxrnn.LSTMState([[[0.0]]], [[[0.0]]])},
            TypeError,
            r"state h: got list; expected an array of JAX or NumPy: use jnp.asarray\(h\)",
        ),
        ({"lengths": 3}, TypeError, "lengths: got int; expected an array"),
        # A single row's own shapes, not those of a batch of one.
        ({"inputs": FLOATS[0], "lengths": np.ones(1, int)}, ValueError, r"lengths: got shape \(1,\); expected \(\)"),
        ({"inputs": FLOATS[0], "lengths": 7}, ValueError, "lengths: got values from 7 to 7; expected 0 to 6"),
        ({"inputs": FLOATS[0], "mask": BITS}, ValueError, r"mask: got shape \(4, 6\); expected \(6,\)"),
        (
            {"inputs": FLOATS[0], "initial_state": jaxrnn.LSTMState(*[np.zeros((1, 1, HIDDEN), np.float32)] * 2)},
            ValueError,
            r"state h: got an array of shape \(1, 1, 3\); expected \(1, 3\)",
        ),
        (
            {"initial_state": jaxrnn.LSTMState(np.zeros((1, BATCH, HIDDEN)), np.zeros((1, BATCH, HIDDEN + 1)))},
            ValueError,
            r"state c: got an array of shape \(1, 4, 4\); expected \(1, 4, 3\)",
        ),
        ({"lengths": np.zeros(BATCH + 1, int)}, ValueError, r"lengths: got shape \(5,\); expected \(4,\)"),
        ({"lengths": np.full(BATCH, TIME + 1)}, ValueError, "lengths: got values from 7 to 7; expected 0 to 6"),
        ({"lengths": np.full(BATCH, -1)}, ValueError, "lengths: got values from -1 to -1; expected 0 to 6"),
        ({"lengths": np.ones(BATCH)}, TypeError, "lengths: got float64; expected integers"),
        ({"lengths": [1, 2, 3]}, ValueError, r"lengths: got shape \(3,\); expected \(4,\)"),
        ({"lengths": [1, 2, 3, 4.0]}, TypeError, "lengths: got float64; expected integers"),
        ({"lengths": [1, 2, 3, [4]]}, ValueError, r"lengths: got a list that makes no array; expected shape \(4,\): "),
        ({"lengths": (1, 2, 3, 7)}, ValueError, "lengths: got values from 1 to 7; expected 0 to 6"),
        ({"lengths": ["1", "2", "3", "4"]}, TypeError, "lengths: got <U1; expected integers"),
        ({"mask": BITS[:, :-1]}, ValueError, r"mask: got shape \(4, 5\); expected \(4, 6\)"),
        ({"mask": BITS.astype(float)}, TypeError, "mask: got float64; expected booleans: use mask.astype"),
        ({"mask": BITS + 1}, ValueError, "mask: got values from 2 to 2; expected booleans, or integers 0 and 1"),
        ({"mask": jnp.zeros((4, 6), int) - 1}, ValueError, "mask: got values from -1 to -1; expected booleans"),
        ({"mask": [[True] * 6] * 3 + [[True] * 5]}, ValueError, "mask: got a list that makes no array; expected shape"),
        ({"segment_ids": BITS.T.astype(int)}, ValueError, r"segment_ids: got shape \(6, 4\); expected \(4, 6\)"),
        # As int32 they would be 1 and 1, and 0.
        ({"segment_ids": BITS + 2**32}, ValueError, "segment_ids: got values from 4294967297 .*; expected 0 "),
        ({"segment_ids": BITS - 2}, ValueError, "segment_ids: got values from -1 to -1; expected 0 "),
        ({"initial_state": LENGTHS}, TypeError, r"state: got an array; expected LSTMState"),
        ({"lengths": 3}, TypeError, r"lengths: got int; expected an array of JAX or NumPy of shape \(4,\)"),
        ({"segment_ids": BITS.astype(float)}, TypeError, "segment_ids: got float64; expected integers"),
        ({"resets": BITS[0]}, ValueError, r"resets: got shape \(6,\); expected \(4, 6\)"),
        ({"resets": BITS.astype(float)}, TypeError, "resets: got float64; expected booleans"),
        ({"resets": (BITS * 2).tolist()}, ValueError, "resets: got values from 2 to 2; expected booleans"),
        ({"segment_ids": jnp.zeros((4, 6), int) - 1}, ValueError, "segment_ids: got values from -1 to -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, error: type[Exception], message: str, unchecked: None) -> None:
    layer = jaxrnn.LSTM(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    with pytest.raises(error, match=message):
        layer(**{"inputs": FLOATS} | arguments)


def test_constant_lengths_are_taken_and_checked_inside_jit() -> None:
    layer = build("gru", dtype=jnp.float32)
    inputs, state, _ = drawn_inputs(layer)
    lengths, too_long = jnp.asarray(LENGTHS), jnp.asarray(LENGTHS + 1)
    outputs, _ = jax.jit(lambda x: layer(x, state, lengths=lengths))(inputs)
    expected, _ = jax.jit(lambda x, n: layer(x, state, lengths=n))(inputs, lengths)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="lengths: got values from 1 to 7; expected 0 to 6"):
        jax.jit(lambda x: layer(x, state, lengths=too_long))(inputs)


def test_wrong_steps_are_refused(unchecked: None) -> None:
    layer = jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    for inputs in (FLOATS, FLOATS[0, :, :1]):
        with pytest.raises(
            ValueError,
            match=r"inputs: (got 3 dimensions, .*; expected \(batch, 2\)|inconsistent input_size: got 1)",
        ):
            layer.step(inputs)
    with pytest.raises(ValueError, match="bidirectional layer cannot stream"):
        jaxrnn.GRU(INPUT, HIDDEN, bidirectional=True, rngs=nnx.Rngs(0)).step(FLOATS[:, 0])
    with pytest.raises(ValueError, match="step: a layer with reverse=True cannot stream, its reverse direction starts"):
        jaxrnn.GRU(INPUT, HIDDEN, reverse=True, rngs=nnx.Rngs(0)).step(FLOATS[:, 0])


def test_numpy_arrays_are_taken() -> None:
    layer = build("gru", dtype=jnp.float32)
    options = PATTERNS["everything"]
    from_numpy, _ = layer(np.ones((BATCH, TIME, INPUT), np.float32), **options)
    from_jax, _ = layer(jnp.ones((BATCH, TIME, INPUT)), **{n: jnp.asarray(v) for n, v in options.items()})
    np.testing.assert_array_equal(from_numpy, from_jax)


def given_to_the_engine(layer: Any, **options: Any) -> Any:
    """What a layer makes of its options: those arrays, which it would run with."""
    given: list[Any] = []

    class Recorder(type(layer)):  # type: ignore[misc]
        def _run_batch(self, *arguments: Any) -> Any:
            given.extend(np.asarray(array) for array in arguments[4:])
            return (), (), ()

    recorder = nnx.merge(*nnx.split(layer))
    recorder.__class__ = Recorder
    recorder.all_states(FLOATS, **options)
    return given


def test_lists_and_integers_mean_what_arrays_do() -> None:
    layer = build("gru", dtype=jnp.float32)
    options = PATTERNS["everything"]
    expected = given_to_the_engine(layer, **options)
    assert [array.dtype.kind for array in expected] == ["i", "b", "i", "b"]
    integers = {name: value.astype(int) for name, value in options.items()}
    for given in (
        {name: value.tolist() for name, value in options.items()},
        {name: value.tolist() for name, value in integers.items()},
        {name: tuple(map(tuple, value)) if value.ndim > 1 else tuple(value) for name, value in options.items()},
        {name: list(jnp.asarray(value)) for name, value in integers.items()},
        {name: value.astype(np.uint8) for name, value in integers.items()},
        {name: jnp.asarray(value, jnp.int8) for name, value in integers.items()},
    ):
        for found, wanted in zip(given_to_the_engine(layer, **given), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert (found.dtype == bool) == (wanted.dtype == bool)


def test_traced_integers_are_masks_but_for_0() -> None:
    layer = build("gru", dtype=jnp.float32)

    @jax.jit
    def run(mask: Any, resets: Any, reset: Any) -> Any:
        return layer(FLOATS + 1, mask=mask, resets=resets), layer.step(FLOATS[:, 0] + 1, reset=reset)

    found = run(MASK * 3, RESETS * -2, LENGTHS)
    oracle.assert_identical(oracle.flat(found), oracle.flat(run(MASK * 1, RESETS * 1, (LENGTHS > 0) * 1)))


def test_no_rows_may_be_an_empty_list() -> None:
    layer = build("gru", dtype=jnp.float32)
    assert layer(FLOATS[:0], lengths=[])[0].shape == (0, TIME, HIDDEN)


def test_a_single_row_takes_lists_and_numbers() -> None:
    layer = build("gru", dtype=jnp.float32)
    mask = [1, 1, 1, 1, 0, 0]
    found, expected = layer(FLOATS[0], mask=mask, segment_ids=[1] * 6)[0], layer(FLOATS[0], lengths=4)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(layer(FLOATS[0], lengths=np.int32(4))[0], expected, rtol=1e-6)
    output, _ = layer.step(FLOATS[0, 0], reset=True)
    assert output.shape == (HIDDEN,)


# The engine on its own.


@pytest.mark.parametrize("reverse", [False, True])
def test_the_engine_without_its_own_gradient_runs_forward_mode(reverse: bool, x64: None) -> None:
    parameters = {name: jnp.asarray(value) for name, value in plain_parameters(build("lstm_proj")).items()}
    inputs, state, _ = drawn_inputs(build("lstm_proj"))
    lengths = np.minimum(LENGTHS, 4)
    valid = np.arange(TIME)[None] < lengths[:, None]
    directions = drawn_like((parameters, inputs, tuple(state)), 60)

    def engine(parameters: Any, inputs: Any, state: Any) -> Any:
        weights = loops.Weights(**{name: parameters[f"{name}_l0"] for name in loops.Weights._fields})
        start = jaxrnn.LSTMState(*(leaf[0] for leaf in state))
        outputs, final = recurrence.recur(
            cells.LSTM.pointwise,
            jnp.swapaxes(inputs, 0, 1),
            weights,
            start,
            valid=jnp.asarray(valid.T),
            reverse=reverse,
            custom_gradient=False,
        )
        return jnp.swapaxes(outputs, 0, 1), tuple(leaf[None] for leaf in final)

    def plain(parameters: Any, inputs: Any, state: Any) -> Any:
        pieces = [[list(range(length))[:: -1 if reverse else 1]] for length in lengths]
        return oracle.reference("lstm_proj", parameters, inputs, state, pieces)

    arrays = (parameters, inputs, tuple(state))
    found, expected = (jax.jvp(run, arrays, directions) for run in (jax.jit(engine), plain))
    oracle.assert_close(oracle.flat(found), oracle.flat(expected))


# How the engine may be run, and must give the same.
FORMS = [
    forms.Form(),
    forms.Form(features_major=True),
    forms.Form(project_first=True),
    forms.Form(TIME, multiply_sum=True),
]
WAYS: dict[str, dict[str, Any]] = {
    "gates apart": {"num_summed": 0},
    "gates summed": {"num_summed": 4 * HIDDEN},
    "some gates summed": {"num_summed": 2 * HIDDEN},
    "chunks that divide": {"num_summed": 4 * HIDDEN, "chunk": 3},
    "chunks that do not": {"num_summed": 4 * HIDDEN, "chunk": 4},
    "chunks of one": {"chunk": 1},
}


@pytest.mark.parametrize(
    ("way", "reverse", "form"),
    [
        ("some gates summed", True, FORMS[1]),
        ("chunks that do not", False, FORMS[0]),
        *(
            pytest.param(*choice, marks=pytest.mark.slow)
            for choice in itertools.product(WAYS, [False, True], FORMS)
            if choice[2] == FORMS[0] or choice[0] == "gates summed"
        ),
    ],
)
def test_every_way_of_running_the_engine_has_the_gradient_of_its_plain_loop(
    way: str, reverse: bool, form: forms.Form, x64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = build("lstm_proj")
    inputs, state, _ = drawn_inputs(layer)
    inputs = jnp.swapaxes(inputs, 0, 1)
    start = jax.tree.map(lambda leaf: leaf[0], state)
    outputs_read = not (reverse and way == "chunks that divide")  # else the final state alone

    def run_engine(**options: Any) -> Any:
        def results(inputs: Any, weights: Any, start: Any) -> Any:
            outputs, final = recurrence.recur(
                cells.LSTM.pointwise,
                inputs,
                weights,
                start,
                valid=jnp.asarray(MASK.T),
                reset=jnp.asarray(RESETS.T, jnp.uint8),
                targets=(start,),
                reverse=reverse,
                collect=lambda state: {"cell": state.c, "sum": state.h.sum(axis=1, keepdims=True)},
                **options,
            )
            return (outputs, final) if outputs_read else final

        @jax.jit
        def everything(*arrays: Any) -> Any:
            values, pullback = jax.vjp(results, *arrays)
            return values, pullback(drawn_like(values, 70))

        return oracle.flat(everything(inputs, layer.cell_parameters(0), start))

    assert RESETS[~MASK].any()  # a reset at a step that is passed over
    expected = run_engine(custom_gradient=False)
    monkeypatch.setattr(forms, "choose_form", lambda *sizes, **_: form)
    oracle.assert_close(run_engine(**WAYS[way]), expected)


@pytest.mark.parametrize("kind", oracle.KINDS)
def test_equations_read_summed_gates_as_their_sum_only(kind: str) -> None:
    equation = build(kind, dtype=jnp.float32).equation
    number = equation.summed_gates * HIDDEN
    a, b = (jnp.asarray(oracle.draw(s, BATCH, equation.num_gates * HIDDEN), jnp.float32) for s in (1, 2))
    state = drawn_like(equation.zero_state(HIDDEN, HIDDEN, leading=(BATCH,), dtype=jnp.float32), 3)
    moved = jnp.where(jnp.arange(a.shape[1]) < number, b, 0)
    assert number > 0
    oracle.assert_close(
        oracle.flat(equation.pointwise(state, a + moved, b - moved)), oracle.flat(equation.pointwise(state, a, b)), 1e-5
    )


def test_the_engine_ignores_resets_at_steps_that_are_passed_over(x64: None) -> None:
    layer = build("gru")
    inputs, state, _ = drawn_inputs(layer)

    @jax.jit
    def run_engine(reset: Any) -> Any:
        return recurrence.recur(
            cells.GRU.pointwise,
            jnp.swapaxes(inputs, 0, 1),
            layer.cell_parameters(0),
            state[0],
            valid=jnp.asarray(MASK.T),
            reset=reset.astype(jnp.uint8),
        )

    found, expected = run_engine(RESETS.T), run_engine((RESETS & MASK).T)
    oracle.assert_close(oracle.flat(found), oracle.flat(expected))
