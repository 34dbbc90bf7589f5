"""Initial values drawn all at once: one by one, each would take two programs of its own to compile."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.foundation.array_types import Array

# Numbers that may be drawn at once. As many are drawn for each parameter as the largest takes.
MAX_AT_ONCE = 1 << 20


def draw_uniform(rngs: nnx.Rngs, shapes: Sequence[tuple[int, ...]], bound: float, dtype: Any) -> list[Array]:
    """Draws from U(-bound, bound) what `jax.random.uniform` gives for the next keys of "params", one for each shape.

    A last bit may be another: of a product and a sum XLA makes one rounding or two. The keys are left for others to
    take: `skip_keys` passes over them.

    Args:
      rngs: Where the keys come from.
      shapes: The shape of each array.
      bound: The largest magnitude.
      dtype: The arrays' type.
    """
    stream = rngs.params
    key, count = stream.key[...], stream.count[...]
    sizes = tuple(map(math.prod, shapes))
    at_once = len(sizes) * max(sizes) <= MAX_AT_ONCE and key.ndim == 0 and _are_prefixes(key)
    return list((_draw_at_once if at_once else _draw_one_by_one)(key, count, bound, tuple(shapes), jnp.dtype(dtype)))


def skip_keys(rngs: nnx.Rngs, number: int) -> None:
    """Passes over keys of "params" that `draw_uniform` has taken."""
    count = rngs.params.count
    count[...] = count[...] + jnp.uint32(number)


def _are_prefixes(key: Array) -> bool:
    """Whether fewer numbers of a key are the first of more."""
    is_threefry = str(jax.random.key_impl(key)) == "threefry2x32"
    return is_threefry and jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]


@functools.partial(jax.jit, static_argnums=(3, 4))
def _draw_at_once(key: Array, count: Array, bound: Any, shapes: tuple[tuple[int, ...], ...], dtype: Any) -> list[Array]:
    sizes = list(map(math.prod, shapes))
    numbers = count + jnp.arange(len(shapes), dtype=count.dtype)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (max(sizes),), dtype, -bound, bound))(keys)
    return [row[:size].reshape(shape) for row, size, shape in zip(drawn, sizes, shapes, strict=True)]


def _draw_one_by_one(
    key: Array, count: Array, bound: Any, shapes: tuple[tuple[int, ...], ...], dtype: Any
) -> list[Array]:
    keys = [jax.random.fold_in(key, count + jnp.asarray(number, count.dtype)) for number in range(len(shapes))]
    return [jax.random.uniform(key, shape, dtype, -bound, bound) for key, shape in zip(keys, shapes, strict=True)]
