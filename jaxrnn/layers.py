"""RNN, LSTM and GRU layers: PyTorch's, with lengths and masks in place of packed sequences."""

from typing import Unpack

from flax import nnx

from jaxrnn import equations, parameters
from jaxrnn.layer_options import LayerOptions
from jaxrnn.recurrent_layer import AbstractRecurrentLayer


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
