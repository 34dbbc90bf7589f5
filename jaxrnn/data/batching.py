"""From ragged rows to rectangular arrays: padding to a few lengths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.ragged import Ragged

MAX_CANDIDATE_LENGTHS = 64
# A further padded length is another compiled shape: it must save at least this share of all steps.
MIN_SAVING = 0.05


class Bucket(NamedTuple):
    """Rows padded to one length. As a pytree its leaves are arrays, on the host or on a device.

    Attributes:
      values: (rows, length) float32, 0 at padding.
      lengths: (rows,) int32; 0 for rows that only fill up a batch.
    """

    values: Any
    lengths: Any

    def cut(self, length: int) -> "Bucket":
        """Returns the first values of every row, which hold all that is no padding."""
        return self._replace(values=self.values[:, :length])


def pad_sequences(rows: Ragged | Sequence[Any], length: int | None = None, *, dtype: Any = np.float32) -> Bucket:
    """Pads rows with zeros at the end.

    Args:
      rows: Ragged rows, lists of numbers, or arrays of (length_of_row, features).
      length: Padded length; the longest row's if None.
      dtype: The padded values' type.

    Returns:
      A `Bucket` of (rows, length) or (rows, length, features) values and (rows,) lengths.

    Raises:
      TypeError: A row is not of numbers.
      ValueError: A row is longer than `length`, nothing is ever cut off; or rows have other features.

    Example:
      >>> import jaxrnn
      >>> values, lengths = jaxrnn.pad_sequences([[3, 5, 7], [1, 2]])
      >>> values.tolist(), lengths.tolist()
      ([[3.0, 5.0, 7.0], [1.0, 2.0, 0.0]], [3, 2])
    """
    if not isinstance(rows, Ragged):
        rows = list(rows)
        if any(np.ndim(row) == 2 for row in rows):
            return _pad_features([np.asarray(row) for row in rows], length, dtype)
        rows = Ragged.from_rows(rows)
    lengths = rows.lengths
    length = _padded_length(lengths, length)
    values = np.zeros((len(rows), length), dtype)
    values[np.arange(length)[None] < lengths[:, None]] = rows.values
    return Bucket(values, lengths.astype(np.int32))


def _pad_features(rows: list[np.ndarray], length: int | None, dtype: Any) -> Bucket:
    shapes = sorted({row.shape[1:] for row in rows})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise ValueError(
            f"pad_sequences: got rows with features of shapes {shapes}; expected (length, features) of all"
        )
    lengths = np.array([len(row) for row in rows], np.int32)
    values = np.zeros((len(rows), _padded_length(lengths, length), *shapes[0]), dtype)
    for padded, row in zip(values, rows, strict=True):
        padded[: len(row)] = row
    return Bucket(values, lengths)


def _padded_length(lengths: np.ndarray, length: int | None) -> int:
    longest = int(lengths.max(initial=0))
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"pad_sequences: got a row of {longest} values; expected at most length = {length}")
    return length


def unpad_sequences(values: Any, lengths: Any) -> Ragged | list[np.ndarray]:
    """Returns the first lengths[b] steps of every row b: the inverse of `pad_sequences`.

    Args:
      values: (rows, length), or (rows, length, features): a layer's outputs, say.
      lengths: (rows,) integers.

    Returns:
      Ragged rows; a list of (length_of_row, features) arrays where there are features.

    Raises:
      TypeError: Lengths that are not integers.
      ValueError: A length outside 0..length, or shapes that do not fit.

    Example:
      >>> import jaxrnn
      >>> rows = jaxrnn.unpad_sequences([[3.0, 5.0, 7.0], [1.0, 2.0, 0.0]], [3, 2])
      >>> [row.tolist() for row in rows]
      [[3.0, 5.0, 7.0], [1.0, 2.0]]
    """
    values, lengths = np.asarray(values), np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"unpad_sequences: got lengths of {lengths.dtype}; expected integers")
    if lengths.shape != values.shape[:1] or values.ndim not in (2, 3):
        raise ValueError(f"unpad_sequences: got values {values.shape} and lengths {lengths.shape}; "
                         "expected (rows, length) or (rows, length, features), and (rows,)")  # fmt: skip
    if len(lengths) and (lengths.min() < 0 or lengths.max() > values.shape[1]):
        raise ValueError(f"unpad_sequences: got lengths from {lengths.min()} to {lengths.max()}; "
                         f"expected 0 to {values.shape[1]}")  # fmt: skip
    if values.ndim == 3:
        return [row[:length] for row, length in zip(values, lengths, strict=True)]
    flat = values[np.arange(values.shape[1])[None] < lengths[:, None]].astype(np.float64)
    return Ragged.from_lengths(flat, lengths)


def choose_bucket_lengths(lengths: np.ndarray, max_buckets: int) -> list[int]:
    """Chooses at most `max_buckets` padded lengths that leave the fewest padded steps.

    Exact over the distinct lengths, or over their quantiles where there are more than
    `MAX_CANDIDATE_LENGTHS`; uses fewer lengths where another would save little.

    Args:
      lengths: The rows' lengths.
      max_buckets: At least 1.

    Returns:
      Increasing lengths; the last is the longest row's.
    """
    return choose_lengths_of(*np.unique(lengths, return_counts=True), max_buckets)


def choose_lengths_of(distinct: np.ndarray, counts: np.ndarray, max_buckets: int) -> list[int]:
    """As `choose_bucket_lengths`, of the distinct lengths, rising, and how many rows have each."""
    if len(distinct) > MAX_CANDIDATE_LENGTHS:
        quantiles = np.linspace(0, 1, MAX_CANDIDATE_LENGTHS + 1)[1:]
        ends = np.cumsum(counts)
        places = np.ceil(quantiles * (ends[-1] - 1))
        candidates = np.unique(distinct[np.searchsorted(ends, places, side="right")])
        owner = np.searchsorted(candidates, distinct)
        counts = np.bincount(owner, weights=counts, minlength=len(candidates))
        distinct = candidates
    rows_up_to = np.concatenate([[0], np.cumsum(counts)])
    # cost[j] = fewest steps for the rows of the first j candidates, with the buckets tried so far.
    cost = np.concatenate([[0], np.full(len(distinct), np.inf)])
    choices: list[np.ndarray] = []
    totals: list[float] = []
    for _ in range(min(max_buckets, len(distinct))):
        steps = cost[:-1, None] + (rows_up_to[None, 1:] - rows_up_to[:-1, None]) * distinct[None]
        steps = np.where(np.tri(len(distinct), dtype=bool).T, steps, np.inf)
        choices.append(np.argmin(steps, axis=0))
        cost = np.concatenate([[0], np.min(steps, axis=0)])
        totals.append(float(cost[-1]))
    number = 1
    while number < len(totals) and totals[number - 1] - totals[number] >= MIN_SAVING * totals[number - 1]:
        number += 1
    chosen, end = [], len(distinct)
    for choice in reversed(choices[:number]):
        chosen.append(int(distinct[end - 1]))
        end = int(choice[end - 1])
        if end == 0:
            break
    return sorted(chosen)


def bucket_rows(rows: Ragged, bucket_lengths: list[int], *, multiple_of: int = 1) -> list[tuple[np.ndarray, Bucket]]:
    """Pads every row to the shortest bucket length that holds it.

    Args:
      rows: Ragged rows.
      bucket_lengths: Increasing; the last holds the longest row.
      multiple_of: Every bucket is filled up with rows of length 0 to a multiple of this.

    Returns:
      For every bucket that is not empty: the numbers of its rows, in their order, and the `Bucket`.
    """
    bucket_of_row = np.searchsorted(np.asarray(bucket_lengths), rows.lengths)
    buckets = []
    for number, length in enumerate(bucket_lengths):
        indices = np.flatnonzero(bucket_of_row == number)
        if not len(indices):
            continue
        values, lengths = pad_sequences(rows.take(indices), length)
        fill = -len(indices) % multiple_of
        buckets.append((indices, Bucket(np.pad(values, ((0, fill), (0, 0))), np.pad(lengths, (0, fill)))))
    return buckets
