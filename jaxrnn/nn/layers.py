"""RNN, LSTM and GRU layers: PyTorch's, with lengths and masks in place of packed sequences."""

from typing import Unpack

from flax import nnx

from jaxrnn.nn import equations, parameters
from jaxrnn.nn.layer_options import LayerOptions
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer


class RNN(AbstractRecurrentLayer):
    """Elman layers: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    Args:
      input_size: Features of a step.
      hidden_size: Hidden units of each direction.
      nonlinearity: "tanh" or "relu".
      rngs: Where initial values and dropout's masks come from.
      **options: `num_layers`, `bias`, `dropout`, `bidirectional`, `reverse`; how it is run: `backend`, `remat_steps`,
        `compute_dtype`, `custom_gradient`; what it begins with: `kernel_init`, `recurrent_init`, `bias_init`,
        `param_dtype`. See `AbstractCellStack`.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> layer = jaxrnn.RNN(3, 4, nonlinearity="relu", bidirectional=True, rngs=nnx.Rngs(0))
      >>> layer
      RNN(3, 4, nonlinearity='relu', bidirectional=True)
      >>> outputs, state = layer(jnp.ones((2, 5, 3)), lengths=[5, 2])  # the second row has two steps
      >>> outputs.shape, state.shape
      ((2, 5, 8), (2, 2, 4))
      >>> bool((outputs[1, 2:] == 0).all())
      True

    Source: torch.nn.RNN.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: equations.Nonlinearity = "tanh",
        rngs: nnx.Rngs,
        **options: Unpack[LayerOptions],
    ):
        super().__init__(equations.rnn_equation(nonlinearity), input_size, hidden_size, rngs=rngs, **options)
        self.nonlinearity = nonlinearity


class LSTM(AbstractRecurrentLayer):
    """Long short-term memory layers; the state is `LSTMState(h, c)`.

    Args as `RNN`, without a nonlinearity, and with:
      proj_size: Where positive, h is W_hr o tanh(c) of this size, smaller than hidden_size.
      forget_bias: Added to the initial values of the forget gate's part of every bias_ih, so that the cells remember
        from the start; 0, as in PyTorch, by default.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> layer = jaxrnn.LSTM(3, 4, num_layers=2, forget_bias=1.0, rngs=nnx.Rngs(0))
      >>> outputs, state = layer(jnp.ones((2, 5, 3)))
      >>> outputs.shape, state.h.shape, state.c.shape  # a state has (num_layers * directions, batch, hidden)
      ((2, 5, 4), (2, 2, 4), (2, 2, 4))
      >>> layer.weight_hh_l1.get_value().shape  # PyTorch's names and layouts
      (16, 4)

    Source: torch.nn.LSTM; the projection: Sak et al., "Long Short-Term Memory Based Recurrent Neural
    Network Architectures for Large Vocabulary Speech Recognition", 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        proj_size: int = 0,
        forget_bias: float = 0.0,
        rngs: nnx.Rngs,
        **options: Unpack[LayerOptions],
    ):
        super().__init__(equations.LSTM, input_size, hidden_size, proj_size=proj_size, rngs=rngs, **options)
        for ending in self.endings:
            parameters.add_forget_bias(getattr(self, f"bias_ih{ending}", None), self.hidden_size, forget_bias)


class GRU(AbstractRecurrentLayer):
    """Gated recurrent unit layers. Args as `RNN`, without a nonlinearity.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> inputs = jnp.ones((2, 5, 3))
      >>> layer = jaxrnn.GRU(3, 4, recurrent_init=nnx.initializers.orthogonal(), rngs=nnx.Rngs(0))
      >>> state = layer.initial_state(2)
      >>> for t in range(5):  # a stream, a step at a time
      ...     output, state = layer.step(inputs[:, t], state)
      >>> outputs, final = layer(inputs)  # the same numbers in one call
      >>> bool(jnp.allclose(output, outputs[:, -1], atol=1e-6)), bool(jnp.allclose(state, final, atol=1e-6))
      (True, True)

    Source: torch.nn.GRU.
    """

    def __init__(self, input_size: int, hidden_size: int, *, rngs: nnx.Rngs, **options: Unpack[LayerOptions]):
        super().__init__(equations.GRU, input_size, hidden_size, rngs=rngs, **options)


class RecurrentLayer(AbstractRecurrentLayer):
    """Layers of a cell of your own: give its equation.

    The engine differentiates the equation as it does those of this module; docs/own-cells.md shows how.

    Args as `RNN`, without a nonlinearity, and with:
      equation: How gates become the next state.
      proj_size: Where positive, the hidden vector is projected to this size by ``weight_hr_l{k}``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jaxrnn
      >>> def minimal_gated_step(h, input_gates, hidden_gates):
      ...     input_f, input_n = jnp.split(input_gates, 2, axis=-1)
      ...     hidden_f, hidden_n = jnp.split(hidden_gates, 2, axis=-1)
      ...     f = jax.nn.sigmoid(input_f + hidden_f)
      ...     return (1 - f) * h + f * jnp.tanh(input_n + f * hidden_n)
      >>> equation = jaxrnn.Equation(2, minimal_gated_step, lambda hidden, output: output)
      >>> layer = jaxrnn.RecurrentLayer(equation, 3, 4, rngs=nnx.Rngs(0))
      >>> layer
      RecurrentLayer(Equation(minimal_gated_step, num_gates=2), 3, 4)
      >>> outputs, state = layer(jnp.ones((2, 5, 3)), lengths=[5, 2])
      >>> outputs.shape, state.shape
      ((2, 5, 4), (1, 2, 4))
    """

    def __init__(
        self,
        equation: equations.Equation,
        input_size: int,
        hidden_size: int,
        *,
        proj_size: int = 0,
        rngs: nnx.Rngs,
        **options: Unpack[LayerOptions],
    ):
        super().__init__(equation, input_size, hidden_size, proj_size=proj_size, rngs=rngs, **options)
