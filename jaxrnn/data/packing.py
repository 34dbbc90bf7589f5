"""Packing: several sequences one behind the other in each row, so that next to nothing computed is padding."""

import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.listed import choose_dtype, read_steps
from jaxrnn.data.ragged import Ragged


class Packed(NamedTuple):
    """Sequences packed into rows of one length.

    Attributes:
      values: (rows, length) or (rows, length, features), 0 at padding.
      segment_ids: (rows, length) int32: 1, 2, .. for the sequences of a row, in their order; 0 at padding.
      row_of: (sequences,) the row that each sequence lies in.
      start_of: (sequences,) the step at which it starts there.
      lengths: (sequences,) its length.

    Example:
      >>> import jaxrnn
      >>> packed = jaxrnn.pack_sequences([[1, 2], [3, 4, 5], [6]])
      >>> [row.tolist() for row in packed.unpack(10 * packed.values)]
      [[10, 20], [30, 40, 50], [60]]
    """

    values: Any
    segment_ids: Any
    row_of: np.ndarray
    start_of: np.ndarray
    lengths: np.ndarray

    def unpack(self, steps: Any) -> list[np.ndarray]:
        """Returns the steps of every sequence, in the order of the sequences.

        Args:
          steps: (rows, length, ...), a layer's outputs, say.
        """
        steps = np.asarray(steps)
        if steps.shape[:2] != self.segment_ids.shape:
            raise ValueError(f"steps: got shape {steps.shape}; expected {(*self.segment_ids.shape, '...')}")
        flat = steps.reshape(-1, *steps.shape[2:])
        begins = self.row_of * steps.shape[1] + self.start_of
        return [flat[begin : begin + length] for begin, length in zip(begins, self.lengths, strict=True)]

    def final_states(self, steps: Any, *, bidirectional: bool = False, reverse: bool = False) -> Any:
        """Returns the state in which every sequence ended, in the order of the sequences.

        It is what `layer.final_state` gives where every sequence is a row of its own, and can be differentiated and
        compiled. The reverse direction ends at a sequence's first step. A sequence of length 0 ends with zeros.

        Args:
          steps: What `layer.all_states` gives for the packed rows, a pytree of arrays of
            (num_layers * num_directions, rows, length, size); or a layer's outputs, (rows, length, features), or
            numbers made of them, (rows, length).
          bidirectional: Whether the layer is: of states every second one is then the reverse direction's, of the
            features of outputs the second half.
          reverse: Whether a layer of one direction is.

        Returns:
          Arrays of (num_layers * num_directions, sequences, size); of outputs (sequences, features), or (sequences,).

        Raises:
          ValueError: A shape that does not fit, or both options.

        Example:
          >>> import jax.numpy as jnp
          >>> import jaxrnn
          >>> from flax import nnx
          >>> packed = jaxrnn.pack_sequences([[1.0, 2.0], [3.0, 4.0, 5.0], [6.0]])
          >>> layer = jaxrnn.GRU(1, 4, rngs=nnx.Rngs(0))
          >>> states = layer.all_states(jnp.asarray(packed.values)[:, :, None], segment_ids=packed.segment_ids)
          >>> packed.final_states(states).shape
          (1, 3, 4)
        """
        import jax  # not above: rows are packed in processes that never load JAX

        if bidirectional and reverse:
            raise ValueError(
                "final_states: got bidirectional=True and reverse=True; expected one of them, as of a layer"
            )
        return jax.tree.map(lambda leaf: _ends_of(self, leaf, bidirectional=bidirectional, reverse=reverse), steps)


def _ends_of(packed: Packed, leaf: Any, *, bidirectional: bool, reverse: bool) -> Any:
    """Returns what one array holds at the step where every sequence ends, as `Packed.final_states` says."""
    import jax.numpy as jnp

    shape, (rows, length) = np.shape(leaf), np.shape(packed.segment_ids)
    axis = 1 if len(shape) == 4 else 0  # that of the rows: states have one before it
    if len(shape) not in (2, 3, 4) or shape[axis : axis + 2] != (rows, length):
        raise ValueError(
            f"final_states: got an array of shape {shape}; expected states (num_layers * num_directions, {rows},"
            f" {length}, size), as all_states gives them, or outputs ({rows}, {length}, features)"
        )
    nothing = (packed.lengths == 0) * (rows * length)  # beyond the last step: 0 is taken there
    firsts = packed.row_of * length + packed.start_of + nothing
    lasts = firsts + (packed.lengths - 1).clip(0)
    if not rows * length:  # sequences without steps alone
        return jnp.zeros((*shape[:axis], len(packed.lengths), *shape[axis + 2 :]), jnp.asarray(leaf).dtype)
    flat = jnp.reshape(leaf, (*shape[:axis], rows * length, *shape[axis + 2 :]))
    take = functools.partial(jnp.take, axis=axis, mode="fill", fill_value=0)
    if not bidirectional:
        return take(flat, firsts if reverse else lasts)
    shared = shape[0] if axis else shape[2] if len(shape) == 3 else 1
    if shared % 2:
        what = "states" if axis else "features"
        raise ValueError(f"final_states: got {shared} {what}; expected as many of each direction: bidirectional=False?")
    if axis:
        ends = jnp.stack([take(flat[::2], lasts), take(flat[1::2], firsts)], axis=1)
        return ends.reshape(shape[0], *ends.shape[2:])
    forward, backward = jnp.split(flat, 2, axis=-1)
    return jnp.concatenate([take(forward, lasts), take(backward, firsts)], axis=-1)


class Placement(NamedTuple):
    """Where sequences of given lengths go.

    Attributes:
      num_rows: Rows that hold them all.
      row_of: (sequences,) the row of each.
      start_of: (sequences,) the step at which it starts there.
    """

    num_rows: int
    row_of: np.ndarray
    start_of: np.ndarray


def pack_sequences(rows: Ragged | Iterable[Any], length: int | None = None, *, dtype: Any = None) -> Packed:
    """Packs sequences into rows of one length, first-fit-decreasing: the longest first, each where it first fits.

    A layer called with the `segment_ids` computes for every sequence what it computes for a row of its own.

    Args:
      rows: Ragged rows; or sequences, each an array or a list of numbers, of token ids, or of features,
        (length_of_sequence, features). Empty ones take no place, and lie at step 0 of row 0.
      length: Steps of a packed row; the longest sequence's if None.
      dtype: The packed values' type. If None: int32 where all sequences hold integers, else float32.

    Raises:
      TypeError: A row is not a sequence of numbers, or `dtype` is of integers and a row is not.
      ValueError: There are no sequences; one is longer than `length`, nothing is ever cut off; they differ in their
        number of features; or an integer does not fit `dtype`.

    Example:
      >>> import jaxrnn
      >>> packed = jaxrnn.pack_sequences([[1, 2], [3, 4, 5], [6]])
      >>> packed.values
      array([[3, 4, 5],
             [1, 2, 6]], dtype=int32)
      >>> packed.segment_ids
      array([[1, 1, 1],
             [1, 1, 2]], dtype=int32)

    Source: Johnson, "Near-Optimal Bin Packing Algorithms", 1973: at most 11/9 of the fewest rows possible, and one.
    """
    if isinstance(rows, Ragged):
        steps, lengths, dtype = rows.values, rows.lengths, np.float32 if dtype is None else dtype
    else:
        steps, lengths = read_steps("pack_sequences", rows)
        dtype = choose_dtype("pack_sequences", steps, dtype)
    longest = int(lengths.max(initial=0))
    if length is None:
        length = longest
    else:
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(f"pack_sequences: got length = {length!r}; expected an integer") from None
    if longest > length:
        raise ValueError(
            f"pack_sequences: got a sequence of {longest} values; expected at most length = {length}: raise it, or cut"
            f" sequence {int(lengths.argmax())}"
        )
    placed = place_sequences(lengths, length)
    values = np.zeros((placed.num_rows, length, *steps.shape[1:]), dtype)
    values.reshape(-1, *steps.shape[1:])[flat_steps(placed, lengths, length)] = steps
    return Packed(values, number_segments(placed, lengths, length), placed.row_of, placed.start_of, lengths)


class PackedRows(NamedTuple):
    """Packed rows to learn from: what a model reads at every step, and what it is to predict there.

    As a pytree its leaves are arrays, on the host or on a device.

    Attributes:
      inputs: (rows, length) float32, 0 at padding.
      targets: (rows, length) float32, the value that follows.
      segment_ids: (rows, length) int32, 0 at padding.
    """

    inputs: Any
    targets: Any
    segment_ids: Any


def pack_rows(rows: Ragged, *, multiple_of: int = 1) -> PackedRows:
    """Packs rows for learning each next value; the last value of a row is a target only.

    Args:
      rows: Normalised, of at least two values each.
      multiple_of: The packed rows are filled up with empty ones to a multiple of this.
    """
    lengths = rows.lengths - 1
    ends = rows.offsets[1:]
    is_input, is_target = np.ones((2, rows.num_values), bool)
    is_input[ends - 1] = is_target[rows.offsets[:-1]] = False
    length = int(lengths.max(initial=1))
    placed = place_sequences(lengths, length)
    where = flat_steps(placed, lengths, length)
    num_rows = placed.num_rows + -placed.num_rows % multiple_of
    inputs, targets = np.zeros((2, num_rows, length), np.float32)
    inputs.reshape(-1)[where], targets.reshape(-1)[where] = rows.values[is_input], rows.values[is_target]
    segment_ids = np.zeros((num_rows, length), np.int32)
    segment_ids[: placed.num_rows] = number_segments(placed, lengths, length)
    return PackedRows(inputs, targets, segment_ids)


def flat_steps(placed: Placement, lengths: np.ndarray, length: int) -> np.ndarray:
    """Returns where every value of every sequence lies in the packed rows, laid out flat."""
    begins = np.cumsum(lengths) - lengths
    return np.repeat(placed.row_of * length + placed.start_of - begins, lengths) + np.arange(int(lengths.sum()))


def number_segments(placed: Placement, lengths: np.ndarray, length: int) -> np.ndarray:
    """Returns segment ids (rows, length): in every row 1, 2, .. from the left, and 0 at padding."""
    marks = np.zeros((placed.num_rows, length + 1), np.int32)
    there = lengths > 0
    marks[placed.row_of[there], placed.start_of[there]] = 1
    numbers = np.cumsum(marks[:, :length], axis=1, dtype=np.int32)
    used = np.zeros(placed.num_rows, np.int64)
    np.maximum.at(used, placed.row_of[there], (placed.start_of + lengths)[there])
    return np.where(np.arange(length)[None] < used[:, None], numbers, 0).astype(np.int32)


def place_sequences(lengths: np.ndarray, length: int) -> Placement:
    """Places sequences first-fit-decreasing into rows of `length` steps.

    Sequences of one length are placed together, and neighbouring rows with as many free steps are one group; so the
    work grows with the number of distinct lengths, not with that of sequences times rows.

    Args:
      lengths: (sequences,) integers from 0 to `length`.
      length: Steps of a row.
    """
    order = np.argsort(-lengths, kind="stable")
    distinct, firsts, counts = np.unique(-lengths[order], return_index=True, return_counts=True)
    row_of, start_of = np.zeros((2, len(lengths)), np.int64)
    # Groups of neighbouring rows with as many free steps, in the order of rows: first row, number of rows, free steps.
    groups = np.zeros((3, 0), np.int64)
    num_rows = 0
    for size, first, count in zip((-distinct).tolist(), firsts.tolist(), counts.tolist(), strict=True):
        if size == 0:
            continue
        fitting = np.flatnonzero(groups[2] >= size)
        capacity = np.cumsum(groups[2, fitting] // size * groups[1, fitting])
        needed = int(np.searchsorted(capacity, count)) + 1  # later groups stay as they are
        room = int(capacity[needed - 1]) if needed <= len(fitting) else int(capacity[-1]) if len(fitting) else 0
        if room < count:
            fresh = -(-(count - room) // (length // size))
            groups = np.append(groups, [[num_rows], [fresh], [length]], axis=1)
            num_rows += fresh
            fitting = np.append(fitting, groups.shape[1] - 1)
            needed = len(fitting)
        chosen = fitting[:needed]
        group_first, group_rows, group_free = groups[:, chosen]
        fits = group_free // size
        taken = fits * group_rows
        before = np.cumsum(taken) - taken
        taken[-1] = count - before[-1]
        member = np.repeat(np.arange(needed), taken)
        nth = np.arange(count) - before[member]
        places = order[first : first + count]
        row_of[places] = group_first[member] + nth // fits[member]
        start_of[places] = length - group_free[member] + nth % fits[member] * size
        groups[2, chosen[:-1]] -= fits[:-1] * size
        # The last group splits: rows filled as far as they go, one filled in part, and rows left as they were.
        full, part = divmod(int(taken[-1]), int(fits[-1]))
        number = np.array([full, int(part > 0), int(group_rows[-1]) - full - (part > 0)])
        free = group_free[-1] - np.array([fits[-1], part, 0]) * size
        split = np.stack([group_first[-1] + np.cumsum(number) - number, number, free])[:, number > 0]
        groups = np.concatenate([groups[:, : chosen[-1]], split, groups[:, chosen[-1] + 1 :]], axis=1)
    return Placement(num_rows, row_of, start_of)
