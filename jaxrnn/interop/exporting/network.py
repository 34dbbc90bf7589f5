"""The parts of an exported program that all tasks share: what the recurrent layer reads, and means over members."""

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
