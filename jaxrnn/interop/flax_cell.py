"""A cell of this package behind the interface of Flax's cells, so that `nnx.RNN` and `nnx.Bidirectional` run it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.foundation.array_types import Array, State
from jaxrnn.nn import cells
from jaxrnn.nn.engine.loops import hidden_of
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer


class FlaxCell(nnx.RNNCellBase):
    """A cell as `nnx.RNN` calls it: ``(carry, inputs) -> (carry, output)``. Made by `as_flax_cell`.

    The carry is the cell's own state: h, or `LSTMState(h, c)` where Flax's LSTM has (c, h).

    Attributes:
      cell: The cell itself; its parameters are the only ones.
    """

    cell: cells.AbstractCell

    def __init__(self, cell: cells.AbstractCell):
        self.cell = cell

    @property
    def num_feature_axes(self) -> int:
        """How many dimensions of the inputs, from the last, are no batch dimensions."""
        return 1

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> State:
        """Returns the state before the first step: zeros, or what `carry_init` draws.

        Args:
          input_shape: The shape of one step's inputs, (*batch, input).
          rngs: An `nnx.Rngs` or one of its streams; read where there is a `carry_init` only.
          carry_init: ``carry_init(key, shape, dtype)`` gives every array of the state, as Flax's initializers do.

        Raises:
          ValueError: Another input size, or a `carry_init` without `rngs`.
        """
        if not input_shape or input_shape[-1] != self.cell.input_size:
            raise ValueError(f"input_shape: got {tuple(input_shape)}; expected (*batch, {self.cell.input_size})")
        single = self.cell.initial_state()
        batch = tuple(input_shape[:-1])
        if carry_init is None:
            return jax.tree.map(lambda leaf: jnp.zeros((*batch, *leaf.shape), leaf.dtype), single)
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        if stream is None:
            raise ValueError("rngs: got None; expected nnx.Rngs for carry_init to draw with: use nnx.Rngs(0)")
        return jax.tree.map(lambda leaf: carry_init(stream(), (*batch, *leaf.shape), leaf.dtype), single)

    def __call__(self, carry: State, inputs: Array) -> tuple[State, Array]:
        """Advances the state by one step.

        Args:
          carry: The state before the step, arrays of (*batch, hidden).
          inputs: (*batch, input).

        Returns:
          ``(carry, output)``: the state after the step, and the hidden vector in it.
        """
        batch = inputs.shape[:-1]
        if len(batch) > 1:  # the cell knows one batch dimension
            inputs = inputs.reshape(-1, inputs.shape[-1])
            carry = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), carry)
        state = self.cell(inputs, carry)
        if len(batch) > 1:
            state = jax.tree.map(lambda leaf: leaf.reshape(*batch, leaf.shape[-1]), state)
        return state, hidden_of(state)


def as_flax_cell(cell: cells.AbstractCell) -> FlaxCell:
    """Makes a cell of this package a cell of Flax, for `nnx.RNN` and `nnx.Bidirectional`.

    The parameters are shared, not copied: training one trains the other. A layer of this package runs a whole sequence
    faster than `nnx.RNN` does; this is for models that are built on Flax's wrappers.

    Args:
      cell: A `jaxrnn.LSTMCell`, `GRUCell` or `RNNCell`.

    Raises:
      TypeError: It is no cell of this package.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn
      >>> from flax import nnx
      >>> rnn = nnx.RNN(jaxrnn.as_flax_cell(jaxrnn.GRUCell(3, 4, rngs=nnx.Rngs(0))))
      >>> rnn(jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
    """
    if isinstance(cell, AbstractRecurrentLayer):
        raise TypeError(
            f"cell: got the layer {type(cell).__name__}, which runs over time itself: call it on a sequence"
        )
    if not isinstance(cell, cells.AbstractCell):
        raise TypeError(f"cell: got {type(cell).__name__}; expected a cell of jaxrnn, such as jaxrnn.GRUCell")
    return FlaxCell(cell)
