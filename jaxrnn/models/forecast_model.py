"""A network that forecasts from every step of a series at once."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn.data.series.ahead import Ahead, a_season_before
from jaxrnn.foundation.array_types import Array, Float, Int
from jaxrnn.models.sequence_model import SequenceModel
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer

MAX_LAG = 25.0  # levels that are more scales away are read as so many
LAG_UNIT = 5.0


class ForecastModel(SequenceModel):
    """Reads series; what the head gives at a step is the forecast from there.

    Besides the step itself, the layer and the head read what is known of other steps: numbers that are known for the
    steps ahead, and levels a season before them. Where there are such levels, training starts near the seasonal naive
    forecast: the head adds to what it draws from the layer the level a season before each step ahead.

    Args:
      rnn: A layer of one direction whose input size is that of a step.
      ahead: What is read of other steps.
      dropout: Probability that a row of a batch does without an output of the layer, at all of its steps, in
        training: errors of one series' steps have much in common, and so has what its steps would drop.
      rngs: Where initial values and dropout's masks come from.
      **options: As `SequenceModel` takes them.
    """

    def __init__(
        self, rnn: AbstractRecurrentLayer, *, ahead: Ahead, dropout: float = 0.0, rngs: nnx.Rngs, **options: Any
    ):
        super().__init__(rnn, readout="every", skipped=ahead.width, rngs=rngs, **options)
        self.ahead = ahead
        self.dropout = nnx.Dropout(dropout, broadcast_dims=(1,), rngs=rngs if dropout > 0 else None)
        if ahead.lags:
            self.linear.kernel.set_value(start_seasonal(self.linear.kernel.get_value(), ahead))

    def at(
        self,
        inputs: Float[Array, "batch time inputs"],
        categories: Int[Array, "batch time columns"],
        statics: Float[Array, "batch statics"],
        lengths: Int[Array, " batch"],
        places: Int[Array, "batch origins"],
    ) -> Float[Array, "batch origins outputs"]:
        """Returns what the head gives at some steps of each series, counted from 0."""
        features = self._features(inputs, categories, statics, lengths)
        return self.linear(jnp.take_along_axis(features, places[..., None], axis=1))

    def _features(self, inputs: Array, categories: Array, statics: Array, lengths: Array) -> Array:
        is_there = (jnp.arange(inputs.shape[1])[None] < lengths[:, None]).astype(jnp.int32)
        read, skipped = read_ahead(inputs, is_there, self.ahead)
        return self._beside(super()._features(read, categories, statics, lengths), skipped)

    def _packed_features(self, inputs: Array, categories: Array, statics: Array, segment_ids: Array) -> Array:
        read, skipped = read_ahead(inputs, segment_ids, self.ahead)
        return self._beside(super()._packed_features(read, categories, statics, segment_ids), skipped)

    def _beside(self, outputs: Array, skipped: Array) -> Array:
        return jnp.concatenate([self.dropout(outputs), skipped], axis=-1)


def start_seasonal(kernel: Float[Array, "features outputs"], ahead: Ahead) -> Float[Array, "features outputs"]:
    """Sets the weights of levels a season ago: 0, but those that make each step ahead what it was then.

    Args:
      kernel: The head's; the last of its features are the levels.
      ahead: What is read of other steps.
    """
    lags, offsets = ahead.lags, ahead.offsets
    outputs = kernel.reshape(kernel.shape[0], ahead.horizon, lags, -1)
    start = np.zeros((len(offsets), lags, *outputs.shape[1:]), np.float32)
    for step in range(ahead.horizon):
        offset = a_season_before(step + 1, ahead.season)
        if offset:
            for target in range(lags):
                start[offsets.index(offset), target, step, target] = LAG_UNIT
    return kernel.at[kernel.shape[0] - len(offsets) * lags :].set(start.reshape(-1, kernel.shape[1]))


def read_ahead(
    inputs: Float[Array, "batch time inputs"], ids: Int[Array, "batch time"], ahead: Ahead
) -> tuple[Float[Array, "batch time read"], Float[Array, "batch time skipped"]]:
    """Gathers what each step reads of other steps of its sequence.

    Args:
      inputs: Numbers of the steps: any, then `ahead.known` that are known ahead, then `ahead.lags` levels, and one over
        the scale of each.
      ids: Which sequence of its row a step belongs to, 0 for none.
      ahead: What to read.

    Returns:
      ``(read, skipped)``: the numbers of the step itself, levels left out, and behind them what it reads of others;
      and that alone. 0 where there is no such step in its sequence.
    """
    lags, known = ahead.lags, ahead.known
    plain = inputs[..., : inputs.shape[-1] - 2 * lags]
    parts = []
    if known:
        parts.append(shift(plain[..., plain.shape[-1] - known :], ids, tuple(range(1, ahead.horizon + 1)))[0])
    if lags:
        levels, factors = jnp.split(inputs[..., plain.shape[-1] :], 2, axis=-1)
        before, is_there = shift(levels, ids, ahead.offsets)
        changes = jnp.where(is_there[..., None], before - levels[:, :, None], 0) * factors[:, :, None]
        parts.append(changes.clip(-MAX_LAG, MAX_LAG) / LAG_UNIT)
    skipped = jnp.concatenate([part.reshape(*part.shape[:2], -1) for part in [plain[..., :0], *parts]], axis=-1)
    return jnp.concatenate([plain, skipped], axis=-1), skipped


def shift(values: Array, ids: Array, offsets: tuple[int, ...]) -> tuple[Array, Array]:
    """Returns the values of other steps of the same sequence, and whether they are there.

    Args:
      values: (batch, time, columns).
      ids: (batch, time): which sequence of its row a step belongs to, 0 for none.
      offsets: How many steps on the others are; below 0 for steps back.

    Returns:
      (batch, time, offsets, columns), 0 where there is no such step; and (batch, time, offsets).
    """
    length = values.shape[1]
    found, is_there = [], []
    for offset in offsets:
        before, behind = max(-offset, 0), max(offset, 0)
        if before >= length or behind >= length:
            found.append(jnp.zeros_like(values))
            is_there.append(jnp.zeros(ids.shape, bool))
            continue

        def moved(array: Array, before: int = before, behind: int = behind) -> Array:
            rest = ((0, 0),) * (array.ndim - 2)
            return jnp.pad(array, ((0, 0), (before, behind), *rest))[:, behind : behind + length]

        same = (moved(ids) == ids) & (ids > 0)
        found.append(jnp.where(same[..., None], moved(values), 0))
        is_there.append(same)
    return jnp.stack(found, axis=2), jnp.stack(is_there, axis=2)
