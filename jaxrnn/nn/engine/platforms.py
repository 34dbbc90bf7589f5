"""Calls whose form is chosen by the platform that a program is compiled for.

The process that traces a program need not be the one that runs it: `jax.export` and ahead-of-time compilation make
programs for other platforms. So a form must not be chosen while tracing. `call` puts a primitive of this module into
the program instead; its lowering, which knows the platform, asks the function for its form there. All forms of a
function compute the same numbers, from and to arrays of the same shapes.

Under `jax.vmap` the function is mapped, in whatever form it takes. Its derivatives, which only those of higher order of
the engine ask for, are those of a plain form that serves everywhere (`PlatformFunction.plain`).
"""

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.foundation.array_types import Array
from jaxrnn.nn.engine import partitioning

Platform = Literal["cpu", "accelerator", "any"]


@dataclasses.dataclass(frozen=True)
class Target:
    """What a form is wanted for.

    Attributes:
      platform: "any" wants a form that serves everywhere.
      is_exported: Whether the program leaves this process: what it calls must be known where it is run.
      is_partitioned: Whether XLA deals the program out to several devices.
    """

    platform: Platform
    is_exported: bool = False
    is_partitioned: bool = False


class PlatformFunction(abc.ABC):
    """A function of trees of arrays that has several forms. Subclasses are hashable: equal ones compute the same."""

    @property
    def is_dealt(self) -> bool:
        """Whether a form for a CPU wants to know the devices that XLA deals the program out to (`partitioning`)."""
        return False

    @abc.abstractmethod
    def __call__(self, target: Target, *arguments: Any) -> Any:
        """Computes the results, in the form for a target."""

    @abc.abstractmethod
    def plain(self, *arguments: Any) -> Any:
        """Computes the first of the results that have a derivative, in operations that JAX differentiates.

        The results behind those, in the order of the leaves, have no derivative.
        """


def call(function: PlatformFunction, *arguments: Any) -> Any:
    """Returns ``function(target, *arguments)``, where the target is what the program is compiled for.

    Args:
      function: What is computed.
      arguments: Trees of arrays.
    """
    leaves, structure = jax.tree.flatten(vary_alike(arguments))
    flat, settings = _Flat(function, structure), _Settings.now()
    marker = partitioning.needs_devices() if function.is_dealt and _may_be_dealt() else None
    results = _call_p.bind(*leaves, function=flat, settings=settings, marker=marker)
    traced = _traced(flat, settings, _likely_target(), tuple(map(_shape_of, leaves)))
    return jax.tree.unflatten(traced[1], results)


def vary_alike(tree: Any) -> Any:
    """Makes all arrays vary over the axes of `jax.shard_map` that any of them varies over.

    What is the same on all devices and meets what is not gets a gradient that is summed over the devices: JAX sees to
    that where the array begins to vary, which must be outside a custom gradient.
    """
    every = varying_axes(tree)
    if not every:
        return tree

    def vary(leaf: Array) -> Array:
        missing = tuple(sorted(every - _varying_axes(jax.typeof(leaf))))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, tree)


def varying_axes(tree: Any) -> frozenset[str]:
    """Returns the axes of `jax.shard_map` that any array of a tree varies over."""
    return frozenset().union(*(_varying_axes(jax.typeof(leaf)) for leaf in jax.tree.leaves(tree)))


def with_rows_of(inputs: Array, run: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """Returns a run that each device makes with its own rows, where a mesh's shardings are part of types.

    On such a mesh (`jax.sharding.AxisType.Explicit`) it is known while tracing which axes share the rows, and every
    operation would have to say how its results lie. Anywhere else the run stays as it is.

    Args:
      inputs: (time, batch, input).
      run: ``run(steps, weights, state, targets, extras)`` gives arrays of (time, batch, ..) and of (batch, ..). Arrays
        of steps are (time, batch, ..), those of states (batch, ..).
    """
    sharding: Any = jax.typeof(inputs).sharding
    rows = (*sharding.spec, None, None)[1]
    if rows is None or sharding.mesh.empty:
        return run
    steps, states, shared = PartitionSpec(None, rows), PartitionSpec(rows), PartitionSpec()
    given, mesh = (steps, shared, states, states, shared), sharding.mesh
    names = {rows} if isinstance(rows, str) else set(rows)
    own: Callable[..., Any] = jax.shard_map(
        lambda *arguments: run(*vary_alike(arguments)),
        mesh=mesh,
        in_specs=given,
        out_specs=(steps, states),
        axis_names=names,
    )

    def run_shared(*arguments: Any) -> Any:
        places = tuple(NamedSharding(mesh, spec) for spec in given)
        return own(*jax.sharding.reshard(arguments, places))

    return run_shared


def _varying_axes(aval: Any) -> frozenset[str]:
    kind = getattr(aval, "mat", None)  # of JAX 0.12; before it, the axes themselves
    return frozenset(getattr(aval, "vma", ()) if kind is None else kind.varying)


def _may_be_dealt() -> bool:
    """Whether XLA may deal out a program of this process to several CPUs: not where each device runs its own part."""
    mesh = jax.sharding.get_abstract_mesh()
    is_whole = mesh.empty or not mesh.manual_axes
    return is_whole and _num_cpu_devices() > 1


def _num_cpu_devices() -> int:
    """Counts JAX's CPU devices, which a process whose own platform is another has too, unless JAX_PLATFORMS says no."""
    try:
        return len(jax.devices("cpu"))
    except RuntimeError:
        return 0


def _likely_target() -> Target:
    """The form whose trace will probably be wanted: it tells the shapes, which are those of every form."""
    return Target("cpu" if jax.default_backend() == "cpu" else "accelerator")


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What JAX's settings were where the call was written; a lowering comes later, maybe outside of them."""

    x64: bool
    precision: str | None

    @classmethod
    def now(cls) -> "_Settings":
        config: Any = jax.config
        return cls(config.jax_enable_x64, config.jax_default_matmul_precision)

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        with jax.enable_x64(self.x64), jax.default_matmul_precision(self.precision):
            yield


@dataclasses.dataclass(frozen=True)
class _Flat:
    """A function of leaves."""

    function: PlatformFunction
    structure: Any

    def __call__(self, target: Target, *leaves: Array) -> Any:
        return self.function(target, *jax.tree.unflatten(self.structure, leaves))

    def plain(self, *leaves: Array) -> list[Array]:
        return jax.tree.leaves(self.function.plain(*jax.tree.unflatten(self.structure, leaves)))


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """A function of leaves, mapped over an axis of some of them."""

    function: Any
    axes: tuple[int | None, ...]

    def __call__(self, target: Target, *leaves: Array) -> Any:
        return jax.vmap(functools.partial(self.function, target), in_axes=self.axes)(*leaves)

    def plain(self, *leaves: Array) -> list[Array]:
        return jax.vmap(self.function.plain, in_axes=self.axes)(*leaves)


@functools.lru_cache(maxsize=512)
def _traced(function: Any, settings: _Settings, target: Target, shapes: tuple[Any, ...]) -> tuple[Any, Any]:
    """Returns a form as a closed jaxpr, and the structure of its results. Shapes and lowering share a trace."""
    with settings.again(), _outside_of_meshes():
        form = functools.partial(function, target)
        closed, results = jax.make_jaxpr(form, return_shape=True)(*shapes)
    return closed, jax.tree.structure(results)


@contextlib.contextmanager
def _outside_of_meshes() -> Iterator[None]:
    """A trace that other places share must not say on which devices it was made."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        yield


def _shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


_call_p = core.Primitive("call_for_platform")
_call_p.multiple_results = True


@_call_p.def_abstract_eval
def _shapes_of_results(*avals: Any, function: Any, settings: _Settings, marker: Any) -> list[Any]:
    del marker
    closed, _ = _traced(function, settings, _likely_target(), tuple(map(_shape_of, avals)))
    alike = {"manual_axis_type": avals[0].mat} if hasattr(avals[0], "mat") else {"vma": avals[0].vma}
    results = []
    for aval in closed.out_avals:
        sharding = avals[0].sharding.update(spec=PartitionSpec(*[None] * aval.ndim))
        results.append(aval.update(sharding=sharding, **alike))
    return results


@_call_p.def_impl
def _compute_now(*leaves: Array, function: Any, settings: _Settings, marker: Any) -> list[Array]:
    """What runs where JAX's jit is disabled."""
    del marker
    platforms = {device.platform for leaf in leaves for device in leaf.devices()}
    with settings.again():
        return jax.tree.leaves(function(Target("cpu" if platforms == {"cpu"} else "accelerator"), *leaves))


def _lower(platform: Platform, context: Any, *values: Any, function: Any, settings: _Settings, marker: Any) -> Any:
    module = context.module_context
    around = module.axis_context
    is_partitioned = marker is not None and isinstance(around, mlir.ShardingContext) and around.num_devices > 1
    target = Target(platform, module.lowering_parameters.for_export, is_partitioned)
    closed, _ = _traced(function, settings, target, tuple(map(_shape_of, context.avals_in)))
    # Inside, what varies over devices does not matter any more, and all that is given would have to say so.
    plain = context.replace(avals_in=closed.in_avals)
    with settings.again(), _outside_of_meshes():
        return mlir.lower_fun(core.jaxpr_as_fun(closed), multiple_results=True)(plain, *values)


mlir.register_lowering(_call_p, functools.partial(_lower, "cpu"), platform="cpu")
mlir.register_lowering(_call_p, functools.partial(_lower, "accelerator"))


def _map(leaves: Any, axes: Any, *, function: Any, settings: _Settings, marker: Any) -> tuple[list[Array], list[int]]:
    places = tuple(axis if isinstance(axis, int) else None for axis in axes)
    results = _call_p.bind(*leaves, function=_Mapped(function, places), settings=settings, marker=marker)
    return results, [0] * len(results)


batching.primitive_batchers[_call_p] = _map


def _differentiate(primals: Any, tangents: Any, *, function: Any, settings: _Settings, marker: Any) -> tuple[Any, Any]:
    results = _call_p.bind(*primals, function=function, settings=settings, marker=marker)
    moved = [place for place, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def run(*values: Array) -> list[Array]:
        arguments = list(primals)
        for place, value in zip(moved, values, strict=True):
            arguments[place] = value
        with settings.again():
            return function.plain(*arguments)

    _, found = jax.jvp(run, [primals[place] for place in moved], [tangents[place] for place in moved])
    still = [ad.Zero(jax.typeof(result).to_tangent_aval()) for result in results[len(found) :]]
    return results, [*found, *still]


ad.primitive_jvps[_call_p] = _differentiate
