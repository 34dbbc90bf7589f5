"""PyTorch's state dicts, both ways. Takes and gives NumPy arrays: torch itself is not needed."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

# Parts of Flax that PyTorch has too: their parameters' names there. A Linear's matrix is transposed.
_FLAX_NAMES: dict[type, dict[str, str]] = {
    nnx.Linear: {"kernel": "weight", "bias": "bias"},
    nnx.Embed: {"embedding": "weight"},
    nnx.LayerNorm: {"scale": "weight", "bias": "bias"},
}


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
    if not isinstance(module, nnx.Module):
        raise TypeError(f"module: got {type(module).__module__}.{type(module).__name__}; expected a flax.nnx.Module")
    parts = list(nnx.iter_modules(module))
    # PyTorch numbers the parts of a Sequential without a name before the number.
    unnamed = [(*path, "layers") for path, part in parts if isinstance(part, nnx.Sequential)]
    for path, part in parts:
        keys = [str(key) for i, key in enumerate(path) if path[: i + 1] not in unnamed]
        own = {name: value for name, value in vars(part).items() if isinstance(value, nnx.Param)}
        names = _FLAX_NAMES.get(type(part), {})
        if own and not names and type(part).__module__.split(".")[0] == "flax":
            raise TypeError(
                f"{'.'.join(keys)}: nnx.{type(part).__name__} has no counterpart in the state dicts that are known"
                f" here; expected jaxrnn's layers and {', '.join(f'nnx.{kind.__name__}' for kind in _FLAX_NAMES)}"
            )
        for name, value in own.items():
            transposed = isinstance(part, nnx.Linear) and name == "kernel"
            yield _Entry(".".join([*keys, names.get(name, name)]), value, transposed)


def _as_array(name: str, value: Any) -> np.ndarray:
    """Takes tensors as they stand in a module: with a gradient, on another device, in bfloat16."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"{name}: got {type(value).__name__}; expected an array of floating-point numbers")
    return array


def load_torch_state_dict(module: nnx.Module, mapping: Mapping[str, Any]) -> None:
    """Sets a module's parameters to those of a PyTorch module, in place.

    Strict: every parameter of the module must be there, with its shape, and nothing else.

    Args:
      module: A jaxrnn layer or cell, a `flax.nnx.Linear`, `Embed` or `LayerNorm`, or a module made of them (lists and
        `nnx.Sequential` too); the names of its attributes are those in the state dict.
      mapping: What `torch.nn.Module.state_dict()` gives: arrays by name, tensors or anything that `numpy.asarray`
        takes.

    Raises:
      KeyError: Names are missing or unexpected; names them.
      ValueError: An array has another shape; names it.
      TypeError: An array is not of floating-point numbers, or a part of the module has no counterpart; names it.

    Example:
      >>> import jaxrnn
      >>> from flax import nnx
      >>> trained = jaxrnn.to_torch_state_dict(jaxrnn.GRU(3, 4, rngs=nnx.Rngs(0)))  # or a torch module's state_dict()
      >>> layer = jaxrnn.GRU(3, 4, rngs=nnx.Rngs(1))
      >>> jaxrnn.load_torch_state_dict(layer, trained)
      >>> bool((layer.weight_hh_l0[...] == trained["weight_hh_l0"]).all())
      True
    """
    if not isinstance(mapping, Mapping):
        hint = ": use its state_dict()" if hasattr(mapping, "state_dict") else ""
        raise TypeError(
            f"mapping: got {type(mapping).__module__}.{type(mapping).__name__}; expected arrays by name{hint}"
        )
    entries = list(_entries(module))
    known = {entry.name for entry in entries}
    missing, unexpected = sorted(known - set(mapping)), sorted(set(mapping) - known)
    if missing or unexpected:
        found = [
            f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise KeyError(f"state dict does not fit the module; {'; '.join(found)}")
    arrays = {entry.name: _as_array(entry.name, mapping[entry.name]) for entry in entries}
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
      module: As `load_torch_state_dict` takes it. bfloat16 parameters are given as float32.

    Raises:
      TypeError: A part of the module has no counterpart; names it.

    Example:
      >>> import jaxrnn
      >>> from flax import nnx
      >>> arrays = jaxrnn.to_torch_state_dict(jaxrnn.LSTM(3, 4, rngs=nnx.Rngs(0)))
      >>> {name: array.shape for name, array in arrays.items()}
      {'weight_ih_l0': (16, 3), 'weight_hh_l0': (16, 4), 'bias_ih_l0': (16,), 'bias_hh_l0': (16,)}
    """
    found = {}
    for entry in _entries(module):
        value = np.asarray(entry.parameter.get_value())
        # NumPy itself knows no bfloat16, and torch.from_numpy refuses it; float32 holds the same numbers.
        wide = np.float32 if value.dtype == jnp.bfloat16 else value.dtype
        found[entry.name] = np.array(value.T if entry.transposed else value, wide)
    return found
