"""The next-value model: a recurrent layer and a linear head."""

from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxrnn.foundation.array_types import Array, Float, Int
from jaxrnn.models.sequence_model import new_head
from jaxrnn.nn.engine import loops
from jaxrnn.nn.layers import GRU, LSTM, RNN
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer
from jaxrnn.settings.config import ModelConfig


class NextValueModel(nnx.Module):
    """Predicts the next value of a sequence of numbers from those before it.

    Its state dict has the tutorial's names: ``rnn.weight_ih_l0`` .. and ``linear.weight``, ``linear.bias``.
    It reads forward only: a reverse direction would see the values it is to predict.

    Args:
      rnn: A layer with input_size 1 and one direction.
      rngs: Where the head's initial values come from: PyTorch's, U(-1/sqrt(features), 1/sqrt(features)).
    """

    def __init__(self, rnn: AbstractRecurrentLayer, *, rngs: nnx.Rngs):
        self.rnn = rnn
        self.linear = new_head(rnn.output_size, 1, rngs=rngs)

    def predict_last(
        self, values: Float[Array, "batch time"], lengths: Int[Array, " batch"], *, gradient_steps: int = 0
    ) -> Float[Array, " batch"]:
        """Returns the value after the last valid one of every row.

        Args:
          values: The rows.
          lengths: How many values of each count.
          gradient_steps: Where set, the gradient goes back from a row's end by so many steps only.
        """
        state = None
        if 0 < gradient_steps < values.shape[1]:
            before = jnp.maximum(lengths - gradient_steps, 0)
            state = self._state_without_gradient(values[:, : values.shape[1] - gradient_steps], before)
            values = jnp.take_along_axis(values, before[:, None] + jnp.arange(gradient_steps), axis=1)
            lengths = lengths - before
        state = self.rnn.final_state(values[:, :, None], state, lengths=lengths)
        return self._head(loops.hidden_of(state)[-1])

    def _state_without_gradient(self, values: Float[Array, "batch time"], lengths: Int[Array, " batch"]) -> Any:
        # The parameters are held fixed, not only the state: else the run keeps what a gradient would need.
        structure, params, *other = nnx.split(self.rnn, nnx.Param, ...)
        frozen = nnx.merge(structure, lax.stop_gradient(params), *other)
        state = frozen.final_state(values[:, :, None], lengths=lengths)
        nnx.update(self.rnn, nnx.state(frozen, nnx.RngState))  # dropout goes on from the keys it has drawn
        return state

    def predict_every(
        self, values: Float[Array, "batch time"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch time"]:
        """Returns the value after each one of every row; what stands at padding means nothing."""
        return self.continue_every(values, lengths, None)[0]

    def continue_every(
        self, values: Float[Array, "batch time"], lengths: Int[Array, " batch"], state: Any
    ) -> tuple[Float[Array, "batch time"], Any]:
        """Goes on from a state: returns what `predict_every` does, and the state after the last valid step."""
        outputs, state = self.rnn(values[:, :, None], state, lengths=lengths)
        return self._head(outputs), state

    def predict_packed(
        self, values: Float[Array, "batch time"], segment_ids: Int[Array, "batch time"]
    ) -> Float[Array, "batch time"]:
        """Returns the value after each one of several sequences a row; what stands at padding means nothing."""
        outputs, _ = self.rnn(values[:, :, None], segment_ids=segment_ids)
        return self._head(outputs)

    def forecast(
        self, values: Float[Array, "batch time"], lengths: Int[Array, " batch"], horizon: int
    ) -> Float[Array, "batch horizon"]:
        """Returns the next `horizon` values of every row, each predicted from those before it."""
        state = self.rnn.final_state(values[:, :, None], lengths=lengths)
        first = self._head(loops.hidden_of(state)[-1])

        def advance(carry: tuple[Array, object], _: None) -> tuple[tuple[Array, object], Array]:
            value, state = carry
            output, state = self.rnn.step(value[:, None], state)
            value = self._head(output)
            return (value, state), value

        _, later = lax.scan(advance, (first, state), None, length=horizon - 1)
        return jnp.concatenate([first[:, None], later.T], axis=1)

    def _head(self, hidden: Float[Array, "*rows features"]) -> Float[Array, "*rows"]:
        return self.linear(hidden)[..., 0]


def build_model(config: ModelConfig, rngs: nnx.Rngs, **options: Any) -> NextValueModel:
    """Builds the model that a configuration describes; arguments as those of `build_layer`."""
    return NextValueModel(build_layer(config, 1, rngs, **options), rngs=rngs)


def build_layer(
    config: ModelConfig,
    input_size: int,
    rngs: nnx.Rngs,
    *,
    bidirectional: bool = False,
    remat_steps: int = 0,
    compute_dtype: str = "float32",
    backend: Literal["auto", "scan"] = "auto",
) -> AbstractRecurrentLayer:
    """Builds the recurrent layer that a configuration describes.

    Args:
      config: The model's configuration.
      input_size: Numbers at every step.
      rngs: Where initial values come from.
      bidirectional: As the layers' option.
      remat_steps: As the layers' option; 0 for none.
      compute_dtype: As the layers' option.
      backend: As the layers' option.
    """
    shared: dict[str, Any] = {
        "bidirectional": bidirectional,
        "num_layers": config.num_layers,
        "bias": config.bias,
        "dropout": config.dropout if config.num_layers > 1 else 0.0,
        "remat_steps": remat_steps or None,
        "compute_dtype": None if compute_dtype == "float32" else compute_dtype,
        "backend": backend,
        "rngs": rngs,
    }
    if config.cell == "rnn":
        return RNN(input_size, config.hidden_size, nonlinearity=config.nonlinearity, **shared)
    if config.cell == "lstm":
        return LSTM(input_size, config.hidden_size, proj_size=config.proj_size, **shared)
    return GRU(input_size, config.hidden_size, **shared)
