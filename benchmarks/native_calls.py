"""Calls of the compiled recurrence as XLA makes them, their arguments drawn at random, and what must come of them.

`plain_loop` says what: step by step and row by row of the definition, in NumPy and float64. It shares no code with the
package.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxrnn.nn.engine.cpu_kernels import padded_size

NUM_GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
KINDS = list(NUM_GATES)  # by the calls' numbers
_KEPT_GROUPS = {"tanh": 0, "relu": 0, "lstm": 4, "gru": 4}

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One recurrence.

    Attributes:
      kind: Its cell.
      sizes: Steps, rows, inputs and units.
      models: Axes of models in front.
      targets: How many states a reset can put a row to.
      reverse: Whether the last step is read first.
      masked: Whether some steps do not count: "no", "tails" for the last ones of a row, else "gaps".
      reset: Whether some steps reset.
      bias: Whether there are biases.
      keep: Whether the forward call keeps what the backward call reads.
      with_outputs: Whether the forward call returns its outputs (it does where it keeps anything), and the backward
        call gets their gradients.
      with_inputs: Whether the backward call returns the gradient of the inputs.
    """

    kind: str
    sizes: tuple[int, int, int, int]
    models: tuple[int, ...] = ()
    targets: int = 0
    reverse: bool = False
    masked: str = "no"
    reset: bool = False
    bias: bool = True
    keep: bool = True
    with_outputs: bool = True
    with_inputs: bool = True

    def forward_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the forward call's arguments; an absent one is (0,)."""
        num_steps, batch, num_inputs, hidden = self.sizes
        gates = NUM_GATES[self.kind] * hidden
        has_cells, has_targets = self.kind == "lstm", self.targets > 0
        shapes = {
            "inputs": (batch, num_steps, num_inputs),
            "valid": (num_steps, batch) if self.masked != "no" else (0,),
            "reset": (num_steps, batch) if self.reset else (0,),
            "weight_ih": (gates, num_inputs),
            "weight_hh": (gates, hidden),
            "bias_ih": (gates,) if self.bias else (0,),
            "bias_hh": (gates,) if self.bias else (0,),
            "h_first": (batch, hidden),
            "c_first": (batch, hidden) if has_cells else (0,),
            "h_targets": (self.targets, batch, hidden) if has_targets else (0,),
            "c_targets": (self.targets, batch, hidden) if has_targets and has_cells else (0,),
        }
        return self._with_models(shapes)

    def forward_results(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the forward call's results."""
        num_steps, batch, _, hidden = self.sizes
        padded, groups = padded_size(hidden), _KEPT_GROUPS[self.kind]
        has_cells = self.kind == "lstm"
        results = {
            "outputs": (batch, num_steps, hidden) if self.keep or self.with_outputs else (0,),
            "h_last": (batch, hidden),
            "c_last": (batch, hidden) if has_cells else (0,),
            "cells": (num_steps, batch, padded) if has_cells and self.keep else (0,),
            "gates": (num_steps, batch, groups * padded) if groups and self.keep else (0,),
        }
        return self._with_models(results)

    def cotangent_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the gradients that the backward call gets."""
        num_steps, batch, _, hidden = self.sizes
        shapes = {
            "d_outputs": (batch, num_steps, hidden) if self.with_outputs else (0,),
            "d_h_last": (batch, hidden),
            "d_c_last": (batch, hidden) if self.kind == "lstm" else (0,),
        }
        return self._with_models(shapes)

    def backward_results(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the backward call's results."""
        shapes = self.forward_shapes()
        names = ["inputs", *list(shapes)[3:]]
        results = {f"d_{name}": shapes[name] for name in names}
        return results if self.with_inputs else results | self._with_models({"d_inputs": (0,)})

    def _with_models(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {name: self.models + shape for name, shape in shapes.items()}


def are_right(kind: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Says whether a call may take buffers of these shapes, its arguments' and its results'."""
    inputs, weight_hh, h_targets = shapes["inputs"], shapes["weight_hh"], shapes["h_targets"]
    if len(inputs) < 3 or not weight_hh or weight_hh[-1] < 1:
        return False
    models, (batch, num_steps, num_inputs), hidden = inputs[:-3], inputs[-3:], weight_hh[-1]
    if max(num_steps, batch) > 2**31 - 3 or num_inputs > 2**30:
        return False
    targets = h_targets[len(models)] if len(h_targets) == len(models) + 3 else 0
    sizes, is_backward = (num_steps, batch, num_inputs, hidden), "d_h_last" in shapes
    whole = Case(kind, sizes, models, targets=max(targets, 1), masked="gaps", reset=True)
    expected = whole.forward_shapes() | whole.forward_results()
    expected |= whole.cotangent_shapes() | whole.backward_results()
    if not targets:
        of_targets = {f"{d}{key}_targets" for d in ("", "d_") for key in "hc"}
        expected |= dict.fromkeys(of_targets, (*models, 0, batch, hidden))
    optional = {"valid", "reset", "h_targets", "d_outputs", "d_inputs", "d_h_targets", "d_c_targets"}
    optional |= set() if targets else {"c_targets"}
    optional |= set() if is_backward else {"outputs", "cells", "gates"}
    biases = {"bias_ih", "bias_hh", "d_bias_ih", "d_bias_hh"} & shapes.keys()
    absent = {name for name, shape in shapes.items() if shape == (*models, 0)}
    if biases <= absent:
        optional |= biases
    return all(shape == expected[name] or name in absent & optional for name, shape in shapes.items())


def draw_arguments(case: Case, seed: int) -> tuple[Arrays, Arrays]:
    """Draws the arguments of the forward call, and the gradients that the backward call gets."""
    generator = np.random.default_rng(seed)
    num_steps, batch, _, hidden = case.sizes

    def draw(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return generator.uniform(-scale, scale, shape).astype(np.float32)

    arguments = {
        name: draw(shape, max(hidden, 1) ** -0.5 if name.startswith(("weight", "bias")) else 1.0)
        for name, shape in case.forward_shapes().items()
    }
    shape = case.forward_shapes()["valid"]
    arguments["valid"] = generator.random(shape) < 0.7
    if case.masked == "tails":  # a row in four is empty, another is full
        lengths = generator.integers(0, num_steps + 1, (*case.models, 1, batch))
        kind = generator.integers(0, 4, lengths.shape)
        lengths = np.where(kind == 0, 0, np.where(kind == 1, num_steps, lengths))
        arguments["valid"] = np.arange(num_steps)[:, None] < lengths
    shape = case.forward_shapes()["reset"]
    codes = generator.integers(1, case.targets + 2, shape)
    codes = np.where(generator.random(shape) < 0.2, 255, codes)  # zeros too, unless there are that many targets
    arguments["reset"] = np.where(generator.random(shape) < 0.3, codes, 0).astype(np.uint8)
    return arguments, {name: draw(shape) for name, shape in case.cotangent_shapes().items()}


def call(name: str, case: Case, arguments: Arrays, results: dict[str, tuple[int, ...]]) -> Arrays:
    """Calls "jaxrnn_forward2" or "jaxrnn_backward2", and returns its results by their names."""
    structs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in results.values()]
    run = jax.ffi.ffi_call(name, structs)
    found = run(*arguments.values(), cell=np.int64(KINDS.index(case.kind)), reverse=case.reverse)
    return dict(zip(results, found, strict=True))


def call_both(case: Case, arguments: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays | None]:
    """Returns what the forward call gives, and, where it keeps what is needed, what the backward call gives."""

    def run(arguments: list[Any], cotangents: list[Any]) -> tuple[Arrays, Arrays | None]:  # dicts would be sorted
        given = dict(zip(case.forward_shapes(), arguments, strict=True))
        forward = call("jaxrnn_forward2", case, given, case.forward_results())
        if not case.keep:
            return forward, None
        given |= {name: forward[name] for name in ("outputs", "cells", "gates")}
        given |= zip(case.cotangent_shapes(), cotangents, strict=True)
        return forward, call("jaxrnn_backward2", case, given, case.backward_results())

    found = jax.jit(run)(list(arguments.values()), list(cotangents.values()))
    return jax.tree.map(np.asarray, found)


def expected_of(case: Case, arguments: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays | None]:
    """Says what `call_both` must return, but for what is kept."""
    given = arguments | cotangents
    empty = {name for name, shape in _own_shapes(case).items() if shape == (0,)}
    models = list(np.ndindex(case.models))
    found = [plain_loop(case, {n: None if n in empty else a[m] for n, a in given.items()}) for m in models]

    def stack(results: dict[str, tuple[int, ...]]) -> Arrays:
        return {
            name: np.zeros(shape) if 0 in shape else np.stack([one[name] for one in found]).reshape(shape)
            for name, shape in results.items()
            if name not in ("cells", "gates")
        }

    return stack(case.forward_results()), stack(case.backward_results()) if case.keep else None


def _own_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    one = dataclasses.replace(case, models=())
    return one.forward_shapes() | one.cotangent_shapes()


def difference_of(found: Arrays, wanted: Arrays) -> tuple[float, str]:
    """Returns the largest difference, by the size of the array's values, and the array's name."""
    worst = (0.0, "none")
    for name, array in wanted.items():
        if found[name].shape != array.shape:
            return np.inf, f"{name}: shape {found[name].shape}, expected {array.shape}"
        difference = np.abs(found[name] - array).max(initial=0.0) / max(np.abs(array).max(initial=0.0), 1e-3)
        worst = max(worst, (np.inf if np.isnan(difference) else float(difference), name))
    return worst


def plain_loop(case: Case, given: Arrays) -> Arrays:
    """Runs one model forward and backward, with None for what is absent, in float64."""
    num_steps, batch, _, hidden = case.sizes
    floats = {n: a if a is None or a.dtype != np.float32 else a.astype(np.float64) for n, a in given.items()}
    x, w_ih, w_hh = floats["inputs"], floats["weight_ih"], floats["weight_hh"]
    gates = NUM_GATES[case.kind] * hidden
    b_ih, b_hh = (np.zeros(gates) if floats[name] is None else floats[name] for name in ("bias_ih", "bias_hh"))
    state = {key: floats[f"{key}_first"] for key in ("h", "c") if floats[f"{key}_first"] is not None}
    rows, order = np.arange(batch), range(num_steps)[:: -1 if case.reverse else 1]
    origins = {}  # of resets, by their codes; the last is zeros
    for key in state:
        targets = np.zeros((0, batch, hidden)) if floats[f"{key}_targets"] is None else floats[f"{key}_targets"]
        origins[key] = np.concatenate([np.zeros((1, batch, hidden)), targets, np.zeros((1, batch, hidden))])
    found: Arrays = {"outputs": np.zeros((batch, num_steps, hidden))}
    tape = {}
    for step in order:
        counts = np.ones(batch, bool) if given["valid"] is None else given["valid"][step]
        code = np.where(counts, 0 if given["reset"] is None else given["reset"][step], 0)
        code = np.minimum(code, case.targets + 1)
        for key, now in state.items():
            state[key] = np.where(code[:, None] > 0, origins[key][code, rows], now)
        after, pull = STEPS[case.kind](x[:, step] @ w_ih.T + b_ih, state["h"] @ w_hh.T + b_hh, state)
        tape[step] = counts, code, state["h"], pull
        found["outputs"][:, step] = np.where(counts[:, None], after["h"], 0)
        state = {key: np.where(counts[:, None], after[key], now) for key, now in state.items()}
    found |= {f"{key}_last": now for key, now in state.items()}

    d_state = {key: floats[f"d_{key}_last"] for key in state}
    d_origins = {key: np.zeros_like(origin) for key, origin in origins.items()}
    grads = {"d_inputs": np.zeros_like(x), "d_weight_ih": np.zeros_like(w_ih), "d_weight_hh": np.zeros_like(w_hh)}
    grads |= {"d_bias_ih": np.zeros(gates), "d_bias_hh": np.zeros(gates)}
    for step in reversed(order):
        counts, code, h_before, pull = tape[step]
        d_output = 0 if floats["d_outputs"] is None else floats["d_outputs"][:, step]
        d_from_x, d_from_h, d_before = pull({**d_state, "h": d_state["h"] + d_output})
        d_from_x, d_from_h = d_from_x * counts[:, None], d_from_h * counts[:, None]
        grads["d_inputs"][:, step] = d_from_x @ w_ih
        grads["d_weight_ih"] += d_from_x.T @ x[:, step]
        grads["d_weight_hh"] += d_from_h.T @ h_before
        grads["d_bias_ih"] += d_from_x.sum(0)
        grads["d_bias_hh"] += d_from_h.sum(0)
        d_before["h"] = d_before["h"] + d_from_h @ w_hh
        for key, now in d_state.items():
            now = np.where(counts[:, None], d_before[key], now)
            np.add.at(d_origins[key], (code, rows), np.where(code[:, None] > 0, now, 0))
            d_state[key] = np.where(code[:, None] > 0, 0, now)
    grads |= {f"d_{key}_first": now for key, now in d_state.items()}
    return found | grads | {f"d_{key}_targets": d_origin[1:-1] for key, d_origin in d_origins.items()}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# Each step gets what the inputs and what the hidden state give its gates, and the state; it returns the state after it,
# and a function from that one's gradient to those of the three.
def _tanh_step(from_x: np.ndarray, from_h: np.ndarray, state: Arrays) -> tuple[Arrays, Any]:
    h = np.tanh(from_x + from_h)

    def pull(d_after: Arrays) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_sum = d_after["h"] * (1 - h**2)
        return d_sum, d_sum, {"h": 0}

    return {"h": h}, pull


def _relu_step(from_x: np.ndarray, from_h: np.ndarray, state: Arrays) -> tuple[Arrays, Any]:
    total = from_x + from_h

    def pull(d_after: Arrays) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_sum = d_after["h"] * (total > 0)
        return d_sum, d_sum, {"h": 0}

    return {"h": np.maximum(total, 0)}, pull


def _lstm_step(from_x: np.ndarray, from_h: np.ndarray, state: Arrays) -> tuple[Arrays, Any]:
    i, f, g, o = np.split(from_x + from_h, 4, axis=-1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * state["c"] + i * g

    def pull(d_after: Arrays) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_h, d_c = d_after["h"], d_after["c"] + d_after["h"] * o * (1 - np.tanh(c) ** 2)
        d_gates = (d_c * g * i * (1 - i), d_c * state["c"] * f * (1 - f), d_c * i * (1 - g**2))
        d_sum = np.concatenate([*d_gates, d_h * np.tanh(c) * o * (1 - o)], axis=-1)
        return d_sum, d_sum, {"h": 0, "c": d_c * f}

    return {"h": o * np.tanh(c), "c": c}, pull


def _gru_step(from_x: np.ndarray, from_h: np.ndarray, state: Arrays) -> tuple[Arrays, Any]:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(from_x, 3, axis=-1), np.split(from_h, 3, axis=-1)
    r, z = _sigmoid(r_x + r_h), _sigmoid(z_x + z_h)
    n = np.tanh(n_x + r * n_h)

    def pull(d_after: Arrays) -> tuple[np.ndarray, np.ndarray, Arrays]:
        d_h = d_after["h"]
        d_n = d_h * (1 - z) * (1 - n**2)
        d_r, d_z = d_n * n_h * r * (1 - r), d_h * (state["h"] - n) * z * (1 - z)
        return np.concatenate([d_r, d_z, d_n], -1), np.concatenate([d_r, d_z, d_n * r], -1), {"h": d_h * z}

    return {"h": (1 - z) * n + z * state["h"]}, pull


STEPS = {"tanh": _tanh_step, "relu": _relu_step, "lstm": _lstm_step, "gru": _gru_step}
