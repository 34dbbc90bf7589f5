"""Equations of cells: how gates become the next state, as PyTorch defines it, and the sizes that follow."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxrnn.foundation.array_types import Array, Size, State
from jaxrnn.nn import checks
from jaxrnn.nn.engine.cpu_kernels import Kernel

Nonlinearity = Literal["tanh", "relu"]


class LSTMState(NamedTuple):
    """The state of an LSTM.

    Attributes:
      h: The hidden state, which is also the output.
      c: The cell state.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn
      >>> state = jaxrnn.LSTMState(h=jnp.zeros((1, 2, 4)), c=jnp.zeros((1, 2, 4)))
      >>> state.h.shape
      (1, 2, 4)
    """

    h: Array
    c: Array


# A program that takes or returns a state can be written by `jax.export`, and read where this package is imported.
export.register_namedtuple_serialization(LSTMState, serialized_name="jaxrnn.LSTMState")


@functools.lru_cache
def extra_parameter_shapes(
    extra_parameters: Callable[[int], dict[str, Array]], hidden_size: int
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of an equation's own parameters, by name."""
    with jax.ensure_compile_time_eval():  # values, also while JAX traces
        return {name: jnp.shape(value) for name, value in extra_parameters(hidden_size).items()}


def no_extra_parameters(hidden_size: int) -> dict[str, Array]:
    """What `Equation.extra_parameters` is by default."""
    del hidden_size
    return {}


@dataclasses.dataclass(frozen=True)
class Equation:
    """What makes a cell: how its gates become its next state. Write one, and `RecurrentLayer` runs it.

    Attributes:
      num_gates: G; the weight matrices have G * hidden rows.
      pointwise: ``pointwise(state, input_gates, hidden_gates) -> state``.
      state_sizes: ``state_sizes(hidden, output)`` gives the size of every array of the state, in the
        state's own structure: one array, a named tuple, a dict, any pytree. The hidden vector comes first, in JAX's
        order, which sorts the keys of a dict, and has size `output`.
      extra_parameters: ``extra_parameters(hidden)`` gives the initial values of parameters of its own, by name;
        `pointwise` gets them after the hidden gates, in this order. None by default.
      summed_gates: How many of the gates, from the first, `pointwise` reads only as input gate plus hidden gate. The
        engine then keeps one array for both, which is faster; it passes the sum as input gate, and 0 as hidden gate.
      kernel: The compiled recurrence that computes `pointwise` on a CPU; only this package's own cells have one.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn
      >>> def leaky_step(h, input_gates, hidden_gates, leak):
      ...     return leak[None] * h + (1 - leak[None]) * jnp.tanh(input_gates + hidden_gates)
      >>> jaxrnn.Equation(
      ...     num_gates=1,
      ...     pointwise=leaky_step,
      ...     state_sizes=lambda hidden, output: output,
      ...     extra_parameters=lambda hidden: {"leak": jnp.full(hidden, 0.5)},
      ...     summed_gates=1,
      ... )
      Equation(leaky_step, num_gates=1)
    """

    num_gates: int
    pointwise: Callable[..., State]
    state_sizes: Callable[[int, int], Any]
    extra_parameters: Callable[[int], dict[str, Array]] = no_extra_parameters
    summed_gates: int = 0
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        for field in ("pointwise", "state_sizes", "extra_parameters"):
            if not callable(getattr(self, field)):
                raise TypeError(f"Equation: {field}: got {type(getattr(self, field)).__name__}; expected a function")
        checks.check_size(f"equation {self.name}: num_gates", self.num_gates)
        checks.check_size(f"equation {self.name}: summed_gates", self.summed_gates, minimum=0)
        if self.summed_gates > self.num_gates:
            raise ValueError(
                f"equation {self.name}: summed_gates: got {self.summed_gates}; expected at most num_gates ="
                f" {self.num_gates}"
            )

    def __repr__(self) -> str:
        return f"Equation({self.name}, num_gates={self.num_gates})"

    @property
    def name(self) -> str:
        """The name of the function that is `pointwise`."""
        function: Any = self.pointwise
        while isinstance(function, functools.partial):
            function = function.func
        return getattr(function, "__name__", type(function).__name__)

    def zero_state(self, hidden_size: int, output_size: int, *, leading: tuple[Size, ...], dtype: Any) -> State:
        """Returns a state of zeros with arrays of shape ``leading + (size,)``."""
        sizes = self.state_sizes(hidden_size, output_size)
        return jax.tree.map(lambda size: jnp.zeros((*leading, size), dtype), sizes)


def rnn_tanh_step(h: Array, input_gates: Array, hidden_gates: Array) -> Array:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    del h
    return jnp.tanh(input_gates + hidden_gates)


def rnn_relu_step(h: Array, input_gates: Array, hidden_gates: Array) -> Array:
    """h' = relu(W_ih x + b_ih + W_hh h + b_hh)."""
    del h
    return jax.nn.relu(input_gates + hidden_gates)


def lstm_step(state: LSTMState, input_gates: Array, hidden_gates: Array) -> LSTMState:
    """c' = f * c + i * g;  h' = o * tanh(c');  i, f, o = sigmoid(.), g = tanh(.) of the summed gates."""
    i, f, g, o = jnp.split(input_gates + hidden_gates, 4, axis=-1)
    i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)
    c = f * state.c + i * jnp.tanh(g)
    h = o * jnp.tanh(c)
    return LSTMState(h, c)


def gru_step(h: Array, input_gates: Array, hidden_gates: Array) -> Array:
    """n = tanh(W_in x + b_in + r * (W_hn h + b_hn));  h' = (1 - z) * n + z * h;  r, z = sigmoid(.)."""
    input_r, input_z, input_n = jnp.split(input_gates, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = jnp.split(hidden_gates, 3, axis=-1)
    r = jax.nn.sigmoid(input_r + hidden_r)
    z = jax.nn.sigmoid(input_z + hidden_z)
    n = jnp.tanh(input_n + r * hidden_n)
    return (1 - z) * n + z * h


def _only_hidden(hidden: int, output: int) -> int:
    del hidden
    return output


def _hidden_and_cell(hidden: int, output: int) -> LSTMState:
    return LSTMState(h=output, c=hidden)  # type: ignore[arg-type]


RNN_TANH = Equation(1, rnn_tanh_step, _only_hidden, summed_gates=1, kernel="rnn_tanh")
RNN_RELU = Equation(1, rnn_relu_step, _only_hidden, summed_gates=1, kernel="rnn_relu")
LSTM = Equation(4, lstm_step, _hidden_and_cell, summed_gates=4, kernel="lstm")
GRU = Equation(3, gru_step, _only_hidden, summed_gates=2, kernel="gru")


def rnn_equation(nonlinearity: Nonlinearity) -> Equation:
    """Returns the equation of a plain RNN.

    Raises:
      ValueError: `nonlinearity` is neither "tanh" nor "relu".
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: got {nonlinearity!r}; expected 'tanh' or 'relu'")
    return RNN_TANH if nonlinearity == "tanh" else RNN_RELU


def parameter_shapes(
    equation: Equation, input_size: int, hidden_size: int, *, proj_size: int = 0, bias: bool = True
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a cell's parameters by PyTorch's names, in PyTorch's order."""
    gates = equation.num_gates * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (gates, input_size),
        "weight_hh": (gates, proj_size or hidden_size),
    }
    if bias:
        shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
    if proj_size:
        shapes["weight_hr"] = (proj_size, hidden_size)
    return shapes
