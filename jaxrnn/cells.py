"""RNNCell, LSTMCell, GRUCell: parameters, projections and the equations, as PyTorch defines them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from jaxrnn import checks, equation_checks, loops, parameters, recurrence
from jaxrnn._typing import Array, ArrayLike, Float, Size, State
from jaxrnn.cpu_kernels import Kernel

Nonlinearity = Literal["tanh", "relu"]


class LSTMState(NamedTuple):
    """The state of an LSTM.

    Attributes:
      h: The hidden state, which is also the output.
      c: The cell state.
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

    def zero_state(self, hidden_size: int, output_size: int, *, leading: tuple[int, ...], dtype: Any) -> State:
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


def create_parameter(shape: tuple[int, ...], hidden_size: int, *, rngs: nnx.Rngs, dtype: Any) -> nnx.Param:
    """Draws a parameter from U(-1/sqrt(hidden_size), 1/sqrt(hidden_size)), as PyTorch does for all of them."""
    bound = 1 / math.sqrt(hidden_size)
    return nnx.Param(jax.random.uniform(rngs.params(), shape, dtype, -bound, bound))


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
        bias: bool,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ):
        checks.check_size("input_size", input_size)
        checks.check_size("hidden_size", hidden_size)
        checks.check_flag("bias", bias)
        checks.check_floating_type("param_dtype", param_dtype)
        checks.check_rngs(rngs)
        self.equation = equation
        self.input_size = int(input_size)
        self.hidden_size = int(hidden_size)
        self.bias = bool(bias)
        equation_checks.check_sizes(equation, self.hidden_size, self.hidden_size)
        shapes = self._parameter_shapes()
        parameters.check_shapes(shapes)
        for name, shape in shapes.items():
            setattr(self, name, create_parameter(shape, self.hidden_size, rngs=rngs, dtype=param_dtype))

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
      bias: Whether there are bias_ih and bias_hh.
      param_dtype: The type of the parameters, and so of states; inputs, and states that are given, are converted to it.
      rngs: Where initial values come from.

    Source: torch.nn.RNNCell; Elman, "Finding Structure in Time", 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        equation = rnn_equation(nonlinearity)
        super().__init__(equation, input_size, hidden_size, bias=bias, param_dtype=param_dtype, rngs=rngs)
        self.nonlinearity = nonlinearity


class LSTMCell(AbstractCell):
    """A long short-term memory cell: c' = f * c + i * g; h' = o * tanh(c').

    Its state is `LSTMState(h, c)`. Rows of the weights are ordered i, f, g, o. Args as `RNNCell`.

    Source: torch.nn.LSTMCell; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(LSTM, input_size, hidden_size, bias=bias, param_dtype=param_dtype, rngs=rngs)


class GRUCell(AbstractCell):
    """A gated recurrent unit: n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); h' = (1 - z) * n + z * h.

    The reset gate acts after the matmul, as in cuDNN and PyTorch. Rows are ordered r, z, n. Args as `RNNCell`.

    Source: torch.nn.GRUCell; Cho et al., "Learning Phrase Representations", 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(GRU, input_size, hidden_size, bias=bias, param_dtype=param_dtype, rngs=rngs)
