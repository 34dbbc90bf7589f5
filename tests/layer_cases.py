"""Layers of every kind with numbers of their own, and the patterns of steps that the contract speaks of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn

BATCH, TIME, INPUT, HIDDEN, PROJ = 4, 6, 2, 3, 2
LENGTHS = np.array([6, 0, 3, 5])
LAYERS: dict[str, Any] = {
    "rnn_tanh": functools.partial(jaxrnn.RNN, nonlinearity="tanh"),
    "rnn_relu": functools.partial(jaxrnn.RNN, nonlinearity="relu"),
    "lstm": jaxrnn.LSTM,
    "lstm_proj": functools.partial(jaxrnn.LSTM, proj_size=PROJ),
    "gru": jaxrnn.GRU,
}
every_kind = pytest.mark.parametrize("kind", oracle.KINDS)
# For what the engine and the stacking do, whatever the equation: one gate, a projection and two arrays, several gates.
some_kinds = pytest.mark.parametrize("kind", ["rnn_tanh", "lstm_proj", "gru"])
one_kind_and_slow_ones = pytest.mark.parametrize(
    "kind", ["lstm_proj", pytest.param("rnn_tanh", marks=pytest.mark.slow), pytest.param("gru", marks=pytest.mark.slow)]
)


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
    outputs = jax.ShapeDtypeStruct((batch, time, layer.output_size * layer.num_directions), dtype)
    return inputs, state, drawn_like((outputs, state), seed + 20)


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
    return jnp.asarray(np.where(valid[:, :, None], inputs, bad))


def check_padding(found: dict[str, np.ndarray], valid: np.ndarray) -> None:
    for name in ("outputs", "d inputs"):
        assert not found[name][~valid].any(), f"{name}: not 0 at padding"


# The contract on padding. All of it runs one stacked, bidirectional layer of some kinds at one shape, with all four
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
    "segments": {
        "segment_ids": np.array([[1, 1, 2, 2, 2, 3], [7, 7, 7, 7, 4, 4], [1, 1, 1, 1, 1, 0], [1, 2, 1, 2, 1, 2]])
    },
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


def run(
    kind: str, inputs: Any, state: Any, weights: Any, *, layer: Any = None, **options: Any
) -> dict[str, np.ndarray]:
    return oracle.outcome(layer or contract_layer(kind), inputs, state, weights, **NEUTRAL | options)


def run_separately(kind: str, inputs: Any, state: Any, weights: Any, pieces: oracle.Pieces) -> dict[str, np.ndarray]:
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
            (
                alone_weights,
                jax.tree.map(lambda leaf, rows=rows, c=counts: leaf[:, rows] * c[:, :, None], state_weights),
            ),
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
    return expected
