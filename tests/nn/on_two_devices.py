"""Layers on two devices: shard_map with the gradient inside and outside, pmap, and what XLA deals out by itself.

test_transformations.py runs this file in a process of its own, which has two devices.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from plain_rows import LENGTHS, RESETS, build
from test_transformations import EVERY_FORM, arguments_of, close, expected, run_layer

import jaxrnn
from jaxrnn.nn.engine import cpu_kernels

pytestmark = pytest.mark.skipif(jax.device_count() < 2, reason="run by test_transformations.py, with two devices")
ROWS = (P(), P("data"), P(None, "data"), P(None, "data"), P("data"), P("data"))
# By the compiled recurrence every form; by the loop, which an own equation takes anyway, what its own code tells apart.
CASES = [(*form, "auto") for form in EVERY_FORM]
CASES += [("lstm", "plain", "scan"), ("gru", "plain", "scan"), ("lstm", "in chunks", "scan")]


def each_case(cases: list[tuple[str, str, str]], everyday: tuple[str, ...] = ("auto",)) -> Any:
    """Cases of a cell, its form and a backend; those of a plain LSTM every day, by the backends of every day."""
    short = [("lstm", "plain", backend) for backend in everyday]
    chosen = [pytest.param(*case, marks=() if case in short else pytest.mark.slow) for case in cases]
    return pytest.mark.parametrize(("kind", "options", "backend"), chosen)


@functools.cache
def mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def losses(graphdef: Any, *arguments: Any) -> Any:
    """The sum over some rows of what each row gives: what devices compute apart adds up."""
    params, inputs, state, reset_state, lengths, resets = arguments
    outputs, final = run_layer(graphdef, params, inputs, state, reset_state, lengths=lengths, resets=resets)[1]
    return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(final))


@functools.cache
def case_of(kind: str, options: str, backend: str) -> tuple[Any, tuple[Any, ...], Any]:
    """Returns a function of arguments, the arguments, and its value and gradients on one device."""
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    arguments = (*arguments, jnp.asarray(LENGTHS), jnp.asarray(RESETS))
    return functools.partial(losses, graphdef), arguments, wanted_of(kind, options)


@functools.cache
def wanted_of(kind: str, options: str) -> Any:
    graphdef, arguments = arguments_of(build(kind, options, backend="scan", custom_gradient=False))
    run = jax.value_and_grad(functools.partial(losses, graphdef), (0, 1, 2, 3))
    return jax.jit(run)(*arguments, jnp.asarray(LENGTHS), jnp.asarray(RESETS))


@each_case(CASES, everyday=("auto", "scan"))
def test_shard_map_with_the_gradient_inside_and_outside(kind: str, options: str, backend: str) -> None:
    loss, arguments, wanted = case_of(kind, options, backend)

    def summed(*arguments: Any) -> Any:
        return jax.lax.psum(loss(*arguments), "data")

    outside = jax.value_and_grad(jax.shard_map(summed, mesh=mesh(), in_specs=ROWS, out_specs=P()), (0, 1, 2, 3))

    def value_and_gradient(*arguments: Any) -> Any:
        value, gradients = jax.value_and_grad(loss, (0, 1, 2, 3))(*arguments)
        return jax.lax.psum(value, "data"), gradients

    inside = jax.shard_map(value_and_gradient, mesh=mesh(), in_specs=ROWS, out_specs=(P(), ROWS[:4]))
    for found in jax.jit(lambda *given: (outside(*given), inside(*given)))(*arguments):
        close(found, wanted)


@pytest.mark.parametrize("backend", ["auto", pytest.param("scan", marks=pytest.mark.slow)])
def test_eager_shard_map(backend: str) -> None:
    """Every operation is a program of its own, of both devices: one gradient of one layer is enough for a day."""
    loss, arguments, wanted = case_of("lstm", "plain", backend)

    def summed(*arguments: Any) -> Any:
        return jax.lax.psum(loss(*arguments), "data")

    run = jax.shard_map(summed, mesh=mesh(), in_specs=ROWS, out_specs=P())
    close(jax.value_and_grad(run, (0, 1, 2, 3))(*arguments), wanted)


@each_case(CASES)
def test_shard_map_with_a_model_on_each_device(kind: str, options: str, backend: str) -> None:
    loss, arguments, wanted = case_of(kind, options, backend)
    halved = (jax.tree.map(lambda leaf: leaf / 2, arguments[0]), *arguments[1:])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), arguments[0], halved[0])

    def on_each(params: Any, *others: Any) -> Any:
        return loss(jax.tree.map(lambda leaf: leaf[0], params), *others)[None]

    run = jax.shard_map(on_each, mesh=mesh(), in_specs=(P("data"), *[P()] * 5), out_specs=P("data"))
    found = jax.jit(jax.value_and_grad(lambda *given: run(*given).sum(), (0, 1)))(stacked, *arguments[1:])
    other = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(*halved)
    close(found[0], wanted[0] + other[0])
    close(jax.tree.map(lambda leaf: leaf[0], found[1][0]), wanted[1][0])
    close(jax.tree.map(lambda leaf: leaf[1], found[1][0]), other[1][0])
    close(found[1][1], wanted[1][1] + other[1][1])


@each_case(CASES)
def test_a_batch_that_is_shared_stays_so(kind: str, options: str, backend: str) -> None:
    """Under jit alone: no device gathers the rows, and one sum of the parameters' gradients is all that is sent."""
    loss, arguments, wanted = case_of(kind, options, backend)
    places = [NamedSharding(mesh(), spec) for spec in ROWS]
    arguments = tuple(jax.device_put(value, place) for value, place in zip(arguments, places, strict=True))
    program = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3))).lower(*arguments).compile()
    found = program(*arguments)
    close(found, wanted)
    assert found[1][1].sharding.is_equivalent_to(places[1], 3)
    if backend == "auto" and kind != "own" and options in ("plain", "stacked"):
        text = program.as_text()
        assert text.count('custom_call_target="jaxrnn_forward2"') == len(jax.tree.leaves(arguments[0])) // 4
        assert "all-gather" not in text
    outputs = jax.jit(lambda *given: run_layer(loss.args[0], *given[:4], lengths=given[4])[1][0])(*arguments)
    assert outputs.sharding.is_equivalent_to(places[1], 3)


@pytest.mark.skipif(not cpu_kernels.is_built(), reason="the compiled recurrence is not built here")
def test_a_batch_on_the_cpus_of_a_process_with_accelerators_stays_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program runs counts, not what the process would use by itself."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    graphdef, (params, *_) = arguments_of(build("lstm", "plain"))
    width = params["weight_ih_l0"].get_value().shape[1]
    inputs = jax.device_put(
        jnp.ones((6, 2, width)), NamedSharding(mesh(), P("data"))
    )  # a shape of its own: none cached
    text = jax.jit(lambda *given: nnx.merge(graphdef, given[0])(given[1])[0]).lower(params, inputs).compile().as_text()
    assert 'custom_call_target="jaxrnn_forward2"' in text
    assert "all-gather" not in text


@each_case(
    [("lstm", "plain", "auto"), ("lstm", "plain", "scan"), ("own", "projected", "auto"), ("gru", "stacked", "auto")]
)
def test_a_mesh_whose_shardings_are_part_of_types(kind: str, options: str, backend: str) -> None:
    """What `jax.make_mesh` makes by default: results lie as the inputs do, inside of a layer XLA decides."""
    loss, arguments, wanted = case_of(kind, options, backend)
    explicit = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    places = [NamedSharding(explicit, spec) for spec in ROWS]
    arguments = tuple(jax.device_put(value, place) for value, place in zip(arguments, places, strict=True))
    with jax.set_mesh(explicit):
        found = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(*arguments)
    close(found, wanted)
    assert found[1][1].sharding.is_equivalent_to(places[1], 3)
    outputs, final = jax.jit(lambda *given: run_layer(loss.args[0], *given[:4], lengths=given[4])[1])(*arguments)
    assert outputs.sharding.is_equivalent_to(places[1], 3)
    assert jax.tree.leaves(final)[0].sharding.is_equivalent_to(places[2], 3)


@each_case(CASES)
def test_pmap(kind: str, options: str, backend: str) -> None:
    loss, (params, *rows), wanted = case_of(kind, options, backend)

    def halves(leaf: Any, axis: int) -> Any:
        return jnp.stack(jnp.split(leaf, 2, axis))

    dealt = [halves(rows[0], 0), *(jax.tree.map(lambda leaf: halves(leaf, 1), s) for s in rows[1:3])]
    dealt += [halves(leaf, 0) for leaf in rows[3:]]
    run = jax.pmap(jax.value_and_grad(loss, (0, 1)), in_axes=(None, *[0] * 5))
    values, gradients = run(params, *dealt)
    close(values.sum(), wanted[0])
    close(jax.tree.map(lambda leaf: leaf.sum(0), gradients[0]), wanted[1][0])
    close(gradients[1].reshape(rows[0].shape), wanted[1][1])


@pytest.mark.parametrize("backend", ["auto", pytest.param("scan", marks=pytest.mark.slow)])
def test_nnx_shard_map(backend: str) -> None:
    layer = build("lstm", "plain", backend=backend)
    _, (_, inputs, state, reset_state) = arguments_of(layer)
    lengths, resets = jnp.asarray(LENGTHS), jnp.asarray(RESETS)

    @nnx.jit
    @nnx.shard_map(mesh=mesh(), in_specs=(P(), *ROWS[1:]), out_specs=P("data"))
    def run(layer: Any, inputs: Any, state: Any, reset_state: Any, lengths: Any, resets: Any) -> Any:
        return layer(inputs, state, lengths=lengths, resets=resets, reset_state=reset_state)[0]

    found = run(layer, inputs, state, reset_state, lengths, resets)
    np.testing.assert_allclose(found, expected("lstm", "plain")["[0][1][0]"], rtol=1e-4, atol=1e-6)


def test_an_equation_that_reads_what_varies_is_refused_and_one_that_reads_what_does_not_is_right() -> None:
    def call(rate: Any, inputs: Any, *, gathered: bool) -> Any:
        rate = jax.lax.all_gather(rate, "data", tiled=True) if gathered else rate
        step = lambda h, input_gates, hidden_gates: rate[None] * h + jnp.tanh(input_gates + hidden_gates)  # noqa: E731
        equation = jaxrnn.Equation(1, step, lambda hidden, output: output)
        return jnp.sin(jaxrnn.RecurrentLayer(equation, 3, 4, rngs=nnx.Rngs(0))(inputs)[0])

    def on_each(rate: Any, inputs: Any, *, gathered: bool) -> Any:
        run = functools.partial(call, gathered=gathered)
        specs = (P("data") if gathered else P(), P("data"))
        return jax.shard_map(run, mesh=mesh(), in_specs=specs, out_specs=P("data"))(rate, inputs).sum()

    rate, inputs = jnp.linspace(0.1, 0.4, 4), jnp.ones((2, 5, 3))
    with pytest.raises(TypeError, match="extra_parameters"):
        on_each(rate, inputs, gathered=True)
    wanted = jax.jit(jax.grad(lambda rate: call(rate, inputs, gathered=False).sum()))(rate)
    found = jax.jit(jax.grad(functools.partial(on_each, gathered=False)))(rate, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
