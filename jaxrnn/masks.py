"""Lengths, masks, segments and resets as what the engine takes: where it computes, and where it starts afresh."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxrnn._typing import Array, Bool, Mask, TimeMajorMask


class Steps(NamedTuple):
    """Which steps count, and before which ones the state starts afresh, for each direction.

    None stands for "all" in `valid` and for "never" in the resets.
    """

    valid: TimeMajorMask | None = None
    reset_forward: TimeMajorMask | None = None
    reset_backward: TimeMajorMask | None = None


def steps_from_masks(
    shape: tuple[int, int],
    *,
    valid: Mask | None = None,
    segment_ids: Array | None = None,
    resets: Bool[Array, "batch time"] | None = None,
) -> Steps:
    """Works out where the engine computes and where it starts afresh.

    A boundary lies between two neighbouring valid steps of a row where their segment ids differ, or
    where a reset is set after the first of them and not after the second. Going forward the state
    starts afresh after a boundary, going backward before it; so both directions see the same
    sequences, whatever lies between them.

    Args:
      shape: (batch, time).
      valid: Steps that count; None if all do.
      segment_ids: Integers, 0 at padding.
      resets: True at steps before which a new sequence starts.
    """
    if segment_ids is not None:
        occupied = segment_ids > 0
        valid = occupied if valid is None else valid & occupied
    labels = [] if segment_ids is None else [segment_ids]
    if resets is not None:
        labels.append(jnp.cumsum(resets, axis=1, dtype=jnp.int32))
    if not labels:
        return Steps(valid=None if valid is None else valid.T)
    every = jnp.ones(shape, bool) if valid is None else valid
    forward = _boundaries(every, labels)
    backward = _boundaries(every[:, ::-1], [label[:, ::-1] for label in labels])[:, ::-1]
    return Steps(None if valid is None else valid.T, forward.T, backward.T)


def _boundaries(valid: Mask, labels: list[Array]) -> Bool[Array, "batch time"]:
    """True at valid steps whose label differs from that of the valid step before them."""
    time = jnp.arange(valid.shape[1], dtype=jnp.int32)[None]
    last_valid = lax.cummax(jnp.where(valid, time, -1), axis=1)
    previous = jnp.pad(last_valid[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    clipped = jnp.maximum(previous, 0)
    differs = functools.reduce(
        jnp.logical_or,
        [label != jnp.take_along_axis(label, clipped, axis=1) for label in labels],
    )
    return valid & (previous >= 0) & differs
