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

from jaxrnn import platforms
from jaxrnn._typing import Array, State
from jaxrnn.loops import Pointwise, Weights


@dataclasses.dataclass(frozen=True)
class _Closed:
    """An equation as a jaxpr; the arrays that it read are its last arguments."""

    jaxpr: Any
    structure: Any

    def __call__(self, state: State, input_gates: Array, hidden_gates: Array, *extras: Any) -> State:
        number = len(self.jaxpr.constvars)
        own, read = extras[: len(extras) - number], extras[len(extras) - number :]
        leaves = jax.tree.leaves((state, input_gates, hidden_gates, *own))
        run: Callable[..., Any] = core.jaxpr_as_fun(core.ClosedJaxpr(self.jaxpr, read))
        return jax.tree.unflatten(self.structure, run(*leaves))


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
            "equation: got one that reads a traced array from around it inside jax.shard_map, where that array or what"
            " the equation makes itself varies otherwise than a state; expected one that reads its arguments alone:"
            " give the array as one of its extra_parameters, or use jax.shard_map(..., check_vma=False)"
        )
    return _Closed(closed.jaxpr, jax.tree.structure(result)), (*extras, *closed.consts)


def _as_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _depends_on_axes(jaxpr: Any) -> bool:
    """Whether a jaxpr makes arrays vary over devices, or makes arrays from nothing, which vary over none."""
    for eqn in jaxpr.eqns:
        if any(word in eqn.primitive.name for word in ("pvary", "pcast")):
            return True
        if all(isinstance(variable, core.Literal) for variable in eqn.invars):
            return True
    return any(map(_depends_on_axes, core.subjaxprs(jaxpr)))
