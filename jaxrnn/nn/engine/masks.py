"""Lengths, masks, segments and resets as what the engine takes: where it computes, and where it starts afresh."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxrnn.foundation.array_types import Array, Bool, Mask, ResetCodes, Size, TimeMajorMask

# The state that a segment starts from is the first target of the engine's resets; that of `resets` follows it.
SEGMENT_CODE = 1


class Steps(NamedTuple):
    """Which steps count, and before which ones the state starts afresh, for each direction.

    None stands for "all" in `valid` and for "never" in the resets. A reset is the number of what the state becomes:
    `SEGMENT_CODE`, or what `reset_code` gives; 0 where the state goes on.
    """

    valid: TimeMajorMask | None = None
    reset_forward: ResetCodes | None = None
    reset_backward: ResetCodes | None = None


def reset_code(segment_ids: Array | None) -> int:
    """Returns the number that stands for a step of `resets`: without segments, theirs is free."""
    return SEGMENT_CODE if segment_ids is None else SEGMENT_CODE + 1


def steps_from_masks(
    shape: tuple[Size, Size],
    *,
    valid: Mask | None = None,
    segment_ids: Array | None = None,
    resets: Bool[Array, "batch time"] | None = None,
) -> Steps:
    """Works out where the engine computes and where it starts afresh.

    Going forward, a segment starts where the id differs from that of the valid step before. A reset acts at the first
    valid step that is not before it, a row's first one included; at the first of a segment only if it stands in that
    segment, not in the padding before it. Going backward, the same cuts lie on the other side of a step, so both
    directions see the same sequences; what cuts nothing off, a reset at the first valid step, has no meaning there.

    Args:
      shape: (batch, time).
      valid: Steps that count; None if all do.
      segment_ids: Integers, 0 at padding.
      resets: True at steps before which the state is reset.
    """
    if segment_ids is not None:
        occupied = segment_ids > 0
        valid = occupied if valid is None else valid & occupied
    if segment_ids is None and resets is None:
        return Steps(valid=None if valid is None else valid.T)
    num_steps = shape[1]
    every = jnp.ones(shape, bool) if valid is None else valid
    time = jnp.broadcast_to(jnp.arange(num_steps, dtype=jnp.int32), shape)
    last = lax.cummax(jnp.where(every, time, -1), axis=1)
    before = jnp.pad(last[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    first = lax.cummin(jnp.where(every, time, num_steps), axis=1, reverse=True)
    after = jnp.pad(first[:, 1:], ((0, 0), (0, 1)), constant_values=num_steps)

    def at(array: Array, places: Array) -> Array:
        return jnp.take_along_axis(array, jnp.clip(places, 0, num_steps - 1), axis=1)

    forward = backward = jnp.zeros(shape, jnp.uint8)
    starts = jnp.zeros(shape, bool)  # of segments, the first of a row included
    if segment_ids is not None:
        starts = (before < 0) | (segment_ids != at(segment_ids, before))
        forward = jnp.where(starts & (before >= 0), SEGMENT_CODE, forward)
        backward = jnp.where((after < num_steps) & (segment_ids != at(segment_ids, after)), SEGMENT_CODE, backward)
    if resets is not None:
        code = jnp.uint8(reset_code(segment_ids))
        latest = lax.cummax(jnp.where(resets, time, -1), axis=1)
        acts = latest > before
        if segment_ids is not None:
            acts = jnp.where(starts, _latest_of_same(segment_ids, resets, time) > before, acts)
        forward = jnp.where(acts, code, forward)
        backward = jnp.where((backward == 0) & (after < num_steps) & (at(latest, after) > time), code, backward)
    forward, backward = (jnp.where(every, codes, 0).astype(jnp.uint8) for codes in (forward, backward))
    return Steps(None if valid is None else valid.T, forward.T, backward.T)


def _latest_of_same(segment_ids: Array, resets: Bool[Array, "batch time"], time: Array) -> Array:
    """Returns for each step the last reset at or before it that has the same segment id; -1 where there is none."""
    order = jnp.argsort(segment_ids, axis=1, stable=True)
    ids, found = (jnp.take_along_axis(array, order, axis=1) for array in (segment_ids, jnp.where(resets, time, -1)))
    begins = jnp.concatenate((jnp.ones_like(ids[:, :1], bool), ids[:, 1:] != ids[:, :-1]), axis=1)

    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] | right[0], jnp.where(right[0], right[1], jnp.maximum(left[1], right[1]))

    _, latest = lax.associative_scan(join, (begins, found), axis=1)
    return jnp.take_along_axis(latest, jnp.argsort(order, axis=1), axis=1)
