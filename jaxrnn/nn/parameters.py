"""A module's parameters: their initial values, and the check that they fit its sizes before anything is computed."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.foundation.array_types import Array
from jaxrnn.nn import checks, initial_values

Shapes = Mapping[str, tuple[int, ...]]
# The buffers' sizes and XLA's indices into them are 32-bit numbers in places.
MAX_ELEMENTS = 2**31 - 1


Initializer = Callable[..., Any]


class Initializers(NamedTuple):
    """Where initial values come from; None is PyTorch's U(-1/sqrt(hidden), 1/sqrt(hidden)).

    Each is a function ``(key, shape, dtype) -> array`` such as those of `jax.nn.initializers`. It is called for one
    gate at a time, with the shape (inputs, outputs) that such functions expect: a fan-in is that of one gate, and an
    orthogonal recurrent matrix is one of (hidden, hidden).

    Attributes:
      kernel_init: Initial values of weight_ih, and of weight_hr, which has no gates.
      recurrent_init: Initial values of weight_hh.
      bias_init: Initial values of bias_ih and bias_hh.
    """

    kernel_init: Initializer | None = None
    recurrent_init: Initializer | None = None
    bias_init: Initializer | None = None

    def check(self) -> None:
        """Raises unless each is a function, or None.

        Raises:
          TypeError: One is not.
        """
        for name, initializer in self._asdict().items():
            if initializer is not None and not callable(initializer):
                raise TypeError(
                    f"{name}: got {type(initializer).__name__}; expected a function (key, shape, dtype), such as"
                    " jax.nn.initializers.orthogonal()"
                )


_INITIALIZER_OF = {
    "weight_ih": "kernel_init",
    "weight_hh": "recurrent_init",
    "weight_hr": "kernel_init",
    "bias_ih": "bias_init",
    "bias_hh": "bias_init",
}


def create_parameters(
    shapes: Shapes,
    hidden_size: int,
    initializers: Initializers,
    *,
    rngs: nnx.Rngs,
    dtype: Any,
) -> dict[str, nnx.Param]:
    """Draws parameters.

    Args:
      shapes: Their shapes, by names that begin with one of `loops.Weights`; that of gates is (gates * hidden, ...).
      hidden_size: Hidden units.
      initializers: Where their values come from.
      rngs: Where their keys come from.
      dtype: Their type.

    Raises:
      ValueError: An initialiser returned something else than an array of the shape that it was given.
    """
    bound = 1 / math.sqrt(hidden_size)
    if all(initializer is None for initializer in initializers):
        values = initial_values.draw_uniform(rngs, list(shapes.values()), bound, dtype)
        initial_values.skip_keys(rngs, len(values))
        return {name: nnx.Param(value) for name, value in zip(shapes, values, strict=True)}

    def create(name: str, shape: tuple[int, ...]) -> nnx.Param:
        of = next(of for parameter, of in _INITIALIZER_OF.items() if name.startswith(parameter))
        initializer = getattr(initializers, of)
        if initializer is None:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, dtype, -bound, bound))
        num_blocks = 1 if name.startswith("weight_hr") else shape[0] // hidden_size
        block = (*shape[1:], shape[0] // num_blocks)
        blocks = []
        for _ in range(num_blocks):
            # At least in float32: JAX decomposes no matrix of a shorter type, which an orthogonal one needs.
            drawn = initializer(rngs.params(), block, jnp.promote_types(dtype, jnp.float32))
            if not isinstance(drawn, jax.Array) or drawn.shape != block:
                found = f"shape {drawn.shape}" if isinstance(drawn, jax.Array) else type(drawn).__name__
                raise ValueError(f"{of}: got {found}; expected an array of the shape that it was given, {block}")
            blocks.append(drawn.T)
        return nnx.Param(jnp.concatenate(blocks).astype(dtype))

    return {name: create(name, shape) for name, shape in shapes.items()}


def add_forget_bias(bias: nnx.Param | None, hidden_size: int, value: float) -> None:
    """Adds a number to the forget gate's part of an LSTM's bias_ih.

    Args:
      bias: The bias; None of an LSTM without.
      hidden_size: Hidden units.
      value: What is added; 0 changes nothing.

    Raises:
      TypeError: It is no number.
      ValueError: It is not finite, or there is no bias.
    """
    checks.check_number("forget_bias", value)
    if value == 0:
        return
    if bias is None:
        raise ValueError(f"forget_bias: got {value} with bias=False; expected a bias to add it to: bias=True")
    bias.set_value(bias.get_value().at[hidden_size : 2 * hidden_size].add(value))


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
