"""Foreign calls whose rows XLA deals out to devices.

XLA's partitioner does not know what a foreign call computes: by itself it gathers all rows on every device. Here it is
told: each device calls for its own rows, and the gradients of what the rows share are summed.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.foundation.array_types import Array

ROWS = -1  # stands for the number of rows in the shapes of a call's results


@dataclasses.dataclass(frozen=True)
class Call:
    """A foreign call on arrays that have an axis of rows in common; what is missing among them is empty.

    Attributes:
      name: Under which it is registered.
      attributes: Its attributes, by name.
      row_axes: The axis of the rows in each argument, counted from the end; None where the rows share the argument. The
        first argument is (rows, time, features).
      shapes: Shapes of the results, in float32. `ROWS` stands for the number of rows; one without is a sum over rows.
    """

    name: str
    attributes: tuple[tuple[str, Any], ...]
    row_axes: tuple[int | None, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, arrays: tuple[Array, ...], *, is_partitioned: bool) -> tuple[Array, ...]:
        """Calls.

        Args:
          arrays: The arguments.
          is_partitioned: Whether XLA may deal the rows out to several devices.
        """
        return _mappable(self, is_partitioned)(*arrays)

    def at_once(self, *arrays: Array) -> tuple[Array, ...]:
        """Calls for all rows that the arrays have; they may all have the same axes in front, of mapped models."""
        *models, rows, _, _ = arrays[0].shape
        sizes = [tuple(rows if size == ROWS else size for size in shape) for shape in self.shapes]
        results = [jax.ShapeDtypeStruct((*models, *size), np.float32) for size in sizes]
        return tuple(jax.ffi.ffi_call(self.name, results)(*arrays, **dict(self.attributes)))

    def row_axis_of_result(self, number: int) -> int | None:
        """Returns the axis of the rows in a result, counted from the end; None in a sum over rows."""
        shape = self.shapes[number]
        return shape.index(ROWS) - len(shape) if ROWS in shape else None


@functools.lru_cache(maxsize=512)
def _mappable(call: Call, is_partitioned: bool) -> Any:
    """Returns a call that `jax.vmap` hands all its models at once."""

    @jax.custom_batching.custom_vmap
    def run(*arrays: Array) -> tuple[Array, ...]:
        return _dealt(call, arrays) if is_partitioned else call.at_once(*arrays)

    @run.def_vmap
    def run_models(size: int, is_mapped: Any, *arrays: Array) -> tuple[Any, Any]:
        every = [
            array if mapped else jnp.broadcast_to(array[None], (size, *array.shape))
            for array, mapped in zip(arrays, is_mapped, strict=True)
        ]
        results = run(*every)
        return results, tuple(True for _ in results)

    return run


def _dealt(call: Call, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Calls once a device. What is empty stays outside: the partitioner knows no axis of it."""
    models = arrays[0].ndim - 3
    given = [number for number, array in enumerate(arrays) if array.size]
    wanted = [number for number, shape in enumerate(call.shapes) if shape != (0,)]
    argument_axes = [call.row_axes[number] for number in given]
    result_axes = [call.row_axis_of_result(number) for number in wanted]
    missing = {number: (array.shape, array.dtype) for number, array in enumerate(arrays) if not array.size}

    def call_with(*some: Array) -> tuple[Array, ...]:
        every: list[Any] = [jnp.zeros(*missing[number]) if number in missing else None for number in range(len(arrays))]
        for number, array in zip(given, some, strict=True):
            every[number] = array
        results = call.at_once(*every)
        return tuple(results[number] for number in wanted)

    def partition(mesh: Any, argument_shapes: Any, result_shapes: Any) -> Any:
        inputs = argument_shapes[0]
        known = isinstance(inputs.sharding, NamedSharding)
        rows = (*inputs.sharding.spec, *[None] * inputs.ndim)[inputs.ndim - 3] if known else None
        mesh = inputs.sharding.mesh if known else mesh

        def shard(shapes: Any, axes: list[int | None]) -> Any:
            specs: list[list[Any]] = [[None] * len(shape.shape) for shape in shapes]
            for spec, axis in zip(specs, axes, strict=True):
                if axis is not None:
                    spec[axis] = rows
            return tuple(NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs)

        def call_on_each(*some: Array) -> tuple[Array, ...]:
            results = call_with(*some)
            if rows is None:
                return results
            found = zip(results, result_axes, strict=True)
            return tuple(lax.psum(result, rows) if axis is None else result for result, axis in found)

        return mesh, call_on_each, shard(result_shapes, result_axes), shard(argument_shapes, argument_axes)

    def factors(ndims: list[int], axes: list[int | None], prefix: str) -> list[str]:
        texts = []
        for number, (ndim, axis) in enumerate(zip(ndims, axes, strict=True)):
            names = [f"{prefix}{number}x{place}" for place in range(ndim)]
            names[:models] = [f"model{place}" for place in range(models)]
            if axis is not None:
                names[axis] = "rows"
            texts.append(" ".join(names))
        return texts

    arguments = factors([arrays[number].ndim for number in given], argument_axes, "a")
    results = factors([models + len(call.shapes[number]) for number in wanted], result_axes, "r")
    named = dict.fromkeys(name for text in (*arguments, *results) for name in text.split())  # in order of appearance
    others = [name for name in named if name != "rows"]
    dealt = custom_partitioning(call_with)
    dealt.def_partition(
        partition=partition,
        sharding_rule=f"{', '.join(arguments)} -> {', '.join(results)}",
        need_replication_factors=tuple(others),
    )
    found = dict(zip(wanted, dealt(*(arrays[number] for number in given)), strict=True))
    shape = (*arrays[0].shape[:models], 0)
    return tuple(found.get(number, jnp.zeros(shape, np.float32)) for number in range(len(call.shapes)))


@functools.cache
def needs_devices() -> Any:
    """Returns a mark for a program, that `_dealt` may be in it: only then does JAX tell a lowering the devices.

    It is a jaxpr that holds a call of the same kind, to be found among the parameters of an operation.
    """
    mark = custom_partitioning(lambda value: value)
    mark.def_partition(partition=lambda *_: None, sharding_rule="->")
    return jax.make_jaxpr(mark)(jnp.float32(0))
