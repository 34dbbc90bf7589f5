"""Flax's recurrent cells and layers: their weights in this package's layers, this package's cells in theirs."""

import functools
from typing import Any

import flax
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn

LENGTHS = np.array([5, 2, 4], np.int32)
VALID = np.arange(5)[None] < LENGTHS[:, None]
LAYERS = {"LSTMCell": jaxrnn.LSTM, "OptimizedLSTMCell": jaxrnn.LSTM, "GRUCell": jaxrnn.GRU, "SimpleCell": jaxrnn.RNN}
CELLS = {jaxrnn.LSTM: jaxrnn.LSTMCell, jaxrnn.GRU: jaxrnn.GRUCell, jaxrnn.RNN: jaxrnn.RNNCell}


# Drawn below instead: a QR decomposition takes longer to compile than all else here.
NO_DRAW = {"kernel_init": nnx.initializers.zeros, "recurrent_kernel_init": nnx.initializers.zeros}


def drawn(tree: Any, seed: int = 0) -> Any:
    """Draws every array anew, biases too: what is wrong can hide behind biases of 0."""
    leaves, structure = jax.tree.flatten(tree)
    noise = [jnp.asarray(0.5 * oracle.draw(seed + n, *leaf.shape), leaf.dtype) for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, noise)


def nnx_cell(kind: type, input_size: int = 3, *, dtype: Any = jnp.float32, seed: int = 0, **options: Any) -> Any:
    """A cell of 4 hidden units that computes in `dtype`, its parameters drawn."""
    cell = kind(input_size, 4, param_dtype=dtype, dtype=dtype, rngs=nnx.Rngs(0), **NO_DRAW | options)
    nnx.update(cell, drawn(nnx.state(cell, nnx.Param), seed))
    return cell


def linen_cell(name: str, dtype: Any = jnp.float32, **options: Any) -> linen.Module:
    return getattr(linen, name)(4, param_dtype=dtype, **NO_DRAW | options)


def bound(module: linen.Module, dtype: Any = jnp.float32) -> linen.Module:
    """A linen module that reads 3 features a step, bound to parameters that are drawn."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((3, 5, 3), dtype))
    return module.bind(drawn(shapes))


@functools.partial(jax.jit, static_argnums=0)
def run_here(graphdef: Any, parameters: Any, inputs: Any) -> Any:
    return nnx.merge(graphdef, parameters)(inputs, lengths=jnp.asarray(LENGTHS))


def run_there(rnn: Any, inputs: Any) -> Any:
    """Returns what an RNN of Flax gives: ``(outputs, carry)``, an LSTM's carry in this package's form."""
    lengths = jnp.asarray(LENGTHS)
    if isinstance(rnn, nnx.Module):
        carry, outputs = nnx.jit(lambda rnn, *args: rnn(args[0], seq_lengths=args[1], return_carry=True))(
            rnn, inputs, lengths
        )
    else:
        module, variables = rnn.unbind()
        carry, outputs = jax.jit(functools.partial(module.apply, return_carry=True))(
            variables, inputs, seq_lengths=lengths
        )
    return outputs, carry


def stacked(carry: Any, *, directions: int = 1) -> Any:
    """Puts Flax's carries, one a direction, into the form of a layer's final state."""
    carries = carry if directions == 2 else (carry,)
    if isinstance(carries[0], tuple):
        c, h = (jnp.stack(leaves) for leaves in zip(*carries, strict=True))
        return jaxrnn.LSTMState(h=h, c=c)
    return jnp.stack(carries)


def assert_same(layer: Any, rnn: Any, *, tolerance: float = 1e-12, directions: int = 1) -> None:
    """Compares the outputs at valid steps and the final states; past a row's end Flax's outputs are not 0."""
    inputs = jnp.asarray(oracle.draw(1, 3, 5, 3), layer.weight_ih_l0.get_value().dtype)
    outputs, state = run_here(*nnx.split(layer), inputs)
    expected, carry = run_there(rnn, inputs)
    found = oracle.flat({"outputs": outputs * VALID[:, :, None], "state": state})
    wanted = oracle.flat({"outputs": expected * VALID[:, :, None], "state": stacked(carry, directions=directions)})
    assert all(array.dtype == inputs.dtype for array in found.values())
    oracle.assert_close(found, wanted, tolerance)


class TestLoad:
    @pytest.mark.parametrize("name", LAYERS)
    @pytest.mark.parametrize("package", ["nnx", "linen"])
    def test_a_sequence(self, package, name, x64):
        dtype = jnp.float64
        if package == "nnx":
            rnn: Any = nnx.RNN(nnx_cell(getattr(nnx, name), dtype=dtype))
        else:
            rnn = bound(linen.RNN(linen_cell(name, dtype)), dtype)
        layer = LAYERS[name](3, 4, param_dtype=dtype, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnn)
        assert_same(layer, rnn)

        # Its cell, a mapping of its parameters, and a cell of this package: the same numbers everywhere.
        cell = CELLS[LAYERS[name]](3, 4, param_dtype=dtype, rngs=nnx.Rngs(2))
        jaxrnn.load_flax(cell, rnn.cell)
        sources = [rnn.cell, nnx.to_pure_dict(nnx.state(rnn))] if package == "nnx" else [rnn.variables, rnn.cell]
        if package == "linen":
            sources.append(flax.core.freeze(rnn.variables["params"]["cell"]))
        for source in sources:
            again = LAYERS[name](3, 4, param_dtype=dtype, rngs=nnx.Rngs(2))
            jaxrnn.load_flax(again, source)
            assert_parameters_equal(again, oracle.named_parameters(layer))
        assert_parameters_equal(cell, {n.removesuffix("_l0"): p for n, p in oracle.named_parameters(layer).items()})

    @pytest.mark.parametrize("name", ["OptimizedLSTMCell", "GRUCell"])
    def test_in_float32(self, name):
        rnn, layer = nnx.RNN(nnx_cell(getattr(nnx, name))), LAYERS[name](3, 4, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnn)
        assert_same(layer, rnn, tolerance=1e-6)

    @pytest.mark.parametrize("package", ["nnx", "linen"])
    def test_both_directions(self, package, x64):
        dtype = jnp.float64
        if package == "nnx":
            kind, layer_kind = nnx.OptimizedLSTMCell, jaxrnn.LSTM
            rnn: Any = nnx.Bidirectional(*(nnx.RNN(nnx_cell(kind, dtype=dtype, seed=seed)) for seed in (0, 9)))
        else:
            layer_kind = jaxrnn.GRU
            parts = [linen.RNN(linen_cell("GRUCell", dtype)) for _ in range(2)]
            rnn = bound(linen.Bidirectional(*parts), dtype)
        layer = layer_kind(3, 4, bidirectional=True, param_dtype=dtype, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnn)
        assert_same(layer, rnn, directions=2)
        if package == "linen":
            again = layer_kind(3, 4, bidirectional=True, param_dtype=dtype, rngs=nnx.Rngs(2))
            jaxrnn.load_flax(again, rnn.variables)
            assert_parameters_equal(again, oracle.named_parameters(layer))

    def test_several_layers(self, x64):
        dtype, options = jnp.float64, {"activation_fn": nnx.relu}
        rnns = [nnx.RNN(nnx_cell(nnx.SimpleCell, size, dtype=dtype, **options)) for size in (3, 4)]
        layer = jaxrnn.RNN(3, 4, num_layers=2, nonlinearity="relu", param_dtype=dtype, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnns)
        inputs = jnp.asarray(oracle.draw(1, 3, 5, 3))
        outputs, state = run_here(*nnx.split(layer), inputs)
        below, below_carry = run_there(rnns[0], inputs)
        above, above_carry = run_there(rnns[1], below)
        found = oracle.flat({"outputs": outputs, "state": state})
        wanted = {"outputs": above * VALID[:, :, None], "state": jnp.stack([below_carry, above_carry])}
        oracle.assert_close(found, oracle.flat(wanted), 1e-12)
        again = jaxrnn.RNN(3, 4, num_layers=2, nonlinearity="relu", param_dtype=dtype, rngs=nnx.Rngs(2))
        jaxrnn.load_flax(again, nnx.Sequential(*rnns))
        assert_parameters_equal(again, oracle.named_parameters(layer))

    def test_one_direction_that_reads_from_the_end(self, x64):
        rnn = nnx.RNN(nnx_cell(nnx.SimpleCell, dtype=jnp.float64), reverse=True, keep_order=True)
        layer = jaxrnn.RNN(3, 4, reverse=True, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnn)
        assert_same(layer, rnn)

    def test_a_residual_connection_joins_the_recurrent_weight(self, x64):
        rnn = nnx.RNN(nnx_cell(nnx.SimpleCell, dtype=jnp.float64, residual=True))
        layer = jaxrnn.RNN(3, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(layer, rnn)
        assert_same(layer, rnn)

    def test_gradients(self, x64):
        """The gradients of Flax's parameters, loaded as parameters are, are those of ours."""
        dtype = jnp.float64
        rnn, layer = (
            nnx.RNN(nnx_cell(nnx.OptimizedLSTMCell, dtype=dtype)),
            jaxrnn.LSTM(3, 4, param_dtype=dtype, rngs=nnx.Rngs(1)),
        )
        jaxrnn.load_flax(layer, rnn)
        inputs = jnp.asarray(oracle.draw(1, 3, 5, 3))
        weight = jnp.asarray(oracle.draw(2, 3, 5, 4) * VALID[:, :, None])
        lengths = jnp.asarray(LENGTHS)

        @nnx.jit
        def theirs(rnn: Any, inputs: Any) -> Any:
            wrt = nnx.DiffState(0, nnx.Param), 1
            return nnx.grad(lambda rnn, x: jnp.vdot(weight, rnn(x, seq_lengths=lengths)), argnums=wrt)(rnn, inputs)

        @nnx.jit
        def here(layer: Any, inputs: Any) -> Any:
            return nnx.grad(lambda layer, x: jnp.vdot(weight, layer(x, lengths=lengths)[0]), argnums=(0, 1))(
                layer, inputs
            )

        d_rnn, expected_d_inputs = theirs(rnn, inputs)
        d_layer, d_inputs = here(layer, inputs)
        moved = jaxrnn.LSTM(3, 4, param_dtype=dtype, rngs=nnx.Rngs(1))
        jaxrnn.load_flax(moved, d_rnn)
        wanted = {name: parameter.get_value() for name, parameter in oracle.named_parameters(moved).items()}
        wanted["bias_ih_l0"] = wanted["bias_hh_l0"]  # one bias there, two that are added here
        found = {name: d_layer[name].get_value() for name in wanted}
        oracle.assert_close(found | {"inputs": d_inputs}, wanted | {"inputs": expected_d_inputs}, 1e-12)


def assert_parameters_equal(module: Any, expected: dict[str, nnx.Param]) -> None:
    found = oracle.named_parameters(module)
    oracle.assert_identical(
        {name: parameter.get_value() for name, parameter in found.items()},
        {name: parameter.get_value() for name, parameter in expected.items()},
    )


def lstm_parameters(**changes: Any) -> dict[str, Any]:
    """What linen keeps of an LSTMCell; None leaves a linear map out."""
    parts = {f"i{gate}": {"kernel": np.zeros((3, 4))} for gate in "ifgo"}
    parts |= {f"h{gate}": {"kernel": np.zeros((4, 4)), "bias": np.zeros(4)} for gate in "ifgo"}
    return {name: part for name, part in (parts | changes).items() if part is not None}


def own_function(x: Any) -> Any:
    return jnp.tanh(x)


def rnn_of(kind: type, **options: Any) -> Any:
    return lambda: nnx.RNN(nnx_cell(kind), **options)


def both(**options: Any) -> Any:
    return lambda: nnx.Bidirectional(nnx.RNN(nnx_cell(nnx.GRUCell)), nnx.RNN(nnx_cell(nnx.GRUCell)), **options)


def mgu_parameters() -> Any:
    return linen.MGUCell(4, **NO_DRAW).init(jax.random.key(0), jnp.zeros((1, 4)), jnp.zeros((1, 3)))


OURS = {
    "lstm": lambda: jaxrnn.LSTM(3, 4, rngs=nnx.Rngs(0)),
    "gru": lambda: jaxrnn.GRU(3, 4, rngs=nnx.Rngs(0)),
    "rnn": lambda: jaxrnn.RNN(3, 4, rngs=nnx.Rngs(0)),
    "back": lambda: jaxrnn.RNN(3, 4, reverse=True, rngs=nnx.Rngs(0)),
    "relu": lambda: jaxrnn.RNN(3, 4, nonlinearity="relu", rngs=nnx.Rngs(0)),
    "cell": lambda: jaxrnn.GRUCell(3, 4, rngs=nnx.Rngs(0)),
    "both": lambda: jaxrnn.GRU(3, 4, bidirectional=True, rngs=nnx.Rngs(0)),
    "deep": lambda: jaxrnn.GRU(3, 4, num_layers=2, rngs=nnx.Rngs(0)),
    "no bias": lambda: jaxrnn.GRU(3, 4, bias=False, rngs=nnx.Rngs(0)),
    "projection": lambda: jaxrnn.LSTM(3, 4, proj_size=2, rngs=nnx.Rngs(0)),
    "own": lambda: jaxrnn.RecurrentLayer(
        jaxrnn.Equation(1, lambda h, a, b: a + b, lambda hidden, output: output), 3, 4, rngs=nnx.Rngs(0)
    ),
    "linear": lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
}
REFUSED = [
    ("linear", rnn_of(nnx.GRUCell), TypeError, "module: got flax.nnx.nn.linear.Linear; expected a cell or layer"),
    ("own", rnn_of(nnx.GRUCell), TypeError, "module: got a RecurrentLayer whose equation no cell of Flax computes"),
    ("no bias", rnn_of(nnx.GRUCell), ValueError, "module: got a GRU without biases; .* expected bias=True"),
    ("projection", rnn_of(nnx.LSTMCell), ValueError, "module: got proj_size = 2; Flax's LSTM has no projection"),
    ("lstm", rnn_of(nnx.GRUCell), TypeError, "source.cell: got nnx.GRUCell, of kind GRU; the module's is LSTM"),
    ("gru", lstm_parameters, TypeError, "source: got a mapping of .*, of kind LSTM; the module's is GRU"),
    ("rnn", rnn_of(nnx.SimpleCell, reverse=True), ValueError, "source.reverse: got True; expected False, the mod"),
    ("back", rnn_of(nnx.SimpleCell), ValueError, "source.reverse: got False; expected True, the module's reverse"),
    ("back", rnn_of(nnx.SimpleCell, reverse=True), ValueError, "source.keep_order: got False; .* give the cell alone"),
    ("both", rnn_of(nnx.GRUCell), TypeError, "source: got nnx.RNN; the module is bidirectional: expected a Bidir"),
    ("gru", both(), TypeError, "got nnx.Bidirectional; the module has one direction: expected bidirectional=True"),
    ("both", both(merge_fn=own_function), ValueError, "source.merge_fn: got own_function; expected Flax's default"),
    ("deep", rnn_of(nnx.GRUCell), ValueError, "source: got 1 of Flax's layers; expected num_layers = 2: give a list"),
    ("gru", lambda: nnx.Sequential(nnx.RNN(nnx_cell(nnx.GRUCell)), nnx.Linear(4, 1, rngs=nnx.Rngs(0))), ValueError,
     "source: got 2 of Flax's layers; expected num_layers = 1"),
    ("deep", lambda: [nnx.RNN(nnx_cell(nnx.GRUCell)), nnx.Linear(4, 1, rngs=nnx.Rngs(0))], TypeError,
     r"source\[1\]: got nnx.Linear; expected a cell of Flax \(GRUCell, LSTMCell, OptimizedLSTMCell, SimpleCell\)"),
    ("lstm", lambda: nnx_cell(nnx.LSTMCell, gate_fn=jax.nn.hard_sigmoid), ValueError,
     "source.gate_fn: got hard_sigmoid; the module computes sigmoid: expected jax.nn.sigmoid"),
    ("gru", lambda: nnx_cell(nnx.GRUCell, activation_fn=own_function), ValueError,
     "source.activation_fn: got own_function; the module computes tanh"),
    ("relu", lambda: nnx_cell(nnx.SimpleCell), ValueError, "source.activation_fn: got tanh; the module computes relu"),
    ("lstm", lambda: bound(linen.RNN(linen_cell("LSTMCell", activation_fn=jax.nn.relu))), ValueError,
     "source.cell.activation_fn: got relu; the module computes tanh"),
    ("lstm", lambda: linen.RNN(linen.LSTMCell(4)), TypeError,
     r"source: got linen.RNN without variables; expected it bound: use module.bind\(variables\)"),
    ("gru", mgu_parameters, TypeError, "source.params: an MGUCell has one gate where a GRU has two"),
    ("gru", lambda: linen.MGUCell(4).bind({}), TypeError, "source: an MGUCell has one gate where a GRU has two"),
    ("lstm", lambda: linen.ConvLSTMCell(4, (2,)).bind({}), TypeError, "a ConvLSTMCell convolves, and adds 1 to its"),
    ("cell", lambda: [1.0], TypeError, "source: got list; expected a cell of Flax"),
    ("lstm", lambda: lstm_parameters(hi=None), KeyError, "nearest to those of kind LSTM; missing: hi.bias, hi.kernel"),
    ("lstm", lambda: lstm_parameters(norm={"scale": np.ones(4)}), KeyError, "unexpected: norm.scale"),
    ("lstm", lambda: lstm_parameters(ig={"kernel": np.zeros((3, 5))}), ValueError,
     r"source.ig.kernel: got shape \(3, 5\); expected \(3, 4\), by the sizes of the module"),
    ("lstm", lambda: lstm_parameters(ig={"kernel": np.zeros((3, 4), int)}), TypeError, "source.ig.kernel: got int64"),
    ("rnn", lambda: nnx.RNN(nnx_cell(nnx.SimpleCell, 2)), ValueError, r"dense_i.kernel: got shape \(2, 4\)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "error", "message"), REFUSED)
def test_what_cannot_be_loaded_is_refused(name, source, error, message):
    module = OURS[name]()
    before = nnx.to_pure_dict(nnx.state(module))
    with pytest.raises(error, match=message):
        jaxrnn.load_flax(module, source())
    oracle.assert_identical(oracle.flat(nnx.to_pure_dict(nnx.state(module))), oracle.flat(before))


def test_a_module_whose_parameters_were_stacked_is_refused():
    layer = jaxrnn.GRU(3, 4, rngs=nnx.Rngs(0))
    nnx.update(layer, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), nnx.state(layer)))
    with pytest.raises(
        ValueError, match=r"module.weight_ih_l0: got shape \(2, 12, 3\); expected \(12, 3\), by the sizes"
    ):
        jaxrnn.load_flax(layer, nnx_cell(nnx.GRUCell))


def test_what_was_loaded_is_a_copy():
    rnn, layer = nnx.RNN(nnx_cell(nnx.SimpleCell)), jaxrnn.RNN(3, 4, rngs=nnx.Rngs(0))
    jaxrnn.load_flax(layer, rnn)
    rnn.cell.dense_i.bias.get_value().delete()
    assert np.isfinite(layer.bias_ih_l0.get_value()).all()


class TestAsFlaxCell:
    def test_in_bidirectional_it_computes_what_a_layer_does(self, x64):
        """Both directions, lengths, carries, and the gradients of inputs and of the parameters that are shared."""
        layer = jaxrnn.LSTM(3, 4, bidirectional=True, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        oracle.perturb(layer)
        parts = [jaxrnn.LSTMCell(3, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(1)) for _ in range(2)]
        for direction, cell in enumerate(parts):
            for what, value in layer.cell_parameters(0, direction)._asdict().items():
                if value is not None:
                    getattr(cell, what).set_value(value)
        rnn = nnx.Bidirectional(*(nnx.RNN(jaxrnn.as_flax_cell(cell)) for cell in parts))
        inputs, weights = jnp.asarray(oracle.draw(1, 3, 5, 3)), jnp.asarray(oracle.draw(2, 3, 5, 8) * VALID[:, :, None])

        @nnx.jit
        def outcome(rnn: Any, inputs: Any, lengths: Any) -> Any:
            def loss(rnn: Any, inputs: Any) -> Any:
                carries, outputs = rnn(inputs, seq_lengths=lengths, return_carry=True)
                state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
                outputs = outputs * VALID[:, :, None]
                return oracle.weigh((outputs, state), (weights, state_weights)), (outputs, state)

            argnums = nnx.DiffState(0, nnx.Param), 1
            (_, results), gradients = nnx.value_and_grad(loss, argnums=argnums, has_aux=True)(rnn, inputs)
            return results, gradients

        state_weights = jax.tree.map(lambda leaf: jnp.asarray(oracle.draw(3, *leaf.shape)), layer.initial_state(3))
        (outputs, state), (d_rnn, d_inputs) = outcome(rnn, inputs, jnp.asarray(LENGTHS))
        expected = oracle.outcome(
            layer, inputs, layer.initial_state(3), (weights, state_weights), lengths=jnp.asarray(LENGTHS)
        )
        found = {"outputs": outputs, "d inputs": d_inputs}
        found |= {f"final {part}": leaf for part, leaf in zip("hc", jax.tree.leaves(state), strict=False)}
        for direction, ending in (("forward_rnn", "_l0"), ("backward_rnn", "_l0_reverse")):
            for what, gradient in d_rnn[direction]["cell"]["cell"].items():
                found[f"d {what}{ending}"] = gradient.get_value()
        wanted = {part: value for part, value in expected.items() if not part.startswith("d initial")}
        oracle.assert_close(found, wanted, 1e-12)

    def test_parameters_are_the_cells_own(self):
        cell = jaxrnn.RNNCell(3, 4, rngs=nnx.Rngs(0))
        rnn = nnx.RNN(jaxrnn.as_flax_cell(cell), rngs=False)
        assert rnn.cell.cell.weight_hh is cell.weight_hh
        graphdef, parameters = nnx.split(rnn)
        assert sorted(path[-1] for path, _ in nnx.to_flat_state(parameters)) == sorted(oracle.named_parameters(cell))
        inputs = jnp.asarray(oracle.draw(1, 2, 3, 3), jnp.float32)
        before = rnn(inputs)
        cell.weight_hh.set_value(2 * cell.weight_hh.get_value())
        assert np.abs(rnn(inputs) - before)[:, 1:].max() > 1e-3
        np.testing.assert_array_equal(nnx.merge(graphdef, parameters)(inputs), rnn(inputs))

    def test_the_carry(self):
        cell = jaxrnn.as_flax_cell(jaxrnn.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
        assert cell.num_feature_axes == 1
        state = cell.initialize_carry((2, 5, 3))
        assert jax.tree.map(jnp.shape, state) == jaxrnn.LSTMState((2, 5, 4), (2, 5, 4))
        assert not jax.tree.reduce(lambda found, leaf: found or leaf.any(), state, False)
        drawn_state = cell.initialize_carry((2, 5, 3), nnx.Rngs(0), nnx.initializers.normal(1.0))
        assert np.abs(drawn_state.h - drawn_state.c).min() > 0

        @nnx.jit
        def at_once_and_by_rows(cell: Any, state: Any, inputs: Any) -> Any:
            rows = [cell(jax.tree.map(lambda leaf, b=b: leaf[b], state), inputs[b]) for b in range(2)]
            return cell(state, inputs), jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

        # Several batch dimensions, as Flax's cells take them.
        inputs = jnp.asarray(oracle.draw(1, 2, 5, 3), jnp.float32)
        found, wanted = at_once_and_by_rows(cell, drawn_state, inputs)
        oracle.assert_close(oracle.flat(found), oracle.flat(wanted), 1e-6)

    def test_states_have_the_type_of_the_parameters(self):
        rnn = nnx.RNN(jaxrnn.as_flax_cell(jaxrnn.RNNCell(3, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))))
        carry, outputs = rnn(jnp.asarray(oracle.draw(1, 2, 3, 3), jnp.float32), return_carry=True)
        assert carry.dtype == outputs.dtype == jnp.bfloat16
        assert np.isfinite(outputs.astype(jnp.float32)).all()

    def test_refusals(self):
        cell = jaxrnn.as_flax_cell(jaxrnn.RNNCell(3, 4, rngs=nnx.Rngs(0)))
        with pytest.raises(ValueError, match=r"input_shape: got \(2, 4\); expected \(\*batch, 3\)"):
            cell.initialize_carry((2, 4))
        with pytest.raises(ValueError, match=r"rngs: got None; expected nnx\.Rngs for carry_init"):
            cell.initialize_carry((2, 3), carry_init=nnx.initializers.ones)
        with pytest.raises(TypeError, match="cell: got the layer LSTM, which runs over time itself: call it"):
            jaxrnn.as_flax_cell(OURS["lstm"]())
        with pytest.raises(TypeError, match="cell: got SimpleCell; expected a cell of jaxrnn"):
            jaxrnn.as_flax_cell(nnx_cell(nnx.SimpleCell))
