"""Layers as `layer_programs` draws them, built and run by the package under JAX's transformations."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh

import jaxrnn
from benchmarks.layer_data import Data
from benchmarks.layer_programs import DEVICES, WITH_CELLS, Program
from jaxrnn.nn.cells import Equation
from jaxrnn.nn.engine import cpu_kernels

AXIS = "data"

Tree = Any
Results = dict[str, Any]
Call = Callable[[Tree, Tree], Results]  # (what has gradients, options) -> results


class OwnState(NamedTuple):
    """The state of `own_step`: arrays of (batch, output) and of (batch, hidden)."""

    h: Any
    m: Any


def own_step(state: OwnState, input_gates: Any, hidden_gates: Any, decay: Any, mix: Any) -> OwnState:
    """m' = sigmoid(decay) * m + tanh(x_m * h_m + mix m);  h' = sigmoid(x_o + h_o) * tanh(m')."""
    (x_o, x_m), (h_o, h_m) = jnp.split(input_gates, 2, axis=-1), jnp.split(hidden_gates, 2, axis=-1)
    m = jax.nn.sigmoid(decay)[None] * state.m + jnp.tanh(x_m * h_m + state.m @ mix.T)
    return OwnState(jax.nn.sigmoid(x_o + h_o) * jnp.tanh(m), m)


OWN = Equation(
    2,
    own_step,
    lambda hidden, output: OwnState(output, hidden),
    lambda hidden: {"decay": jnp.zeros(hidden), "mix": jnp.zeros((hidden, hidden))},
    summed_gates=1,
)


def build_layer(program: Program, **changes: Any) -> nnx.Module:
    """Builds the layer of a program, with parameters of shapes only."""
    sizes = (program.input_size, program.hidden_size)
    options: dict[str, Any] = {
        "num_layers": program.num_layers,
        "bidirectional": program.bidirectional,
        "bias": program.bias,
        "param_dtype": jnp.dtype(program.param_dtype),
    } | changes
    if program.kind in WITH_CELLS:
        options["proj_size"] = program.proj_size

    def make() -> nnx.Module:
        rngs = nnx.Rngs(0)
        if program.kind in ("own", "closure"):
            equation = OWN if program.kind == "own" else closure_step(np.zeros(program.hidden_size, np.float32))
            return jaxrnn.RecurrentLayer(equation, *sizes, rngs=rngs, **options)
        if program.kind.startswith("rnn"):
            return jaxrnn.RNN(*sizes, nonlinearity=program.kind.removeprefix("rnn_"), rngs=rngs, **options)
        return {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU}[program.kind](*sizes, rngs=rngs, **options)

    layer = nnx.eval_shape(make)
    layer.backend = program.backend if program.backend != "compiled" or cpu_kernels.is_built() else "auto"
    if program.outer == "shared_units":
        layer.mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("model",))
    layer.remat_steps = program.remat_steps
    layer.custom_gradient = program.custom_gradient
    layer.compute_dtype = None if program.compute_dtype is None else jnp.dtype(program.compute_dtype)
    return layer


def closure_step(around: Any) -> Any:
    """Returns the equation without a mix, with a decay that is read from around it: maybe one that JAX traces."""

    def step(state: OwnState, input_gates: Any, hidden_gates: Any) -> OwnState:
        return own_step(state, input_gates, hidden_gates, around, jnp.zeros((around.shape[0],) * 2, around.dtype))

    return Equation(2, step, OWN.state_sizes, summed_gates=1)


class Built(NamedTuple):
    """A layer without its parameters.

    Attributes:
      with_params: Puts them in, by name.
      state: The structure of its states.
    """

    with_params: Callable[[Tree], Any]
    state: Any


def build(program: Program, **changes: Any) -> Built:
    """Builds a program's layer."""
    graphdef, parameters = nnx.split(build_layer(program, **changes))
    names = [path[0] for path, _ in nnx.to_flat_state(parameters)]
    _, structure = jax.tree.flatten(parameters)
    own: Any = OwnState(0, 0)
    states = {"lstm": jaxrnn.LSTMState(*own), "own": own, "closure": own}

    def with_params(params: Tree) -> Any:
        layer = nnx.merge(graphdef, jax.tree.unflatten(structure, [params[name] for name in names]))
        if program.kind == "closure":
            layer.equation = closure_step(params["around"])
        return layer

    return Built(with_params, jax.tree.structure(states.get(program.kind, 0)))


def _unflatten(built: Built, leaves: Any) -> Any:
    return None if leaves is None else jax.tree.unflatten(built.state, leaves)


def run_layer(program: Program, built: Built, layer: Any, given: Tree, options: Tree) -> Results:
    """Calls the method."""
    method = layer if program.method == "call" else getattr(layer, program.method)
    state, reset_state = (_unflatten(built, given.get(name)) for name in ("state", "reset_state"))
    found = method(given["inputs"], state, reset_state=reset_state, **options)
    if program.method == "call":
        return {"outputs": found[0], "final": jax.tree.leaves(found[1])}
    return {"states" if program.method == "all_states" else "final": jax.tree.leaves(found)}


def call_of(program: Program) -> Call:
    """Returns the layer's call, in what `program.inner` makes of it."""
    built = build(program)

    def whole(given: Tree, options: Tree) -> Results:
        return run_layer(program, built, built.with_params(given["params"]), given, options)

    if program.inner == "vmap":
        return jax.vmap(whole, in_axes=model_axes(program))
    if program.inner == "map":
        return _one_after_another(program, whole)
    if program.inner == "cond":
        return _on_condition(whole)
    if program.inner == "checkpoint":
        return jax.checkpoint(whole)
    if program.inner == "nested_jit":
        return jax.jit(whole)
    streams = {"step": _by_steps, "chunks": _by_chunks, "nnx_scan": _by_layers}
    return streams[program.inner](program, built) if program.inner else whole


def model_axes(program: Program) -> tuple[Any, Any]:
    """Says which of what is given, and of the options, have an axis of models, as in_axes of jax.vmap."""

    def axis(name: str) -> int | None:
        return 0 if name in program.mapped else None

    groups = ("params", "inputs", *(("state",) if program.state else ()))
    groups += ("reset_state",) if program.reset_state != "none" else ()
    return {name: axis(name) for name in groups}, {name: axis(name) for name in program.options}


def _on_condition(whole: Call) -> Call:
    """Runs one branch of lax.cond; the other one is as large."""

    def nothing(given: Tree, options: Tree) -> Results:
        return jax.tree.map(lambda leaf: 0 * leaf, whole(given, options))

    def run(given: Tree, options: Tree) -> Results:
        return lax.cond(given["params"]["weight_hh_l0"].ravel()[0] < jnp.inf, whole, nothing, given, options)

    return run


def _one_after_another(program: Program, whole: Call) -> Call:
    """Runs the models in lax.map."""

    def run(given: Tree, options: Tree) -> Results:
        both = {**given, **options}
        mapped = {name: both[name] for name in program.mapped}

        def run_one(some: Tree) -> Results:
            return whole(*({name: (both | some)[name] for name in group} for group in (given, options)))

        return lax.map(run_one, mapped)

    return run


def _by_steps(program: Program, built: Built) -> Call:
    """Runs `step` in a lax.scan."""

    def run(given: Tree, options: Tree) -> Results:
        layer, inputs = built.with_params(given["params"]), given["inputs"]
        batch = () if program.batch is None else (inputs.shape[0],)
        state = _unflatten(built, given.get("state"))
        if state is None:
            state = layer.initial_state(*batch)
            if "shard_map" in program.outer:  # JAX wants a carry to vary from the beginning
                state = jax.tree.map(lambda leaf: lax.pcast(leaf, (AXIS,), to="varying"), state)
        reset_state = _unflatten(built, given.get("reset_state"))

        def advance(state: Any, xs: Any) -> Any:
            x, reset = xs
            output, state = layer.step(x, state, reset=reset, reset_state=reset_state)
            return state, output

        xs = (jnp.moveaxis(inputs, -2, 0), None)
        if "resets" in options:
            xs = (xs[0], jnp.moveaxis(options["resets"], -1, 0))
        final, outputs = lax.scan(advance, state, xs)
        return {"outputs": jnp.moveaxis(outputs, 0, -2), "final": jax.tree.leaves(final)}

    return run


def _by_chunks(program: Program, built: Built) -> Call:
    """Cuts time into two, and hands the carry over."""
    middle = program.time // 2

    def run(given: Tree, options: Tree) -> Results:
        layer, parts = built.with_params(given["params"]), []
        given = dict(given)
        for chunk in (slice(None, middle), slice(middle, None)):
            some = given | {"inputs": given["inputs"][..., chunk, :]}
            cut = {name: value[..., chunk] for name, value in options.items()}
            parts.append(run_layer(program, built, layer, some, cut))
            given["state"] = parts[-1]["final"]
        outputs = jnp.concatenate([part["outputs"] for part in parts], axis=-2)
        return {"outputs": outputs, "final": parts[-1]["final"]}

    return run


def _by_layers(program: Program, built: Built) -> Call:
    """Stacks the parameters of two layers, and runs one layer in nnx.scan."""
    one = build(program, num_layers=1)

    def run(given: Tree, options: Tree) -> Results:
        names = [name.removesuffix("_l0") for name in given["params"] if name.endswith("_l0")]
        stacked = {f"{n}_l0": jnp.stack([given["params"][f"{n}_l{k}"] for k in range(2)]) for n in names}
        states = {name: [leaf[:, None] for leaf in given[name]] for name in ("state", "reset_state") if name in given}

        @functools.partial(nnx.scan, in_axes=(0, nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        def layers(layer: Any, features: Any, states: Any) -> Any:
            found = run_layer(program, one, layer, {"inputs": features, **states}, options)
            return found["outputs"], found["final"]

        features = given["inputs"].astype(program.param_dtype)  # outputs have the parameters' type, and so has a carry
        outputs, final = layers(one.with_params(stacked), features, states)
        return {"outputs": outputs, "final": [leaf[:, 0] for leaf in final]}

    return run


def loss_of(call: Call) -> Callable[..., Any]:
    """Returns a function of what is given, options and weights that gives a loss, and the results."""

    def loss(given: Tree, options: Tree, weights: Tree) -> Any:
        results = call(given, options)
        return weigh(results, weights), results

    return loss


def weigh(results: Results, weights: Tree) -> Any:
    """The sum of all numbers of the results, each times its own weight."""
    pairs = zip(jax.tree.leaves(results), jax.tree.leaves(weights), strict=True)
    return sum(jnp.vdot(weight, leaf.astype(weight.dtype)) for leaf, weight in pairs)


@contextlib.contextmanager
def settings_of(program: Program) -> Iterator[None]:
    """Sets what a program needs of JAX."""
    x64, is_disabled = program.param_dtype == "float64", program.outer == "disable_jit"
    with jax.enable_x64(x64), jax.default_matmul_precision("highest"), jax.disable_jit(is_disabled):
        yield


def as_arrays(program: Program, data: Data) -> tuple[Tree, Tree, Tree, Tree]:
    """Returns what is given, options, weights and directions as JAX's arrays of the right types."""

    def typed(tree: Tree) -> Tree:
        inputs = tree["inputs"]
        if not is_eager or program.input_dtype == "bfloat16":
            inputs = jnp.asarray(inputs, program.input_dtype)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, program.param_dtype), tree) | {"inputs": inputs}

    is_eager = program.outer.startswith("eager")  # NumPy's arrays go in as they are
    options = data.options if is_eager else jax.tree.map(jnp.asarray, data.options)
    return typed(data.given), options, jax.tree.map(jnp.asarray, data.weights), typed(data.directions)
