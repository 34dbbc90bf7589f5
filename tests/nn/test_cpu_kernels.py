"""The compiled recurrence against the loop: outputs, states, every gradient, and what it must leave to the loop."""

import functools
import io
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn import cells
from jaxrnn.nn.engine import cpu_kernels, kernel_library, loops, recurrence
from jaxrnn.nn.engine.loops import Weights

EQUATIONS = {"tanh": cells.RNN_TANH, "relu": cells.RNN_RELU, "lstm": cells.LSTM, "gru": cells.GRU}
# (time, batch, input, hidden): below, at and beyond a vector's lanes, a tile's rows and a chunk of gradients; one that
# is dealt out to threads; one that reads the weights as they are.
SIZES = [(5, 3, 1, 8), (7, 13, 3, 5), (4, 70, 17, 33), (1, 1, 9, 2)]

needs_kernels = pytest.mark.skipif(
    jax.default_backend() != "cpu" or not cpu_kernels.is_built(), reason="the compiled recurrence is not built here"
)
TWO_LIBRARIES = cpu_kernels.is_built() and len(kernel_library.find_libraries()) == 2


def test_it_is_built_where_there_is_a_compiler():
    if not os.environ.get("CI") or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("only of installations that are made for the tests, with a compiler")
    assert cpu_kernels.is_built()


def draw(seed, *shapes, scale=1.0):
    generator = np.random.default_rng(seed)
    return [jnp.asarray(generator.uniform(-scale, scale, shape), jnp.float32) for shape in shapes]


def draw_case(kind, size, *, bias=True, masked=False, reset=False, seed=0):
    """Returns ``(inputs, weights, state, masks)`` of one recurrence."""
    num_steps, batch, num_inputs, hidden = size
    gates = EQUATIONS[kind].num_gates * hidden
    inputs, h, c = draw(seed, (num_steps, batch, num_inputs), (batch, hidden), (batch, hidden))
    shapes = [(gates, num_inputs), (gates, hidden), (gates,), (gates,)]
    weights = Weights(*draw(seed + 1, *shapes[: 4 if bias else 2], scale=hidden**-0.5))
    generator = np.random.default_rng(seed + 2)
    valid, resets = (jnp.asarray(generator.random((num_steps, batch)) < share) for share in (0.7, 0.3))
    state = cells.LSTMState(h, c) if kind == "lstm" else h
    codes = jnp.asarray(generator.integers(1, 4, (num_steps, batch)) * resets, jnp.uint8)
    return inputs, weights, state, {"valid": valid if masked else None, "reset": codes if reset else None}


def run(kind, inputs, weights, state, *, compiled, **options):
    equation = EQUATIONS[kind]
    return recurrence.recur(
        equation.pointwise,
        inputs,
        weights,
        state,
        num_summed=equation.summed_gates * weights.weight_hh.shape[1],
        kernel=equation.kernel if compiled else None,
        # Of the three numbers of a reset, the first two have a target: twice the first state, and the first state.
        targets=(jax.tree.map(lambda leaf: 2 * leaf, state), state) if options.get("reset") is not None else (),
        **options,
    )


@functools.partial(jax.jit, static_argnames=("kind", "compiled", "reverse", "chunk"))
def outcome(kind, case, *, compiled, **options):
    """Outputs, last state and all gradients, of a sum in which no two values weigh the same."""
    inputs, weights, state, masks = case

    def run_one(inputs, weights, state):
        return run(kind, inputs, weights, state, compiled=compiled, **masks, **options)

    results, pull = jax.vjp(run_one, inputs, weights, state)
    cotangents = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), results
    )
    return results, pull(cotangents)


def assert_close(found, wanted, tolerance=1e-5):
    named, structure = jax.tree_util.tree_flatten_with_path(wanted)
    assert jax.tree.structure(found) == structure
    for (path, value), other in zip(named, jax.tree.leaves(found), strict=True):
        scale = max(float(np.abs(value).max(initial=0)), 1e-3)
        np.testing.assert_allclose(
            other, value, rtol=tolerance, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
        )


@needs_kernels
def test_rows_of_more_steps_than_a_byte_counts():
    inputs, weights, state, _ = draw_case("tanh", (520, 8, 1, 2))
    lengths = jnp.asarray([0, 1, 254, 255, 256, 511, 512, 520])
    valid = jnp.arange(520)[:, None] < lengths
    for masks in (valid, valid.at[300, 6].set(False), valid.at[519, 3].set(True)):  # its first steps, and not
        case = (inputs, weights, state, {"valid": masks, "reset": None})
        assert_close(outcome("tanh", case, compiled=True), outcome("tanh", case, compiled=False))


@needs_kernels
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", EQUATIONS)
def test_it_computes_what_the_loop_computes(kind, size):
    number = SIZES.index(size)
    options = {"reverse": number % 2 == 0}
    for masked, reset in ((False, False), (True, False), (False, True), (True, True)):
        inputs, weights, state, masks = draw_case(kind, size, bias=number != 1, masked=True, reset=True, seed=number)
        masks = {"valid": masks["valid"] | (not masked), "reset": masks["reset"] * jnp.uint8(reset)}
        case = (inputs, weights, state, masks)
        wanted = outcome(kind, case, compiled=False, **options)
        assert_close(outcome(kind, case, compiled=True, **options), wanted)
        if not (masked or reset):  # no masks at all is the same as masks that leave nothing out
            case = (inputs, weights, state, {"valid": None, "reset": None})
            assert_close(outcome(kind, case, compiled=True, **options), wanted)


@needs_kernels
@pytest.mark.parametrize("kind", ["tanh", "lstm", "gru"])
def test_threads_share_the_rows(kind):
    num_steps, batch = 30, 66
    inputs, weights, state, masks = draw_case(kind, (num_steps, batch, 20, 64), masked=True, reset=True)
    lengths = {
        "that grow evenly": 1 + jnp.arange(batch) * num_steps // batch,
        "some long, most short": jnp.where(jnp.arange(batch) % 4 == 3, num_steps, 1),
    }
    ends = {name: jnp.arange(num_steps)[:, None] < each for name, each in lengths.items()}
    for valid, reset in (
        (masks["valid"], masks["reset"]),
        *((valid, jnp.zeros_like(masks["reset"])) for valid in ends.values()),  # the rows of a step are the first few
    ):
        case = (inputs, weights, state, {"valid": valid, "reset": reset})
        first, second = (outcome(kind, case, compiled=True) for _ in range(2))
        assert_close(first, outcome(kind, case, compiled=False))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
            np.testing.assert_array_equal(a, b)
    for valid in (None, *ends.values()):
        case = (inputs, weights, state, {"valid": valid, "reset": None})
        assert_close(outcome(kind, case, compiled=True), outcome(kind, case, compiled=False))


@needs_kernels
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_threads_share_the_sums_of_large_weights(kind):
    case = draw_case(kind, (3, 10, 8, 132))
    assert_close(outcome(kind, case, compiled=True), outcome(kind, case, compiled=False))


@needs_kernels
@pytest.mark.parametrize("kind", EQUATIONS)
def test_a_last_state_alone_is_that_of_all_outputs(kind):
    """Of 64 units some are computed while the others still wait for the state before."""
    inputs, weights, state, masks = draw_case(kind, (6, 14, 3, 64), masked=True, reset=True)
    found = {
        (collect, compiled): jax.jit(functools.partial(run, kind, compiled=compiled, collect=collect, **masks))(
            inputs, weights, state
        )[1]
        for collect, compiled in ((loops.nothing_of, True), (loops.hidden_of, True), (loops.hidden_of, False))
    }
    alone, beside, wanted = found.values()
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(beside), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_close(alone, wanted)


@needs_kernels
@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_models_can_be_mapped(kind):
    cases = [draw_case(kind, (5, 4, 2, 12), masked=True, seed=seed) for seed in (0, 10, 20)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cases)
    mapped = jax.vmap(lambda case: outcome(kind, case, compiled=True))(stacked)
    wanted = [outcome(kind, case, compiled=False) for case in cases]
    assert_close(mapped, jax.tree.map(lambda *leaves: np.stack(leaves), *wanted))
    inputs, weights, state, masks = cases[0]  # inputs alone are mapped, over two axes
    many = np.stack([inputs, 2 * inputs])[None]
    mapped = jax.vmap(jax.vmap(lambda x: run(kind, x, weights, state, compiled=True, **masks)[0]))(many)
    assert_close(mapped[0, 1], run(kind, 2 * inputs, weights, state, compiled=False, **masks)[0])


@needs_kernels
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_chunks_are_computed_again(kind):
    case = draw_case(kind, (11, 4, 2, 12), masked=True)
    assert_close(outcome(kind, case, compiled=True, chunk=4), outcome(kind, case, compiled=False))
    reset = draw_case(kind, (11, 4, 2, 12), reset=True)
    assert_close(outcome(kind, reset, compiled=True, chunk=4), outcome(kind, reset, compiled=False))


@needs_kernels
@pytest.mark.parametrize("kind", [pytest.param("tanh", marks=pytest.mark.slow), "lstm"])
def test_derivatives_of_higher_order_are_those_of_the_loop(kind):
    inputs, weights, state, masks = draw_case(kind, (3, 2, 2, 4), masked=True)

    def loss(weight_hh, inputs, *, compiled):
        outputs, last = run(kind, inputs, weights._replace(weight_hh=weight_hh), state, compiled=compiled, **masks)
        return jnp.sum(outputs**3) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(last))

    @functools.partial(jax.jit, static_argnames="compiled")
    def second(weight_hh, inputs, *, compiled):
        gradient = jax.grad(functools.partial(loss, compiled=compiled), argnums=(0, 1))
        along = jax.tree.map(jnp.ones_like, (weight_hh, inputs))
        forward = jax.jvp(gradient, (weight_hh, inputs), along)[1]
        reverse = jax.vjp(gradient, weight_hh, inputs)[1](along)
        return forward, reverse

    found, wanted = (second(weights.weight_hh, inputs, compiled=compiled) for compiled in (True, False))
    assert_close(found, wanted)


@needs_kernels
def test_what_is_not_a_number_stays_so():
    for kind in EQUATIONS:
        inputs, weights, state, _ = draw_case(kind, (3, 4, 2, 9))
        spoilt = weights._replace(weight_ih=weights.weight_ih.at[0, 0].set(jnp.nan))
        outputs, _ = run(kind, inputs, spoilt, state, compiled=True)
        assert np.isnan(np.asarray(outputs)[:, :, 0]).all(), kind
        large, _ = run(kind, inputs * 1e30, weights, state, compiled=True)
        assert np.isfinite(large).all() or kind == "relu"


@needs_kernels
def test_gates_at_every_size_are_exact():
    """The sigmoid and the tangent over their whole range, against float64."""
    x = jnp.concatenate([jnp.linspace(-100, 100, 20001), jnp.geomspace(1e-30, 1, 200), -jnp.geomspace(1e-30, 1, 200)])
    inputs, nothing = x[None, :, None], jnp.zeros((x.size, 1))
    weights = Weights(jnp.ones((1, 1)), jnp.zeros((1, 1)))
    tangent, _ = run("tanh", inputs, weights, nothing, compiled=True)
    np.testing.assert_allclose(tangent[0, :, 0], np.tanh(np.asarray(x, np.float64)), rtol=5e-7, atol=1e-37)
    # h' = o * tanh(c') with i = 1, g = 1: the output gate is the only one that varies.
    weights = Weights(jnp.array([[0.0], [0.0], [0.0], [1.0]]), jnp.zeros((4, 1)), *[jnp.array([50.0, 0, 50, 0])] * 2)
    start = cells.LSTMState(nothing, nothing)
    gate, _ = run("lstm", inputs, weights, start, compiled=True)
    wanted = np.tanh(1.0) / (1 + np.exp(-np.clip(np.asarray(x, np.float64), -87, None)))
    np.testing.assert_allclose(gate[0, :, 0], wanted, rtol=1e-6)


def calls_of(layer, inputs, **options):
    """Returns the program of a layer's gradient by its parameters."""
    graphdef, params = nnx.split(layer)
    total = lambda params: nnx.merge(graphdef, params)(inputs, **options)[0].sum()  # noqa: E731
    return jax.jit(jax.grad(total)).lower(params).as_text()


@needs_kernels
def test_it_is_used_where_it_can_be_and_nowhere_else():
    inputs = jnp.ones((2, 3, 4))
    layer = jaxrnn.LSTM(4, 8, rngs=nnx.Rngs(0))
    program = calls_of(layer, inputs)
    assert program.count("@jaxrnn_forward2") == program.count("@jaxrnn_backward2") == 1
    for attribute, value in (("backend", "scan"), ("compute_dtype", jnp.bfloat16), ("custom_gradient", False)):
        other = jaxrnn.LSTM(4, 8, rngs=nnx.Rngs(0))
        setattr(other, attribute, value)
        assert "@jaxrnn_" not in calls_of(other, inputs), attribute
    assert "@jaxrnn_" not in calls_of(jaxrnn.LSTM(4, 8, proj_size=3, rngs=nnx.Rngs(0)), inputs)


@needs_kernels
def test_the_inputs_gradient_is_computed_only_if_it_is_read():
    inputs, weights, state, _ = draw_case("lstm", (3, 2, 5, 4))

    def loss(inputs, weights):
        return run("lstm", inputs, weights, state, compiled=True)[0].sum()

    size = "tensor<2x3x5xf32>"
    results = [
        next(line for line in jax.jit(jax.grad(loss, argnums=argnums)).lower(inputs, weights).as_text().splitlines()
             if "@jaxrnn_backward2" in line).split("->")[-1]
        for argnums in (0, 1)
    ]  # fmt: skip
    assert size in results[0]
    assert size not in results[1]


@needs_kernels
def test_nothing_is_turned_on_the_way_to_the_calls():
    """Layers have rows first, the loop has time first, the calls have rows first again: XLA leaves both turns out."""
    graphdef, params = nnx.split(jaxrnn.LSTM(5, 9, num_layers=2, bidirectional=True, rngs=nnx.Rngs(0)))
    inputs, lengths = jnp.ones((6, 7, 5)), jnp.arange(1, 7)

    def loss(params, inputs):
        outputs = nnx.merge(graphdef, params)(inputs, lengths=lengths)[0]
        return jnp.sin(outputs).sum(), outputs

    program = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True)).lower(params, inputs).compile().as_text()
    assert program.count('custom_call_target="jaxrnn_') == 8
    moved = [line for line in program.splitlines() if re.search(r"f32\[[67],[67],\d+\]\S* (transpose|copy)\(", line)]
    assert not moved


def test_without_the_library_the_loop_serves(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "is_built", lambda: False)
    layer = jaxrnn.GRU(4, 9, rngs=nnx.Rngs(0))  # a size of its own: forms are traced once
    assert "@jaxrnn_" not in calls_of(layer, jnp.ones((2, 3, 4)))


def test_a_library_that_does_not_load_is_as_none(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_library, "LIBRARIES", tmp_path)
    for content in (None, b"not a library"):
        if content is not None:
            (tmp_path / "librecurrence-1.so").write_bytes(content)
        assert cpu_kernels._loaded.__wrapped__() is None


class TestWhichLibrary:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch, tmp_path):
        monkeypatch.setattr(kernel_library, "LIBRARIES", tmp_path)
        monkeypatch.delenv(kernel_library.CHOICE, raising=False)

    def test_the_newest_that_xla_can_call(self, tmp_path):
        (tmp_path / "librecurrence-999.so").touch()  # for another Python that shares the checkout
        (tmp_path / "librecurrence-1-sse9.so").touch()
        assert not kernel_library.find_libraries()
        for version in (0, 1):
            (tmp_path / f"librecurrence-{version}.so").touch()
        assert [found.name for found in kernel_library.find_libraries()] == ["librecurrence-1.so"]

    @pytest.mark.parametrize(
        ("flags", "choice", "wanted"),
        [
            ("fma avx2 avx512f avx512bw avx512dq avx512vl", "", ["1-avx512", "0"]),
            ("fma avx2 avx512f avx512bw avx512dq avx512vl", "avx2", ["0"]),
            ("fma avx2 avx512f avx512bw avx512dq avx512vl", "avx512", ["1-avx512"]),
            ("fma avx2 avx512f", "", ["0"]),
            ("fma avx2 avx512f", "avx512", ["0"]),
            ("avx2", "", []),
            ("sse2", "", []),
        ],
    )
    def test_what_the_processor_has_decides(self, tmp_path, monkeypatch, flags, choice, wanted):
        monkeypatch.setattr(kernel_library.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(kernel_library, "open", lambda *_, **__: io.StringIO(f"flags : {flags}\n"), raising=False)
        monkeypatch.setenv(kernel_library.CHOICE, choice)
        for built in ("librecurrence-0.so", "librecurrence-1-avx512.so"):
            (tmp_path / built).touch()
        found = kernel_library.find_libraries()
        assert [library.name for library in found] == [f"librecurrence-{name}.so" for name in wanted]


@pytest.mark.skipif(not TWO_LIBRARIES, reason="one library serves all calls here")
class TestShorterVectors:
    """Calls of few units, which a library of shorter vectors takes."""

    def test_units_decide_which_library_takes_a_call(self):
        lanes, narrow = cpu_kernels._loaded()[1:]
        for hidden in (1, narrow, narrow + 1, lanes + 1):
            shape = cpu_kernels.padded_size(hidden)
            assert shape == (narrow if hidden <= narrow else lanes * -(-hidden // lanes))
            case = draw_case("lstm", (3, 5, 2, hidden), masked=True, reset=True)
            assert_close(outcome("lstm", case, compiled=True), outcome("lstm", case, compiled=False))

    @pytest.mark.parametrize("other", [None, b"not a library"])
    def test_without_it_the_best_one_serves_all(self, tmp_path, monkeypatch, other):
        best, narrow = kernel_library.find_libraries()
        shutil.copy(best, tmp_path / best.name)
        if other:
            (tmp_path / narrow.name).write_bytes(other)
        monkeypatch.setattr(kernel_library, "LIBRARIES", tmp_path)
        loaded = kernel_library.load_libraries()
        assert (loaded.lanes, loaded.narrow, loaded.lanes_for(3)) == (16, 0, 16)

    def test_one_of_the_same_vectors_takes_no_calls(self, tmp_path, monkeypatch):
        # As after an installation with CXX="g++ -march=native": both libraries are of the processor's longest vectors.
        best, narrow = kernel_library.find_libraries()
        for name in (best.name, narrow.name):
            shutil.copy(best, tmp_path / name)
        monkeypatch.setattr(kernel_library, "LIBRARIES", tmp_path)
        loaded = kernel_library.load_libraries()
        assert (loaded.lanes, loaded.narrow) == (16, 0)


def test_the_package_installs_without_a_compiler(monkeypatch, tmp_path, capsys):
    pytest.importorskip("hatchling")
    monkeypatch.syspath_prepend(str(kernel_library.LIBRARIES.parents[2]))
    hatch_build = pytest.importorskip("hatch_build")
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")
    version = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header)[0]
    libraries = [tmp_path / hatch_build.LIBRARY.format(version=version, variant=name) for name in hatch_build.VARIANTS]
    libraries.append(tmp_path / hatch_build.READER_LIBRARY)
    for library in libraries:
        library.parent.mkdir(parents=True, exist_ok=True)
    for compiler, reason in (("false", "false"), ("no-such-compiler", "no C++ compiler")):
        for library in libraries:
            library.write_bytes(b"of an older source")
        monkeypatch.setenv("CXX", compiler)
        assert hatch_build._compile(tmp_path) == []
        assert not any(library.exists() for library in libraries)
        assert reason in capsys.readouterr().err
