"""Random numbers to run layers on. Nothing here imports JAX."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.layer_oracle import valid_steps
from benchmarks.layer_programs import MODELS, Program

POISON = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)


@dataclasses.dataclass
class Data:
    """What a program is called with.

    Attributes:
      given: The arguments that have gradients: "params" by name, "inputs", and "state" and "reset_state" as lists.
      options: The others.
      weights: Of a loss, one for every number of the results, whose gradient is taken.
      directions: One for every number of `given`, along which gradients are compared.
    """

    given: dict[str, Any]
    options: dict[str, np.ndarray]
    weights: dict[str, Any]
    directions: dict[str, Any]


def draw_data(seed: int, number: int, program: Program, *, attempt: int = 0) -> Data:
    """Draws the numbers of case `number` of a seed; other ones at another attempt."""
    generator = np.random.default_rng([seed, number, attempt])
    rows = () if program.batch is None else (program.batch,)
    leading = (program.num_layers * program.num_directions, *rows)
    dtype = program.param_dtype
    sizes = [(size,) for size in program.state_sizes]

    def normal(group: str, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        models = (MODELS,) if group in program.mapped else ()
        values = generator.normal(scale=scale, size=(*models, *shape))
        return rounded(values, program.input_dtype if group == "inputs" else dtype)

    def weight(shape: tuple[int, ...]) -> np.ndarray:
        models = (MODELS,) if program.mapped else ()
        return rounded(generator.normal(size=(*models, *shape)), dtype)

    shapes: dict[str, Any] = {"params": program.weight_shapes()}
    scales = {n: 0.9 / max(s[-1], 1) ** 0.5 if len(s) > 1 else 0.5 for n, s in shapes["params"].items()}
    given: dict[str, Any] = {
        "params": {name: normal("params", shape, scales[name]) for name, shape in shapes["params"].items()},
        "inputs": normal("inputs", (*rows, program.time, program.input_size)),
    }
    if program.state:
        given["state"] = [normal("state", (*leading, *size)) for size in sizes]
    if program.reset_state != "none":
        shape = leading if program.reset_state == "full" else leading[:1]
        given["reset_state"] = [normal("reset_state", (*shape, *size)) for size in sizes]
    options = {name: _draw_option(generator, program, name, rows) for name in program.options}
    directions = {
        "params": {name: normal("params", shape) for name, shape in shapes["params"].items()},
        "inputs": rounded(generator.normal(size=given["inputs"].shape), program.input_dtype),
    } | {
        group: [rounded(generator.normal(size=leaf.shape), dtype) for leaf in given[group]]
        for group in ("state", "reset_state")
        if group in given
    }
    outputs = weight((*rows, program.time, program.num_directions * program.output_size))
    final = [weight((*leading, *size)) for size in sizes]
    states = [weight((*leading, program.time, *size)) for size in sizes]
    if generator.random() < 0.15:  # nobody reads the outputs, or the last state
        unread = [outputs] if generator.random() < 0.5 else final
        for leaf in unread:
            leaf *= 0
    results = {"call": {"outputs": outputs, "final": final}, "all_states": {"states": states}}
    weights = (results | {"final_state": {"final": final}})[program.method]
    data = Data(given, options, weights, directions)
    if generator.random() < 0.7:
        _poison(generator, program, data)
    return data


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers that a type holds exactly, as bfloat16 in float32: NumPy itself has none."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _draw_option(generator: np.random.Generator, program: Program, name: str, rows: tuple[int, ...]) -> np.ndarray:
    models = (MODELS,) if name in program.mapped else ()
    shape = (*models, *rows, program.time)
    time, style = program.time, generator.integers(6)
    if name == "lengths":
        is_known = program.outer.startswith("eager") or program.outer == "disable_jit"
        lengths = generator.integers(0, time + (1 if is_known or style > 2 else 4), shape[:-1])  # beyond time is time
        lengths = {0: np.full_like(lengths, time), 1: np.zeros_like(lengths)}.get(style, lengths)
        return np.asarray(lengths, program.integer_dtype)
    if name == "mask":
        mask = generator.random(shape) < generator.choice([0.3, 0.7, 0.9])
        starts = generator.integers(0, time + 1, shape[:-1])
        left = np.arange(time) >= np.asarray(starts)[..., None]
        return {0: np.ones(shape, bool), 1: left, 2: ~left}.get(style, mask)
    if name == "resets":
        resets = generator.random(shape) < generator.choice([0.1, 0.3, 0.6])
        return {0: np.zeros(shape, bool), 1: np.ones(shape, bool)}.get(style, resets)
    if style == 0:
        return np.ones(shape, program.integer_dtype)
    if style < 4:  # one sequence after another, with padding behind
        ids = 1 + np.cumsum(generator.random(shape) < 0.35, axis=-1)
        ids = np.where(np.arange(time) >= generator.integers(0, time + 1, (*shape[:-1], 1)), 0, ids)
    else:
        ids = generator.integers(0, 3, shape)
    if style == 5:
        ids = np.where(
            ids == 2, np.iinfo(program.integer_dtype).max if program.integer_dtype == "uint8" else 2**31 - 1, ids
        )
    return ids.astype(program.integer_dtype)


def _poison(generator: np.random.Generator, program: Program, data: Data) -> None:
    """Puts NaN and infinities at padding."""
    valid = valid_steps(program, data.options)
    inputs = data.given["inputs"]
    if valid.ndim + 1 > inputs.ndim:  # models share the inputs: what is padding to one is read by another
        valid = valid.any(0)
    bad = generator.choice(POISON, inputs.shape).astype(inputs.dtype)
    data.given["inputs"] = np.where(np.broadcast_to(valid, inputs.shape[:-1])[..., None], inputs, bad)
