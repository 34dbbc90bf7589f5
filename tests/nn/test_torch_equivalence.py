"""The layers and cells against PyTorch itself: outputs, states, every gradient, and weights both ways."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.models.next_value import NextValueModel

torch = pytest.importorskip("torch")

BATCH, TIME, INPUT, HIDDEN, PROJ = 4, 6, 2, 3, 2
# PyTorch packs no row of length 0.
LENGTHS: dict[str, np.ndarray | None] = {
    "sorted": np.array([6, 5, 3, 1]),
    "unsorted": np.array([3, 6, 1, 5]),
    "full": np.full(BATCH, TIME),
    "all of length 1": np.ones(BATCH, int),
    "none": None,
}
PADDED = [name for name in LENGTHS if name != "none"]
LAYERS: dict[str, tuple[Any, Any]] = {
    "rnn_tanh": (
        functools.partial(jaxrnn.RNN, nonlinearity="tanh"),
        functools.partial(torch.nn.RNN, nonlinearity="tanh"),
    ),
    "rnn_relu": (
        functools.partial(jaxrnn.RNN, nonlinearity="relu"),
        functools.partial(torch.nn.RNN, nonlinearity="relu"),
    ),
    "lstm": (jaxrnn.LSTM, torch.nn.LSTM),
    "lstm_proj": (functools.partial(jaxrnn.LSTM, proj_size=PROJ), functools.partial(torch.nn.LSTM, proj_size=PROJ)),
    "gru": (jaxrnn.GRU, torch.nn.GRU),
}
CELLS: dict[str, tuple[Any, Any]] = {
    "rnn_tanh": (jaxrnn.RNNCell, torch.nn.RNNCell),
    "rnn_relu": (
        functools.partial(jaxrnn.RNNCell, nonlinearity="relu"),
        functools.partial(torch.nn.RNNCell, nonlinearity="relu"),
    ),
    "lstm": (jaxrnn.LSTMCell, torch.nn.LSTMCell),
    "gru": (jaxrnn.GRUCell, torch.nn.GRUCell),
}
# Layers, bias, bidirectional, lengths, state given: a few of all, which the slow test goes through.
EVERYDAY: list[tuple[int, bool, bool, list[str], bool]] = [
    (2, False, True, PADDED, True),
    (1, True, True, ["none"], False),
]
every_kind = pytest.mark.parametrize("kind", oracle.KINDS)


def build(kind: str, *, dtype: Any = jnp.float64, **options: Any) -> tuple[Any, Any]:
    """A layer with perturbed parameters, and PyTorch's with the same ones."""
    layer = LAYERS[kind][0](INPUT, HIDDEN, param_dtype=dtype, rngs=nnx.Rngs(0), **options)
    oracle.perturb(layer)
    peer = LAYERS[kind][1](INPUT, HIDDEN, batch_first=True, dtype=torch_type(dtype), **options)
    return layer, with_parameters_of(layer, peer)


def torch_type(dtype: Any) -> Any:
    return {"float32": torch.float32, "float64": torch.float64}[jnp.dtype(dtype).name]


def as_torch(array: Any, *, grad: bool = False) -> Any:
    return torch.tensor(np.asarray(array), requires_grad=grad)


def with_parameters_of(module: Any, peer: Any) -> Any:
    arrays = jaxrnn.to_torch_state_dict(module)
    peer.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()}, strict=True)
    return peer


def drawn_arrays(layer: Any) -> tuple[Any, Any, Any]:
    """Inputs, an initial state, and a weight for every number of outputs and final states."""
    dtype = layer.weight_ih_l0.get_value().dtype
    state = layer.initial_state(BATCH)
    leaves, structure = jax.tree.flatten(state)
    draw = [
        jax.tree.unflatten(structure, [jnp.asarray(oracle.draw(s + i, *x.shape), dtype) for i, x in enumerate(leaves)])
        for s in (10, 20)
    ]
    out_weights = jnp.asarray(oracle.draw(30, BATCH, TIME, layer.num_directions * layer.output_size), dtype)
    return jnp.asarray(oracle.draw(1, BATCH, TIME, INPUT), dtype), draw[0], (out_weights, draw[1])


def torch_outcome(peer: Any, inputs: Any, state: Any, weights: Any, lengths: Any) -> dict[str, np.ndarray]:
    """What `oracle.outcome` gathers, of a PyTorch layer on packed sequences."""
    x = as_torch(inputs, grad=True)
    leaves = [as_torch(leaf, grad=True) for leaf in jax.tree.leaves(state)]
    given = None if state is None else leaves[0] if len(leaves) == 1 else tuple(leaves)
    peer.zero_grad()
    if lengths is None:
        outputs, final = peer(x, given)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.as_tensor(lengths), batch_first=True, enforce_sorted=False
        )
        outputs, final = peer(packed, given)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    finals = final if isinstance(final, tuple) else (final,)
    results = [outputs, *finals]
    sum(
        (result * as_torch(weight)).sum() for result, weight in zip(results, jax.tree.leaves(weights), strict=True)
    ).backward()
    found = {"outputs": outputs, "d inputs": x.grad}
    found |= {f"final {name}": leaf for name, leaf in zip("hc", finals, strict=False)}
    found |= {f"d initial {name}": leaf.grad for name, leaf in zip("hc", leaves, strict=False)}
    found |= {f"d {name}": parameter.grad for name, parameter in peer.named_parameters()}
    return {name: value.detach().numpy().copy() for name, value in found.items()}


def poison(inputs: Any, lengths: Any) -> Any:
    """Puts NaN where nothing may be read."""
    return (
        inputs
        if lengths is None
        else jnp.where(np.arange(TIME)[None, :, None] < lengths[:, None, None], inputs, jnp.nan)
    )


def check(layer: Any, peer: Any, lengths: Any, with_state: bool, tolerance: float = 1e-10) -> None:
    inputs, state, weights = drawn_arrays(layer)
    state = state if with_state else None
    options = {} if lengths is None else {"lengths": lengths}
    found = oracle.outcome(layer, poison(inputs, lengths), state, weights, **options)
    oracle.assert_close(found, torch_outcome(peer, inputs, state, weights, lengths), tolerance)


@pytest.mark.parametrize(
    ("kind", "num_layers", "bias", "bidirectional", "lengths", "with_state"),
    [(kind, *choices) for kind in oracle.KINDS for choices in EVERYDAY],
)
def test_layers_are_pytorchs(
    kind: str, num_layers: int, bias: bool, bidirectional: bool, lengths: list[str], with_state: bool, x64: None
) -> None:
    layer, peer = build(kind, num_layers=num_layers, bias=bias, bidirectional=bidirectional)
    for name in lengths:
        check(layer, peer, LENGTHS[name], with_state)


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("num_layers", [1, 3])  # of two layers the plain loop is asked (test_layers.py)
def test_every_configuration_is_pytorchs(kind: str, num_layers: int, x64: None) -> None:
    # Full lengths stand for none and zeros for no state, so that each layer compiles once; PyTorch is given none.
    for bias, bidirectional in itertools.product([True, False], repeat=2):
        layer, peer = build(kind, num_layers=num_layers, bias=bias, bidirectional=bidirectional)
        inputs, drawn, weights = drawn_arrays(layer)
        zeros = layer.initial_state(BATCH)
        for lengths, state in itertools.product(LENGTHS.values(), [drawn, None]):
            own = np.full(BATCH, TIME) if lengths is None else lengths
            found = oracle.outcome(
                layer, poison(inputs, lengths), zeros if state is None else state, weights, lengths=own
            )
            if state is None:
                found = {name: value for name, value in found.items() if not name.startswith("d initial")}
            oracle.assert_close(found, torch_outcome(peer, inputs, state, weights, lengths))


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm_proj", "gru"])
def test_float32_layers_are_pytorchs(kind: str) -> None:
    layer, peer = build(kind, bidirectional=True, dtype=jnp.float32)
    check(layer, peer, LENGTHS["unsorted"], True, 1e-5)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_cells_are_pytorchs(kind: str, bias: bool, x64: None) -> None:
    cell = CELLS[kind][0](INPUT, HIDDEN, bias=bias, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    oracle.perturb(cell)
    peer = with_parameters_of(cell, CELLS[kind][1](INPUT, HIDDEN, bias=bias, dtype=torch.float64))
    inputs = oracle.draw(1, BATCH, INPUT)
    leaves = [oracle.draw(2 + i, BATCH, HIDDEN) for i in range(len(jax.tree.leaves(cell.initial_state())))]
    weights = [oracle.draw(5 + i, BATCH, HIDDEN) for i in range(len(leaves))]
    graphdef, parameters = nnx.split(cell)

    def loss(parameters: Any, inputs: Any, leaves: Any) -> Any:
        state = jaxrnn.LSTMState(*leaves) if kind == "lstm" else leaves[0]
        new = nnx.merge(graphdef, parameters)(inputs, state)
        return oracle.weigh(new, weights), new

    arrays = (parameters, jnp.asarray(inputs), [jnp.asarray(leaf) for leaf in leaves])
    (_, new), (d_parameters, d_inputs, d_leaves) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*arrays)
    d_by_name = {path[0]: leaf.get_value() for path, leaf in nnx.to_flat_state(d_parameters)}
    found = {"new": jax.tree.leaves(new), "d inputs": d_inputs, "d state": d_leaves, "d": d_by_name}

    x, given = as_torch(inputs, grad=True), [as_torch(leaf, grad=True) for leaf in leaves]
    results = peer(x, tuple(given) if kind == "lstm" else given[0])
    results = list(results) if kind == "lstm" else [results]
    sum((result * as_torch(weight)).sum() for result, weight in zip(results, weights, strict=True)).backward()
    expected = {
        "new": [result.detach().numpy() for result in results],
        "d inputs": x.grad.numpy(),
        "d state": [leaf.grad.numpy() for leaf in given],
        "d": {name: parameter.grad.numpy() for name, parameter in peer.named_parameters()},
    }
    oracle.assert_close(oracle.flat(found), oracle.flat(expected))


# Weights, both ways.


def check_round_trip(module: Any, peer: Any) -> None:
    """PyTorch's weights come back bit for bit, in PyTorch's order, and PyTorch takes them."""
    given = {name: tensor.numpy().copy() for name, tensor in peer.state_dict().items()}
    jaxrnn.load_torch_state_dict(module, given)
    returned = jaxrnn.to_torch_state_dict(module)
    assert sorted(returned) == sorted(given)
    oracle.assert_identical(returned, given)
    assert {name: value.dtype for name, value in returned.items()} == {n: v.dtype for n, v in given.items()}
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.zero_()
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in returned.items()}, strict=True)
    oracle.assert_identical({name: tensor.numpy() for name, tensor in peer.state_dict().items()}, given)


@every_kind
def test_layers_weights_go_both_ways(kind: str) -> None:
    for num_layers, bias, bidirectional in itertools.product([1, 2, 3], [True, False], [True, False]):
        options = {"num_layers": num_layers, "bias": bias, "bidirectional": bidirectional}
        layer = LAYERS[kind][0](INPUT, HIDDEN, rngs=nnx.Rngs(0), **options)
        peer = LAYERS[kind][1](INPUT, HIDDEN, **options)
        check_round_trip(layer, peer)
        assert list(jaxrnn.to_torch_state_dict(layer)) == list(peer.state_dict())


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_cells_weights_go_both_ways(kind: str, bias: bool) -> None:
    check_round_trip(
        CELLS[kind][0](INPUT, HIDDEN, bias=bias, rngs=nnx.Rngs(0)), CELLS[kind][1](INPUT, HIDDEN, bias=bias)
    )


def test_float64_weights_go_both_ways(x64: None) -> None:
    layer = jaxrnn.LSTM(INPUT, HIDDEN, proj_size=PROJ, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    check_round_trip(layer, torch.nn.LSTM(INPUT, HIDDEN, proj_size=PROJ, dtype=torch.float64))


def test_state_dicts_of_tensors_are_taken() -> None:
    peer = torch.nn.GRU(INPUT, HIDDEN)
    expected = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    layer = jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    for mapping in (peer.state_dict(), dict(peer.named_parameters())):  # the latter require gradients
        jaxrnn.load_torch_state_dict(layer, mapping)
        oracle.assert_identical(jaxrnn.to_torch_state_dict(layer), expected)


def test_bfloat16_weights_go_both_ways() -> None:
    peer = torch.nn.GRU(INPUT, HIDDEN).bfloat16()
    layer = jaxrnn.GRU(INPUT, HIDDEN, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    jaxrnn.load_torch_state_dict(layer, peer.state_dict())
    assert layer.weight_ih_l0.get_value().dtype == jnp.bfloat16
    other = torch.nn.GRU(INPUT, HIDDEN).bfloat16()
    back = {name: torch.from_numpy(array) for name, array in jaxrnn.to_torch_state_dict(layer).items()}
    other.load_state_dict(back, strict=True)
    for name, tensor in peer.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


class Tagger(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(5, INPUT, rngs=rngs)
        self.rnn = jaxrnn.LSTM(INPUT, HIDDEN, bidirectional=True, rngs=rngs)
        self.head = nnx.Sequential(nnx.LayerNorm(2 * HIDDEN, rngs=rngs), nnx.Linear(2 * HIDDEN, 4, rngs=rngs), nnx.relu)


class TorchTagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, INPUT)
        self.rnn = torch.nn.LSTM(INPUT, HIDDEN, bidirectional=True)
        self.head = torch.nn.Sequential(torch.nn.LayerNorm(2 * HIDDEN), torch.nn.Linear(2 * HIDDEN, 4), torch.nn.ReLU())


def test_modules_with_embeddings_norms_and_sequences_go_both_ways() -> None:
    check_round_trip(Tagger(nnx.Rngs(0)), TorchTagger())


def test_what_has_no_state_dict_is_refused(unchecked: None) -> None:
    peer, layer = torch.nn.GRU(INPUT, HIDDEN), jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"mapping: got torch.nn.*GRU; expected arrays by name: use its state_dict\(\)"):
        jaxrnn.load_torch_state_dict(layer, peer)
    with pytest.raises(TypeError, match=r"module: got torch.nn.*GRU; expected a flax.nnx.Module"):
        jaxrnn.load_torch_state_dict(peer, peer.state_dict())
    with pytest.raises(TypeError, match="weight_ih_l0: got NoneType; expected an array"):
        jaxrnn.load_torch_state_dict(layer, dict(peer.state_dict()) | {"weight_ih_l0": None})
    with pytest.raises(TypeError, match=r"nnx\.BatchNorm has no counterpart"):
        jaxrnn.to_torch_state_dict(nnx.List([nnx.BatchNorm(3, rngs=nnx.Rngs(0))]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight_hh_l0": None, "bias_ih_l0": None}, KeyError, "missing: bias_ih_l0, weight_hh_l0"),
        ({"weight_hr_l0": np.zeros(1)}, KeyError, "unexpected: weight_hr_l0"),
        ({"bias_hh_l0": None, "extra": np.zeros(1)}, KeyError, "missing: bias_hh_l0; unexpected: extra"),
        ({"weight_ih_l0": np.zeros((9, 3))}, ValueError, r"weight_ih_l0: got shape \(9, 3\); expected \(9, 2\)"),
        ({"bias_ih_l0": np.zeros((9, 1))}, ValueError, r"bias_ih_l0: got shape \(9, 1\); expected \(9,\)"),
        ({"bias_hh_l0": np.zeros(9, int)}, TypeError, "bias_hh_l0: got int64; expected floating-point"),
    ],
)
def test_state_dicts_that_do_not_fit_are_refused_and_change_nothing(
    change: dict, error: type[Exception], message: str
) -> None:
    layer = jaxrnn.GRU(INPUT, HIDDEN, rngs=nnx.Rngs(0))
    before = jaxrnn.to_torch_state_dict(layer)
    wrong = {name: np.ones_like(value) for name, value in before.items()} | change
    with pytest.raises(error, match=message):
        jaxrnn.load_torch_state_dict(layer, {name: value for name, value in wrong.items() if value is not None})
    oracle.assert_identical(jaxrnn.to_torch_state_dict(layer), before)


# The next-value model.


class TorchModel(torch.nn.Module):
    """A recurrent layer and a linear head, with the attribute names of the next-value model."""

    def __init__(self, rnn: Any):
        super().__init__()
        self.rnn = rnn
        self.linear = torch.nn.Linear(rnn.proj_size or rnn.hidden_size, 1, dtype=torch.float64)

    def every(self, values: Any, lengths: Any) -> Any:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            values[..., None], lengths, batch_first=True, enforce_sorted=False
        )
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.linear(outputs)[..., 0]


@pytest.mark.parametrize("kind", ["lstm_proj", "gru"])
def test_the_next_value_model_is_pytorchs(kind: str, x64: None) -> None:
    rngs = nnx.Rngs(0)
    model = NextValueModel(LAYERS[kind][0](1, HIDDEN, param_dtype=jnp.float64, rngs=rngs), rngs=rngs)
    for parameter in oracle.named_parameters(model.linear).values():
        parameter.set_value(parameter.get_value().astype(jnp.float64))
    peer = TorchModel(LAYERS[kind][1](1, HIDDEN, batch_first=True, dtype=torch.float64))
    check_round_trip(model, peer)
    values, lengths, horizon = oracle.draw(1, BATCH, TIME), LENGTHS["unsorted"], 3
    weights = oracle.draw(2, BATCH, TIME), oracle.draw(3, BATCH), oracle.draw(4, BATCH, horizon)
    valid = np.arange(TIME)[None] < lengths[:, None]
    graphdef, parameters = nnx.split(model)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(parameters: Any) -> Any:
        model = nnx.merge(graphdef, parameters)
        x, n = jnp.asarray(values), jnp.asarray(lengths)
        every = jnp.where(valid, model.predict_every(x, n), 0)
        results = every, model.predict_last(x, n), model.forecast(x, n, horizon)
        return oracle.weigh(results, weights), results

    (_, results), gradients = loss(parameters)
    names = ("every", "last", "forecast")
    found = dict(zip(names, map(np.asarray, results), strict=True))
    found |= jaxrnn.to_torch_state_dict(nnx.merge(graphdef, gradients))

    rows = torch.arange(BATCH)
    n = torch.as_tensor(lengths)
    every = peer.every(as_torch(values), n)
    last = every[rows, n - 1]
    later, longer = [last], torch.cat([as_torch(values), torch.zeros(BATCH, horizon, dtype=torch.float64)], dim=1)
    for k in range(horizon - 1):  # each prediction is written behind its row, and the row is read again
        longer = longer.index_put((rows, n + k), later[-1])
        later.append(peer.every(longer, n + k + 1)[rows, n + k])
    expected_results = (every * as_torch(valid), last, torch.stack(later, dim=1))
    sum((result * as_torch(weight)).sum() for result, weight in zip(expected_results, weights, strict=True)).backward()
    expected = {name: value.detach().numpy() for name, value in zip(names, expected_results, strict=True)}
    expected |= {name: parameter.grad.numpy() for name, parameter in peer.named_parameters()}
    oracle.assert_close(found, expected)
