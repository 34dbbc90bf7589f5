"""Truncated backpropagation through time: long rows cut into windows; the state goes on from each to the next.

    windows   |- K steps -|- K steps -|- K -|
    state      0 --------> ----------> ---->       carried
    gradient   <---------| <---------| <---|       not carried

The parameters are updated after every window, so a single endless row trains too.
Source: Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
Trajectories", Neural Computation 2(4), 1990, with both of its numbers of steps equal.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrnn.data.batching import Bucket
from jaxrnn.foundation.array_types import Array


class Windows(NamedTuple):
    """Rows cut into windows; a pytree whose leaves have a leading axis of windows.

    Attributes:
      rows: (windows, rows, steps + 1) values, so that neighbours share one: the last of a window is only a target in it
        and the first input of the next. Length 0 where a row has ended before.
      is_end: (windows, rows): whether the row's last value is in this window.
    """

    rows: Bucket
    is_end: Array


def count_windows(num_steps: int, steps: int) -> int:
    """Returns how many windows of at most `steps` steps there are in `num_steps`; 1 if `steps` is 0."""
    return -(-num_steps // steps) if steps else 1


def cut_windows(batch: Bucket, steps: int) -> Windows:
    """Cuts padded rows into windows.

    Args:
      batch: Rows, targets included: length - 1 steps each.
      steps: Steps of a window.
    """
    steps = min(steps, batch.values.shape[1] - 1)
    num_windows = count_windows(batch.values.shape[1] - 1, steps)
    missing = num_windows * steps + 1 - batch.values.shape[1]
    values = jnp.pad(batch.values, ((0, 0), (0, missing)))
    starts = steps * jnp.arange(num_windows)
    cut = jnp.moveaxis(values[:, starts[:, None] + jnp.arange(steps + 1)], 1, 0)
    left = batch.lengths[None] - 1 - starts[:, None]  # steps of a row from the window's first on
    lengths = jnp.where(left > 0, jnp.minimum(left, steps) + 1, 0)
    return Windows(Bucket(cut, lengths), (left > 0) & (left <= steps))
