"""Many epochs in one jitted call, over rows that lie on the device.

The call scans over batches, validates, remembers the best parameters and stops early, all on the device, and comes back
after a number of epochs that the host chooses at run time: one compilation serves every call.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxrnn.foundation.array_types import Array
from jaxrnn.models.objective import Batch, by_itself
from jaxrnn.parallel.devices import MEMBER_AXIS, gather_rows
from jaxrnn.parallel.state_sharding import constrain_state
from jaxrnn.tasks.metrics import MetricSums
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.train_state import (
    DIVERGED,
    MAX_EPOCHS_PER_CALL,
    RUNNING,
    Given,
    History,
    Trained,
    TrainState,
    where_leading,
)
from jaxrnn.training.trainer import Trainer

Parts = tuple[Batch, ...]


@functools.partial(jax.jit, static_argnums=(0, 6), donate_argnums=1)
def run_epochs(
    trainer: Trainer,
    state: TrainState,
    training: Parts,
    validation: Parts,
    num_epochs: Any,
    given: Given,
    num_rows: tuple[int, ...],
) -> tuple[TrainState, History]:
    """Runs up to `num_epochs` epochs, fewer if training stops early or diverges.

    Args:
      trainer: What does not change.
      state: Where to go on from; donated.
      training: Normalised rows, each part filled up to whole batches.
      validation: Normalised rows, each part of one or more chunks: (chunks, rows, length).
      num_epochs: At most MAX_EPOCHS_PER_CALL; may differ from call to call without compiling anew.
      given: The normaliser's numbers, and the seed of the split.
      num_rows: Real rows of each training part.

    Returns:
      The state, and the figures of the epochs that were finished. An epoch that diverged is undone: the state is that
      before it, with `status` and `bad_batch` set.
    """
    run = functools.partial(_run_epochs, trainer, num_rows)
    if trainer.mesh is not None and MEMBER_AXIS in trainer.mesh.axis_names:
        # Every device runs its own members, which have nothing to tell each other.
        whole, members = PartitionSpec(), PartitionSpec(MEMBER_AXIS)
        run = jax.shard_map(
            run,
            mesh=trainer.mesh,
            in_specs=(members, whole, whole, whole, whole),
            out_specs=(members, PartitionSpec(None, MEMBER_AXIS)),
            check_vma=False,
        )
    state, history = run(state, training, validation, num_epochs, given)
    return constrain_state(state, trainer.data_mesh), gather_rows(history, trainer.data_mesh)


def _run_epochs(
    trainer: Trainer,
    num_rows: tuple[int, ...],
    state: TrainState,
    training: Parts,
    validation: Parts,
    num_epochs: Array,
    given: Given,
) -> tuple[TrainState, History]:
    empty = jnp.zeros((MAX_EPOCHS_PER_CALL, *state.status.shape), jnp.float32)
    figures = dict.fromkeys(trainer.task.figures, empty)
    history = History(figures, dict(figures), empty)
    # Members that run have all finished as many epochs; those that have stopped are behind.
    begin = jnp.max(jnp.where(state.status == RUNNING, state.epoch, 0))

    def more(carry: Any) -> Array:
        state, _, epoch = carry
        return (epoch - begin < num_epochs) & jnp.any(state.status == RUNNING)

    def run_one(state: TrainState, epoch: Array) -> tuple[TrainState, History]:
        return _run_epoch(trainer, state, epoch, training, validation, given, num_rows)

    def run_all(carry: Any) -> Any:
        state, history, epoch = carry
        if trainer.is_ensemble:
            changed, figures = jax.vmap(run_one, in_axes=(0, None))(state, epoch)
            is_running = state.status == RUNNING
            state = jax.tree.map(functools.partial(where_leading, is_running), changed, state)
        else:
            state, figures = run_one(state, epoch)
        history = jax.tree.map(lambda all_, one: all_.at[epoch - begin].set(one), history, figures)
        return state, history, epoch + 1

    state, history, _ = lax.while_loop(more, run_all, (state, history, begin))
    return state, history


def _run_epoch(
    trainer: Trainer,
    state: TrainState,
    epoch: Array,
    training: Parts,
    validation: Parts,
    given: Given,
    num_rows: tuple[int, ...],
) -> tuple[TrainState, History]:
    """Runs one epoch of one model; `epoch` are those finished, state.epoch again but common to all members."""
    rate = trainer.schedule(epoch * trainer.steps_per_epoch)
    trained, sums, bad_batch = _train_epoch(trainer, state, epoch, training, given, num_rows)
    checked = _validate(trainer, trained, validation, given)
    finished = trainer.finish_epoch(state, trained, checked if validation else None)
    diverged = state._replace(status=jnp.int32(DIVERGED), bad_batch=bad_batch)
    state = lax.cond(bad_batch > 0, lambda: diverged, lambda: finished)
    return state, History(trainer.task.compute(by_itself(sums), given.told), checked, rate)


def _train_epoch(
    trainer: Trainer, state: TrainState, epoch: Array, training: Parts, given: Given, num_rows: tuple[int, ...]
) -> tuple[TrainState, MetricSums, Array]:
    """Returns the state after an epoch of steps, the sums, and the first batch that was not finite."""
    orders, schedule = draw_batches(
        state.seed,
        given.split_seed,
        epoch,
        num_rows=num_rows,
        filled_rows=[jax.tree.leaves(rows)[0].shape[0] for rows in training],
        batch_rows=trainer.batch_rows,
        shuffle=trainer.program.training.shuffle,
    )

    def train_on(rows: Batch, order: Array, trained: Trained, number: Array) -> Any:
        return trainer.train_on_batch(trained, by_itself(jax.tree.map(lambda leaf: leaf[order[number]], rows)), given)

    branches = [functools.partial(train_on, bucket, order) for bucket, order in zip(training, orders, strict=True)]

    def train_step(carry: Any, xs: Any) -> Any:
        trained, totals, first_bad = carry
        position, bucket_number, number = xs
        run = branches[0] if len(branches) == 1 else functools.partial(lax.switch, bucket_number, branches)
        trained, sums, is_finite = run(trained, number)
        first_bad = jnp.where((first_bad == 0) & ~is_finite, position, first_bad)
        return (trained, totals + sums, first_bad), None

    begin = Trained(state.params, state.other, state.opt_state)
    carry = (begin, trainer.task.zero(trainer.batch_rows), jnp.int32(0))
    (trained, totals, first_bad), _ = lax.scan(train_step, carry, schedule)
    return state._replace(**trained._asdict(), epoch=state.epoch + 1), totals, first_bad


def _validate(trainer: Trainer, state: TrainState, validation: Parts, given: Given) -> dict[str, Array]:
    if not validation:
        return dict.fromkeys(trainer.task.figures, jnp.float32(jnp.nan))

    def add_chunk(totals: MetricSums, chunk: Any) -> tuple[MetricSums, None]:
        return trainer.add_chunk(state, totals, by_itself(chunk), given), None

    totals = trainer.task.zero(jax.tree.leaves(validation)[0].shape[1])
    for bucket in validation:
        totals, _ = lax.scan(add_chunk, totals, bucket)
    return trainer.task.compute(by_itself(totals), given.told)
