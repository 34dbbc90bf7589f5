"""Sequences given as lists and arrays: their steps one after the other, in one array of numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def read_steps(caller: str, sequences: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Joins the steps of sequences.

    Args:
      caller: The function that complaints are about.
      sequences: Lists or arrays, all (length,) or all (length, features).

    Returns:
      The steps of all sequences, (steps,) or (steps, features), and the lengths, (sequences,) int64.

    Raises:
      TypeError: A sequence does not hold numbers in one of these shapes; names it.
      ValueError: There are none, or they differ in their number of features.
    """
    try:
        sequences = list(sequences)
    except TypeError:
        raise TypeError(f"{caller}: got {type(sequences).__name__}; expected a list of sequences") from None
    if not sequences:
        raise ValueError(f"{caller}: got no sequences; expected at least one")
    try:
        arrays = list(map(np.asarray, sequences))
    except ValueError:  # lists of different lengths in one
        arrays = [_as_array(caller, index, sequence) for index, sequence in enumerate(sequences)]
    # Millions of sequences are looked at one by one only where something is amiss.
    if not all(map(_is_numeric, {array.dtype for array in arrays})) or not {array.ndim for array in arrays} <= {1, 2}:
        for index, array in enumerate(arrays):
            _as_array(caller, index, array)
    if any(array.dtype.kind == "V" for array in arrays):  # NumPy joins bfloat16 with nothing else
        arrays = [array.astype(np.float32) if array.dtype.kind == "V" else array for array in arrays]
    # An empty list says neither how many features there are nor of which type.
    telling = [array for array in arrays if array.size or array.ndim == 2] or arrays[:1]
    if len({array.shape[1:] for array in telling}) > 1:
        shape = telling[0].shape[1:]
        odd = next(array for array in telling if array.shape[1:] != shape)
        index = next(index for index, array in enumerate(arrays) if array is odd)
        raise ValueError(
            f"{caller}: got {_describe(odd)} in sequence {index}, {_describe(telling[0])} before; expected the same of"
            " all"
        )
    if 0 in telling[0].shape[1:]:
        raise ValueError(f"{caller}: got sequences of 0 features; expected at least one")
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    return np.concatenate([array for array in telling if array.size] or telling[:1]), lengths


def _as_array(caller: str, index: int, sequence: Any) -> np.ndarray:
    try:
        array = np.asarray(sequence)
    except ValueError:
        raise ValueError(f"{caller}: sequence {index}: its steps differ in their number of features") from None
    if not _is_numeric(array.dtype):
        raise TypeError(f"{caller}: sequence {index}: got {array.dtype}; expected numbers")
    if array.ndim not in (1, 2):
        hint = ": put a single sequence in a list" if not array.ndim else ""
        raise TypeError(
            f"{caller}: sequence {index}: got shape {array.shape}; expected (length,) or (length, features){hint}"
        )
    return array


def _is_numeric(dtype: np.dtype) -> bool:
    # bfloat16 has no kind of its own in NumPy, but goes into float32.
    return dtype.kind in "fiu" or (dtype.kind == "V" and np.can_cast(dtype, np.float32))


def _describe(array: np.ndarray) -> str:
    return f"{array.shape[1]} features" if array.ndim == 2 else "single numbers"


def choose_dtype(caller: str, steps: np.ndarray, dtype: Any) -> np.dtype:
    """Returns the type that steps are to be kept in, once it is known to hold them.

    Args:
      caller: The function that complaints are about.
      steps: Numbers.
      dtype: The type asked for; if None, int32 for integers and float32 for others.

    Raises:
      TypeError: A type of integers for other numbers.
      ValueError: Integers that it does not hold.
    """
    are_integers = steps.dtype.kind in "iu"
    chosen = np.dtype((np.int32 if are_integers else np.float32) if dtype is None else dtype)
    if chosen.kind not in "iu":
        return chosen
    if not are_integers:
        raise TypeError(f"{caller}: got {steps.dtype} values; expected integers for dtype = {chosen}")
    limits = np.iinfo(chosen)
    if steps.size and (steps.min() < limits.min or steps.max() > limits.max):
        raise ValueError(
            f"{caller}: got integers from {steps.min()} to {steps.max()}; expected {limits.min} to {limits.max}, which"
            f" dtype = {chosen} holds"
        )
    return chosen
