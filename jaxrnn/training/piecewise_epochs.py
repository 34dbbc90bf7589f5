"""Epochs cut into calls, over batches that come from the host, several in a call: the very steps of `whole_epochs`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.data.batching import Bucket
from jaxrnn.data.step_batches import StepBatch
from jaxrnn.foundation.array_types import Array
from jaxrnn.models.objective import Batch, by_itself
from jaxrnn.parallel.devices import gather_rows
from jaxrnn.parallel.state_sharding import constrain_state
from jaxrnn.tasks.metrics import MetricSums
from jaxrnn.training.train_state import EpochProgress, Given, Trained, TrainState
from jaxrnn.training.trainer import Trainer


@functools.partial(jax.jit, static_argnums=0)
def begin_epoch(trainer: Trainer, state: TrainState) -> EpochProgress:
    """Returns the progress of an epoch that begins, in arrays of its own: those of the state undo it."""
    trained = jax.tree.map(jnp.copy, Trained(state.params, state.other, state.opt_state))
    totals = jax.tree.map(jnp.asarray, trainer.task.zero(trainer.batch_rows))
    return _placed(trainer, EpochProgress(trained, totals, jnp.int32(0), jnp.int32(0)))


@functools.partial(jax.jit, static_argnums=(0, 6), donate_argnums=1)
def train_batches(
    trainer: Trainer,
    progress: EpochProgress,
    batches: Batch,
    parts: Array,
    num_batches: Array,
    given: Given,
    lengths: tuple[int, ...],
) -> EpochProgress:
    """Trains on some batches, one after the other.

    Args:
      trainer: What does not change.
      progress: How far the epoch is; donated.
      batches: Arrays of (batches, rows, ...), padded to the longest length.
      parts: The part of each batch, whose length is one of `lengths`.
      num_batches: How many batches there are; may differ from call to call without compiling anew.
      given: The normaliser's numbers, and the seed of the split.
      lengths: Padded lengths of the parts, targets included.
    """

    def train_one(number: Array, progress: EpochProgress) -> EpochProgress:
        branches = [
            functools.partial(trainer.train_on_batch, batch=batch, given=given)
            for batch in _batch_of(batches, number, lengths, trainer.batch_rows)
        ]
        trained, sums, is_finite = _switch(parts[number], branches, progress.trained)
        done = progress.batches + 1
        bad_batch = jnp.where((progress.bad_batch == 0) & ~is_finite, done, progress.bad_batch)
        return EpochProgress(trained, progress.totals + sums, bad_batch, done)

    return _placed(trainer, lax.fori_loop(0, num_batches, train_one, progress))


@functools.partial(jax.jit, static_argnums=(0, 7, 8))
def add_chunks(
    trainer: Trainer,
    trained: TrainState,
    totals: MetricSums,
    chunks: Batch,
    parts: Array,
    num_chunks: Array,
    given: Given,
    lengths: tuple[int, ...],
    num_rows: int,
) -> MetricSums:
    """Adds the sums of some chunks of `num_rows` validation rows; its arguments as those of `train_batches`."""

    def add_one(number: Array, totals: MetricSums) -> MetricSums:
        branches = [
            functools.partial(trainer.add_chunk, trained, chunk=chunk, given=given)
            for chunk in _batch_of(chunks, number, lengths, num_rows)
        ]
        return _switch(parts[number], branches, totals)

    return lax.fori_loop(0, num_chunks, add_one, jax.tree.map(jnp.asarray, totals))


@functools.partial(jax.jit, static_argnums=0)
def trained_state(trainer: Trainer, state: TrainState, progress: EpochProgress) -> TrainState:
    """Returns the state after an epoch's steps, before it is judged."""
    del trainer
    return state._replace(**progress.trained._asdict(), epoch=state.epoch + 1)


@functools.partial(jax.jit, static_argnums=0)
def end_epoch(
    trainer: Trainer,
    state: TrainState,
    trained: TrainState,
    progress: EpochProgress,
    validation: MetricSums | None,
    given: Given,
) -> tuple[TrainState, dict[str, dict[str, Array]], Array]:
    """Judges an epoch whose batches were all finite.

    Args:
      trainer: What does not change.
      state: The state before the epoch.
      trained: The state after it.
      progress: How far the epoch is: to its end.
      validation: The sums of all validation rows; None where there are no such rows.
      given: What the task is told of the data.

    Returns:
      ``(state, figures, learning_rate)``; figures of "training" and "validation".
    """
    rate = trainer.schedule(state.epoch * trainer.steps_per_epoch)
    task, nothing = trainer.task, dict.fromkeys(trainer.task.figures, jnp.float32(jnp.nan))
    checked = None if validation is None else task.compute(by_itself(validation), given.told)
    figures = {
        "training": task.compute(by_itself(progress.totals), given.told),
        "validation": nothing if checked is None else checked,
    }
    return trainer.finish_epoch(state, trained, checked), figures, rate


def _placed(trainer: Trainer, progress: EpochProgress) -> EpochProgress:
    trained = constrain_state(progress.trained, trainer.data_mesh)
    return EpochProgress(trained, *gather_rows(progress[1:], trainer.data_mesh))


def _batch_of(batches: Batch, number: Array, lengths: tuple[int, ...], num_rows: int) -> list[Batch]:
    """Returns a batch as it is in each part: cut to its length, without the rows that fill it up for devices."""
    batch = by_itself(jax.tree.map(lambda leaf: leaf[number, :num_rows], batches))
    return [batch.cut(length) for length in lengths] if isinstance(batch, Bucket | StepBatch) else [batch]


def _switch(number: Array, branches: list[Any], operand: Any) -> Any:
    return branches[0](operand) if len(branches) == 1 else lax.switch(number, branches, operand)
