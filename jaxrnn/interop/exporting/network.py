"""The parts of an exported program that tasks share: what the recurrent layer reads, missing values, means."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrnn.interop.exporting import signature
from jaxrnn.interop.exporting.array_ops import Member


def read_steps(ops: Any, member: Member, encoded: Mapping[str, Any], inputs: Any) -> Any:
    """Returns what the recurrent layer reads: numbers, embeddings and the numbers of the whole, side by side.

    Args:
      ops: The operations of a format.
      member: The model.
      encoded: Its inputs by name, normalised; categories as codes.
      inputs: The numbers of every step, (batch, time, inputs) float32; None without any.
    """
    parts = [] if inputs is None else [inputs]
    column = 0
    while f"embeddings.{column}.weight" in member.weights:
        codes = ops.squeeze(ops.columns(encoded[signature.CATEGORIES], column, column + 1), 2)
        table = member.weights[f"embeddings.{column}.weight"]
        is_known = (codes >= np.int64(0)) & (codes < np.int64(len(table)))
        parts.append(ops.lookup(table, ops.where(is_known, codes, np.int64(0))))
        column += 1
    if signature.STATICS in encoded:
        parts.append(ops.repeat_steps(encoded[signature.STATICS], parts[0]))
    return ops.concat(parts)


def mean(each: Sequence[Any]) -> Any:
    """Returns the mean over the members of an ensemble."""
    total = each[0]
    for one in each[1:]:
        total = total + one
    return total / float(len(each)) if len(each) > 1 else total


def fill_forward(ops: Any, values: Any, is_known: Any) -> Any:
    """Repeats the last known value, and before the first one that one; NaN where none is known at all.

    Values are (batch, time, columns). Known ones are written one behind the other, the first one to place 1, and read
    by how many there were so far.
    """
    count = ops.cumsum(ops.cast(is_known, np.int64))
    nothing = ops.expand_like(np.float64(math.nan), values)
    start = ops.pick_steps(nothing, np.zeros((1, 1), np.int64))
    slots = ops.put_each(ops.concat([start, nothing], axis=1), ops.where(is_known, count, np.int64(0)), values)
    return ops.pick_each(slots, ops.maximum(count, np.int64(1)))
