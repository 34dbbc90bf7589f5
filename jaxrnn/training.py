"""Training as pure functions over split state: a step, an epoch, and many epochs in one jitted call.

The host calls `Trainer.run_epochs`, which scans over batches, validates, remembers the best parameters and stops early,
all on the device, and comes back after a number of epochs that the host chooses at run time: one compilation serves
every call.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from jaxrnn import metrics
from jaxrnn._typing import Array
from jaxrnn.config import FIGURE_NAMES, Config
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.models import NextValueModel, build_model
from jaxrnn.objective import Batch, loss_and_sums

MAX_EPOCHS_PER_CALL = 256

RUNNING, STOPPED_EARLY, DIVERGED = 0, 1, 2


class TrainState(NamedTuple):
    """All that changes in training, and all that a run needs to go on; a pytree of arrays.

    Attributes:
      params: The parameters.
      other: The rest of the model's state: dropout's random keys.
      opt_state: The optimiser's.
      epoch: Epochs finished.
      best_params: Those of the best epoch so far.
      best_score: Its validation figure, negated where lower is better; -inf before the first.
      best_epoch: Counted from 1; 0 before the first.
      status: RUNNING, STOPPED_EARLY or DIVERGED.
      bad_batch: Where the next epoch diverged, counted from 1; 0 if it has not.
    """

    params: Any
    other: Any
    opt_state: Any
    epoch: Any
    best_params: Any
    best_score: Any
    best_epoch: Any
    status: Any
    bad_batch: Any


class History(NamedTuple):
    """Figures of the epochs of one call: arrays of (MAX_EPOCHS_PER_CALL,), filled from the front."""

    training: dict[str, Array]
    validation: dict[str, Array]
    learning_rate: Array


def split_model(model: NextValueModel) -> tuple[Any, Any, Any]:
    """Splits a model into its structure, its parameters and the rest of its state."""
    graphdef, params, other = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graphdef, params, other


def abstract_model(config: Config) -> NextValueModel:
    """Returns a model whose arrays are shapes: nothing is computed."""
    return nnx.eval_shape(lambda: new_model(config, nnx.Rngs(0)))


def new_model(config: Config, rngs: nnx.Rngs) -> NextValueModel:
    """Builds the model of a run."""
    training = config.training
    return build_model(config.model, rngs, remat_steps=training.remat_steps, compute_dtype=training.compute_dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """What does not change in training: hashable by identity, so that jitted methods can take it as static."""

    config: Config
    normalizer: Normalizer
    batch_rows: int
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    mesh: Mesh | None = None

    @functools.cached_property
    def graphdef(self) -> Any:
        """The model's structure, without arrays."""
        return split_model(abstract_model(self.config))[0]

    @functools.partial(jax.jit, static_argnums=0)
    def init(self, seed: Any) -> TrainState:
        """Draws the initial parameters."""
        model = new_model(self.config, nnx.Rngs(jax.random.key(seed)))
        _, params, other = split_model(model)
        zero = jnp.int32(0)
        return TrainState(
            params=params,
            other=other,
            opt_state=self.optimizer.init(params),
            epoch=zero,
            best_params=jax.tree.map(jnp.copy, params),
            best_score=jnp.float32(-jnp.inf),
            best_epoch=zero,
            status=zero,
            bad_batch=zero,
        )

    @functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
    def run_epochs(
        self,
        state: TrainState,
        training: tuple[Batch, ...],
        validation: tuple[Batch, ...],
        num_epochs: Any,
        num_rows: tuple[int, ...],
    ) -> tuple[TrainState, History]:
        """Runs up to `num_epochs` epochs, fewer if training stops early or diverges.

        Args:
          state: Where to go on from; donated.
          training: Normalised rows, each part filled up to whole batches.
          validation: Normalised rows, each part of one or more chunks: (chunks, rows, length).
          num_epochs: At most MAX_EPOCHS_PER_CALL; may differ from call to call without compiling anew.
          num_rows: Real rows of each training part.

        Returns:
          The state and the figures of the epochs that were finished. An epoch that diverged is
          undone: the state is that before it, with `status` and `bad_batch` set.
        """
        empty = jnp.zeros(MAX_EPOCHS_PER_CALL, jnp.float32)
        history = History(dict.fromkeys(FIGURE_NAMES, empty), dict.fromkeys(FIGURE_NAMES, empty), empty)
        begin = state.epoch

        def more(carry: Any) -> Array:
            state, _ = carry
            return (state.epoch - begin < num_epochs) & (state.status == RUNNING)

        def run_one(carry: Any) -> Any:
            state, history = carry
            index = state.epoch - begin
            rate = self.schedule(state.epoch * self._batches_per_epoch(num_rows))
            trained, sums, bad_batch = self._train_epoch(state, training, num_rows)
            checked = self._validate(trained, validation)
            finished = self._finish_epoch(state, trained, checked)
            diverged = state._replace(status=jnp.int32(DIVERGED), bad_batch=bad_batch)
            state = jax.tree.map(functools.partial(jnp.where, bad_batch > 0), diverged, finished)
            figures = History(sums.compute(), checked, rate)
            history = jax.tree.map(lambda all_, one: all_.at[index].set(one), history, figures)
            return state, history

        return lax.while_loop(more, run_one, (state, history))

    def _batches_per_epoch(self, num_rows: tuple[int, ...]) -> int:
        return sum(-(-rows // self.batch_rows) for rows in num_rows)

    def _model(self, params: Any, other: Any, *, training: bool) -> NextValueModel:
        # copy: the variables belong to the trace that made them, and dropout counts its keys up in this one.
        model = nnx.merge(self.graphdef, params, other, copy=True)
        model.train() if training else model.eval()
        return model

    def _train_epoch(
        self, state: TrainState, training: tuple[Batch, ...], num_rows: tuple[int, ...]
    ) -> tuple[TrainState, metrics.MetricSums, Array]:
        """Returns the state after an epoch of steps, the sums, and the first batch that was not finite."""
        orders, schedule = self._draw_batches(state.epoch, training, num_rows)

        def gradients(rows: Batch, order: Array, params: Any, other: Any, number: Array) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[order[number]], rows)

            def loss_of(params: Any) -> Any:
                model = self._model(params, other, training=True)
                (total, weight), sums = loss_and_sums(model, batch, self.config, self.normalizer, self.mesh)
                return total / weight, (sums, split_model(model)[2])

            (loss, (sums, other)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            return loss, sums, other, grads

        branches = [functools.partial(gradients, bucket, order) for bucket, order in zip(training, orders, strict=True)]

        def train_step(carry: Any, xs: Any) -> Any:
            params, other, opt_state, totals, first_bad = carry
            position, bucket_number, number = xs
            run = branches[0] if len(branches) == 1 else functools.partial(lax.switch, bucket_number, branches)
            loss, sums, other, grads = run(params, other, number)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            is_finite = jnp.isfinite(loss + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grads)))
            first_bad = jnp.where((first_bad == 0) & ~is_finite, position, first_bad)
            return (params, other, opt_state, totals + sums, first_bad), None

        carry = (
            state.params,
            state.other,
            state.opt_state,
            metrics.MetricSums.zero(),
            jnp.int32(0),
        )
        (params, other, opt_state, totals, first_bad), _ = lax.scan(train_step, carry, schedule)
        state = state._replace(params=params, other=other, opt_state=opt_state, epoch=state.epoch + 1)
        return state, totals, first_bad

    def _draw_batches(
        self, epoch: Array, training: tuple[Batch, ...], num_rows: tuple[int, ...]
    ) -> tuple[list[Array], tuple[Array, Array, Array]]:
        """Returns each bucket's rows by batch, and the order in which the buckets' batches are run.

        Drawn from the seed and the epoch alone, so a resumed run draws what the unbroken one draws.
        """
        settings = self.config.training
        key = jax.random.fold_in(jax.random.key(np.uint32(settings.seed)), epoch)
        orders, schedule = [], []
        for number, (bucket, rows) in enumerate(zip(training, num_rows, strict=True)):
            order = jnp.arange(jax.tree.leaves(bucket)[0].shape[0])
            if settings.shuffle:  # rows that only fill up the last batch stay there
                drawn = jax.random.permutation(jax.random.fold_in(key, number), rows)
                order = jnp.concatenate([drawn, order[rows:]])
            orders.append(order.reshape(-1, self.batch_rows))
            num_batches = orders[-1].shape[0]
            schedule.append(jnp.stack([jnp.full(num_batches, number), jnp.arange(num_batches)]))
        joined = jnp.concatenate(schedule, axis=1)
        if settings.shuffle and len(training) > 1:
            joined = jax.random.permutation(jax.random.fold_in(key, len(training)), joined, axis=1)
        return orders, (jnp.arange(1, joined.shape[1] + 1, dtype=jnp.int32), joined[0], joined[1])

    def _validate(self, state: TrainState, validation: tuple[Batch, ...]) -> dict[str, Array]:
        model_parts = (state.params, state.other)

        def add_chunk(totals: metrics.MetricSums, chunk: Any) -> tuple[metrics.MetricSums, None]:
            model = self._model(*model_parts, training=False)
            return totals + loss_and_sums(model, chunk, self.config, self.normalizer, self.mesh)[1], None

        totals = metrics.MetricSums.zero()
        for bucket in validation:
            totals, _ = lax.scan(add_chunk, totals, bucket)
        return totals.compute()

    def _finish_epoch(self, before: TrainState, trained: TrainState, checked: dict[str, Array]) -> TrainState:
        """Remembers the parameters if they are the best so far, and decides whether to go on."""
        settings = self.config.training
        figure = checked[settings.monitor].astype(jnp.float32)
        score = figure if settings.monitor in metrics.HIGHER_IS_BETTER else -figure
        improved = jnp.isfinite(score) & (score > before.best_score)
        keep = functools.partial(jnp.where, improved)
        best_epoch = keep(trained.epoch, before.best_epoch)
        waited = trained.epoch - best_epoch
        stop = (waited > settings.patience) if settings.patience else jnp.bool_(False)
        return trained._replace(
            best_params=jax.tree.map(keep, trained.params, before.best_params),
            best_score=keep(score, before.best_score),
            best_epoch=best_epoch,
            status=jnp.where(stop, STOPPED_EARLY, RUNNING).astype(jnp.int32),
        )
