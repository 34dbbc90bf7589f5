"""What can be wrong with a request to a layer."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
from benchmarks import layer_calls
from benchmarks.layer_data import draw_data
from benchmarks.layer_requests import LAYERS, Request, draw_request
from jaxrnn.nn import cells

MODES = ("eager", "eager", "jit", "grad")
Mistake = Callable[[random.Random, Request], str]  # spoils a request, and says how


def _parameter(rng: random.Random, layer: Any, *, axes: int = 1) -> tuple[str, nnx.Param]:
    named = [(name, p) for name, p in vars(layer).items() if isinstance(p, nnx.Param) and p.get_value().ndim >= axes]
    return rng.choice(sorted(named, key=lambda pair: pair[0]))


def parameters_of_another_layer(rng: random.Random, request: Request) -> str:
    program, own = request.program, request.program.weight_shapes()
    while True:
        sizes = {"hidden_size": rng.choice((2, 3, 4, 9, 16)), "input_size": rng.choice((1, 2, 3, 5))}
        kind = rng.choice((program.kind, *LAYERS))
        other = dataclasses.replace(program, kind=kind, proj_size=0, **sizes)
        found = other.weight_shapes()
        if any(found[name] != own[name] for name in found.keys() & own.keys()):
            break
    given = layer_calls.as_arrays(other, draw_data(0, 0, other))[0]
    parameters = nnx.state(layer_calls.build(other).with_params(given["params"]))
    if found.keys() == own.keys():
        nnx.update(request.layer, parameters)
    else:
        for name in found.keys() & own.keys():
            getattr(request.layer, name).set_value(given["params"][name])
    return f"parameters of a layer of {kind}, {sizes}"


def stacked_parameters(rng: random.Random, request: Request) -> str:
    models = rng.choice((1, 2, 5))
    graphdef, parameters = nnx.split(request.layer)
    request.layer = nnx.merge(graphdef, jax.tree.map(lambda leaf: jnp.stack([leaf] * models), parameters))
    return f"parameters of {models} layers stacked"


def one_parameter_of_another_shape(rng: random.Random, request: Request) -> str:
    name, parameter = _parameter(rng, request.layer)
    before = parameter.get_value()
    while True:
        axis = rng.randrange(before.ndim)
        after = rng.choice((
            before.T, before[None], before.reshape(-1), jnp.concatenate([before, before], axis), before[:0],
            jnp.delete(before, 0, axis=axis), jnp.sum(before),
        ))  # fmt: skip
        if after.shape != before.shape:
            break
    parameter.set_value(after)
    return f"{name} of shape {after.shape}, not {before.shape}"


def one_parameter_of_another_type(rng: random.Random, request: Request) -> str:
    name, parameter = _parameter(rng, request.layer)
    dtype = rng.choice(("int32", "bool", "complex64", "uint8"))
    parameter.set_value(parameter.get_value().astype(dtype))
    return f"{name} of {dtype}"


def one_parameter_missing(rng: random.Random, request: Request) -> str:
    name, _ = _parameter(rng, request.layer, axes=2)
    if rng.random() < 0.5:
        delattr(request.layer, name)
    else:
        setattr(request.layer, name, None)
    return f"no {name}"


def sizes_changed(rng: random.Random, request: Request) -> str:
    program, layer = request.program, request.layer
    changes: list[tuple[str, Any]] = [("hidden_size", program.hidden_size + rng.choice((-1, 1, 5)))]
    changes += [("input_size", program.input_size + 1), ("num_layers", program.num_layers + 1)]
    if program.kind == "lstm":
        changes.append(("proj_size", program.proj_size + 1 if program.proj_size else 1))
    if not program.bidirectional:
        changes.append(("bidirectional", True))
    name, value = rng.choice(changes)
    setattr(layer, name, value)
    if name == "input_size" and rng.random() < 0.5:
        request.inputs = np.concatenate([request.inputs, request.inputs], axis=-1)[..., :value]
    request.state = None
    return f"{name} = {value}, built with {getattr(program, name)}"


def another_equation(rng: random.Random, request: Request) -> str:
    equations = {"rnn_tanh": cells.RNN_TANH, "lstm": cells.LSTM, "gru": cells.GRU}
    same = "rnn_tanh" if request.program.kind == "rnn_relu" else request.program.kind
    name = rng.choice([name for name in equations if name != same])
    request.layer.equation, request.state = equations[name], None
    return f"the equation of {name}"


def unknown_option(rng: random.Random, request: Request) -> str:
    wrong = {
        "backend": ("sacn", "", None, "Auto", 1),
        "remat_steps": (0, -1, 2.5, "4", True),
        "compute_dtype": ("no such", "int32", 16, jnp.int8),
        "custom_gradient": ("no", None, 1.5),
    }
    name = rng.choice(list(wrong))
    value = rng.choice(wrong[name])
    setattr(request.layer, name, value)
    return f"{name} = {value!r}"


def compiled_where_it_cannot_be(rng: random.Random, request: Request) -> str:
    request.layer.backend = "compiled"
    if rng.random() < 0.5:
        request.layer.custom_gradient = False
        return "backend = 'compiled', custom_gradient = False"
    request.method = "all_states"
    return "backend = 'compiled', all states"


def wrong_inputs(rng: random.Random, request: Request) -> str:
    inputs = request.inputs
    wrong = {
        "more features": np.concatenate([inputs, inputs], -1),
        "no feature": inputs[..., :0],
        "too many axes": np.broadcast_to(inputs, (2, 2, *inputs.shape)),
        "too few axes": inputs.reshape(-1),
        "integers": inputs.astype(np.int32),
        "complex": inputs.astype(np.complex64),
        "a list": inputs.tolist(),
        "None": None,
        "an object": object(),
    }
    name = rng.choice(list(wrong))
    request.inputs = wrong[name]
    return f"inputs: {name}"


def wrong_lengths(rng: random.Random, request: Request) -> str:
    time, batch = request.program.time, request.program.batch
    rows = () if batch is None else (batch,)
    right = np.full(rows, time, np.int32)
    wrong = {
        "too many": np.full((*rows[:-1], (batch or 1) + 1), time),
        "two axes": right.reshape(*rows, 1, 1),
        "floats": right.astype(np.float32),
        "booleans": right.astype(bool),
        "too long": right + 1,
        "negative": right - time - 1,
        "a list that is too long": [time] * ((batch or 1) + 1),
        "a list of floats": [time + 0.5] * (batch or 1),
        "text": "4",
    }
    name = rng.choice(list(wrong))
    request.options["lengths"] = wrong[name]
    return f"lengths: {name}"


def wrong_steps(rng: random.Random, request: Request) -> str:
    option = rng.choice(("mask", "segment_ids", "resets"))
    program = request.program
    shape = (*(() if program.batch is None else (program.batch,)), program.time)
    right = np.ones(shape, np.int32 if option == "segment_ids" else bool)
    wrong = {
        "a step more": np.concatenate([right, right[..., :1]], -1),
        "no step": right[..., :0],
        "an axis more": right[..., None],
        "an axis less": right[..., 0],
        "rows doubled": np.concatenate([right, right]) if program.batch else right[None].repeat(2, 0),
        "floats": right.astype(np.float32),
        "a list that is too short": right[..., :-1].tolist(),
        "an object": object(),
    }
    if option == "segment_ids":
        wrong |= {"negative": -right, "booleans": right.astype(bool), "too large": right.astype(np.int64) * 2**32}
    name = rng.choice(list(wrong))
    request.options[option] = wrong[name]
    return f"{option}: {name}"


def wrong_state(rng: random.Random, request: Request) -> str:
    program = request.program
    is_of_resets = rng.random() < 0.4
    right = request.layer.initial_state(*(() if program.batch is None else (program.batch,)))
    h = jax.tree.leaves(right)[0]

    def each(change: Callable[[Any], Any]) -> Any:
        return jax.tree.map(change, right)

    wrong = {
        "a tuple too long": (h, h, h),
        "a list": [h],
        "a dict": {"h": h},
        "integers": each(lambda leaf: leaf.astype(jnp.int32)),
        "a unit more": each(lambda leaf: jnp.concatenate([leaf, leaf[..., :1]], -1)),
        "a layer more": each(lambda leaf: jnp.concatenate([leaf, leaf[:1]])),
        "an axis more": each(lambda leaf: leaf[None]),
        "flat": each(lambda leaf: leaf.reshape(-1)),
        "text": "zeros",
    }
    if len(program.state_sizes) == 2:
        wrong |= {"an array": h, "a plain tuple": tuple(jax.tree.leaves(right))}
    else:
        wrong |= {"LSTMState": jaxrnn.LSTMState(h, h), "a tuple of one": (h,)}
    if program.batch:
        wrong["a row more"] = each(lambda leaf: jnp.concatenate([leaf, leaf[:, :1]], 1))
    name = rng.choice(list(wrong))
    if is_of_resets:
        request.options["reset_state"] = wrong[name]
        return f"reset_state: {name}"
    request.state = wrong[name]
    return f"state: {name}"


def wrong_step(rng: random.Random, request: Request) -> str:
    program = request.program
    request.method, request.inputs, request.state = "step", request.inputs[..., 0, :], None
    if program.bidirectional:
        return "step of a bidirectional layer"
    right = np.ones(() if program.batch is None else (program.batch,), bool)
    wrong = {"an axis more": right[..., None], "floats": right.astype(np.float32), "rows doubled": np.ones(7, bool)}
    name = rng.choice(list(wrong))
    request.options["reset"] = wrong[name]
    return f"step, reset: {name}"


def wrong_constructor(rng: random.Random, request: Request) -> str:
    wrong = {
        "input_size": (0, -3, 2.5, "3", None),
        "hidden_size": (0, -3, 2.5, "3", None),
        "num_layers": (0, -1, 1.5, None),
        "bias": ("yes", None, 2),
        "bidirectional": ("yes", None, 2),
        "dropout": (1.5, -0.1, "no", None, float("nan")),
        "param_dtype": ("int32", "no such", None, bool),
        "rngs": (None, 0, jax.random.key(0), nnx.Rngs(dropout=0)),
        "hidden_dim": (4,),
        "proj_size": (4, 9, -1, 1.5),
        "nonlinearity": ("sigmoid", None, np.tanh),
    }
    name = rng.choice(list(wrong))
    value = rng.choice(wrong[name])
    make = {"proj_size": jaxrnn.LSTM, "nonlinearity": jaxrnn.RNN}.get(name, rng.choice((jaxrnn.LSTM, jaxrnn.GRU)))
    arguments = {"input_size": 3, "hidden_size": 4, "rngs": nnx.Rngs(0)} | {name: value}
    request.run = lambda mode: make(**arguments)  # type: ignore[method-assign, assignment]
    return f"{make.__name__}({name}={value!r})"


def wrong_cell(rng: random.Random, request: Request) -> str:
    make = rng.choice((jaxrnn.RNNCell, jaxrnn.LSTMCell, jaxrnn.GRUCell))
    cell = make(3, 4, rngs=nnx.Rngs(0))
    name, parameter = _parameter(rng, cell)
    before = parameter.get_value()
    wrong = {
        "stacked": lambda: parameter.set_value(jnp.stack([before] * 2)),
        "cut": lambda: parameter.set_value(before[:-1]),
        "of integers": lambda: parameter.set_value(before.astype(jnp.int32)),
        "of another size than the cell": lambda: setattr(cell, "hidden_size", rng.choice((2, 9))),
    }
    how = rng.choice(list(wrong))
    wrong[how]()
    inputs = request.inputs.reshape(-1)[:1].repeat(3)
    call = rng.choice((cell, nnx.jit(cell)))
    request.run = lambda mode: call(inputs)  # type: ignore[method-assign]
    return f"{make.__name__}(3, 4), its {name} {how}"


def wrong_equation(rng: random.Random, request: Request) -> str:
    def sizes(hidden: int, output: int) -> Any:
        return output

    equations = {
        "takes too few arguments": cells.Equation(1, lambda state: state, sizes),
        "takes too many arguments": cells.Equation(1, lambda state, x, h, more: x + h + more, sizes),
        "returns a tuple": cells.Equation(1, lambda state, x, h: (x + h,), sizes),
        "returns all gates": cells.Equation(2, lambda state, x, h: x + h, sizes),
        "returns None": cells.Equation(1, lambda state, x, h: None, sizes),
        "returns another type": cells.Equation(1, lambda state, x, h: (x + h).astype(jnp.int32), sizes),
        "has another first size": cells.Equation(1, lambda state, x, h: x + h, lambda hidden, output: output + 1),
        "sums the rows": cells.Equation(1, lambda state, x, h: (x + h).sum(0), sizes),
    }
    name = rng.choice(list(equations))
    request.state = None
    program = request.program

    def run(mode: str) -> Any:
        rngs = nnx.Rngs(0)
        request.layer = jaxrnn.RecurrentLayer(equations[name], program.input_size, program.hidden_size, rngs=rngs)
        return Request.run(request, mode)

    request.run = run  # type: ignore[method-assign]
    return f"an equation that {name}"


MISTAKES: dict[Mistake, int] = {
    parameters_of_another_layer: 4,
    stacked_parameters: 2,
    one_parameter_of_another_shape: 4,
    one_parameter_of_another_type: 1,
    one_parameter_missing: 1,
    sizes_changed: 3,
    another_equation: 1,
    unknown_option: 3,
    compiled_where_it_cannot_be: 1,
    wrong_inputs: 2,
    wrong_lengths: 3,
    wrong_steps: 3,
    wrong_state: 4,
    wrong_step: 1,
    wrong_constructor: 3,
    wrong_equation: 2,
    wrong_cell: 2,
}


def draw(seed: int, number: int) -> tuple[Request, str, str]:
    """Draws wrong request `number` of a seed; returns how it is made, and what is wrong with it."""
    rng = random.Random(f"{seed}:mistake {number}")
    request, mistake = draw_request(rng), rng.choices(list(MISTAKES), list(MISTAKES.values()))[0]
    return request, rng.choice(MODES), mistake(rng, request)
