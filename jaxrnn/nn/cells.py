"""RNNCell, LSTMCell, GRUCell: one step, with PyTorch's parameters."""

from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.foundation.array_types import ArrayLike, Float, Size, State
from jaxrnn.nn import checks, equation_checks, parameters
from jaxrnn.nn.engine import loops, recurrence
from jaxrnn.nn.equations import (
    GRU,
    LSTM,
    RNN_RELU,
    RNN_TANH,
    Equation,
    LSTMState,
    Nonlinearity,
    gru_step,
    lstm_step,
    parameter_shapes,
    rnn_equation,
)

# An equation is what makes a cell, so they are found here too.
__all__ = [
    "GRU",
    "LSTM",
    "RNN_RELU",
    "RNN_TANH",
    "AbstractCell",
    "CellOptions",
    "Equation",
    "GRUCell",
    "LSTMCell",
    "LSTMState",
    "Nonlinearity",
    "RNNCell",
    "gru_step",
    "lstm_step",
    "rnn_equation",
]


class CellOptions(TypedDict, total=False):
    """What every cell can be given by name; `RNNCell` says what each of them means."""

    bias: bool
    kernel_init: parameters.Initializer | None
    recurrent_init: parameters.Initializer | None
    bias_init: parameters.Initializer | None
    param_dtype: Any


class AbstractCell(nnx.Module):
    """One step of a recurrence, with PyTorch's parameters: weight_ih, weight_hh, bias_ih, bias_hh.

    A final cell sets `equation` and hands its sizes on.
    """

    equation: Equation
    weight_ih: nnx.Param
    weight_hh: nnx.Param
    bias_ih: nnx.Param
    bias_hh: nnx.Param

    def __init__(
        self,
        equation: Equation,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        kernel_init: parameters.Initializer | None = None,
        recurrent_init: parameters.Initializer | None = None,
        bias_init: parameters.Initializer | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        checks.check_size("input_size", input_size)
        checks.check_size("hidden_size", hidden_size)
        checks.check_flag("bias", bias)
        checks.check_floating_type("param_dtype", param_dtype)
        checks.check_rngs(rngs)
        initializers = parameters.Initializers(kernel_init, recurrent_init, bias_init)
        initializers.check()
        self.equation = equation
        self.input_size = int(input_size)
        self.hidden_size = int(hidden_size)
        self.bias = bool(bias)
        equation_checks.check_sizes(equation, self.hidden_size, self.hidden_size)
        shapes = self._parameter_shapes()
        parameters.check_shapes(shapes)
        created = parameters.create_parameters(shapes, self.hidden_size, initializers, rngs=rngs, dtype=param_dtype)
        for name, parameter in created.items():
            setattr(self, name, parameter)

    def __repr__(self) -> str:
        """The call that builds such a cell; `str` and `print` give Flax's tree of it, with every parameter's shape."""
        return parameters.call_of(self, weight=self.__dict__.get("weight_ih"))

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return parameter_shapes(self.equation, self.input_size, self.hidden_size, bias=self.bias)

    def _weights(self) -> loops.Weights:
        """The parameters, of the shapes that the sizes ask for; anything else is refused."""
        shapes = self._parameter_shapes()
        absent = [name for name in loops.Weights._fields if name not in shapes]
        return loops.Weights(**parameters.read_parameters(self, shapes, absent=absent))

    def initial_state(self, batch_size: Size | None = None) -> State:
        """Returns zeros: arrays of (batch, hidden), or (hidden,) without a batch size."""
        if batch_size is not None:
            checks.check_batch_size(batch_size)
        leading = () if batch_size is None else (batch_size,)
        dtype = jnp.result_type(*jax.tree.leaves(self._weights()))
        return self.equation.zero_state(self.hidden_size, self.hidden_size, leading=leading, dtype=dtype)

    def __call__(self, inputs: Float[ArrayLike, "*batch input"], state: State | None = None) -> State:
        """Advances the state by one step.

        Args:
          inputs: (batch, input), or (input,) of a single row.
          state: The state before the step, arrays of (batch, hidden) or (hidden,); zeros if None.

        Returns:
          The state after the step: `LSTMState` for an LSTM, else h.

        Raises:
          TypeError: Inputs or a state that are not floating-point arrays; a state of the wrong structure.
          ValueError: A size does not fit, be it one of the inputs, of the state or of a parameter.
        """
        weights = self._weights()
        checks.check_inputs(inputs, self.input_size, ("batch",))
        if state is None:
            state = self.initial_state(*inputs.shape[:-1])
        sizes = self.equation.state_sizes(self.hidden_size, self.hidden_size)
        layout = "(batch, hidden)" if inputs.ndim == 2 else "(hidden,)"
        checks.check_state(state, sizes, inputs.shape[:-1], layout=layout)
        dtype, single = jnp.result_type(*jax.tree.leaves(weights)), inputs.ndim == 1
        x, state = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (inputs, state))
        if single:
            x, state = jax.tree.map(lambda leaf: leaf[None], (x, state))
        if self.equation.kernel is None:  # this package's own need no check
            size = self.hidden_size
            equation_checks.check_equation(self.equation, size, size, batch=x.shape[0], dtype=dtype, extras=())
        num_summed = self.equation.summed_gates * self.hidden_size
        new_state = recurrence.step(self.equation.pointwise, state, x, weights, num_summed=num_summed)
        return jax.tree.map(lambda leaf: leaf[0], new_state) if single else new_state


class RNNCell(AbstractCell):
    """An Elman cell: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    Args:
      input_size: Features of a step.
      hidden_size: Hidden units.
      nonlinearity: "tanh" or "relu".
      rngs: Where initial values come from.
      **options: `bias`, whether there are bias_ih and bias_hh, True by default; `kernel_init`, `recurrent_init` and
        `bias_init`, where initial values come from, PyTorch's distribution by default (`parameters.Initializers`);
        `param_dtype`, the type of the parameters, and so of states: inputs, and states that are given, are converted
        to it; float32 by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> cell = jaxrnn.RNNCell(3, 4, rngs=nnx.Rngs(0))
      >>> h = cell.initial_state(2)
      >>> for x in jnp.ones((5, 2, 3)):
      ...     h = cell(x, h)
      >>> h.shape
      (2, 4)

    Source: torch.nn.RNNCell; Elman, "Finding Structure in Time", 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Nonlinearity = "tanh",
        rngs: nnx.Rngs,
        **options: Unpack[CellOptions],
    ):
        super().__init__(rnn_equation(nonlinearity), input_size, hidden_size, rngs=rngs, **options)
        self.nonlinearity = nonlinearity


class LSTMCell(AbstractCell):
    """A long short-term memory cell: c' = f * c + i * g; h' = o * tanh(c').

    Its state is `LSTMState(h, c)`. Rows of the weights are ordered i, f, g, o. Args as `RNNCell`, without a
    nonlinearity, and with:
      forget_bias: Added to the initial values of the forget gate's bias_ih, so that the cell remembers from the start.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> cell = jaxrnn.LSTMCell(3, 4, rngs=nnx.Rngs(0))
      >>> state = cell(jnp.ones((2, 3)))  # from zeros
      >>> state.h.shape, state.c.shape
      ((2, 4), (2, 4))
      >>> cell(jnp.ones(3)).h.shape  # a single row
      (4,)

    Source: torch.nn.LSTMCell; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 0.0,
        rngs: nnx.Rngs,
        **options: Unpack[CellOptions],
    ):
        super().__init__(LSTM, input_size, hidden_size, rngs=rngs, **options)
        parameters.add_forget_bias(self.bias_ih if self.bias else None, self.hidden_size, forget_bias)


class GRUCell(AbstractCell):
    """A gated recurrent unit: n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); h' = (1 - z) * n + z * h.

    The reset gate acts after the matmul, as in cuDNN and PyTorch. Rows are ordered r, z, n. Args as `RNNCell`, without
    a nonlinearity.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> cell = jaxrnn.GRUCell(3, 4, bias=False, rngs=nnx.Rngs(0))
      >>> cell
      GRUCell(3, 4, bias=False)
      >>> cell(jnp.ones((2, 3)), cell.initial_state(2)).shape
      (2, 4)

    Source: torch.nn.GRUCell; Cho et al., "Learning Phrase Representations", 2014.
    """

    def __init__(self, input_size: int, hidden_size: int, *, rngs: nnx.Rngs, **options: Unpack[CellOptions]):
        super().__init__(GRU, input_size, hidden_size, rngs=rngs, **options)
