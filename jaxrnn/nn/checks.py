"""What layers and cells take: every complaint says what was got, what was expected, and what to do."""

import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn.foundation.array_types import ArrayLike, Size, State

# Between a user's line and a constructor of this package: Flax builds, JAX traces, jaxtyping may check the arguments.
MAX_SEGMENT_ID = 2**31 - 1
_PACKAGES_IN_BETWEEN = ("jaxrnn", "flax", "jax", "jaxtyping", "beartype", "contextlib", "functools")


def warn_caller(message: str) -> None:
    """Issues a UserWarning that points at the user's own line."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _PACKAGES_IN_BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def check_size(name: str, value: Any, *, minimum: int = 1) -> None:
    """Raises unless `value` is an integer of at least `minimum`.

    Raises:
      TypeError: It is not an integer.
      ValueError: It is too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: got {value!r} ({type(value).__name__}); expected an integer")
    if value < minimum:
        raise ValueError(f"{name}: got {value}; expected at least {minimum}")


def check_batch_size(value: Any) -> None:
    """Raises unless `value` is a number of rows: an integer of at least 0, or a symbolic one of `jax.export`.

    Raises:
      TypeError: It is not an integer.
      ValueError: It is negative.
    """
    if not jax.export.is_symbolic_dim(value):
        check_size("batch_size", value, minimum=0)


def check_flag(name: str, value: Any) -> None:
    """Raises unless `value` is True or False.

    Raises:
      TypeError: It is something else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r} ({type(value).__name__}); expected True or False")


def check_probability(name: str, value: Any) -> None:
    """Raises unless `value` is a number from 0 to 1.

    Raises:
      TypeError: It is not a number.
      ValueError: It is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: got {value!r} ({type(value).__name__}); expected a probability, from 0 to 1")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value}; expected a probability, from 0 to 1")


def check_number(name: str, value: Any) -> None:
    """Raises unless `value` is a finite number.

    Raises:
      TypeError: It is not a number.
      ValueError: It is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: got {value!r} ({type(value).__name__}); expected a number")
    if not np.isfinite(value):
        raise ValueError(f"{name}: got {value}; expected a finite number")


def check_floating_type(name: str, value: Any) -> None:
    """Raises unless `value` is a floating-point type.

    Raises:
      TypeError: It is another type, or none.
    """
    try:  # jnp.dtype(None) is float64
        is_floating = value is not None and jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        is_floating = False
    if not is_floating:
        raise TypeError(f"{name}: got {value!r}; expected a floating-point type such as jnp.float32")


def check_rngs(rngs: Any, *, dropout: float = 0.0) -> None:
    """Raises unless `rngs` can give initial values, and dropout's masks where there is dropout.

    Raises:
      TypeError: It is no `flax.nnx.Rngs`.
      ValueError: It has no stream for what is needed.
    """
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs: got {_type_name(rngs)}; expected flax.nnx.Rngs: use nnx.Rngs(0)")
    for stream in ("params", "dropout") if dropout > 0 else ("params",):
        if stream not in rngs and "default" not in rngs:
            raise ValueError(f"rngs: got no stream {stream!r}; expected one: use nnx.Rngs(0), or nnx.Rngs({stream}=0)")


def check_inputs(inputs: Any, input_size: int, leading: tuple[str, ...]) -> None:
    """Raises unless inputs are floating-point arrays of ``leading + (input_size,)``, or without the batch.

    Args:
      inputs: What was given.
      input_size: The size of the last dimension.
      leading: The names of the dimensions before it, "batch" first.

    Raises:
      TypeError: No array, or not of floating-point numbers.
      ValueError: Another number of dimensions, or another size.
    """
    _check_is_array("inputs", inputs)
    if inputs.ndim not in (len(leading), len(leading) + 1):
        whole, single = (f"({', '.join((*names, str(input_size)))})" for names in (leading, leading[1:]))
        single = single if leading[1:] else f"({input_size},)"
        raise ValueError(
            f"inputs: got {inputs.ndim} dimensions, shape {inputs.shape}; expected {whole}, or {single} of a single row"
        )
    if inputs.shape[-1] != input_size:
        raise ValueError(
            f"inputs: inconsistent input_size: got {inputs.shape[-1]} in shape {inputs.shape}; expected {input_size}"
        )
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(f"inputs: got {inputs.dtype}; expected floating point: use inputs.astype(jnp.float32)")


def check_state(state: State, sizes: Any, leading: tuple[Size, ...], *, layout: str, name: str = "state") -> None:
    """Raises unless a state has the structure and the shapes that an equation asks for.

    Args:
      state: What was given.
      sizes: The size of every array, in the structure that is expected.
      leading: The dimensions before the size.
      layout: The names of the dimensions, for the message.
      name: What to call it.

    Raises:
      TypeError: Another structure (a plain array for an LSTM, say), or not floating-point arrays.
      ValueError: Another shape.
    """
    structure: Any = jax.tree.structure(sizes)
    try:
        leaves = structure.flatten_up_to(state)
    except (TypeError, ValueError):
        leaves = []
    is_one = structure.num_nodes == 1
    if not leaves or (is_one and isinstance(state, tuple | list | dict)):
        found, wanted = _describe(state), _describe(sizes)
        if found == wanted:  # they differ further down
            found, wanted = (str(jax.tree.structure(tree)) for tree in (state, sizes))
        if isinstance(state, list | tuple) and hasattr(sizes, "_fields") and len(state) == len(sizes):
            package = "jaxrnn." if type(sizes).__module__.startswith("jaxrnn.") else ""
            wanted = f"{wanted}: use {package}{type(sizes).__name__}(*state)"
        raise TypeError(f"{name}: got {found}; expected {wanted}")
    for (path, size), leaf in zip(jax.tree_util.tree_leaves_with_path(sizes), leaves, strict=True):
        what = f"{name} {jax.tree_util.keystr(path, simple=True, separator='.')}".rstrip()
        _check_is_array(what, leaf)
        if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim < 2:
            raise TypeError(f"{what}: got {leaf.dtype} {leaf.shape}; expected a state: lengths=, mask= go by name")
        if leaf.shape != (*leading, size):
            raise ValueError(f"{what}: got an array of shape {leaf.shape}; expected {(*leading, size)}: {layout}")
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"{what}: got {leaf.dtype}; expected floating point")


def as_lengths(lengths: Any, leading: tuple[Size, ...], num_steps: Size) -> ArrayLike | None:
    """Returns lengths as an array: one a row, from 0 to the number of steps.

    What a traced array holds is not known, and not checked.

    Args:
      lengths: Integers as an array or a list; one number where there is a single row; or None.
      leading: The shape of one number a row.
      num_steps: The number of steps.

    Raises:
      TypeError: No integers.
      ValueError: Another shape, or a length out of range.
    """
    array = _as_integers("lengths", lengths, leading)
    lowest, highest = _known_range(array)
    if lowest < 0 or (isinstance(num_steps, int) and highest > num_steps):
        raise ValueError(
            f"lengths: got values from {lowest} to {highest}; expected 0 to {num_steps}, the number of steps of the"
            " inputs"
        )
    return array


def as_segment_ids(segment_ids: Any, shape: tuple[Size, ...]) -> ArrayLike | None:
    """Returns segment ids as an array: from 0 to what int32 holds. Args and errors as `as_lengths`."""
    array = _as_integers("segment_ids", segment_ids, shape)
    lowest, highest = _known_range(array)
    if lowest < 0 or highest > MAX_SEGMENT_ID:
        raise ValueError(
            f"segment_ids: got values from {lowest} to {highest}; expected 0 (padding) to {MAX_SEGMENT_ID}"
        )
    return array


def as_booleans(name: str, flags: Any, shape: tuple[Size, ...]) -> ArrayLike | None:
    """Returns flags as an array of booleans.

    Args:
      name: What to call them.
      flags: Booleans, or integers 0 and 1 as tokenizers give them, as an array or a list; or None. Of integers that
        are traced, whose values are not known, every one but 0 counts as True.
      shape: What is expected.

    Raises:
      TypeError: Neither booleans nor integers.
      ValueError: Another shape, or other integers.
    """
    array = _from_list(name, flags, shape)
    _check_shape(name, array, shape)
    if array is None or array.dtype == jnp.bool_:
        return array
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: got {array.dtype}; expected booleans: use {name}.astype(bool)")
    lowest, highest = _known_range(array)
    if lowest < 0 or highest > 1:
        raise ValueError(f"{name}: got values from {lowest} to {highest}; expected booleans, or integers 0 and 1")
    return array != 0


def _as_integers(name: str, value: Any, shape: tuple[Size, ...]) -> Any:
    array = _from_list(name, value, shape)
    _check_shape(name, array, shape)
    if array is not None and not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: got {array.dtype}; expected integers: use {name}.astype(int)")
    return array


def _from_list(name: str, value: Any, shape: tuple[Size, ...]) -> Any:
    """Makes an array of a list, or of the one number that is expected, and leaves everything else as it is."""
    if not isinstance(value, list | tuple | np.generic) and (shape or not isinstance(value, int)):
        return value
    has_arrays = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    try:
        array: Any = jnp.asarray(value) if has_arrays else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: got a list that makes no array; expected shape {shape}: {error}") from error
    return array if array.size else array.astype(int)  # an empty list says nothing of its type


def _known_range(array: Any) -> tuple[int, int]:
    """Returns the least and the greatest of an array's numbers; 0, 0 where they are not known, or there are none."""
    if array is None or isinstance(array, jax.core.Tracer) or not array.size:
        return 0, 0
    known = np.asarray(array)  # NumPy's minimum: while JAX traces, its own has no value, even of a constant
    return int(known.min()), int(known.max())


def _check_shape(name: str, array: Any, shape: tuple[Size, ...]) -> None:
    if array is None:
        return
    _check_is_array(name, array, shape)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}; expected {shape}")


def _check_is_array(name: str, value: Any, shape: tuple[Size, ...] | None = None) -> None:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return
    advice = "" if shape is None else f" of shape {shape}"
    if isinstance(value, list | tuple) or hasattr(value, "__array__") or hasattr(value, "__jax_array__"):
        advice += f": use jnp.asarray({name.split()[-1]})"
    raise TypeError(f"{name}: got {_type_name(value)}; expected an array of JAX or NumPy{advice}")


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _describe(state: Any) -> str:
    """Names the structure of a state: an array, a list of 2, LSTMState(h, c)."""
    fields = getattr(state, "_fields", None)
    if fields is not None:
        return f"{type(state).__name__}({', '.join(fields)})"
    if isinstance(state, tuple | list):
        return f"a {type(state).__name__} of {len(state)}"
    if isinstance(state, dict):
        return f"a dict of {', '.join(map(repr, state))}"
    is_size = isinstance(state, int) and not isinstance(state, bool)
    return "an array" if is_size or isinstance(state, jax.Array | np.ndarray | np.generic) else _type_name(state)
