"""Which rows make which batch, drawn on the device from the seed and the epoch alone."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.foundation.array_types import Array


def draw_batches(
    seed: Array,
    split_seed: Any,
    epoch: Array,
    *,
    num_rows: Sequence[int],
    filled_rows: Sequence[int],
    batch_rows: int,
    shuffle: bool,
) -> tuple[list[Array], tuple[Array, Array, Array]]:
    """Draws the batches of an epoch; a resumed run draws what the unbroken one draws.

    The order of the parts comes from the split's seed, which the members of an ensemble share: so they all run a batch
    of one length at a time.

    Args:
      seed: The seed of the run, or of a member.
      split_seed: The seed of the split.
      epoch: Epochs finished.
      num_rows: Real rows of each part; rows that only fill up its last batch stay there.
      filled_rows: Rows of each part, a multiple of `batch_rows`.
      batch_rows: Rows of a batch.
      shuffle: False takes rows and parts as they come.

    Returns:
      ``(orders, (positions, parts, numbers))``: of each part the rows by batch, (batches, batch_rows); and of each step
      of the epoch its place, counted from 1, which part's batch it runs, and which of them.
    """
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    orders, schedule = [], []
    for number, (rows, filled) in enumerate(zip(num_rows, filled_rows, strict=True)):
        order = jnp.arange(filled)
        if shuffle:
            drawn = jax.random.permutation(jax.random.fold_in(key, number), rows)
            order = jnp.concatenate([drawn, order[rows:]])
        orders.append(order.reshape(-1, batch_rows))
        num_batches = orders[-1].shape[0]
        schedule.append(jnp.stack([jnp.full(num_batches, number), jnp.arange(num_batches)]))
    joined = jnp.concatenate(schedule, axis=1)
    if shuffle and len(orders) > 1:
        shared = jax.random.fold_in(jax.random.key(jnp.asarray(split_seed).astype(jnp.uint32)), epoch)
        joined = jax.random.permutation(jax.random.fold_in(shared, len(orders)), joined, axis=1)
    return orders, (jnp.arange(1, joined.shape[1] + 1, dtype=jnp.int32), joined[0], joined[1])
