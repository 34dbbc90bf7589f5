"""Layers under JAX's transformations give the value and the gradient of the plain loop over rows and steps."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import oracle
import plain_rows
import pytest
from flax import nnx
from plain_rows import BATCH, KINDS, LENGTHS, RESETS, SEGMENTS, build, draw, loss_of, rows_one_by_one
from quick_flags import flags_of_child

import jaxrnn
from jaxrnn.nn import side_by_side
from jaxrnn.nn.engine import cpu_kernels

PLAIN = [(kind, "plain") for kind in KINDS]
EVERYDAY = [("lstm", "plain"), ("own", "projected")]
# Every cell, and every form of a state and of a call, once: what is around the cells is the same code for all of them.
EVERY_FORM = [
    *PLAIN,
    ("own", "projected"),
    ("own", "stacked"),
    ("lstm", "stacked"),
    ("lstm", "projected"),
    ("lstm", "in chunks"),
]


def each_case(cases: list[tuple[str, str]], everyday: list[tuple[str, str]] = EVERYDAY) -> Any:
    chosen = [pytest.param(*case, marks=() if case in everyday else pytest.mark.slow) for case in cases]
    return pytest.mark.parametrize(("kind", "options"), chosen)


each_backend = pytest.mark.parametrize("backend", ["auto", "scan"])


def each_case_by_both(
    cases: list[tuple[str, str]],
    everyday: list[tuple[str, str]] = EVERYDAY,
    backends: tuple[str, ...] = ("auto", "scan"),
) -> Any:
    """All cases by the compiled recurrence, and by the scan those that it takes, which an own equation is not.

    Every day the cases of `everyday`, by `backends`.
    """
    chosen = [
        pytest.param(*case, backend, marks=() if case in everyday and backend in backends else pytest.mark.slow)
        for backend in ("auto", "scan")
        for case in cases
        if backend == "auto" or case[0] != "own"
    ]
    return pytest.mark.parametrize(("kind", "options", "backend"), chosen)


class Flat(dict):
    """Arrays by their paths."""


@functools.cache
def expected(kind: str, options: str, segments: bool = False) -> Flat:
    """Value, results and gradients by the plain loop, the gradient by JAX alone."""
    graphdef, arguments = arguments_of(build(kind, options))

    def value(params: Any, *given: Any) -> Any:
        ids = SEGMENTS if segments else None
        results = rows_one_by_one(kind, nnx.merge(graphdef, params), *given, segments=ids)
        return loss_of(results), results

    return Flat(oracle.flat(jax.jit(jax.value_and_grad(value, (0, 1, 2, 3), has_aux=True))(*arguments)))


def arguments_of(layer: Any) -> tuple[Any, tuple[Any, ...]]:
    graphdef, params = nnx.split(layer)
    return graphdef, (params, *draw(layer))


def run_layer(graphdef: Any, params: Any, inputs: Any, state: Any, reset_state: Any, **given: Any) -> Any:
    options = {"lengths": jnp.asarray(LENGTHS), "resets": jnp.asarray(RESETS)} | given
    results = nnx.merge(graphdef, params)(inputs, state, reset_state=reset_state, **options)
    return loss_of(results), results


def close(found: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    oracle.assert_close(oracle.flat(found), wanted if isinstance(wanted, Flat) else oracle.flat(wanted), tolerance)


@each_case_by_both(EVERY_FORM)
def test_in_one_program(kind: str, options: str, backend: str) -> None:
    """jit, grad, vmap over weights, remat, and a derivative of the gradient."""
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    run = functools.partial(run_layer, graphdef)
    places = (0, 1, 2, 3)
    gradient = jax.value_and_grad(run, places, has_aux=True)
    half = jax.tree.map(lambda leaf: leaf / 2, arguments[0])

    @jax.jit
    def everything(*arguments: Any) -> dict[str, Any]:
        others = arguments[1:]
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), arguments[0], half)
        mapped = jax.vmap(gradient, (0, None, None, None))(both, *others)
        return {
            "plain": gradient(*arguments),
            "remat": jax.value_and_grad(jax.checkpoint(run), places, has_aux=True)(*arguments),
            "first": jax.tree.map(lambda leaf: leaf[0], mapped),
            "second": jax.tree.map(lambda leaf: leaf[1], mapped),
            "half": gradient(half, *others),
        }

    found = everything(*arguments)
    for name in ("plain", "remat", "first"):
        close(found[name], expected(kind, options))
    close(found["second"], found["half"])


@pytest.mark.parametrize(
    "kind", ["lstm", pytest.param("gru", marks=pytest.mark.slow), pytest.param("rnn", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("options", [{}, {"remat_steps": 2}])
@pytest.mark.parametrize("segments", [False, True])
def test_both_directions_side_by_side(
    kind: str, options: dict[str, Any], segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As few rows are run where they are worth it; NaN at padding, and several models of one program, too."""
    graphdef, (params, inputs, *others) = arguments_of(build(kind, "stacked", **options))
    given = {"segment_ids": jnp.asarray(SEGMENTS)} if segments else {}
    is_padding = jnp.arange(5)[None, :, None] >= jnp.asarray(LENGTHS)[:, None, None]
    arguments = (params, jnp.where(is_padding, jnp.nan, inputs), *others)
    gradient = jax.value_and_grad(functools.partial(run_layer, graphdef, **given), (0, 1, 2, 3), has_aux=True)

    @jax.jit
    def everything(params: Any, *others: Any) -> Any:
        two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf / 2]), params)
        return gradient(params, *others), jax.vmap(gradient, (0, None, None, None))(two, *others)

    @jax.jit
    def states(params: Any, inputs: Any, state: Any, reset_state: Any) -> Any:
        layer, options = nnx.merge(graphdef, params), {"lengths": LENGTHS, "reset_state": reset_state} | given
        return [run(inputs, state, **options) for run in (layer.final_state, layer.all_states)]

    alone = everything(*arguments), states(*arguments)
    close(alone[0][0], expected(kind, "stacked", segments))
    sides = []
    for limit in ("_WORK_OF_TWO_THREADS", "_ROW_STEPS_WORTH_A_COPY"):
        monkeypatch.setattr(side_by_side, limit, 0)
    real = side_by_side.run_both
    monkeypatch.setattr(side_by_side, "run_both", lambda *given: sides.append(given) or real(*given))
    everything.clear_cache()
    states.clear_cache()
    close((everything(*arguments), states(*arguments)), alone, 1e-6)
    assert len(sides) == 8, "two layers, alone and among models, and of two ways to ask for states"


@each_case_by_both(EVERY_FORM, everyday=[("gru", "plain")])
def test_segments_with_resets_and_carries(kind: str, options: str, backend: str) -> None:
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    run = functools.partial(run_layer, graphdef, segment_ids=jnp.asarray(SEGMENTS))
    found = jax.jit(jax.value_and_grad(run, (0, 1, 2, 3), has_aux=True))(*arguments)
    close(found, expected(kind, options, segments=True))


def orders(run: Any, arguments: Any) -> Any:
    """Reverse over reverse and forward over reverse, by the arguments and by the cotangent alone."""
    along = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), arguments)

    def gradient(*arguments: Any) -> Any:
        return jax.grad(lambda *given: loss_of(run(*given)), (0, 1, 2, 3))(*arguments)

    results, pull = jax.vjp(run, *arguments)
    return {
        "forward over reverse": jax.jvp(gradient, arguments, along)[1],
        "reverse over reverse": jax.vjp(gradient, *arguments)[1](along),
        "of the cotangent": jax.vjp(pull, jax.tree.map(jnp.ones_like, results))[1](along),
    }


@functools.cache
def expected_orders(kind: str, options: str) -> Flat:
    graphdef, arguments = arguments_of(build(kind, options))

    def plain(params: Any, *given: Any) -> Any:
        return rows_one_by_one(kind, nnx.merge(graphdef, params), *given)

    return Flat(oracle.flat(jax.jit(lambda: orders(plain, arguments))()))


@each_case_by_both([*PLAIN, ("lstm", "in chunks")], everyday=[])
def test_derivatives_of_the_gradient(kind: str, options: str, backend: str) -> None:
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    found = jax.jit(lambda: orders(lambda *given: run_layer(graphdef, *given)[1], arguments))()
    close(found, expected_orders(kind, options), 1e-4)


@each_case_by_both([*PLAIN, ("gru", "stacked")], everyday=[("lstm", "plain")], backends=("auto",))
def test_eager(kind: str, options: str, backend: str) -> None:
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    close(jax.value_and_grad(functools.partial(run_layer, graphdef), (0, 1, 2, 3), has_aux=True)(*arguments),
          expected(kind, options))  # fmt: skip
    with jax.disable_jit():
        value, results = run_layer(graphdef, *arguments)
    wanted = expected(kind, options)
    np.testing.assert_allclose(value, wanted["[0][0]"], rtol=1e-5)
    np.testing.assert_allclose(results[0], wanted["[0][1][0]"], rtol=1e-4, atol=1e-6)


@each_case(EVERY_FORM, everyday=[("lstm", "plain")])
def test_export_for_every_platform_and_batch(kind: str, options: str) -> None:
    """With a symbolic batch, for CPU, CUDA and TPU at once; written, read and called here."""
    graphdef, arguments = arguments_of(build(kind, options))
    (size,) = jax.export.symbolic_shape("b")
    _, inputs, *states = arguments

    def with_batch(leaf: Any, axis: int) -> jax.ShapeDtypeStruct:
        shape = list(leaf.shape)
        shape[axis] = size
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    # Arrays in, arrays out: a written program knows no class that its reader may not have.
    leaves, structure = jax.tree.flatten(arguments)
    rows = (inputs, *jax.tree.leaves(tuple(states)))
    shapes = [*leaves[: -len(rows)], with_batch(inputs, 0), *(with_batch(leaf, 1) for leaf in rows[1:])]
    masks = with_batch(jnp.asarray(LENGTHS), 0), with_batch(RESETS, 0)

    def run(lengths: Any, resets: Any, *leaves: Any) -> Any:
        def value(*arguments: Any) -> Any:
            return run_layer(graphdef, *arguments, lengths=lengths, resets=resets)

        found = jax.value_and_grad(value, (0, 1, 2, 3), has_aux=True)(*jax.tree.unflatten(structure, leaves))
        return jax.tree.leaves(found)

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(*masks, *shapes)
    assert "jaxrnn_" not in exported.mlir_module()
    found = jax.export.deserialize(exported.serialize()).call(LENGTHS, RESETS, *leaves)
    wanted = expected(kind, options)
    close(dict(zip(wanted, found, strict=True)), Flat({f"[{name!r}]": value for name, value in wanted.items()}))


@pytest.mark.parametrize("platform", ["cuda", "tpu", "rocm"])
def test_a_program_for_another_platform_holds_no_call_of_a_cpu(platform: str) -> None:
    graphdef, arguments = arguments_of(build("lstm", "plain"))
    run = jax.jit(jax.value_and_grad(functools.partial(run_layer, graphdef), (0, 1), has_aux=True))
    assert "jaxrnn_" not in run.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.skipif(not cpu_kernels.is_built(), reason="the compiled recurrence is not built here")
def test_an_exported_program_holds_the_compiled_call_where_it_was_asked_for() -> None:
    graphdef, (params, *others) = arguments_of(build("lstm", "plain", backend="compiled"))
    leaves, structure = jax.tree.flatten(params)

    @jax.jit
    def run(leaves: Any, *others: Any) -> Any:
        return run_layer(graphdef, jax.tree.unflatten(structure, leaves), *others)[1]

    allowed = [jax.export.DisabledSafetyCheck.custom_call("jaxrnn_forward2")]
    exported = jax.export.export(run, platforms=("cpu",), disabled_checks=allowed)(leaves, *others)
    assert "jaxrnn_forward2" in exported.mlir_module()
    outputs, final = jax.export.deserialize(exported.serialize()).call(leaves, *others)
    wanted = expected("lstm", "plain")
    np.testing.assert_allclose(outputs, wanted["[0][1][0]"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(final.c, wanted["[0][1][1].c"], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="jaxrnn_forward2"):  # JAX does not export what it does not know, unless told
        jax.export.export(run, platforms=("cpu",))(leaves, *others)


@pytest.mark.slow
def test_an_exported_program_runs_where_the_package_was_never_imported(tmp_path: Path) -> None:
    graphdef, (params, inputs, state, reset_state) = arguments_of(build("gru", "plain"))
    leaves, structure = jax.tree.flatten(params)

    def run(inputs: Any, state: Any, reset_state: Any, *leaves: Any) -> Any:
        return run_layer(graphdef, jax.tree.unflatten(structure, leaves), inputs, state, reset_state)[1]

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(inputs, state, reset_state, *leaves)
    (tmp_path / "layer.bin").write_bytes(exported.serialize())
    np.savez(tmp_path / "arrays.npz", inputs, state, reset_state, *leaves)
    program = f"""
import pathlib, sys
import jax, numpy as np
from jax import export
folder = pathlib.Path({str(tmp_path)!r})
with np.load(folder / "arrays.npz") as file:
    arrays = [file[name] for name in file.files]
results = export.deserialize((folder / "layer.bin").read_bytes()).call(*arrays)
np.savez(folder / "results.npz", *results)
assert not [name for name in sys.modules if name.startswith("jaxrnn")]
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "results.npz") as file:
        results = [file[name] for name in file.files]
    wanted = expected("gru", "plain")
    np.testing.assert_allclose(results[0], wanted["[0][1][0]"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[1], wanted["[0][1][1]"], rtol=1e-4, atol=1e-6)


@each_backend
def test_scan_over_layers(backend: str) -> None:
    """nnx.scan over a stack of layers is the layers one after another."""
    size = plain_rows.HIDDEN

    @nnx.vmap(in_axes=0, out_axes=0)
    def stack_of(key: Any) -> jaxrnn.GRU:
        return jaxrnn.GRU(size, size, backend=backend, rngs=nnx.Rngs(key))

    stacked = stack_of(jax.random.split(jax.random.key(0), 3))
    inputs = jnp.sin(jnp.arange(BATCH * 5 * size, dtype=jnp.float32)).reshape(BATCH, 5, size)
    lengths = jnp.asarray(LENGTHS)

    def whole(stacked: Any, inputs: Any) -> Any:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(features: Any, layer: Any) -> Any:
            return layer(features, lengths=lengths)[0]

        return loss_of(run(inputs, stacked))

    def one_by_one(stacked: Any, inputs: Any) -> Any:
        graphdef, params = nnx.split(stacked)
        for number in range(3):
            layer = nnx.merge(graphdef, jax.tree.map(lambda leaf, n=number: leaf[n], params))
            inputs = layer(inputs, lengths=lengths)[0]
        return loss_of(inputs)

    found, wanted = (nnx.jit(nnx.grad(run, argnums=(0, 1)))(stacked, inputs) for run in (whole, one_by_one))
    close(found, wanted)


def test_an_equation_may_read_what_is_traced_around_it() -> None:
    inputs = jnp.sin(jnp.arange(24.0)).reshape(2, 4, 3)

    def loss(scale: Any, backend: str) -> Any:
        def step(h: Any, input_gates: Any, hidden_gates: Any) -> Any:
            return jnp.tanh(scale * (input_gates + hidden_gates))

        equation = jaxrnn.Equation(1, step, lambda hidden, output: output)
        custom = backend == "custom"
        layer = jaxrnn.RecurrentLayer(equation, 3, 4, custom_gradient=custom, rngs=nnx.Rngs(0))
        return loss_of(layer(inputs, resets=jnp.asarray(RESETS[:2, :4])))

    found, wanted = (jax.jit(jax.grad(loss), static_argnums=1)(jnp.float32(0.7), way) for way in ("custom", "plain"))
    assert abs(wanted) > 1e-3
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_reset_of_a_segment_is_not_forgotten_for_one_in_the_padding_behind_it() -> None:
    layer = jaxrnn.RNN(1, 1, rngs=nnx.Rngs(0))
    options = {"mask": np.array([[False, True, True]]), "segment_ids": np.array([[1, 0, 1]])}

    def last(*resets: bool) -> float:
        start = jnp.full((1, 1, 1), 9.0)
        return float(layer(jnp.ones((1, 3, 1)), start, resets=np.array([resets]), **options)[0][0, 2, 0])

    assert last(True, False, False) == last(True, True, False)
    assert last(False, True, False) == last(False, False, False) != last(True, False, False)


def test_no_rows_in_chunks() -> None:
    layer = jaxrnn.GRU(3, 4, remat_steps=2, rngs=nnx.Rngs(0))
    value, gradient = jax.value_and_grad(lambda inputs: layer(inputs)[0].sum())(jnp.ones((0, 5, 3)))
    assert (value, gradient.shape) == (0, (0, 5, 3))


def test_forward_mode_names_what_it_needs() -> None:
    graphdef, arguments = arguments_of(build("lstm", "plain"))
    run = lambda inputs: run_layer(graphdef, arguments[0], inputs, *arguments[2:])[0]  # noqa: E731
    with pytest.raises(TypeError, match="custom_gradient=False"):
        jax.jacfwd(run)(arguments[1])
    with pytest.raises(TypeError, match="custom_gradient=False"):
        jax.jvp(run, (arguments[1],), (arguments[1],))
    plain = build("lstm", "plain", custom_gradient=False)
    graphdef = nnx.graphdef(plain)
    wanted = expected("lstm", "plain")
    np.testing.assert_allclose(jax.jit(jax.jacfwd(run))(arguments[1]), wanted["[1][1]"], rtol=1e-3, atol=1e-5)


@each_case_by_both([("lstm", "plain"), ("gru", "in chunks"), ("rnn", "stacked"), ("own", "projected")])
def test_what_stands_at_padding_does_not_count(kind: str, options: str, backend: str) -> None:
    """In value, gradient, the gradient's own derivative, and forward mode: NaN there, or zeros."""
    graphdef, arguments = arguments_of(build(kind, options, backend=backend))
    plain = nnx.graphdef(build(kind, options, custom_gradient=False))
    is_padding = jnp.arange(5)[None, :, None] >= jnp.asarray(LENGTHS)[:, None, None]

    @jax.jit
    def everything(params: Any, inputs: Any, *others: Any) -> Any:
        def of_gradient(graphdef: Any, params: Any) -> Any:
            gradient, _ = jax.grad(functools.partial(run_layer, graphdef), (0, 1), has_aux=True)(
                params, inputs, *others
            )
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))

        tangent = jnp.where(is_padding, jnp.nan, jnp.ones_like(inputs))
        return {
            "first": jax.value_and_grad(functools.partial(run_layer, graphdef), (0, 1, 2, 3), has_aux=True)(
                params, inputs, *others
            ),
            "second": jax.grad(functools.partial(of_gradient, graphdef))(params),
            "plain second": jax.grad(functools.partial(of_gradient, plain))(params),
            "forward": jax.jvp(lambda inputs: run_layer(plain, params, inputs, *others), (inputs,), (tangent,)),
        }

    params, inputs, *others = arguments
    clean, spoilt = (everything(params, jnp.where(is_padding, what, inputs), *others) for what in (0.0, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, spoilt, clean)
    close(clean["second"], clean["plain second"], 1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spoilt))


def test_nan_at_padding_is_never_made_into_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under jax_debug_nans, which looks at every result of every eager operation."""
    graphdef, arguments = arguments_of(build("gru", "plain"))
    spoilt = jnp.where(jnp.arange(5)[None, :, None] < LENGTHS[:, None, None], arguments[1], jnp.nan)
    with jax.debug_nans(True):
        value = run_layer(graphdef, arguments[0], spoilt, *arguments[2:])[0]
    infinite = jnp.where(jnp.isnan(spoilt), jnp.inf, spoilt)
    with jax.debug_infs(True):
        assert run_layer(graphdef, arguments[0], infinite, *arguments[2:])[0] == value
    np.testing.assert_allclose(value, expected("gru", "plain")["[0][0]"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("marks", [pytest.param("not slow", id="some"), pytest.param("slow", id="others")])
def test_on_two_devices(marks: str, pytestconfig: pytest.Config) -> None:
    """on_two_devices.py, in a process that has them."""
    real_flags = "--real-flags" if pytestconfig.getoption("--real-flags") else ""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-m", marks, str(here / "on_two_devices.py")],
        cwd=here.parents[1],
        env=os.environ | flags_of_child(2) | {"JAX_PLATFORMS": "cpu", "PYTEST_ADDOPTS": real_flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
