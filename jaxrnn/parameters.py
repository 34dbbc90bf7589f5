"""A module's parameters, held against the sizes that it was built with before anything is computed; and its repr."""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxrnn._typing import Array

Shapes = Mapping[str, tuple[int, ...]]
# The buffers' sizes and XLA's indices into them are 32-bit numbers in places.
MAX_ELEMENTS = 2**31 - 1


def check_shapes(shapes: Shapes) -> None:
    """Raises unless parameters of these shapes can be made.

    Raises:
      ValueError: One has more elements than a 32-bit number counts.
    """
    for name, shape in shapes.items():
        size = math.prod(shape)
        if size > MAX_ELEMENTS:
            raise ValueError(
                f"{name}: got {size} elements, shape {shape}; expected at most {MAX_ELEMENTS}: choose smaller sizes"
            )


def read_parameters(
    module: nnx.Module, shapes: Shapes, *, ending: str = "", absent: Iterable[str] = ()
) -> dict[str, Array]:
    """Returns a module's parameters, of the shapes that its sizes ask for.

    Args:
      module: Whose attributes they are.
      shapes: The shape of every parameter that there must be, by its name without the ending.
      ending: What the names of the attributes end in.
      absent: Names of parameters that there must not be.

    Raises:
      ValueError: A parameter is missing, there in spite of the options, of another shape, or not floating point.
    """
    layer = f"the {type(module).__name__}"
    for name in absent:
        if getattr(module, name + ending, None) is not None:
            raise ValueError(f"{name}{ending}: got a parameter; expected none: {layer} was built without it")
    return {name: _read(module, name + ending, shape, layer) for name, shape in shapes.items()}


def _read(module: nnx.Module, name: str, shape: tuple[int, ...], layer: str) -> Array:
    variable = getattr(module, name, None)
    value: Any = variable.get_value() if isinstance(variable, nnx.Variable) else variable
    if value is None:
        raise ValueError(f"{name}: got none; expected a parameter of shape {shape}: {layer} was built with it")
    if not isinstance(variable, nnx.Variable) or not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(f"{name}: got {type(value).__name__}; expected an nnx.Param of shape {shape}")
    if value.shape != shape:
        raise ValueError(f"{name}: got shape {value.shape}; expected {shape}: {_advice(value.shape, shape, layer)}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{name}: got {value.dtype}; expected floating point")
    return value


def _advice(found: tuple[int, ...], expected: tuple[int, ...], layer: str) -> str:
    extra = len(found) - len(expected)
    if extra > 0 and found[extra:] == expected:
        return f"{found[:extra]} in front is that of members stacked by nnx.vmap: call {layer} under nnx.vmap too"
    return f"a parameter of other sizes, or {layer}'s sizes were changed: build one with the sizes of its parameters"


def call_of(module: nnx.Module, *, weight: Any) -> str:
    """Writes the call that builds a module: its sizes, and of the options those that are not the default.

    Args:
      module: Whose attributes have the names of its constructor's arguments, or of that of a class it comes from.
      weight: A parameter, whose type is `param_dtype`; None if there is none yet.
    """
    values = dict(vars(module))
    values["dropout"] = getattr(values.get("dropout"), "rate", 0.0)
    value: Any = weight.get_raw_value() if isinstance(weight, nnx.Variable) else None
    if hasattr(value, "dtype"):
        values["param_dtype"] = value.dtype
    written: dict[str, str] = {}
    for cls in type(module).__mro__:
        if "__init__" not in vars(cls) or cls is nnx.Module:
            continue
        for name, argument in inspect.signature(vars(cls)["__init__"]).parameters.items():
            if name not in values or name in written:
                continue
            if argument.default is inspect.Parameter.empty:
                written[name] = repr(values[name]) if cls is type(module) else ""
            else:
                is_default = values[name] == argument.default
                written[name] = "" if is_default else f"{name}={getattr(values[name], 'name', values[name])!r}"
    return f"{type(module).__name__}({', '.join(filter(None, written.values()))})"
