"""What a batch is worth: its loss, and the figures of its predictions, of padded and of packed rows alike."""

import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxrnn import metrics
from jaxrnn._typing import Array, Float
from jaxrnn.config import Config
from jaxrnn.data.batching import Bucket
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.packing import PackedRows
from jaxrnn.devices import gather_rows, share_rows
from jaxrnn.models import NextValueModel

Batch = Bucket | PackedRows


def loss_and_last(
    model: NextValueModel, batch: Bucket, config: Config, mesh: Mesh | None = None
) -> tuple[Float[Array, " batch"], tuple[Array, Array]]:
    """Predicts the last value of every row from those before it, and sums the loss.

    Args:
      model: The model.
      batch: Normalised rows, targets included; rows of length 0 count for nothing.
      config: Says the loss and the target.
      mesh: The devices that share the model's work; what comes after, a few sums, each of them does for itself.

    Returns:
      ``(predicted_last, (loss_sum, loss_weight))``, in normalised units.
    """
    num_inputs = jnp.maximum(batch.lengths - 1, 0)
    inputs, targets = batch.values[:, :-1], batch.values[:, 1:]
    final = jnp.maximum(num_inputs - 1, 0)[:, None]
    if config.training.target == "last":
        predicted = gather_rows(model.predict_last(*share_rows((inputs, num_inputs), mesh)), mesh)
        last_predicted = predicted
        targets = jnp.take_along_axis(targets, final, axis=1)[:, 0]
        weight = (num_inputs > 0).astype(predicted.dtype)
    else:
        predicted = gather_rows(model.predict_every(*share_rows((inputs, num_inputs), mesh)), mesh)
        last_predicted = jnp.take_along_axis(predicted, final, axis=1)[:, 0]
        weight = (jnp.arange(inputs.shape[1])[None] < num_inputs[:, None]).astype(predicted.dtype)
    losses = metrics.elementwise_loss(config.training.loss, predicted, targets)
    return last_predicted, (jnp.sum(weight * losses), jnp.sum(weight))


def loss_and_sums(
    model: NextValueModel, batch: Batch, config: Config, normalizer: Normalizer, mesh: Mesh | None = None
) -> tuple[tuple[Array, Array], metrics.MetricSums]:
    """Sums the loss of a batch, and measures the predictions of its rows' last values.

    Args:
      model: The model.
      batch: Normalised rows, padded or packed; what only fills it up counts for nothing.
      config: Says the loss and the target.
      normalizer: Takes predictions back to the data's units.
      mesh: As in `loss_and_last`.

    Returns:
      ``((loss_sum, loss_weight), sums)``.
    """
    if isinstance(batch, PackedRows):
        return _packed_loss_and_sums(model, batch, config, normalizer, mesh)
    predicted, loss = loss_and_last(model, batch, config, mesh)
    last = jnp.take_along_axis(batch.values, jnp.maximum(batch.lengths - 1, 0)[:, None], axis=1)[:, 0]
    counted = (batch.lengths > 0).astype(jnp.float32)
    return loss, _measure(predicted, last, counted, loss, config, normalizer)


def _packed_loss_and_sums(
    model: NextValueModel, batch: PackedRows, config: Config, normalizer: Normalizer, mesh: Mesh | None
) -> tuple[tuple[Array, Array], metrics.MetricSums]:
    predicted = gather_rows(model.predict_packed(*share_rows((batch.inputs, batch.segment_ids), mesh)), mesh)
    next_ids = jnp.pad(batch.segment_ids[:, 1:], ((0, 0), (0, 1)))
    counts = batch.segment_ids > 0
    is_last = (counts & (next_ids != batch.segment_ids)).astype(predicted.dtype)
    weight = is_last if config.training.target == "last" else counts.astype(predicted.dtype)
    losses = metrics.elementwise_loss(config.training.loss, predicted, batch.targets)
    loss = jnp.sum(weight * losses), jnp.sum(weight)
    return loss, _measure(predicted, batch.targets, is_last, loss, config, normalizer)


def _measure(
    predicted: Float[Array, "*rows"],
    actual: Float[Array, "*rows"],
    weight: Float[Array, "*rows"],
    loss: tuple[Array, Array],
    config: Config,
    normalizer: Normalizer,
) -> metrics.MetricSums:
    return metrics.measure(
        normalizer.denormalize(lax.stop_gradient(predicted)),
        normalizer.denormalize(actual),
        weight,
        loss=loss,
        accuracy_epsilon=config.training.accuracy_epsilon,
    )
