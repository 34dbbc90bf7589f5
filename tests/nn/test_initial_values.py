"""Values drawn at once are those that `jax.random.uniform` gives for one key after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nn import initial_values

SHAPES = [(8, 1), (8, 8), (3,), (1, 5, 2)]
BOUND = 0.3


def one_by_one(rngs: nnx.Rngs, dtype=jnp.float32) -> list[jax.Array]:
    return [jax.random.uniform(rngs.params(), shape, dtype, -BOUND, BOUND) for shape in SHAPES]


def at_once(rngs: nnx.Rngs, dtype=jnp.float32) -> list[jax.Array]:
    drawn = initial_values.draw_uniform(rngs, SHAPES, BOUND, dtype)
    initial_values.skip_keys(rngs, len(SHAPES))
    return drawn


def assert_same(found, expected):
    for array, other in zip(found, expected, strict=True):
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        # Of a product and a sum XLA may make one rounding or two, by the size of the whole.
        bit = float(jnp.finfo(array.dtype).eps) * BOUND
        np.testing.assert_allclose(np.asarray(array, np.float64), np.asarray(other, np.float64), rtol=0, atol=bit)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("limit", [initial_values.MAX_AT_ONCE, 10])  # more than so many are drawn one by one
def test_values_are_those_of_one_key_after_the_other(dtype, limit, monkeypatch):
    monkeypatch.setattr(initial_values, "MAX_AT_ONCE", limit)
    monkeypatch.delattr(initial_values, "_draw_one_by_one" if limit > 10 else "_draw_at_once")  # the other one serves
    ours, theirs = nnx.Rngs(7), nnx.Rngs(7)
    assert_same(at_once(ours, dtype), one_by_one(theirs, dtype))
    assert_same(at_once(ours, dtype), one_by_one(theirs, dtype))  # and so are those that follow
    assert ours.params.count[...] == theirs.params.count[...] == 2 * len(SHAPES)


def test_a_stream_of_its_own_is_taken_where_there_is_one():
    ours, theirs = nnx.Rngs(1, params=2), nnx.Rngs(1, params=2)
    assert_same(at_once(ours), one_by_one(theirs))
    assert ours.default.count[...] == 0


@pytest.mark.parametrize("case", ["generator", "counters"])
def test_keys_whose_first_numbers_depend_on_how_many_there_are(case):
    """Drawn at once they would be others."""
    if case == "generator":
        ours, theirs = (nnx.Rngs(jax.random.key(3, impl="rbg")) for _ in range(2))
        assert_same(at_once(ours), one_by_one(theirs))
        return
    with jax.threefry_partitionable(False):
        assert_same(at_once(nnx.Rngs(3)), one_by_one(nnx.Rngs(3)))


def test_layers_of_members_are_those_drawn_apart():
    """Under `nnx.vmap` keys are traced ones, of a member each."""

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def members(rngs: nnx.Rngs) -> jaxrnn.LSTM:
        return jaxrnn.LSTM(2, 4, num_layers=2, bidirectional=True, rngs=rngs)

    stacked = nnx.to_pure_dict(nnx.state(members(nnx.Rngs(0)), nnx.Param))
    keys = jax.random.split(nnx.Rngs(0).params(), 3)
    for number, key in enumerate(keys):
        layer = jaxrnn.LSTM(2, 4, num_layers=2, bidirectional=True, rngs=nnx.Rngs(key))
        alone = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
        for name, value in alone.items():
            np.testing.assert_allclose(stacked[name][number], value, rtol=0, atol=1e-7)
