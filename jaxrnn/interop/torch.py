"""PyTorch's state dicts, both ways. Takes and gives NumPy arrays: torch itself is not needed."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx


class _Entry(NamedTuple):
    """A parameter of a module, under the name that PyTorch gives it."""

    name: str
    parameter: nnx.Param
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.parameter.get_value().shape
        return shape[::-1] if self.transposed else shape


def _entries(module: nnx.Module) -> Iterator[_Entry]:
    for path, part in nnx.iter_modules(module):
        # PyTorch's Linear holds (out, in) as "weight", Flax's (in, out) as "kernel".
        is_linear = isinstance(part, nnx.Linear)
        prefix = ".".join(str(key) for key in path)
        for name, value in vars(part).items():
            if isinstance(value, nnx.Param):
                torch_name = "weight" if is_linear and name == "kernel" else name
                full_name = f"{prefix}.{torch_name}" if prefix else torch_name
                yield _Entry(full_name, value, is_linear and name == "kernel")


def load_torch_state_dict(module: nnx.Module, mapping: Mapping[str, Any]) -> None:
    """Sets a module's parameters to those of a PyTorch module, in place.

    Strict: every parameter of the module must be there, with its shape, and nothing else.

    Args:
      module: A jaxrnn layer or cell, a `flax.nnx.Linear`, or a module made of them; the names of its attributes are
        those in the state dict.
      mapping: Arrays by name, as `torch.nn.Module.state_dict()` names them; NumPy arrays, or anything that
        `numpy.asarray` takes.

    Raises:
      KeyError: Names are missing or unexpected; names them.
      ValueError: An array has another shape; names it.
      TypeError: An array is not of floating-point numbers; names it.
    """
    entries = list(_entries(module))
    known = {entry.name for entry in entries}
    missing, unexpected = sorted(known - set(mapping)), sorted(set(mapping) - known)
    if missing or unexpected:
        found = [
            f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise KeyError(f"state dict does not fit the module; {'; '.join(found)}")
    arrays = {entry.name: np.asarray(mapping[entry.name]) for entry in entries}
    for entry in entries:
        array = arrays[entry.name]
        if array.shape != entry.shape:
            raise ValueError(f"{entry.name}: got shape {array.shape}; expected {entry.shape}")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{entry.name}: got {array.dtype}; expected floating-point numbers")
    for entry in entries:  # nothing is set unless everything fits
        array = arrays[entry.name]
        dtype = entry.parameter.get_value().dtype
        # A copy: torch's arrays share the memory of its parameters, which an optimiser there changes in place.
        entry.parameter.set_value(jnp.array(array.T if entry.transposed else array, dtype, copy=True))


def to_torch_state_dict(module: nnx.Module) -> dict[str, Any]:
    """Returns a module's parameters under PyTorch's names and in its layouts, as NumPy arrays.

    Args:
      module: As `load_torch_state_dict` takes it.
    """
    return {
        entry.name: np.array(value.T if entry.transposed else value)
        for entry in _entries(module)
        for value in [np.asarray(entry.parameter.get_value())]
    }
