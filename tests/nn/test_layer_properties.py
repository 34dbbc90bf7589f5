"""What must change nothing: padding, the order of rows, buckets, packing, splits of the carry, reversal of time.

Every property compares outputs, final states and all gradients - of inputs, initial states and every parameter - of a
stacked, bidirectional layer (a stacked one where the state is carried) in float64.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_cases import (
    BATCH,
    TIME,
    build,
    check_padding,
    contract_layer,
    drawn_inputs,
    drawn_like,
    one_kind_and_slow_ones,
    poison,
    run,
    run_separately,
    valid_of,
)

# What the engine does, whatever the equation: one kind every day, and one of one gate and of several apart in CI.
each_kind = one_kind_and_slow_ones
drawn_once = functools.cache(drawn_inputs)  # it traces the layer: once for all examples
# Shapes stay the same from example to example, so nothing is compiled again.
examples = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # x64 holds nothing that an example changes
)


def arrays_of(elements: Any) -> Any:
    return st.lists(elements, min_size=BATCH * TIME, max_size=BATCH * TIME).map(
        lambda numbers: np.array(numbers).reshape(BATCH, TIME)
    )


booleans = arrays_of(st.booleans())
lengths_of_rows = st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH).map(np.array)
any_options = st.fixed_dictionaries(
    {},
    optional={
        "lengths": lengths_of_rows,
        "mask": booleans,
        "segment_ids": arrays_of(st.integers(0, 2)),
        "resets": booleans,
    },
)


def take_rows(found: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Picks rows of everything that has rows."""
    taken = dict(found)
    for name, value in found.items():
        if name in ("outputs", "d inputs"):
            taken[name] = value[rows]
        elif name.startswith(("final", "d initial")):
            taken[name] = value[:, rows]
    return taken


@each_kind
@examples
@given(options=any_options)
def test_what_stands_at_padding_changes_no_bit(kind: str, options: dict[str, np.ndarray], x64: None) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    valid = valid_of(BATCH, TIME, options)
    clean = run(kind, jnp.where(valid[:, :, None], inputs, 0), state, weights, **options)
    assert all(np.isfinite(value).all() for value in clean.values())
    found = run(kind, poison(inputs, valid), state, weights, **options)
    check_padding(found, valid)
    oracle.assert_identical(found, clean)


@each_kind
@examples
@given(lengths=lengths_of_rows)
def test_more_padding_changes_nothing(kind: str, lengths: np.ndarray, x64: None) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    extra = [(0, 0), (0, 3), (0, 0)]
    found = oracle.outcome(
        contract_layer(kind),
        jnp.pad(inputs, extra, constant_values=np.nan),
        state,
        (jnp.pad(weights[0], extra, constant_values=1.0), weights[1]),
        lengths=lengths,
    )
    for name in ("outputs", "d inputs"):
        assert not found[name][:, TIME:].any(), f"{name}: not 0 at padding"
        found[name] = found[name][:, :TIME]
    oracle.assert_close(found, run(kind, inputs, state, weights, lengths=lengths))


@each_kind
@examples
@given(lengths=lengths_of_rows, wide=st.lists(st.booleans(), min_size=BATCH, max_size=BATCH).map(np.array))
def test_buckets_change_nothing(kind: str, lengths: np.ndarray, wide: np.ndarray, x64: None) -> None:
    layer = contract_layer(kind)
    inputs, state, weights = drawn_once(layer)
    narrow = TIME // 2
    wide = wide | (lengths > narrow)
    total: dict[str, np.ndarray] = {}
    for width, members in ((narrow, np.flatnonzero(~wide)), (TIME, np.flatnonzero(wide))):
        counted = np.arange(BATCH) < len(members)  # a bucket is filled up with rows of length 0 that weigh nothing
        rows = np.concatenate([members, np.zeros(BATCH - len(members), int)])
        found = oracle.outcome(
            layer,
            inputs[rows, :width],
            jax.tree.map(lambda leaf, rows=rows: leaf[:, rows], state),
            (
                weights[0][rows, :width],
                jax.tree.map(lambda leaf, r=rows, c=counted: leaf[:, r] * c[:, None], weights[1]),
            ),
            lengths=np.where(counted, lengths[rows], 0),
        )
        for name, value in found.items():
            if name in ("outputs", "d inputs"):
                whole = total.setdefault(name, np.zeros((BATCH, TIME, value.shape[-1])))
                whole[members, :width] = value[: len(members)]
            elif name.startswith(("final", "d initial")):
                total.setdefault(name, np.zeros_like(value))[:, members] = value[:, : len(members)]
            else:
                total[name] = total.get(name, 0) + value
    oracle.assert_close(total, run(kind, inputs, state, weights, lengths=lengths))


@each_kind
@examples
@given(options=any_options)
def test_packing_changes_nothing(kind: str, options: dict[str, np.ndarray], x64: None) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    pieces = oracle.pieces_of(BATCH, TIME, **options)
    found = run(kind, poison(inputs, valid_of(BATCH, TIME, options)), state, weights, **options)
    oracle.assert_close(found, run_separately(kind, inputs, state, weights, pieces))


@each_kind
@examples
@given(options=any_options, order=st.permutations(range(BATCH)))
def test_the_order_of_rows_changes_nothing(
    kind: str, options: dict[str, np.ndarray], order: list[int], x64: None
) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    rows = np.array(order)
    shuffled = run(
        kind,
        inputs[rows],
        jax.tree.map(lambda leaf: leaf[:, rows], state),
        (weights[0][rows], jax.tree.map(lambda leaf: leaf[:, rows], weights[1])),
        **{name: value[rows] for name, value in options.items()},
    )
    oracle.assert_close(shuffled, take_rows(run(kind, inputs, state, weights, **options), rows))


@each_kind
@examples
@given(mask=booleans)
def test_padding_anywhere_equals_padding_at_the_end(kind: str, mask: np.ndarray, x64: None) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    found = run(kind, poison(inputs, mask), state, weights, mask=mask)
    first = np.argsort(~mask, axis=1, kind="stable")  # the steps that count, then the others
    moved_weights = (jnp.take_along_axis(weights[0], first[:, :, None], axis=1), weights[1])
    moved = jnp.take_along_axis(inputs, first[:, :, None], axis=1)
    compact = run(kind, moved, state, moved_weights, lengths=mask.sum(axis=1))
    for name in ("outputs", "d inputs"):
        found[name] = np.take_along_axis(found[name], first[:, :, None], axis=1)
    oracle.assert_close(found, compact)


def swap_halves(array: Any, axis: int) -> Any:
    return jnp.concatenate(jnp.split(jnp.asarray(array), 2, axis=axis)[::-1], axis=axis)


def swap_directions(array: Any) -> Any:
    """Exchanges forward and reverse in (num_layers * 2, ...)."""
    return array.reshape(-1, 2, *array.shape[1:])[:, ::-1].reshape(array.shape)


def mirrored_name(name: str) -> str:
    return name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"


def mirrored_parameter(name: str, value: Any) -> Any:
    """Layers above the first read both directions below them: their columns change sides too."""
    return swap_halves(value, 1) if name.startswith("weight_ih") and not name.startswith("weight_ih_l0") else value


@functools.cache
def mirrored_layer(kind: str) -> Any:
    layer = build(kind, num_layers=2, bidirectional=True)
    given = oracle.named_parameters(contract_layer(kind))
    for name, parameter in oracle.named_parameters(layer).items():
        parameter.set_value(mirrored_parameter(name, given[mirrored_name(name)].get_value()))
    return layer


@each_kind
@examples
@given(options=any_options)
def test_time_reversed_is_the_other_direction(kind: str, options: dict[str, np.ndarray], x64: None) -> None:
    inputs, state, weights = drawn_once(contract_layer(kind))
    found = run(kind, inputs, state, weights, **options)
    mirrored: dict[str, np.ndarray] = {"mask": valid_of(BATCH, TIME, options)[:, ::-1]}
    if "segment_ids" in options:
        mirrored["segment_ids"] = options["segment_ids"][:, ::-1]
    if "resets" in options:  # before step t is, from the other end, before step T - t
        mirrored["resets"] = np.pad(options["resets"][:, 1:][:, ::-1], [(0, 0), (1, 0)])
    back = run(
        kind,
        inputs[:, ::-1],
        jax.tree.map(swap_directions, state),
        (swap_halves(weights[0][:, ::-1], 2), jax.tree.map(swap_directions, weights[1])),
        layer=mirrored_layer(kind),
        **mirrored,
    )
    expected = {}
    for name, value in back.items():
        if name == "outputs":
            expected[name] = swap_halves(value[:, ::-1], 2)
        elif name == "d inputs":
            expected[name] = value[:, ::-1]
        elif name.startswith(("final", "d initial")):
            expected[name] = swap_directions(value)
        else:
            other = mirrored_name(name)
            expected[other] = mirrored_parameter(other.removeprefix("d "), value)
    oracle.assert_close(found, expected)


@functools.cache
def forward_layer(kind: str) -> Any:
    return build(kind, num_layers=2, bias=False)


@functools.partial(jax.jit, static_argnums=0)
def carried(graphdef: Any, parameters: Any, inputs: Any, state: Any, weights: Any, lengths: Any, splits: Any) -> Any:
    """Runs the pieces of every row between `splits` one after another, and differentiates all of it at once."""

    def loss(parameters: Any, inputs: Any, state: Any) -> Any:
        layer = nnx.merge(graphdef, parameters)
        outputs, start = jnp.zeros_like(weights[0]), 0
        for end in (*splits, TIME):
            piece = jnp.roll(inputs, -start, axis=1)  # the piece comes first; what follows it is not read
            found, state = layer(piece, state, lengths=jnp.clip(lengths - start, 0, end - start))
            outputs, start = outputs + jnp.roll(found, start, axis=1), end
        return oracle.weigh((outputs, state), weights), (outputs, state)

    (_, results), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(parameters, inputs, state)
    return results, gradients


@each_kind
@examples
@given(lengths=lengths_of_rows, splits=st.lists(st.integers(0, TIME), min_size=2, max_size=2).map(sorted))
def test_any_split_of_the_carry_changes_nothing(kind: str, lengths: np.ndarray, splits: list[int], x64: None) -> None:
    layer = forward_layer(kind)
    inputs, state, weights = drawn_once(layer)
    found = oracle.by_name(*carried(*nnx.split(layer), inputs, state, weights, lengths, splits))
    oracle.assert_close(found, oracle.outcome(layer, inputs, state, weights, lengths=lengths))


@functools.partial(jax.jit, static_argnums=0)
def stepped(graphdef: Any, parameters: Any, inputs: Any, state: Any) -> Any:
    return nnx.merge(graphdef, parameters).step(inputs, state)


@each_kind
def test_steps_give_the_numbers_of_the_whole_sequence(kind: str, x64: None) -> None:
    layer = forward_layer(kind)
    inputs, state, weights = drawn_once(layer)
    graphdef, parameters = nnx.split(layer)

    def loss(parameters: Any, inputs: Any, state: Any) -> Any:
        outputs = []
        for t in range(TIME):
            output, state = stepped(graphdef, parameters, inputs[:, t], state)
            outputs.append(output)
        results = jnp.stack(outputs, axis=1), state
        return oracle.weigh(results, weights), results

    (_, results), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(parameters, inputs, state)
    whole = oracle.outcome(layer, inputs, state, weights, lengths=np.full(BATCH, TIME))
    oracle.assert_close(oracle.by_name(results, gradients), whole)


@each_kind
def test_forward_mode_runs_without_the_engines_own_gradient(kind: str, x64: None) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    inputs, state, weights = drawn_once(layer)
    layer.custom_gradient = False
    graphdef, parameters = nnx.split(layer)
    lengths = jnp.array([6, 0, 3, 5])

    def loss(parameters: Any, inputs: Any, state: Any) -> Any:
        return oracle.weigh(nnx.merge(graphdef, parameters)(inputs, state, lengths=lengths), weights)

    arrays = (parameters, inputs, state)
    directions = drawn_like(arrays, 80)
    _, tangent = jax.jit(lambda *a: jax.jvp(loss, a, directions))(*arrays)
    layer.custom_gradient = True
    graphdef, _ = nnx.split(layer)
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(*arrays)
    expected = oracle.weigh(gradients, directions)
    np.testing.assert_allclose(tangent, expected, rtol=1e-10)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, arrays, directions)
