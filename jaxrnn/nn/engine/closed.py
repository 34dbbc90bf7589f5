"""Equations that read arrays from around them, made functions of what they are given.

An equation may be a function that reads a traced array of its surroundings. The engine computes it at other places than
where it was written, and differentiates by its arguments, so such arrays become arguments.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxrnn.foundation.array_types import Array, State
from jaxrnn.nn.engine import platforms
from jaxrnn.nn.engine.loops import Pointwise, Weights


@dataclasses.dataclass(frozen=True)
class _Closed:
    """An equation as a jaxpr; the arrays that it read are its last arguments."""

    jaxpr: Any
    structure: Any

    def __call__(self, state: State, input_gates: Array, hidden_gates: Array, *extras: Any) -> State:
        number = len(self.jaxpr.constvars)
        own, read = extras[: len(extras) - number], extras[len(extras) - number :]
        leaves = jax.tree.leaves((state, input_gates, hidden_gates, *own))
        if platforms.varying_axes((leaves, read)):
            results = _replay(self.jaxpr, read, leaves)
        else:
            run: Callable[..., Any] = core.jaxpr_as_fun(core.ClosedJaxpr(self.jaxpr, read))
            results = run(*leaves)
        return jax.tree.unflatten(self.structure, results)


def hoist_tracers(
    pointwise: Pointwise, state: State, inputs: Array, weights: Weights, extras: tuple[Any, ...]
) -> tuple[Pointwise, tuple[Any, ...]]:
    """Returns an equation that reads no traced array, and its extras: those it read follow its own.

    Args:
      pointwise: The equation.
      state: Arrays of (batch, size).
      inputs: (time, batch, input).
      weights: The parameters.
      extras: The equation's own.

    Raises:
      TypeError: It reads a traced array that is not of floating-point numbers.
    """
    if getattr(pointwise, "__closure__", True) is None:  # a plain function: nothing is around it
        return pointwise, extras
    gates = jax.ShapeDtypeStruct((inputs.shape[1], weights.weight_hh.shape[0]), weights.weight_hh.dtype)
    shapes = jax.tree.map(_as_shape, (state, *extras))
    trace = jax.make_jaxpr(pointwise, return_shape=True)
    closed, result = trace(shapes[0], gates, gates, *shapes[1:])
    if not any(isinstance(const, jax.core.Tracer) for const in closed.consts):
        return pointwise, extras
    for const in closed.consts:
        if not jnp.issubdtype(const.dtype, jnp.floating):
            found = f"a traced array of {const.dtype} from around it"
            raise TypeError(f"equation: got one that reads {found}; expected floating point: make it a step's input")
    if platforms.varying_axes((state, inputs, weights, extras, closed.consts)) and _depends_on_axes(closed.jaxpr):
        raise TypeError(
            "equation: got one that, inside jax.shard_map, reads a traced array from around it that varies over"
            " devices,"
            " or reads one and holds a loop, a branch or a custom derivative; expected one that reads its arguments"
            " alone: give the array as one of its extra_parameters, or use jax.shard_map(..., check_vma=False)"
        )
    return _Closed(closed.jaxpr, jax.tree.structure(result)), (*extras, *closed.consts)


def _as_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


# A call of these is that of the jaxpr within.
_CALLS = ("pjit", "jit", "closed_call")


def _replay(jaxpr: Any, consts: Any, arguments: Any) -> list[Any]:
    """Evaluates a jaxpr where arrays vary over the devices of a `jax.shard_map`, and literals and new arrays do not."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(variable: Any) -> Any:
        return jnp.asarray(variable.val) if isinstance(variable, core.Literal) else values[variable]

    for eqn in jaxpr.eqns:
        operands = platforms.vary_alike([read(variable) for variable in eqn.invars])
        if eqn.primitive.name in _CALLS:
            inner = eqn.params["jaxpr"]
            results = _replay(inner.jaxpr, inner.consts, operands)
        else:
            results = eqn.primitive.bind(*operands, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _depends_on_axes(jaxpr: Any) -> bool:
    """Whether a jaxpr makes arrays vary over devices, or holds another that could not be replayed where others vary."""
    for eqn in jaxpr.eqns:
        inner = list(core.jaxprs_in_params(eqn.params))
        if any(word in eqn.primitive.name for word in ("pvary", "pcast")):
            return True
        if inner and (eqn.primitive.name not in _CALLS or any(map(_depends_on_axes, inner))):
            return True
    return False
