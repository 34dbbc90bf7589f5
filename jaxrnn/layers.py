"""RNN, LSTM and GRU layers: PyTorch's, with lengths and masks in place of packed sequences."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxrnn import cells
from jaxrnn.recurrent_layer import AbstractRecurrentLayer


class RNN(AbstractRecurrentLayer):
    """Elman layers: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. See `AbstractRecurrentLayer`.

    Args:
      input_size: Features of a step.
      hidden_size: Hidden units of each direction.
      num_layers: Layers stacked, each reading the one below.
      nonlinearity: "tanh" or "relu".
      bias: Whether there are bias_ih and bias_hh.
      dropout: Probability of zeroing an element of the output of every layer but the last, in training.
      bidirectional: Whether a second direction reads the sequence from its end; outputs are joined.
      param_dtype: The type of the parameters.
      rngs: Where initial values and dropout's masks come from.

    Source: torch.nn.RNN.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        nonlinearity: cells.Nonlinearity = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            cells.rnn_equation(nonlinearity),
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            bidirectional=bidirectional,
            param_dtype=param_dtype,
            rngs=rngs,
        )


class LSTM(AbstractRecurrentLayer):
    """Long short-term memory layers; the state is `LSTMState(h, c)`. See `AbstractRecurrentLayer`.

    Args as `RNN`, without a nonlinearity, and with:
      proj_size: Where positive, h is W_hr o tanh(c) of this size, smaller than hidden_size.

    Source: torch.nn.LSTM; the projection: Sak et al., "Long Short-Term Memory Based Recurrent Neural
    Network Architectures for Large Vocabulary Speech Recognition", 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            cells.LSTM,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            param_dtype=param_dtype,
            rngs=rngs,
        )


class GRU(AbstractRecurrentLayer):
    """Gated recurrent unit layers. See `AbstractRecurrentLayer`; args as `RNN`, without a nonlinearity.

    Source: torch.nn.GRU.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            cells.GRU,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            bidirectional=bidirectional,
            param_dtype=param_dtype,
            rngs=rngs,
        )


class RecurrentLayer(AbstractRecurrentLayer):
    """Layers of a cell of your own: give its equation. See `AbstractRecurrentLayer`.

    The engine differentiates the equation as it does those of this module; docs/own-cells.md shows how.

    Args as `RNN`, without a nonlinearity, and with:
      equation: How gates become the next state.
      proj_size: Where positive, the hidden vector is projected to this size by ``weight_hr_l{k}``.
    """

    def __init__(
        self,
        equation: cells.Equation,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            equation,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            param_dtype=param_dtype,
            rngs=rngs,
        )
