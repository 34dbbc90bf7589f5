"""The content of a step: arrays as they are stored, metadata as anybody may have written it."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.quiet import late_tasks_quiet
from jaxrnn.runs.step_files import CheckpointError

# The state of an optimiser and the best parameters take a few times what a model takes. Arrays of many times more, of
# zeros that no file holds, would only fill the memory.
MAX_SURPLUS, BYTES_OF_SMALL = 32, 2**24
_DESCRIPTION = b"/.zarray"  # Zarr's, behind the name of an array


def is_key(leaf: Any) -> bool:
    """Whether an array is one of random keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def storable(leaf: Any) -> Any:
    """Returns an array as a step holds it: random keys as their data."""
    array = jax.random.key_data(leaf) if is_key(leaf) else leaf
    is_shared = isinstance(array, jax.Array) and not array.is_fully_replicated
    return array if is_shared else np.asarray(array)  # each process writes its own share


def storable_struct(leaf: Any) -> Any:
    """Returns the shape and the type of an array as a step holds it."""
    return jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf


def as_stored_type(array: Any, leaf: Any) -> Any:
    """Returns an array that a step held as what `leaf` is: random keys from their data."""
    return jax.random.wrap_key_data(array) if is_key(leaf) else array


@contextlib.contextmanager
def reading(step_dir: Path) -> Iterator[None]:
    """Turns whatever Orbax raises over a step that anybody may have written into one line about it.

    Raises:
      CheckpointError: Orbax cannot read the step.
    """
    try:
        with late_tasks_quiet():
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any type: it parses what it finds
        reason = str(error).partition("\n")[0]
        if "RESOURCE_EXHAUSTED" in reason:
            raise
        raise CheckpointError(
            f"{step_dir}: found what Orbax cannot read ({type(error).__name__}: {escape(shorten(reason, 120))});"
            " expected a step as jaxrnn writes it; use another step, or train again"
        ) from error


def read_shapes(directory: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the names of the arrays that Orbax has written to a directory, with their shapes and types.

    Orbax's own way there opens every array and asks TensorStore for its description as JSON, whose Python objects
    TensorStore 0.1.86 never lets go: 3 KB an array and call, in a process that loads models all day.

    Raises:
      ValueError, KeyError, TypeError: A description is not that of an array.
    """
    import tensorstore

    base = {"driver": "file", "path": f"{directory}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = [key for key in store.list().result() if key.endswith(_DESCRIPTION)]
    found = {}
    for key, content in [(key, store.read(key)) for key in keys]:  # all are asked for before the first is waited for
        described = json.loads(content.result().value)
        shape = tuple(described["shape"])
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError("the shape of an array")
        found[key.removesuffix(_DESCRIPTION).decode()] = jax.ShapeDtypeStruct(shape, np.dtype(described["dtype"]))
    return found


def check_format(content: Any, step_dir: Path, version: int) -> dict[str, Any]:
    """Returns a step's metadata if it is of the format that this version reads.

    Raises:
      CheckpointError: It is none, or of another format.
    """
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{step_dir}: got metadata that is no object but {type(content).__name__}; expected that of a run; use a"
            " checkpoint that jaxrnn has written"
        )
    found = content.get("format_version")
    if type(found) is not int or found != version:
        versions = content.get("versions")
        writer = versions.get("jaxrnn") if isinstance(versions, dict) else None
        writer = shorten(writer, 40) if isinstance(writer, str) else "unknown"
        raise CheckpointError(
            f"{step_dir}: got checkpoint format {_shown(found)}; this version reads {version};"
            f" use the jaxrnn version that wrote it ({escape(writer)})"
        )
    return content


def check_group(stored: dict[str, Any], wanted: dict[str, Any], step_dir: Path) -> None:
    """Compares the arrays of a step whose names begin as those of `wanted` do; no other may begin like that.

    Args:
      stored: Shapes and types by name.
      wanted: Those expected, all of one group.
      step_dir: The step's directory.

    Raises:
      CheckpointError: The arrays are not those.
    """
    groups = {name.partition("/")[0] for name in wanted}
    held = [name for name in stored if name.partition("/")[0] in groups]
    if len(held) < len(wanted):
        missing = sorted(wanted.keys() - stored.keys())
        raise CheckpointError(
            f"{step_dir}: has no array {missing[0]}: got {len(held)} parameters; expected {len(wanted)}, as its"
            " configuration says; use a checkpoint that jaxrnn has written"
        )
    surplus = sorted(set(held) - wanted.keys())
    if surplus:
        raise CheckpointError(
            f"{step_dir}: got an array {escape(shorten(surplus[0]))}; expected none of this name, as its configuration"
            " says; use a checkpoint that jaxrnn has written"
        )
    _check_shapes(stored, wanted, step_dir)


def check_arrays(stored: dict[str, Any], wanted: dict[str, Any], step_dir: Path) -> None:
    """Compares the arrays of a step with those that are to be restored, before memory is taken for any.

    Args:
      stored: Shapes and types by name.
      wanted: Those expected, or arrays like them; a part of what is stored is enough.
      step_dir: The step's directory.

    Raises:
      CheckpointError: One is missing or has another shape or type; or the step holds far more than a run does.
    """
    _check_shapes(stored, wanted, step_dir)
    num_bytes, limit = _bytes(stored.values()), MAX_SURPLUS * _bytes(map(storable_struct, wanted.values()))
    if num_bytes > limit + BYTES_OF_SMALL:
        raise CheckpointError(
            f"{step_dir}: got arrays of {num_bytes / 2**20:,.0f} MiB in all; expected at most"
            f" {(limit + BYTES_OF_SMALL) / 2**20:,.0f}, as a run of this model writes them; use a checkpoint that"
            " jaxrnn has written"
        )


def _check_shapes(stored: dict[str, Any], wanted: dict[str, Any], step_dir: Path) -> None:
    for name, leaf in wanted.items():
        if name not in stored:
            held = shorten(", ".join(sorted(stored)), 1000)
            raise CheckpointError(f"{step_dir}: has no array {name}; it has {escape(held)}")
        expected, found = storable_struct(leaf), stored[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise CheckpointError(
                f"{step_dir}: array {name}: got {found.dtype} of shape {found.shape};"
                f" expected {expected.dtype} of shape {expected.shape}"
            )


def _bytes(arrays: Any) -> int:
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays)


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value), 40)
    except (ValueError, RecursionError):
        return "something huge"
