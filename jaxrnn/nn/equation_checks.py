"""What an equation must be: refused by its name before a loop over time is built around it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from jaxrnn.nn.engine import loops

if TYPE_CHECKING:
    from jaxrnn.nn.equations import Equation


def check_sizes(equation: "Equation", hidden_size: int, output_size: int) -> None:
    """Raises unless an equation's `state_sizes` says what a state is.

    Args:
      equation: Whose.
      hidden_size: Hidden units.
      output_size: Size of the hidden vector: fewer where there is a projection.

    Raises:
      TypeError: A size is no integer.
      ValueError: A size is less than 1; the hidden vector does not come first.
    """
    prefix = f"equation {equation.name}: state_sizes({hidden_size}, {output_size})"
    sizes = equation.state_sizes(hidden_size, output_size)
    _check_order(sizes, prefix)
    leaves = jax.tree.leaves(sizes)
    for size in leaves:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{prefix}: got {sizes!r}; expected integers, in the structure of a state")
    if not leaves or min(leaves) < 1 or leaves[0] != output_size:
        raise ValueError(
            f"{prefix}: got {sizes!r}; expected sizes of at least 1, first that of the hidden vector: {output_size}"
        )


def _check_order(sizes: Any, prefix: str) -> None:
    """Raises where JAX, which sorts the keys of a dict, would find another array first than who reads it."""
    while isinstance(sizes, dict | list | tuple) and sizes:
        if isinstance(sizes, list | tuple):
            sizes = sizes[0]
            continue
        keys = list(sizes)
        in_jax = next(iter(jax.tree.map(lambda leaf: leaf, sizes)))
        if keys[0] != in_jax:
            raise ValueError(
                f"{prefix}: got a dict whose first key is {keys[0]!r}; expected {in_jax!r}: JAX sorts the keys, and the"
                " hidden vector is the first array"
            )
        sizes = sizes[keys[0]]


def check_extra_parameters(equation: "Equation", found: Any) -> None:
    """Raises unless what `extra_parameters` returned are parameters by names of their own.

    Raises:
      TypeError: It is no dict of arrays by name.
      ValueError: A name is that of a weight or a bias.
    """
    prefix = f"equation {equation.name}: extra_parameters"
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise TypeError(f"{prefix}: got {type(found).__name__}; expected a dict of arrays by name")
    for name in found:
        if name in loops.Weights._fields:
            raise ValueError(f"{prefix}: got {name!r}; expected another name: it is that of a weight or bias")


def check_equation(
    equation: "Equation", hidden_size: int, output_size: int, *, batch: Any, dtype: Any, extras: tuple[Any, ...]
) -> None:
    """Raises unless an equation's `pointwise` makes a state of a state and gates; nothing is computed.

    Args:
      equation: Which.
      hidden_size: Hidden units.
      output_size: Size of the hidden vector: fewer where there is a projection.
      batch: Number of rows.
      dtype: The type of states and gates.
      extras: The equation's own parameters.

    Raises:
      TypeError: It takes other arguments, or returns another structure or type.
      ValueError: It fails otherwise, or returns other shapes.
    """

    def array(size: int) -> Any:
        return jax.ShapeDtypeStruct((batch, size), dtype)

    sizes = equation.state_sizes(hidden_size, output_size)
    state, gates = jax.tree.map(array, sizes), array(equation.num_gates * hidden_size)
    extra = f" and {len(extras)} parameters of its own" if extras else ""
    called = f"called with a state {_shown(state)}, gates {_shown(gates)} and {_shown(gates)}{extra}"
    try:
        found = jax.eval_shape(equation.pointwise, state, gates, gates, *extras)
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        first_line = str(error).strip().partition("\n")[0]
        raise kind(f"equation {equation.name}: {called}, raised {type(error).__name__}: {first_line}") from error
    _, *others = jax.tree.leaves(state)  # the hidden vector is projected after it
    expected: Any = jax.tree.unflatten(jax.tree.structure(state), [array(hidden_size), *others])
    structures: list[Any] = [jax.tree.structure(found), jax.tree.structure(expected)]
    shapes, types = (
        [[getattr(leaf, of) for leaf in jax.tree.leaves(tree)] for tree in (found, expected)]
        for of in ("shape", "dtype")
    )
    for (a, b), kind in ((structures, TypeError), (shapes, ValueError), (types, TypeError)):
        if a != b:
            raise kind(
                f"equation {equation.name}: {called}, returned {_shown(found)}; expected a state {_shown(expected)}"
            )


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


def _shown(tree: Any) -> str:
    """Writes a tree with its arrays as types and shapes: LSTMState(h=float32[2,4], c=float32[2,4])."""
    return repr(jax.tree.map(lambda leaf: _Text(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"), tree))
