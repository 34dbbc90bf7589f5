"""Layers as a plain loop over rows and steps: the oracle of the tests of transformations.

Each row is read alone, one step after another, in operations that JAX differentiates by itself. What a step does is
written out below, apart from the package.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn

BATCH, TIME, INPUT, HIDDEN, PROJ = 4, 5, 3, 4, 2
LENGTHS = np.array([5, 3, 0, 4])
RESETS = np.array([[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 1]], bool)
SEGMENTS = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [3, 0, 3, 1, 1]])
KINDS = ("lstm", "gru", "rnn", "own")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 2, "bidirectional": True},
    "projected": {"proj_size": PROJ},
    "in chunks": {"remat_steps": 2},
}


class Leaky(NamedTuple):
    """The state of an equation of the tests' own."""

    h: Any
    memory: Any


def leaky_step(state: Leaky, input_gates: Any, hidden_gates: Any, rate: Any) -> Leaky:
    """m' = m + sigmoid(rate) * (tanh(x + h) - m);  h' = sin(m')."""
    new = state.memory + jax.nn.sigmoid(rate)[None] * (jnp.tanh(input_gates + hidden_gates) - state.memory)
    return Leaky(jnp.sin(new), new)


LEAKY = jaxrnn.Equation(
    1, leaky_step, lambda hidden, output: Leaky(output, hidden), lambda hidden: {"rate": jnp.linspace(-1.0, 1, hidden)}
)


def build(kind: str, options: str, **more: Any) -> Any:
    """Returns a layer whose parameters are far from their first values."""
    arguments = OPTIONS[options] | more | {"rngs": nnx.Rngs(len(kind))}
    if kind == "own":
        layer: Any = jaxrnn.RecurrentLayer(LEAKY, INPUT, HIDDEN, **arguments)
    else:
        layer = {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU, "rnn": jaxrnn.RNN}[kind](INPUT, HIDDEN, **arguments)
    graphdef, state = nnx.split(layer)

    def moved(leaf: Any) -> Any:
        noise = 0.3 * np.sin(np.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape))
        return jnp.asarray(np.asarray(leaf) + noise.astype(leaf.dtype))

    return nnx.merge(graphdef, jax.tree.map(moved, state))


def draw(layer: Any) -> tuple[Any, Any, Any]:
    """Returns inputs, a first state and a state that resets put rows to, all different."""
    state = layer.initial_state(BATCH)
    leaves, structure = jax.tree.flatten(state)
    generator = np.random.default_rng(0)
    inputs = jnp.asarray(generator.normal(size=(BATCH, TIME, INPUT)), jnp.float32)
    states = [
        jax.tree.unflatten(structure, [jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype) for leaf in leaves])
        for _ in range(2)
    ]
    return inputs, *states


def _cell(kind: str, parameters: dict[str, Any], x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    from_x = parameters["weight_ih"] @ x + parameters["bias_ih"]
    from_h = parameters["weight_hh"] @ state[0] + parameters["bias_hh"]
    sigmoid = jax.nn.sigmoid
    if kind == "gru":
        (xr, xz, xn), (hr, hz, hn) = jnp.split(from_x, 3), jnp.split(from_h, 3)
        update = sigmoid(xz + hz)
        return ((1 - update) * jnp.tanh(xn + sigmoid(xr + hr) * hn) + update * state[0],)
    total = from_x + from_h
    if kind == "rnn":
        return (jnp.tanh(total),)
    if kind == "own":
        memory = state[1] + sigmoid(parameters["rate"]) * (jnp.tanh(total) - state[1])
        hidden = jnp.sin(memory)
    else:
        i, f, g, o = jnp.split(total, 4)
        memory = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
        hidden = sigmoid(o) * jnp.tanh(memory)
    if "weight_hr" in parameters:
        hidden = parameters["weight_hr"] @ hidden
    return hidden, memory


def rows_one_by_one(
    kind: str, layer: Any, inputs: Any, state: Any, reset_state: Any, segments: np.ndarray | None = None
) -> tuple[Any, Any]:
    """Returns what a layer should return for `LENGTHS`, `RESETS` and maybe segments.

    A reset cuts a row in two. Going forward, what follows a cut starts from `reset_state`, even at the first step; a
    segment starts from the first state, unless its own first step is reset. Going backward, what lies before a cut
    starts from `reset_state`, and the end of a row or segment from the first state.
    """
    named = {
        name: value.get_value()
        for name, value in vars(layer).items()
        if isinstance(value, nnx.Param) and name != "rate"
    }
    starts, resets_to = jax.tree.leaves(state), jax.tree.leaves(reset_state)
    size = starts[0].shape[-1]
    outputs, finals = [], []
    for b in range(inputs.shape[0]):
        steps = [t for t in range(int(LENGTHS[b])) if segments is None or segments[b, t] > 0]
        features = {t: inputs[b, t] for t in steps}
        row_finals = []
        for depth in range(layer.num_layers):
            sides = []
            for direction in range(layer.num_directions):
                ending = f"_l{depth}" + ("_reverse" if direction else "")
                own = {name.removesuffix(ending): value for name, value in named.items() if name.endswith(ending)}
                index = depth * layer.num_directions + direction
                first, other = (tuple(leaf[index, b] for leaf in leaves) for leaves in (starts, resets_to))
                now, before, side = first, None, {}
                for t in reversed(steps) if direction else steps:
                    is_new = segments is not None and before is not None and segments[b, t] != segments[b, before]
                    if is_new:
                        now = first
                    begin = -1 if before is None else before
                    passed = (
                        RESETS[b, t + 1 : before + 1]
                        if direction and before is not None
                        else RESETS[b, begin + 1 : t + 1]
                    )
                    if not direction and segments is not None and (is_new or before is None):
                        passed = RESETS[b, t : t + 1]  # what stands before a segment is not in it
                    if passed.any() and not (direction and (is_new or before is None)):
                        now = other
                    now = _cell(kind, own, features[t], now)
                    side[t], before = now[0], t
                sides.append(side)
                row_finals.append(now)
            features = {t: jnp.concatenate([side[t] for side in sides]) for t in steps}
        width = size * layer.num_directions
        outputs.append(jnp.stack([features.get(t, jnp.zeros(width, inputs.dtype)) for t in range(TIME)]))
        finals.append([jnp.stack(leaves) for leaves in zip(*row_finals, strict=True)])
    stacked = [jnp.stack(leaves, axis=1) for leaves in zip(*finals, strict=True)]
    return jnp.stack(outputs), jax.tree.unflatten(jax.tree.structure(state), stacked)


def loss_of(results: Any) -> Any:
    """A number that every number of the results moves, each by another amount."""
    leaves = jax.tree.leaves(results)
    return sum(
        jnp.sum(jnp.sin(leaf) * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)) for leaf in leaves
    )
