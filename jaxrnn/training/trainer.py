"""Training as pure functions over split state: a step, an epoch, and many epochs in one jitted call.

The host calls `Trainer.run_epochs`, which scans over batches, validates, remembers the best parameters and stops early,
all on the device, and comes back after a number of epochs that the host chooses at run time: one compilation serves
every call. Several models that differ in their seed, the members of an ensemble, are trained by the same functions,
mapped over the leading axis of the state.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.foundation.array_types import Array
from jaxrnn.models.model_state import abstract_model, new_model, split_model
from jaxrnn.models.next_value import NextValueModel
from jaxrnn.models.objective import Batch, loss_and_sums, window_loss_and_sums
from jaxrnn.models.windows import Windows, cut_windows
from jaxrnn.parallel.devices import DATA_AXIS, MEMBER_AXIS, gather_rows, model_size
from jaxrnn.parallel.shared_rows import can_call_on_shares
from jaxrnn.parallel.state_sharding import constrain_state
from jaxrnn.settings.config import FIGURE_NAMES, Config
from jaxrnn.tasks import metrics
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.train_state import (
    DIVERGED,
    MAX_EPOCHS_PER_CALL,
    RUNNING,
    STOPPED_EARLY,
    History,
    Trained,
    TrainState,
    where_leading,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """What does not change in training: hashable by identity, so that jitted methods can take it as static."""

    config: Config
    normalizer: Normalizer
    batch_rows: int
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    mesh: Mesh | None = None
    steps_per_epoch: int = 1

    @functools.cached_property
    def graphdef(self) -> Any:
        """The model's structure, without arrays."""
        config = self.config
        if self._data_mesh is not None and not can_call_on_shares(config, self._data_mesh):
            config = config.replace_flat({"backend": "scan"})  # XLA cannot cut a compiled call into shares
        model = abstract_model(config)
        if model_size(self._data_mesh) > 1:
            model.rnn.mesh = self._data_mesh
        return split_model(model)[0]

    @property
    def is_ensemble(self) -> bool:
        """Whether states have a leading axis of members."""
        return self.config.training.ensemble > 1

    @property
    def _cuts_windows(self) -> bool:
        """Whether parameters are updated after every window of a batch."""
        return self.config.training.tbptt > 0 and self.config.training.target == "every"

    @property
    def _data_mesh(self) -> Mesh | None:
        """The devices that share each batch."""
        return self.mesh if self.mesh is not None and DATA_AXIS in self.mesh.axis_names else None

    def seeds(self) -> Any:
        """Returns what `init` takes: the run's seed, or those of the members, (members,)."""
        settings = self.config.training
        if not self.is_ensemble:
            return np.uint32(settings.seed)
        return np.arange(settings.seed, settings.seed + settings.ensemble, dtype=np.uint32)

    @functools.partial(jax.jit, static_argnums=0)
    def init(self, seed: Any) -> TrainState:
        """Draws the initial parameters from a seed, or those of an ensemble's members from (members,) seeds."""
        seed = jnp.asarray(seed).astype(jnp.uint32)
        state = jax.vmap(self._init_one)(seed) if seed.ndim else self._init_one(seed)
        return constrain_state(state, self._data_mesh)

    def _init_one(self, seed: Array) -> TrainState:
        model = new_model(self.config, nnx.Rngs(jax.random.key(seed)))
        _, params, other = split_model(model)
        zero = jnp.int32(0)
        return TrainState(
            seed=seed,
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
        run = functools.partial(self._run_epochs, num_rows=num_rows)
        if self.mesh is not None and MEMBER_AXIS in self.mesh.axis_names:
            # Every device runs its own members, which have nothing to tell each other.
            whole, members = PartitionSpec(), PartitionSpec(MEMBER_AXIS)
            run = jax.shard_map(
                run,
                mesh=self.mesh,
                in_specs=(members, whole, whole, whole),
                out_specs=(members, PartitionSpec(None, MEMBER_AXIS)),
                check_vma=False,
            )
        state, history = run(state, training, validation, num_epochs)
        return constrain_state(state, self._data_mesh), gather_rows(history, self._data_mesh)

    def _run_epochs(
        self,
        state: TrainState,
        training: tuple[Batch, ...],
        validation: tuple[Batch, ...],
        num_epochs: Array,
        *,
        num_rows: tuple[int, ...],
    ) -> tuple[TrainState, History]:
        empty = jnp.zeros((MAX_EPOCHS_PER_CALL, *state.status.shape), jnp.float32)
        history = History(dict.fromkeys(FIGURE_NAMES, empty), dict.fromkeys(FIGURE_NAMES, empty), empty)
        # Members that run have all finished as many epochs; those that have stopped are behind.
        begin = jnp.max(jnp.where(state.status == RUNNING, state.epoch, 0))

        def more(carry: Any) -> Array:
            state, _, epoch = carry
            return (epoch - begin < num_epochs) & jnp.any(state.status == RUNNING)

        def run_one(state: TrainState, epoch: Array) -> tuple[TrainState, History]:
            return self._run_epoch(state, epoch, training, validation, num_rows)

        def run_all(carry: Any) -> Any:
            state, history, epoch = carry
            if self.is_ensemble:
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
        self,
        state: TrainState,
        epoch: Array,
        training: tuple[Batch, ...],
        validation: tuple[Batch, ...],
        num_rows: tuple[int, ...],
    ) -> tuple[TrainState, History]:
        """Runs one epoch of one model; `epoch` are those finished, state.epoch again but common to all members."""
        rate = self.schedule(epoch * self.steps_per_epoch)
        trained, sums, bad_batch = self._train_epoch(state, epoch, training, num_rows)
        checked = self._validate(trained, validation)
        finished = self._finish_epoch(state, trained, checked)
        diverged = state._replace(status=jnp.int32(DIVERGED), bad_batch=bad_batch)
        state = jax.tree.map(functools.partial(jnp.where, bad_batch > 0), diverged, finished)
        return state, History(sums.compute(), checked, rate)

    def _model(self, params: Any, other: Any, *, training: bool) -> NextValueModel:
        # copy: the variables belong to the trace that made them, and dropout counts its keys up in this one.
        model = nnx.merge(self.graphdef, params, other, copy=True)
        model.train() if training else model.eval()
        return model

    def _train_epoch(
        self, state: TrainState, epoch: Array, training: tuple[Batch, ...], num_rows: tuple[int, ...]
    ) -> tuple[TrainState, metrics.MetricSums, Array]:
        """Returns the state after an epoch of steps, the sums, and the first batch that was not finite."""
        orders, schedule = draw_batches(
            state.seed,
            self.config.split_seed,
            epoch,
            num_rows=num_rows,
            filled_rows=[jax.tree.leaves(rows)[0].shape[0] for rows in training],
            batch_rows=self.batch_rows,
            shuffle=self.config.training.shuffle,
        )

        def train_on(rows: Batch, order: Array, trained: Trained, number: Array) -> Any:
            # Computed as it is, not fused with where it comes from: batches that are streamed give the same bits.
            batch = lax.optimization_barrier(jax.tree.map(lambda leaf: leaf[order[number]], rows))
            return self._train_on_batch(trained, batch)

        branches = [functools.partial(train_on, bucket, order) for bucket, order in zip(training, orders, strict=True)]

        def train_step(carry: Any, xs: Any) -> Any:
            trained, totals, first_bad = carry
            position, bucket_number, number = xs
            run = branches[0] if len(branches) == 1 else functools.partial(lax.switch, bucket_number, branches)
            trained, sums, is_finite = run(trained, number)
            first_bad = jnp.where((first_bad == 0) & ~is_finite, position, first_bad)
            return (trained, totals + sums, first_bad), None

        begin = Trained(state.params, state.other, state.opt_state)
        carry = (begin, metrics.MetricSums.zero(self.batch_rows), jnp.int32(0))
        (trained, totals, first_bad), _ = lax.scan(train_step, carry, schedule)
        return state._replace(**trained._asdict(), epoch=state.epoch + 1), totals, first_bad

    def _train_on_batch(self, trained: Trained, batch: Batch) -> tuple[Trained, metrics.MetricSums, Array]:
        """Updates the parameters once, or with truncated backpropagation once a window."""
        given = (self.config, self.normalizer, self._data_mesh)
        if not self._cuts_windows:
            trained, _, sums, is_finite = self._update(trained, lambda model: loss_and_sums(model, batch, *given))
            return trained, sums, is_finite

        def train_on_window(carry: Any, window: Windows) -> Any:
            before, state, totals, all_finite = carry
            after, weight, (sums, state), is_finite = self._update(
                before, lambda model: window_loss_and_sums(model, window, state, *given)
            )
            # Behind the end of the batch's longest row there is nothing to learn, and nothing is.
            after = jax.tree.map(functools.partial(jnp.where, weight > 0), after, before)
            return (after, state, totals + sums, all_finite & is_finite), None

        windows = cut_windows(batch, self.config.training.tbptt)  # type: ignore[arg-type]  # never packed
        state = self._model(trained.params, trained.other, training=False).rnn.initial_state(batch[0].shape[0])
        carry = (trained, state, metrics.MetricSums.zero(self.batch_rows), jnp.bool_(True))
        (trained, _, sums, is_finite), _ = lax.scan(train_on_window, carry, windows)
        return trained, sums, is_finite

    def _update(
        self, trained: Trained, objective: Callable[[NextValueModel], tuple[tuple[Array, Array], Any]]
    ) -> tuple[Trained, Array, Any, Array]:
        """Takes one step of the optimiser.

        Args:
          trained: Where from.
          objective: Takes the model; returns ``((loss_sum, loss_weight), more)``.

        Returns:
          ``(trained, loss_weight, more, is_finite)``.
        """

        def loss_of(params: Any) -> Any:
            model = self._model(params, trained.other, training=True)
            (total, weight), more = objective(model)
            return total / jnp.maximum(weight, 1), (weight, more, split_model(model)[2])

        (loss, (weight, more, other)), grads = jax.value_and_grad(loss_of, has_aux=True)(trained.params)
        updates, opt_state = self.optimizer.update(grads, trained.opt_state, trained.params)
        params = optax.apply_updates(trained.params, updates)
        is_finite = jnp.isfinite(loss + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grads)))
        trained = constrain_state(Trained(params, other, opt_state), self._data_mesh)
        return trained, weight, more, is_finite

    def _validate(self, state: TrainState, validation: tuple[Batch, ...]) -> dict[str, Array]:
        def add_chunk(totals: metrics.MetricSums, chunk: Any) -> tuple[metrics.MetricSums, None]:
            return self._add_chunk(state, totals, chunk), None

        totals = metrics.MetricSums.zero(jax.tree.leaves(validation)[0].shape[1])
        for bucket in validation:
            totals, _ = lax.scan(add_chunk, totals, bucket)
        return totals.compute()

    def _add_chunk(self, state: TrainState, totals: metrics.MetricSums, chunk: Batch) -> metrics.MetricSums:
        """Adds the sums of a chunk of validation rows."""
        given = (self.config, self.normalizer, self._data_mesh)

        def new_model() -> NextValueModel:
            return self._model(state.params, state.other, training=False)

        def add_window(carry: Any, window: Windows) -> Any:
            totals, before = carry
            _, (sums, after) = window_loss_and_sums(new_model(), window, before, *given)
            return (totals + sums, after), None

        if not self._cuts_windows:
            return totals + loss_and_sums(new_model(), chunk, *given)[1]
        windows = cut_windows(chunk, self.config.training.tbptt)  # type: ignore[arg-type]  # never packed
        begin = new_model().rnn.initial_state(chunk[0].shape[0])
        return lax.scan(add_window, (totals, begin), windows)[0][0]

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
