"""How a layer is run: options that change no number beyond rounding, checked whenever they are set."""

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, get_args

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrnn.foundation.array_types import Backend
from jaxrnn.nn import checks, shared_units
from jaxrnn.nn.parameters import Initializer


class LayerOptions(TypedDict, total=False):
    """What every layer can be given by name; `AbstractCellStack` says what each of them means."""

    num_layers: int
    bias: bool
    dropout: float
    bidirectional: bool
    reverse: bool
    backend: Backend
    remat_steps: int | None
    compute_dtype: Any
    custom_gradient: bool
    kernel_init: Initializer | None
    recurrent_init: Initializer | None
    bias_init: Initializer | None
    param_dtype: Any


def check_backend(value: Any) -> Backend:
    """Returns a backend's name.

    Raises:
      ValueError: There is no such backend.
    """
    names = get_args(Backend)
    if isinstance(value, str) and value in names:
        return value  # type: ignore[return-value]
    expected = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    nearest = difflib.get_close_matches(str(value), names, n=1)
    advice = f": did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"backend: got {value!r}; expected {expected}{advice}")


def check_remat_steps(value: Any) -> int | None:
    """Returns a number of steps, or None.

    Raises:
      TypeError: It is neither an integer nor None.
      ValueError: It is less than 1.
    """
    if value is None:
        return None
    checks.check_size("remat_steps", value)
    return int(value)


def check_compute_dtype(value: Any) -> Any:
    """Returns a floating-point type, or None.

    Raises:
      TypeError: It is another type.
    """
    if value is None:
        return None
    checks.check_floating_type("compute_dtype", value)
    return jnp.dtype(value)


def check_flag(name: str, value: Any) -> bool:
    """Returns a flag.

    Raises:
      TypeError: It is something else.
    """
    checks.check_flag(name, value)
    return bool(value)


def check_mesh(value: Any) -> Mesh | None:
    """Returns a mesh that hidden units can be shared along, or None.

    Raises:
      TypeError: It is no mesh.
      ValueError: It has no axis for the hidden units.
    """
    if value is None:
        return None
    if not isinstance(value, Mesh):
        raise TypeError(f"mesh: got {type(value).__name__}; expected a jax.sharding.Mesh, or None")
    if shared_units.MODEL_AXIS not in value.axis_names:
        raise ValueError(f"mesh: got axes {value.axis_names}; expected one named {shared_units.MODEL_AXIS!r}")
    return value


# What an attribute of this name goes through, in a constructor and later.
CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "backend": check_backend,
    "remat_steps": check_remat_steps,
    "compute_dtype": check_compute_dtype,
    "custom_gradient": functools.partial(check_flag, "custom_gradient"),
    "reverse": functools.partial(check_flag, "reverse"),
    "mesh": check_mesh,
}
