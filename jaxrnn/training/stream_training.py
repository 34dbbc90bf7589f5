"""Training on batches that come from the host, several in a call: the same steps as those of an epoch in memory."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.data.batching import Bucket
from jaxrnn.foundation.array_types import Array
from jaxrnn.models.objective import Batch
from jaxrnn.tasks import metrics
from jaxrnn.training.train_state import Trained, TrainState
from jaxrnn.training.trainer import Trainer


class EpochProgress(NamedTuple):
    """How far an epoch is; a pytree of arrays.

    Attributes:
      trained: What its steps have changed so far.
      totals: The sums of its batches, as `MetricSums`.
      bad_batch: The first that was not finite, counted from 1; 0 if all were.
      batches: Batches done.
    """

    trained: Trained
    totals: metrics.MetricSums
    bad_batch: Any
    batches: Any


class StreamTrainer(Trainer):
    """A `Trainer` whose epochs are cut into calls."""

    @functools.partial(jax.jit, static_argnums=0)
    def begin_epoch(self, state: TrainState) -> EpochProgress:
        """Returns the progress of an epoch that begins, in arrays of its own: those of the state undo it."""
        trained = jax.tree.map(jnp.copy, Trained(state.params, state.other, state.opt_state))
        totals = jax.tree.map(jnp.asarray, metrics.MetricSums.zero(self.batch_rows))
        return EpochProgress(trained, totals, jnp.int32(0), jnp.int32(0))

    @functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
    def train_batches(
        self, progress: EpochProgress, batches: Batch, parts: Array, num_batches: Array, lengths: tuple[int, ...]
    ) -> EpochProgress:
        """Trains on some batches, one after the other.

        Args:
          progress: Of the epoch; donated.
          batches: (batches, rows, length), padded to the longest length.
          parts: Of each, which of `lengths` it has.
          num_batches: How many there are; may differ from call to call without compiling anew.
          lengths: Padded lengths of the parts, targets included.
        """

        def train_one(number: Array, progress: EpochProgress) -> EpochProgress:
            branches = [
                functools.partial(self._train_on_batch, batch=batch)
                for batch in _batch_of(batches, number, lengths, self.batch_rows)
            ]
            trained, sums, is_finite = _switch(parts[number], branches, progress.trained)
            done = progress.batches + 1
            bad_batch = jnp.where((progress.bad_batch == 0) & ~is_finite, done, progress.bad_batch)
            return EpochProgress(trained, progress.totals + sums, bad_batch, done)

        return lax.fori_loop(0, num_batches, train_one, progress)

    @functools.partial(jax.jit, static_argnums=0)
    def trained_state(self, state: TrainState, progress: EpochProgress) -> TrainState:
        """Returns the state after an epoch's steps, before it is judged."""
        return state._replace(**progress.trained._asdict(), epoch=state.epoch + 1)

    @functools.partial(jax.jit, static_argnums=(0, 6))
    def add_chunks(
        self,
        trained: TrainState,
        totals: metrics.MetricSums,
        chunks: Batch,
        parts: Array,
        num_chunks: Array,
        lengths: tuple[int, ...],
    ) -> metrics.MetricSums:
        """Adds the sums of some chunks of validation rows; its arguments as those of `train_batches`."""

        def add_one(number: Array, totals: metrics.MetricSums) -> metrics.MetricSums:
            branches = [
                functools.partial(self._add_chunk, trained, chunk=chunk)
                for chunk in _batch_of(chunks, number, lengths, totals.rows.shape[-1])
            ]
            return _switch(parts[number], branches, totals)

        return lax.fori_loop(0, num_chunks, add_one, jax.tree.map(jnp.asarray, totals))

    @functools.partial(jax.jit, static_argnums=0)
    def end_epoch(
        self, state: TrainState, trained: TrainState, progress: EpochProgress, validation: metrics.MetricSums
    ) -> tuple[TrainState, dict[str, dict[str, Array]], Array]:
        """Judges an epoch whose batches were all finite.

        Args:
          state: Before it.
          trained: After it.
          progress: Of it.
          validation: The sums of all validation rows.

        Returns:
          ``(state, figures, learning_rate)``; figures of "training" and "validation".
        """
        rate = self.schedule(state.epoch * self.steps_per_epoch)
        checked = validation.compute()
        return (
            self._finish_epoch(state, trained, checked),
            {"training": progress.totals.compute(), "validation": checked},
            rate,
        )


def _batch_of(batches: Batch, number: Array, lengths: tuple[int, ...], num_rows: int) -> list[Batch]:
    """Returns a batch as it is in each part: cut to its length, without the rows that fill it up for devices."""
    batch = lax.optimization_barrier(jax.tree.map(lambda leaf: leaf[number, :num_rows], batches))
    if not isinstance(batch, Bucket):
        return [batch]
    return [Bucket(batch.values[:, :length], batch.lengths) for length in lengths]


def _switch(number: Array, branches: list[Any], operand: Any) -> Any:
    return branches[0](operand) if len(branches) == 1 else lax.switch(number, branches, operand)
