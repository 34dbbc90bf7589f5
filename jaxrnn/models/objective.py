"""What a batch is worth: its loss, and the figures of its predictions, of padded and of packed rows alike."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxrnn.data.batching import Bucket
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.packing import PackedRows
from jaxrnn.data.step_batches import PackedSteps, StepBatch
from jaxrnn.foundation.array_types import Array, Bool, Float
from jaxrnn.models.next_value import NextValueModel
from jaxrnn.models.sequence_model import SequenceModel
from jaxrnn.models.windows import Windows
from jaxrnn.parallel.shared_rows import call_on_shares
from jaxrnn.settings.config import Config
from jaxrnn.tasks import metrics
from jaxrnn.tasks.task import SequenceTask

Batch = Bucket | PackedRows | StepBatch | PackedSteps


def by_itself(tree: Any) -> Any:
    """Returns arrays that XLA computes by themselves, inside a jitted function.

    It would fuse a batch's computation with where the batch comes from and with where the sums go; so the bits are the
    same wherever that is.
    """
    return lax.optimization_barrier(tree)


def predict_targets(
    model: NextValueModel, batch: Bucket, config: Config, mesh: Mesh | None = None, *, gradient_steps: int = 0
) -> Array:
    """Predicts what the loss is about.

    Args:
      model: The model.
      batch: Normalised rows, targets included; rows of length 0 count for nothing.
      config: Says the target.
      mesh: The devices that share the model's work; what comes after, a few sums, each of them does for itself.
      gradient_steps: Steps of the gradient with target = last, as `NextValueModel.predict_last` takes it.

    Returns:
      (batch,) last values, or with target = every (batch, time): the value after each but the last of a row.
    """

    def predict(model: NextValueModel, inputs: Array, num_inputs: Array) -> Array:
        if config.training.target == "last":
            return model.predict_last(inputs, num_inputs, gradient_steps=gradient_steps)
        return model.predict_every(inputs, num_inputs)

    return call_on_shares(predict, model, (batch.values[:, :-1], jnp.maximum(batch.lengths - 1, 0)), config, mesh)


def score_targets(
    predicted: Array, batch: Bucket, config: Config
) -> tuple[Float[Array, " batch"], tuple[Array, Array]]:
    """Sums the loss of predictions.

    Args:
      predicted: As `predict_targets` returns it.
      batch: What it was predicted from.
      config: Says the loss and the target.

    Returns:
      ``(predicted_last, (loss_sum, loss_weight))``, in normalised units.
    """
    num_inputs = jnp.maximum(batch.lengths - 1, 0)
    if config.training.target == "last":
        weight = (num_inputs > 0).astype(predicted.dtype)
        losses = metrics.elementwise_loss(config.training.loss, predicted, _last_of(batch))
        return predicted, (jnp.sum(weight * losses), jnp.sum(weight))
    targets = batch.values[:, 1:]
    final = jnp.maximum(num_inputs - 1, 0)[:, None]
    last_predicted = jnp.take_along_axis(predicted, final, axis=1)[:, 0]
    weight = (jnp.arange(targets.shape[1])[None] < num_inputs[:, None]).astype(predicted.dtype)
    losses = metrics.elementwise_loss(config.training.loss, predicted, targets)
    return last_predicted, (jnp.sum(weight * losses), jnp.sum(weight))


def sequence_loss_and_sums(
    model: SequenceModel,
    batch: StepBatch | PackedSteps,
    task: SequenceTask,
    told: Any,
    config: Config,
    mesh: Mesh | None = None,
) -> tuple[tuple[Array, Array], metrics.MetricSums]:
    """As `loss_and_sums`, of a batch of sequences.

    Args:
      model: The model.
      batch: Normalised sequences, padded or packed; what only fills it up counts for nothing.
      task: What the outputs mean.
      told: What the task is told of the data.
      config: The run's configuration.
      mesh: As in `predict_targets`.
    """
    if isinstance(batch, PackedSteps):
        packed = (batch.inputs, batch.categories, batch.statics, batch.segment_ids)
        outputs = call_on_shares(lambda model, *packed: model.packed(*packed), model, packed, config, mesh)
        return task.measure_packed(outputs, batch.targets, batch.segment_ids, told)
    read = (batch.inputs, batch.categories, batch.statics, batch.lengths)
    outputs = call_on_shares(lambda model, *read: model(*read), model, read, config, mesh)
    return task.measure(outputs, batch.targets, batch.lengths, told)


def loss_and_sums(
    model: NextValueModel, batch: Bucket | PackedRows, config: Config, normalizer: Normalizer, mesh: Mesh | None = None
) -> tuple[tuple[Array, Array], metrics.MetricSums]:
    """Sums the loss of a batch, and measures the predictions of its rows' last values.

    Args:
      model: The model.
      batch: Normalised rows, padded or packed; what only fills it up counts for nothing.
      config: Says the loss and the target.
      normalizer: Takes predictions back to the data's units.
      mesh: As in `predict_targets`.

    Returns:
      ``((loss_sum, loss_weight), sums)``.
    """
    if isinstance(batch, PackedRows):
        return _packed_loss_and_sums(model, batch, config, normalizer, mesh)
    truncated = predict_targets(model, batch, config, mesh, gradient_steps=config.training.tbptt)
    predicted, loss = score_targets(truncated, batch, config)
    return loss, _measure(predicted, _last_of(batch), batch.lengths > 0, loss, config, normalizer)


def window_loss_and_sums(
    model: NextValueModel,
    window: Windows,
    state: Any,
    config: Config,
    normalizer: Normalizer,
    mesh: Mesh | None = None,
) -> tuple[tuple[Array, Array], tuple[metrics.MetricSums, Any]]:
    """As `loss_and_sums`, of one window of rows, with target = every.

    Args:
      model: The model.
      window: One of `cut_windows`.
      state: The layers' after the window before.
      config: Says the loss.
      normalizer: As in `loss_and_sums`.
      mesh: As in `predict_targets`.

    Returns:
      ``((loss_sum, loss_weight), (sums, state))``; sums are of the rows that end in the window.
    """
    rows = window.rows
    state = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)  # rows first

    def predict(model: NextValueModel, inputs: Array, num_inputs: Array, state: Any) -> Any:
        state = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)
        every, state = model.continue_every(inputs, num_inputs, state)
        return every, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)

    given = (rows.values[:, :-1], jnp.maximum(rows.lengths - 1, 0), state)
    every, state = call_on_shares(predict, model, given, config, mesh)
    state = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)
    predicted, loss = score_targets(every, rows, config)
    return loss, (_measure(predicted, _last_of(rows), window.is_end, loss, config, normalizer), state)


def _last_of(batch: Bucket) -> Float[Array, " batch"]:
    return jnp.take_along_axis(batch.values, jnp.maximum(batch.lengths - 1, 0)[:, None], axis=1)[:, 0]


def _packed_loss_and_sums(
    model: NextValueModel, batch: PackedRows, config: Config, normalizer: Normalizer, mesh: Mesh | None
) -> tuple[tuple[Array, Array], metrics.MetricSums]:
    predicted = call_on_shares(
        lambda model, *packed: model.predict_packed(*packed), model, (batch.inputs, batch.segment_ids), config, mesh
    )
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
    weight: Float[Array, "*rows"] | Bool[Array, "*rows"],
    loss: tuple[Array, Array],
    config: Config,
    normalizer: Normalizer,
) -> metrics.MetricSums:
    each = metrics.measure_rows(
        normalizer.denormalize(lax.stop_gradient(predicted)),
        normalizer.denormalize(actual),
        weight.astype(jnp.float32),
        accuracy_epsilon=config.training.accuracy_epsilon,
    )
    # Of packed rows a row's places are added up; the sum over rows waits until the epoch's end.
    return metrics.MetricSums(*loss, each.sum(axis=2) if each.ndim == 3 else each)
