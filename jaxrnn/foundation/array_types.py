"""The names of the dimensions, and the array types that say them.

| name | what it counts |
|---|---|
| batch | rows of a batch |
| time | steps of a row, padding included |
| input | features of a step |
| hidden | hidden units: PyTorch's hidden_size |
| output | size of the state that is read: hidden, or proj_size where a layer projects |
| gates | rows of a weight matrix: number of gates * hidden |

The public surface is batch-major, ``(batch, time, input)``; only recurrence.py is time-major.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Integer, PyTree, UInt8

ArrayLike = Array | np.ndarray  # what public calls take
Size = int | Any  # an integer, or a symbolic dimension of jax.export
State = PyTree[Float[ArrayLike, "..."]]
Listed = list[Any] | tuple[Any, ...]  # numbers, or rows of them
RowLengths = Integer[ArrayLike, "*batch"] | Listed | int | np.integer  # one number: of a single row
RowFlags = Bool[ArrayLike, "*batch"] | Integer[ArrayLike, "*batch"] | Listed | bool | np.bool_
StepFlags = Bool[ArrayLike, "*batch time"] | Integer[ArrayLike, "*batch time"] | Listed  # integers: 0 and 1
StepNumbers = Integer[ArrayLike, "*batch time"] | Listed
Mask = Bool[Array, "batch time"]
TimeMajorMask = Bool[Array, "time batch"]
ResetCodes = UInt8[Array, "time batch"]
Backend = Literal["auto", "compiled", "scan"]
StateDict = Mapping[str, np.ndarray]

__all__ = [
    "Array",
    "ArrayLike",
    "Backend",
    "Bool",
    "Float",
    "Int",
    "Mask",
    "PyTree",
    "ResetCodes",
    "RowFlags",
    "RowLengths",
    "Size",
    "State",
    "StateDict",
    "StepFlags",
    "StepNumbers",
    "TimeMajorMask",
]
