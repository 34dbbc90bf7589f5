"""What a layer must compute: a plain loop over rows and steps in NumPy, in complex128.

The imaginary parts carry derivatives: of f(x + ih d), where h is so small that its square is nothing beside 1, the
imaginary part divided by h is the derivative of f along d, to the last digits of float64. `values` and `derivatives`
run many directions at once. Nothing here comes from the package, nor from JAX.
"""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.layer_programs import MODELS, Program

STEP = 1e-20  # h
SHIFT = 2e-5  # of the differences of first derivatives that give second ones

Tree = Any


@dataclasses.dataclass
class Piece:
    """A sequence in a row: what stands between two cuts.

    Attributes:
      steps: Its steps.
      starts_segment: Whether another segment, or none, is before it.
      is_reset: Whether a reset acts at its first step.
    """

    steps: list[int]
    starts_segment: bool
    is_reset: bool


def valid_steps(program: Program, options: dict[str, np.ndarray]) -> np.ndarray:
    """Says which steps count: (batch, time), with the axes of single rows and of models as the options have them."""
    rows = () if program.batch is None else (program.batch,)
    valid = np.ones((*rows, program.time), bool)
    if "lengths" in options:
        valid = valid & (np.arange(program.time) < options["lengths"][..., None].astype(np.int64))
    if "mask" in options:
        valid = valid & options["mask"]
    if "segment_ids" in options:
        valid = valid & (options["segment_ids"] > 0)
    return valid


def pieces_of(valid: np.ndarray, segment_ids: np.ndarray | None, resets: np.ndarray | None) -> list[Piece]:
    """Cuts a row into its sequences.

    A segment starts where the id differs from that of the valid step before. A reset acts at the first valid step that
    is not before it; at the first of a segment only if it stands in that segment.

    Args:
      valid: (time,).
      segment_ids: (time,), or None.
      resets: (time,), or None.
    """
    pieces: list[Piece] = []
    before = None
    for step in range(len(valid)):
        if not valid[step]:
            continue
        is_start = before is None or (segment_ids is not None and segment_ids[step] != segment_ids[before])
        waiting = (
            [] if resets is None else [r for r in range(-1 if before is None else before, step + 1) if r != before]
        )
        waiting = [r for r in waiting if r >= 0 and resets is not None and resets[r]]
        if is_start and segment_ids is not None:
            waiting = [r for r in waiting if segment_ids[r] == segment_ids[step]]
        if is_start or waiting:
            pieces.append(Piece([], is_start, bool(waiting)))
        pieces[-1].steps.append(step)
        before = step
    return pieces


def evaluate(program: Program, given: Tree, options: dict[str, np.ndarray]) -> tuple[dict[str, Any], float]:
    """Runs the layer on arguments that have an axis of directions in front, and none of models.

    Returns:
      The results, by name, and how close relu's arguments came to its kink.
    """
    rows = [0] if program.batch is None else range(program.batch)
    inputs = given["inputs"][:, None] if program.batch is None else given["inputs"]
    count, num_rows, directions = len(inputs), len(rows), program.num_directions
    leading = (count, program.num_layers * directions, num_rows)

    def state_of(group: str) -> list[np.ndarray]:
        shapes = [(*leading, size) for size in program.state_sizes]
        if group not in given:
            return [np.zeros(shape, np.complex128) for shape in shapes]
        leaves = given[group]
        if program.batch is None or (group == "reset_state" and program.reset_state == "no batch"):
            leaves = [leaf[:, :, None] for leaf in leaves]
        return [np.broadcast_to(leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True)]

    initial, target = state_of("state"), state_of("reset_state")
    row_options = {name: value[None] if program.batch is None else value for name, value in options.items()}
    valid = np.broadcast_to(valid_steps(program, options), (num_rows, program.time))
    pieces = [
        pieces_of(valid[b], *(row_options[n][b] if n in row_options else None for n in ("segment_ids", "resets")))
        for b in rows
    ]
    final = [leaf.copy() for leaf in initial]
    states = [np.zeros((*leading, program.time, size), np.complex128) for size in program.state_sizes]
    features, margin = inputs, np.inf
    for layer in range(program.num_layers):
        found = []
        for direction in range(directions):
            place, ending = layer * directions + direction, f"_l{layer}" + ("_reverse" if direction else "")
            weights = {n.removesuffix(ending): w for n, w in given["params"].items() if n.endswith((ending, "around"))}
            outputs = np.zeros((count, num_rows, program.time, program.output_size), np.complex128)
            for b in rows:
                for number in range(len(pieces[b]))[:: -1 if direction else 1]:
                    start = initial if _starts_anew(pieces[b], number, direction) else target
                    state = [leaf[:, place, b] for leaf in start]
                    for step in pieces[b][number].steps[:: -1 if direction else 1]:
                        state, close = _advance(program.kind, weights, features[:, b, step], state)
                        margin = min(margin, close)
                        outputs[:, b, step] = state[0]
                        for kept, leaf in zip(states, state, strict=True):
                            kept[:, place, b, step] = leaf
                    for last, leaf in zip(final, state, strict=True):
                        last[:, place, b] = leaf
            found.append(outputs)
        features = np.concatenate(found, axis=-1)
    results = {"outputs": features, "final": final, "states": states}
    if program.batch is None:
        results = {
            "outputs": features[:, 0],
            "final": [f[:, :, 0] for f in final],
            "states": [s[:, :, 0] for s in states],
        }
    return results, margin


def _starts_anew(pieces: list[Piece], number: int, direction: int) -> bool:
    """Whether a piece starts from the initial state, and not from that of resets.

    Going backward, what cuts a piece off stands after it.
    """
    if not direction:
        return not pieces[number].is_reset
    return number + 1 == len(pieces) or pieces[number + 1].starts_segment


def _advance(kind: str, weights: Tree, x: np.ndarray, state: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Reads one step of one row, with an axis of directions in front; returns the state and relu's distance to 0."""
    from_x = _times(weights["weight_ih"], x) + weights.get("bias_ih", 0)
    from_h = _times(weights["weight_hh"], state[0]) + weights.get("bias_hh", 0)
    margin = np.inf
    if kind == "rnn_tanh":
        new = [np.tanh(from_x + from_h)]
    elif kind == "rnn_relu":
        total = from_x + from_h
        new, margin = [np.where(total.real > 0, total, 0)], float(np.abs(total.real).min(initial=np.inf))
    elif kind == "lstm":
        i, f, g, o = np.split(from_x + from_h, 4, axis=-1)
        c = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
        new = [_sigmoid(o) * np.tanh(c), c]
    elif kind == "gru":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(from_x, 3, axis=-1), np.split(from_h, 3, axis=-1)
        z, n = _sigmoid(x_z + h_z), np.tanh(x_n + _sigmoid(x_r + h_r) * h_n)
        new = [(1 - z) * n + z * state[0]]
    else:  # own_step and closure_step of benchmarks.layer_calls
        (x_o, x_m), (h_o, h_m) = np.split(from_x, 2, axis=-1), np.split(from_h, 2, axis=-1)
        mixed = _times(weights["mix"], state[1]) if kind == "own" else 0
        m = _sigmoid(weights["decay" if kind == "own" else "around"]) * state[1] + np.tanh(x_m * h_m + mixed)
        new = [_sigmoid(x_o + h_o) * np.tanh(m), m]
    if "weight_hr" in weights:
        new[0] = _times(weights["weight_hr"], new[0])
    return new, margin


def _times(weight: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return (weight @ vector[:, :, None])[:, :, 0]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def leaves_of(tree: Tree) -> dict[str, np.ndarray]:
    """Names every array of a tree of dicts and lists, as "params.weight_ih_l0" or "state.1"."""
    if not isinstance(tree, dict | list):
        return {"": tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {f"{key}.{path}".rstrip("."): leaf for key, value in items for path, leaf in leaves_of(value).items()}


def values(program: Program, data: Any, *, shift: float = 0.0) -> tuple[dict[str, np.ndarray], dict[str, Any], float]:
    """Computes results, and how they change along the direction of every leaf of what is given, one after another.

    Args:
      program: What is run.
      data: On what.
      shift: How far along the direction of all leaves together.

    Returns:
      The results by name, as float64, with the axis of models where there are models; of every leaf, the derivatives of
      all results, by the same names, and "all" for the direction of all leaves together; how close relu came to 0.
    """
    names = list(leaves_of(data.given))
    count = len(names) + 1
    directions = leaves_of(data.directions)
    every, margins = [], []
    for model in range(MODELS) if program.mapped else [None]:

        def take(group: str, leaf: np.ndarray, model: int | None = model) -> np.ndarray:
            return leaf[model] if group in program.mapped else leaf

        def along(path: str, leaf: np.ndarray) -> np.ndarray:
            group = path.split(".")[0]
            number, direction = names.index(path), take(group, directions[path]).astype(np.float64)
            imaginary = np.zeros((count, *direction.shape))
            imaginary[number] = imaginary[-1] = STEP * direction
            return take(group, leaf).astype(np.float64) + shift * direction + 1j * imaginary

        given = map_named(along, data.given)
        options = {name: take(name, value) for name, value in data.options.items()}
        with np.errstate(all="ignore"):  # NaN at padding
            results, margin = evaluate(program, given, options)
        every.append({path: leaf for path, leaf in leaves_of(results).items() if path.split(".")[0] in data.weights})
        margins.append(margin)
    stacked = {path: np.stack([one[path] for one in every], axis=1) for path in every[0]}
    if not program.mapped:
        stacked = {path: leaf[:, 0] for path, leaf in stacked.items()}
    slopes = {name: {p: leaf[i].imag / STEP for p, leaf in stacked.items()} for i, name in enumerate([*names, "all"])}
    return {path: leaf[0].real for path, leaf in stacked.items()}, slopes, min(margins)


def derivatives(data: Any, slopes: dict[str, Any]) -> dict[str, float]:
    """Returns the derivative of the loss along the direction of every leaf."""
    weights = {path: leaf.astype(np.float64) for path, leaf in leaves_of(data.weights).items()}
    return {name: float(sum(np.vdot(weights[p], slope[p]) for p in slope)) for name, slope in slopes.items()}


def second_derivatives(program: Program, data: Any) -> dict[str, float]:
    """Returns, of every leaf, the derivative along its direction of the loss's derivative along all of them.

    It is the difference of four first derivatives that is exact to the fourth order of the shift.
    """
    weights = {1: 8, -1: -8, 2: -1, -2: 1}
    first = {k: derivatives(data, values(program, data, shift=k * SHIFT)[1]) for k in weights}
    return {name: sum(w * first[k][name] for k, w in weights.items()) / (12 * SHIFT) for name in first[1]}


def map_named(function: Any, tree: Tree, path: str = "") -> Tree:
    """Replaces every array of a tree by ``function(its name, array)``; names are those of `leaves_of`."""
    if isinstance(tree, dict):
        return {key: map_named(function, value, f"{path}.{key}".lstrip(".")) for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_named(function, value, f"{path}.{key}".lstrip(".")) for key, value in enumerate(tree)]
    return function(path, tree)
