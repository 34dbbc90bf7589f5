"""What the layers must compute, written as plainly as it can be said: a Python loop over rows and steps.

Nothing here comes from jaxrnn. `reference` is jax.numpy, so that `jax.grad` differentiates the plain loop; the
`numpy_*` functions are one step of each cell once more, forward only, written gate by gate.

`outcome` and `reference_outcome` gather what two implementations are compared by: outputs, final states and the
gradients of inputs, initial states and every parameter, each under a name; `assert_close` names what deviates.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KINDS = ("rnn_tanh", "rnn_relu", "lstm", "lstm_proj", "gru")
# Of every row, its sequences, each as the numbers of its steps: [[0, 1], [3]] is two sequences, with padding between.
Pieces = Sequence[Sequence[Sequence[int]]]


def _affine(parameters: Mapping[str, Any], which: str, vector: Any) -> Any:
    product = parameters[f"weight_{which}"] @ vector
    return product + parameters[f"bias_{which}"] if f"bias_{which}" in parameters else product


def _rnn(activation: Callable[[Any], Any], parameters: Mapping[str, Any], x: Any, state: tuple) -> tuple:
    return (activation(_affine(parameters, "ih", x) + _affine(parameters, "hh", state[0])),)


def _lstm(parameters: Mapping[str, Any], x: Any, state: tuple) -> tuple:
    h, c = state
    i, f, g, o = jnp.split(_affine(parameters, "ih", x) + _affine(parameters, "hh", h), 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    if "weight_hr" in parameters:
        h = parameters["weight_hr"] @ h
    return h, c


def _gru(parameters: Mapping[str, Any], x: Any, state: tuple) -> tuple:
    (h,) = state
    x_r, x_z, x_n = jnp.split(_affine(parameters, "ih", x), 3)
    h_r, h_z, h_n = jnp.split(_affine(parameters, "hh", h), 3)
    r = jax.nn.sigmoid(x_r + h_r)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


# Compiled one step at a time: the loop over steps stays Python's.
CELLS: dict[str, Callable[..., tuple]] = {
    "rnn_tanh": jax.jit(functools.partial(_rnn, jnp.tanh)),
    "rnn_relu": jax.jit(functools.partial(_rnn, lambda x: jnp.where(x > 0, x, 0.0))),
    "lstm": jax.jit(_lstm),
    "lstm_proj": jax.jit(_lstm),
    "gru": jax.jit(_gru),
}


@jax.jit
def _at(array: Any, *position: Any) -> Any:
    return array[position]  # compiled once for all positions, where `array[0, 1]` is compiled for each


def reference(
    kind: str,
    parameters: Mapping[str, Any],
    inputs: Any,
    initial_state: tuple,
    pieces: Pieces,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
) -> tuple[Any, tuple]:
    """Runs layers over rows, a step of a row at a time.

    Args:
      kind: One of `KINDS`.
      parameters: Arrays by PyTorch's names.
      inputs: (batch, time, input).
      initial_state: (h,) or (h, c), each (num_layers * num_directions, batch, size).
      pieces: The sequences of every row.
      num_layers: Layers stacked.
      bidirectional: Whether there is a reverse direction.

    Returns:
      Outputs (batch, time, num_directions * output) and the final state.
    """
    batch, time, _ = inputs.shape
    features = {(b, t): _at(inputs, b, t) for b in range(batch) for piece in pieces[b] for t in piece}
    starts = [
        [[_at(leaf, index, b) for leaf in initial_state] for b in range(batch)]
        for index in range(len(initial_state[0]))
    ]
    finals = []
    for layer in range(num_layers):
        outputs: dict[tuple[int, int], list] = {place: [] for place in features}
        for suffix in ("", "_reverse")[: 1 + bidirectional]:
            ending = f"_l{layer}{suffix}"
            cell_parameters = {
                name.removesuffix(ending): value for name, value in parameters.items() if name.endswith(ending)
            }
            rows = []
            for b in range(batch):
                start = tuple(starts[len(finals)][b])
                state = start
                for piece in reversed(pieces[b]) if suffix else pieces[b]:
                    state = start
                    for t in reversed(piece) if suffix else piece:
                        state = CELLS[kind](cell_parameters, features[b, t], state)
                        outputs[b, t].append(state[0])
                rows.append(state)
            finals.append([jnp.stack(leaves) for leaves in zip(*rows, strict=True)])
        features = {place: jnp.concatenate(directions) for place, directions in outputs.items()}
    size = initial_state[0].shape[-1] * (1 + bidirectional)
    padding = jnp.zeros(size, inputs.dtype)
    stacked = jnp.stack([jnp.stack([features.get((b, t), padding) for t in range(time)]) for b in range(batch)])
    return stacked, tuple(jnp.stack(leaves) for leaves in zip(*finals, strict=True))


def numpy_rnn_cell(parameters: Mapping[str, Any], x: Any, h: Any, *, nonlinearity: str = "tanh") -> Any:
    """One step of an Elman cell for a batch of rows."""
    total = _numpy_gates(parameters, "ih", x) + _numpy_gates(parameters, "hh", h)
    return np.tanh(total) if nonlinearity == "tanh" else np.maximum(total, 0)


def numpy_lstm_cell(parameters: Mapping[str, Any], x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """One step of an LSTM cell for a batch of rows."""
    size = c.shape[-1]
    total = _numpy_gates(parameters, "ih", x) + _numpy_gates(parameters, "hh", h)
    input_gate = 1 / (1 + np.exp(-total[:, :size]))
    forget_gate = 1 / (1 + np.exp(-total[:, size : 2 * size]))
    candidate = np.tanh(total[:, 2 * size : 3 * size])
    output_gate = 1 / (1 + np.exp(-total[:, 3 * size :]))
    new_c = forget_gate * c + input_gate * candidate
    return output_gate * np.tanh(new_c), new_c


def numpy_gru_cell(parameters: Mapping[str, Any], x: Any, h: Any) -> Any:
    """One step of a GRU cell for a batch of rows."""
    size = h.shape[-1]
    from_x, from_h = _numpy_gates(parameters, "ih", x), _numpy_gates(parameters, "hh", h)
    reset = 1 / (1 + np.exp(-(from_x + from_h)[:, :size]))
    update = 1 / (1 + np.exp(-(from_x + from_h)[:, size : 2 * size]))
    new = np.tanh(from_x[:, 2 * size :] + reset * from_h[:, 2 * size :])
    return new - update * new + update * h


def _numpy_gates(parameters: Mapping[str, Any], which: str, rows: Any) -> Any:
    bias = parameters.get(f"bias_{which}", 0.0)
    return np.einsum("gk,bk->bg", np.asarray(parameters[f"weight_{which}"]), np.asarray(rows)) + np.asarray(bias)


def pieces_of(
    batch: int, time: int, *, lengths: Any = None, mask: Any = None, segment_ids: Any = None, resets: Any = None
) -> list[list[list[int]]]:
    """Reads the sequences of every row off lengths, masks, segments and resets, one step after another."""
    rows = []
    for b in range(batch):
        pieces: list[list[int]] = []
        segment, restart = None, True
        for t in range(time):
            restart = restart or (resets is not None and bool(resets[b, t]))
            padding = (
                (lengths is not None and t >= int(lengths[b]))
                or (mask is not None and not mask[b, t])
                or (segment_ids is not None and int(segment_ids[b, t]) == 0)
            )
            if padding:
                continue
            number = None if segment_ids is None else int(segment_ids[b, t])
            if restart or number != segment:
                pieces.append([])
            pieces[-1].append(t)
            segment, restart = number, False
        rows.append(pieces)
    return rows


def draw(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    """Numbers from a normal distribution, the same ones for the same seed."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def perturb(module: nnx.Module, *, seed: int = 0, scale: float = 0.3) -> None:
    """Adds noise to every parameter: what is wrong can hide behind a fresh initialisation."""
    for number, (_, parameter) in enumerate(sorted(named_parameters(module).items())):
        value = np.asarray(parameter.get_value())
        noise = scale * draw(seed + number, *value.shape)
        parameter.set_value(jnp.asarray(value + noise.astype(value.dtype)))


def named_parameters(module: nnx.Module) -> dict[str, nnx.Param]:
    """The parameters of a single module, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, nnx.Param)}


def weigh(results: Any, weights: Any) -> Any:
    """The sum of all numbers of `results`, each times its own weight: its gradient reaches every one of them."""
    return sum(jnp.vdot(w, r) for r, w in zip(jax.tree.leaves(results), jax.tree.leaves(weights), strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _outcome(graphdef: Any, parameters: Any, inputs: Any, state: Any, options: Any, weights: Any) -> Any:
    def loss(parameters: Any, inputs: Any, state: Any) -> Any:
        # Sequences are cut by resets too: all of them start from the same state.
        results = nnx.merge(graphdef, parameters)(inputs, state, reset_state=state, **options)
        return weigh(results, weights), results

    (_, results), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(parameters, inputs, state)
    return results, gradients


def outcome(layer: nnx.Module, inputs: Any, state: Any, weights: Any, **options: Any) -> dict[str, np.ndarray]:
    """Outputs, final states and all gradients of a layer, by name; compiled once for each kind of layer and shapes."""
    graphdef, parameters = nnx.split(layer)
    options = {name: jnp.asarray(value) for name, value in options.items()}
    return by_name(*_outcome(graphdef, parameters, inputs, state, options, weights))


def by_name(results: Any, gradients: Any) -> dict[str, np.ndarray]:
    """Names the results of a layer, and the gradients of its parameters, inputs and initial state."""
    d_parameters, d_inputs, d_state = gradients
    named = {f"d {'.'.join(map(str, path))}": leaf.get_value() for path, leaf in nnx.to_flat_state(d_parameters)}
    found = _named(results[0], results[1], d_inputs, d_state, named)
    return {name: np.asarray(value) for name, value in found.items()}


def flat(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree under its path."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def reference_outcome(
    kind: str, parameters: Mapping[str, Any], inputs: Any, state: tuple, weights: Any, pieces: Pieces, **options: Any
) -> dict[str, np.ndarray]:
    """The same of `reference`, by JAX's gradient of the plain loop."""
    found = _reference_outcome(kind, parameters, inputs, state, weights, pieces, **options)
    return {name: np.asarray(value) for name, value in found.items()}


def _reference_outcome(
    kind: str, parameters: Mapping[str, Any], inputs: Any, state: tuple, weights: Any, pieces: Pieces, **options: Any
) -> dict[str, Any]:
    def run(parameters: Any, inputs: Any, state: Any) -> Any:
        return reference(kind, parameters, inputs, state, pieces, **options)

    results, pullback = jax.vjp(run, parameters, inputs, state)
    leaves = jax.tree.leaves(weights)
    d_parameters, d_inputs, d_state = pullback((leaves[0], tuple(leaves[1:])))
    return _named(*results, d_inputs, d_state, {f"d {name}": value for name, value in d_parameters.items()})


def reference_outcomes(
    kind: str, parameters: Mapping[str, Any], inputs: Any, state: tuple, weights: Any, pieces: Pieces, **options: Any
) -> dict[str, np.ndarray]:
    """The same for several parameters and states at once, which have an axis in front for them."""

    def run(parameters: Any, state: Any) -> Any:
        return _reference_outcome(kind, parameters, inputs, state, weights, pieces, **options)

    return {name: np.asarray(value) for name, value in jax.vmap(run)(parameters, state).items()}


def _named(outputs: Any, final_state: Any, d_inputs: Any, d_state: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    found = {"outputs": outputs, "d inputs": d_inputs, **named}
    found |= {f"final {name}": leaf for name, leaf in zip("hc", jax.tree.leaves(final_state), strict=False)}
    found |= {f"d initial {name}": leaf for name, leaf in zip("hc", jax.tree.leaves(d_state), strict=False)}
    return found


def assert_close(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 1e-10) -> None:
    """Fails, naming every array that deviates by more than `tolerance` of its largest number."""
    assert set(found) == set(expected), f"names differ: {sorted(set(found) ^ set(expected))}"
    complaints = []
    for name in sorted(expected):
        a, b = np.asarray(found[name], np.float64), np.asarray(expected[name], np.float64)
        if a.shape != b.shape:
            complaints.append(f"{name}: got shape {a.shape}; expected {b.shape}")
            continue
        allowed = tolerance * float(np.abs(b).max(initial=0))
        worst = float(np.abs(a - b).max(initial=0))
        if not worst <= allowed:  # NaN is a deviation
            complaints.append(f"{name}: deviates by {worst:.3e}; allowed {allowed:.3e}")
    assert not complaints, "\n".join(complaints)


def assert_identical(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Fails, naming every array that differs in any bit; 0 and -0 are the same."""
    assert set(found) == set(expected), f"names differ: {sorted(set(found) ^ set(expected))}"
    different = [name for name in sorted(expected) if not np.array_equal(found[name], expected[name])]
    assert not different, f"not identical: {', '.join(different)}"
