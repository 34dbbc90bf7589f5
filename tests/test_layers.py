"""The layers, held to a plain loop and to the contract on sequences of different lengths."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn
from jaxrnn import recurrence

BATCH, TIME, INPUT, HIDDEN, PROJ = 4, 6, 2, 3, 2
LENGTHS = np.array([6, 0, 3, 5])
LAYERS: dict[str, Any] = {
    "rnn_tanh": functools.partial(jaxrnn.RNN, nonlinearity="tanh"),
    "rnn_relu": functools.partial(jaxrnn.RNN, nonlinearity="relu"),
    "lstm": jaxrnn.LSTM,
    "lstm_proj": functools.partial(jaxrnn.LSTM, proj_size=PROJ),
    "gru": jaxrnn.GRU,
}
# layers, bias, bidirectional, padded, state given; every pair of choices occurs among the six.
EVERYDAY = [
    (1, True, False, True, True),
    (2, False, True, True, True),
    (2, True, True, False, True),
    (2, False, False, True, False),
    (1, True, True, False, False),
    (1, False, False, False, False),
]
every_kind = pytest.mark.parametrize("kind", oracle.KINDS)


def build(kind: str, *, sizes: tuple[int, int] = (INPUT, HIDDEN), dtype: Any = jnp.float64, **options: Any) -> Any:
    layer = LAYERS[kind](*sizes, param_dtype=dtype, rngs=nnx.Rngs(0), **options)
    oracle.perturb(layer)
    return layer


def drawn_like(tree: Any, seed: int) -> Any:
    """Numbers for every array of a tree, or of the shapes that `jax.eval_shape` gives."""
    leaves, structure = jax.tree.flatten(tree)
    drawn = [jnp.asarray(oracle.draw(seed + i, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def drawn_inputs(layer: Any, *, batch: int = BATCH, time: int = TIME, seed: int = 1) -> tuple[jax.Array, Any, Any]:
    """Inputs, an initial state, and a weight for every number of the results."""
    dtype = layer.weight_ih_l0.get_value().dtype
    inputs = jnp.asarray(oracle.draw(seed, batch, time, layer.input_size), dtype)
    state = drawn_like(layer.initial_state(batch), seed + 10)
    weights = drawn_like(jax.eval_shape(lambda x, s: layer(x, s), inputs, state), seed + 20)
    return inputs, state, weights


def plain_parameters(layer: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value.get_value()) for name, value in oracle.named_parameters(layer).items()}


def valid_of(batch: int, time: int, options: dict[str, Any]) -> np.ndarray:
    valid = np.zeros((batch, time), bool)
    for b, pieces in enumerate(oracle.pieces_of(batch, time, **options)):
        valid[b, [t for piece in pieces for t in piece]] = True
    return valid


def poison(inputs: Any, valid: np.ndarray) -> jax.Array:
    """Puts NaN and infinities wherever nothing may be read."""
    bad = np.resize([np.nan, np.inf, -np.inf, 1e308], inputs.shape).astype(inputs.dtype)
    return jnp.where(valid[:, :, None], inputs, bad)


def check_padding(found: dict[str, np.ndarray], valid: np.ndarray) -> None:
    for name in ("outputs", "d inputs"):
        assert not found[name][~valid].any(), f"{name}: not 0 at padding"


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


@every_kind
@pytest.mark.parametrize(("num_layers", "bias", "bidirectional", "padded", "with_state"), EVERYDAY)
def test_layers_compute_the_plain_loop(
    kind: str, num_layers: int, bias: bool, bidirectional: bool, padded: bool, with_state: bool, x64: None
) -> None:
    check_configuration(kind, num_layers, bias, bidirectional, padded, with_state)


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_configuration_computes_the_plain_loop(kind: str, num_layers: int, x64: None) -> None:
    # Compiled, each would take a second; the same operations are run one after another instead.
    with jax.disable_jit():
        for choices in itertools.product([True, False], repeat=4):
            check_configuration(kind, num_layers, *choices)


@every_kind
def test_wide_layers_over_many_steps_compute_the_plain_loop(kind: str, x64: None) -> None:
    # Past the sizes up to which the engine unrolls its loop and multiplies without a matmul call; one feature is
    # the size at which the input's linear map is an outer product.
    time, hidden = recurrence.MAX_UNROLLED_STEPS + 2, recurrence.MAX_HIDDEN_FOR_MULTIPLY_SUM + 3
    layer = build(kind, sizes=(1, hidden))
    inputs, state, weights = drawn_inputs(layer, batch=2, time=time)
    check_against_loop(kind, layer, inputs, state, weights, lengths=np.array([time, time - 5]))


@every_kind
def test_float32_follows_the_plain_loop_in_float64(kind: str) -> None:
    layer = build(kind, num_layers=2, bidirectional=True, dtype=jnp.float32)
    inputs, state, weights = drawn_inputs(layer)
    found = oracle.outcome(layer, inputs, state, weights, lengths=LENGTHS)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), (plain_parameters(layer), inputs, state, weights))
    parameters, inputs, state, weights = exact
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        expected = oracle.reference_outcome(
            kind,
            *jax.tree.map(jnp.asarray, (parameters, inputs, tuple(jax.tree.leaves(state)), weights)),
            oracle.pieces_of(BATCH, TIME, lengths=LENGTHS),
            num_layers=2,
            bidirectional=True,
        )
    assert {value.dtype.name for value in found.values()} == {"float32"}
    oracle.assert_close(found, expected, 1e-5)


# The contract on padding. All of it runs one stacked, bidirectional layer of each kind at one shape, with all four
# options always there, so that it compiles once; an option that a test leaves out says "every step, one sequence".

NEUTRAL = {
    "lengths": np.full(BATCH, TIME),
    "mask": np.ones((BATCH, TIME), bool),
    "segment_ids": np.ones((BATCH, TIME), int),
    "resets": np.zeros((BATCH, TIME), bool),
}
ROWS = ["110100", "001110", "111111", "000000"]
MASK = np.array([[digit == "1" for digit in row] for row in ROWS])
RESETS = np.array([[digit == "1" for digit in row] for row in ["100101", "001010", "010001", "000100"]])
PATTERNS: dict[str, dict[str, np.ndarray]] = {
    "lengths": {"lengths": LENGTHS},
    "left padding": {"mask": np.arange(TIME)[None] >= TIME - LENGTHS[:, None]},
    "holes": {"mask": MASK},
    "segments": {"segment_ids": np.array([[1, 1, 2, 2, 2, 3], [7, 7, 7, 7, 4, 4], [1, 1, 1, 1, 1, 0], [1, 2, 1, 2, 1, 2]])},
    "padding between and inside segments": {
        "segment_ids": np.array([[0, 1, 0, 1, 0, 2], [1, 1, 0, 0, 2, 2], [5, 0, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    },
    "resets": {"resets": RESETS},
    "resets at padding": {"mask": ~RESETS | (np.arange(TIME) % 2 == 0), "resets": RESETS},
    "everything": {
        "lengths": np.array([6, 5, 6, 4]),
        "mask": MASK | RESETS,
        "segment_ids": np.array([[1, 1, 1, 2, 2, 2], [1, 0, 2, 2, 2, 3], [3, 3, 3, 3, 9, 9], [0, 1, 1, 0, 1, 1]]),
        "resets": RESETS,
    },
}
every_pattern = pytest.mark.parametrize("pattern", PATTERNS)


@functools.cache
def contract_layer(kind: str) -> Any:
    return build(kind, num_layers=2, bidirectional=True)


def run(kind: str, inputs: Any, state: Any, weights: Any, **options: Any) -> dict[str, np.ndarray]:
    return oracle.outcome(contract_layer(kind), inputs, state, weights, **NEUTRAL | options)


def run_separately(
    kind: str, inputs: Any, state: Any, weights: Any, pieces: oracle.Pieces
) -> dict[str, np.ndarray]:
    """Runs each sequence as a row of its own, without any gap, and puts the results back where they came from."""
    layer = contract_layer(kind)
    forward = np.arange(layer.num_layers * 2) % 2 == 0
    out_weights, state_weights = jax.tree.map(np.asarray, weights)
    expected: dict[str, np.ndarray] = {}
    sequences = [(b, number) for b, row in enumerate(pieces) for number in range(max(len(row), 1))]
    for start in range(0, len(sequences), BATCH):
        batch = sequences[start : start + BATCH]
        steps = [pieces[b][number] if pieces[b] else [] for b, number in batch]
        rows = [b for b, _ in batch] + [0] * (BATCH - len(batch))
        lengths = np.array([len(piece) for piece in steps] + [0] * (BATCH - len(batch)))
        alone, alone_weights = np.full(inputs.shape, np.nan), np.zeros(out_weights.shape)
        for i, (b, piece) in enumerate(zip(rows, steps, strict=False)):
            alone[i, : len(piece)] = inputs[b, piece]
            alone_weights[i, : len(piece)] = out_weights[b, piece]
        # A row's final state is its last sequence's going forward, its first one's going backward.
        last = np.array([number == max(len(pieces[b]), 1) - 1 for b, number in batch] + [False] * (BATCH - len(batch)))
        first = np.array([number == 0 for _, number in batch] + [False] * (BATCH - len(batch)))
        counts = np.where(forward[:, None], last[None], first[None])
        found = run(
            kind,
            jnp.asarray(alone),
            jax.tree.map(lambda leaf, rows=rows: leaf[:, jnp.asarray(rows)], state),
            (alone_weights, jax.tree.map(lambda leaf, rows=rows, c=counts: leaf[:, rows] * c[:, :, None], state_weights)),
            lengths=lengths,
        )
        for name, value in found.items():
            shape = inputs.shape[:2] if name in ("outputs", "d inputs") else ()
            whole = expected.setdefault(name, np.zeros(shape + value.shape[2:] if shape else value.shape))
            for i, (b, piece) in enumerate(zip(rows, steps, strict=False)):
                if shape:
                    whole[b, piece] = value[i, : len(piece)]
                elif name.startswith("final"):
                    whole[counts[:, i], b] = value[counts[:, i], i]
                elif name.startswith("d initial"):
                    whole[:, b] += value[:, i]
            if not shape and not name.startswith(("final", "d initial")):
                whole += value
            elif name.startswith("d initial"):
                pass
    if len(sequences) == 0:
        raise AssertionError("no rows")
    return expected


@every_kind
@every_pattern
def test_every_pattern_of_steps_equals_its_sequences_on_their_own(kind: str, pattern: str, x64: None) -> None:
    inputs, state, weights = drawn_inputs(contract_layer(kind))
    options = PATTERNS[pattern]
    found = run(kind, poison(inputs, valid_of(BATCH, TIME, options)), state, weights, **options)
    check_padding(found, valid_of(BATCH, TIME, options))
    pieces = oracle.pieces_of(BATCH, TIME, **options)
    oracle.assert_close(found, run_separately(kind, inputs, state, weights, pieces))


@every_kind
@every_pattern
def test_every_pattern_of_steps_computes_the_plain_loop(kind: str, pattern: str, x64: None) -> None:
    layer = contract_layer(kind)
    check_against_loop(kind, layer, *drawn_inputs(layer), **NEUTRAL | PATTERNS[pattern])
