"""Epochs cut into calls, over batches that come from the host, several in a call: the very steps of `whole_epochs`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxrnn.data.batching import Bucket
from jaxrnn.data.step_batches import StepBatch
from jaxrnn.foundation.array_types import Array
from jaxrnn.models.objective import Batch, by_itself
from jaxrnn.parallel.devices import MEMBER_AXIS, gather_rows
from jaxrnn.parallel.state_sharding import constrain_state
from jaxrnn.tasks.metrics import MetricSums
from jaxrnn.training.train_state import RUNNING, EpochProgress, Given, History, Trained, TrainState
from jaxrnn.training.trainer import Trainer


@functools.partial(jax.jit, static_argnums=0)
def begin_epoch(trainer: Trainer, state: TrainState) -> EpochProgress:
    """Returns the progress of an epoch that begins, in arrays of its own: those of the state undo it."""

    def begin(state: TrainState) -> EpochProgress:
        trained = jax.tree.map(jnp.copy, Trained(state.params, state.other, state.opt_state))
        totals = jax.tree.map(jnp.asarray, trainer.task.zero(trainer.batch_rows))
        return EpochProgress(trained, totals, jnp.int32(0), jnp.int32(0))

    return _placed(trainer, _of_members(trainer, begin, (0,))(state))


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
      batches: Arrays of (batches, rows, ...), padded to the longest length; of an ensemble of (batches, members, rows,
        ...).
      parts: The part of each batch, whose length is one of `lengths`.
      num_batches: How many batches there are; may differ from call to call without compiling anew.
      given: The normaliser's numbers, and the seed of the split.
      lengths: Padded lengths of the parts, targets included.
    """

    def train(progress: EpochProgress, batches: Batch, parts: Array, num_batches: Array, given: Given) -> EpochProgress:
        def train_one(number: Array, progress: EpochProgress) -> EpochProgress:
            branches = [
                functools.partial(trainer.train_on_batch, batch=batch, given=given)
                for batch in _batch_of(batches, number, lengths, trainer.batch_rows)
            ]
            trained, sums, is_finite = _switch(parts[number], branches, progress.trained)
            done = progress.batches + 1
            bad_batch = jnp.where((progress.bad_batch == 0) & ~is_finite, done, progress.bad_batch)
            return EpochProgress(trained, progress.totals + sums, bad_batch, done)

        return lax.fori_loop(0, num_batches, train_one, progress)

    run = _of_members(trainer, train, (0, 1, None, None, None))
    return _placed(trainer, run(progress, batches, parts, num_batches, given))


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
    """Adds the sums of some chunks of `num_rows` validation rows, which the members of an ensemble share.

    Its other arguments are as those of `train_batches`.
    """

    def add(trained: TrainState, totals: MetricSums, chunks: Batch, parts: Array, number: Array, given: Given) -> Any:
        def add_one(number: Array, totals: MetricSums) -> MetricSums:
            branches = [
                functools.partial(trainer.add_chunk, trained, chunk=chunk, given=given)
                for chunk in _batch_of(chunks, number, lengths, num_rows)
            ]
            return _switch(parts[number], branches, totals)

        return lax.fori_loop(0, number, add_one, totals)

    run = _of_members(trainer, add, (0, 0, None, None, None, None))
    return run(trained, jax.tree.map(jnp.asarray, totals), chunks, parts, num_chunks, given)


@functools.partial(jax.jit, static_argnums=(0, 1))
def no_sums(trainer: Trainer, num_rows: int, state: TrainState) -> MetricSums:
    """Returns sums of nothing, of chunks of `num_rows` rows."""
    zero = jax.tree.map(jnp.asarray, trainer.task.zero(num_rows))
    return _of_members(trainer, lambda state: zero, (0,))(state)


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
) -> tuple[TrainState, History]:
    """Judges an epoch whose batches were all finite.

    Args:
      trainer: What does not change.
      state: The state before the epoch.
      trained: The state after it.
      progress: How far the epoch is: to its end.
      validation: The sums of all validation rows; None where there are no such rows.
      given: What the task is told of the data.

    Returns:
      The state, in which members that had stopped are as they were, and the figures of one epoch.
    """
    task, nothing = trainer.task, dict.fromkeys(trainer.task.figures, jnp.float32(jnp.nan))

    def end(
        state: TrainState, trained: TrainState, totals: MetricSums, validation: MetricSums | None, given: Given
    ) -> tuple[TrainState, dict[str, Array], dict[str, Array]]:
        checked = None if validation is None else task.compute(by_itself(validation), given.told)
        after = trainer.finish_epoch(state, trained, checked)
        if trainer.is_ensemble:
            after = jax.tree.map(functools.partial(jnp.where, state.status == RUNNING), after, state)
        return after, task.compute(by_itself(totals), given.told), nothing if checked is None else checked

    run = _of_members(trainer, end, (0, 0, 0, 0, None))
    after, training, checked = run(state, trained, progress.totals, validation, given)
    rate = jnp.broadcast_to(trainer.schedule(jnp.max(state.epoch) * trainer.steps_per_epoch), state.epoch.shape)
    return after, jax.tree.map(lambda leaf: leaf[None], History(training, checked, rate))


def _of_members(trainer: Trainer, function: Any, axes: tuple[int | None, ...]) -> Any:
    """Maps a function over the members of an ensemble, dealt out among the devices that share them.

    Args:
      trainer: What does not change.
      function: Of one model.
      axes: Of each argument the axis of members; None where all have the same.
    """
    if not trainer.is_ensemble:
        return function
    mapped = jax.vmap(function, in_axes=axes)
    if trainer.mesh is None or MEMBER_AXIS not in trainer.mesh.axis_names:
        return mapped
    specs = tuple(PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, MEMBER_AXIS) for axis in axes)
    whole = PartitionSpec(MEMBER_AXIS)
    return jax.shard_map(mapped, mesh=trainer.mesh, in_specs=specs, out_specs=whole, check_vma=False)


def _placed(trainer: Trainer, progress: EpochProgress) -> EpochProgress:
    trained = constrain_state(progress.trained, trainer.data_mesh)
    return EpochProgress(trained, *gather_rows(progress[1:], trainer.data_mesh))


def _batch_of(batches: Batch, number: Array, lengths: tuple[int, ...], num_rows: int) -> list[Batch]:
    """Returns a batch as it is in each part: cut to its length, without the rows that fill it up for devices."""
    batch = by_itself(jax.tree.map(lambda leaf: leaf[number, :num_rows], batches))
    if not isinstance(batch, Bucket | StepBatch):
        return [batch]
    return [by_itself(batch.cut(length)) for length in lengths]


def _switch(number: Array, branches: list[Any], operand: Any) -> Any:
    return branches[0](operand) if len(branches) == 1 else lax.switch(number, branches, operand)
