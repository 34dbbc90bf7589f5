"""One step of training as pure functions over split state, and what follows an epoch of them.

`whole_epochs` runs many epochs of these steps in one jitted call, over rows that lie on the device; `piecewise_epochs`
runs the same steps over batches that the host reads. Several models that differ in their seed, the members of an
ensemble, are trained by the same functions, mapped over the leading axis of the state.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from jaxrnn.data.encoding import ONE_NUMBER, Sizes
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.step_batches import PackedSteps, StepBatch
from jaxrnn.foundation.array_types import Array
from jaxrnn.models.model_state import abstract_model, new_model, program_config, split_model
from jaxrnn.models.objective import Batch, by_itself, loss_and_sums, sequence_loss_and_sums, window_loss_and_sums
from jaxrnn.models.windows import Windows, cut_windows
from jaxrnn.parallel.devices import DATA_AXIS, model_size
from jaxrnn.parallel.shared_rows import can_call_on_shares
from jaxrnn.parallel.state_sharding import constrain_state
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import HIGHER_IS_BETTER
from jaxrnn.tasks import metrics
from jaxrnn.tasks.task import SequenceTask, Task, task_of
from jaxrnn.training.compilation import compile_for_one_call
from jaxrnn.training.optimizers import build_optimizer, learning_rate_schedule
from jaxrnn.training.train_state import RUNNING, STOPPED_EARLY, Given, Trained, TrainState


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What does not change in training.

    Jitted functions take it as a static argument. It is equal to another one whose programs are the same, so that a
    second run of the same sizes compiles nothing.

    Attributes:
      config: The run's configuration; nothing that is compiled reads it.
      batch_rows: Rows of a batch.
      mesh: The devices that share a batch, or an ensemble; None for the default one.
      steps_per_epoch: Updates of the parameters in an epoch.
      sizes: What the network's shapes depend on besides the configuration.
      program: The part of the configuration that programs are compiled for.
    """

    config: Config = dataclasses.field(compare=False)
    batch_rows: int
    mesh: Mesh | None = None
    steps_per_epoch: int = 1
    sizes: Sizes = ONE_NUMBER
    program: Config = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", program_config(self.config))

    @functools.cached_property
    def task(self) -> Task:
        """What is predicted."""
        return task_of(self.program, self.sizes)

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by the number of updates."""
        span = {"epochs": self.program.training.epochs, "steps_per_epoch": self.steps_per_epoch}
        return learning_rate_schedule(self.program.optimizer, **span)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The update rule, with clipping and weight decay before it."""
        span = {"epochs": self.program.training.epochs, "steps_per_epoch": self.steps_per_epoch}
        return build_optimizer(self.program.optimizer, **span)

    @functools.cached_property
    def graphdef(self) -> Any:
        """The model's structure, without arrays."""
        config = self.program
        if self.data_mesh is not None and not can_call_on_shares(config, self.data_mesh):
            config = config.replace_flat({"backend": "scan"})  # XLA cannot cut a compiled call into shares
        model = abstract_model(config, self.sizes)
        if model_size(self.data_mesh) > 1:
            model.rnn.mesh = self.data_mesh
        return split_model(model)[0]

    @property
    def is_ensemble(self) -> bool:
        """Whether states have a leading axis of members."""
        return self.program.training.ensemble > 1

    @property
    def _cuts_windows(self) -> bool:
        """Whether parameters are updated after every window of a batch."""
        return self.program.training.tbptt > 0 and self.program.training.target == "every"

    @property
    def data_mesh(self) -> Mesh | None:
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
        return constrain_state(state, self.data_mesh)

    def initial_state(self) -> TrainState:
        """Draws the initial parameters from the run's seed, or those of an ensemble's members from theirs."""
        seeds = self.seeds()
        return compile_for_one_call(Trainer.init.lower(self, seeds))(seeds)

    def state_shapes(self) -> TrainState:
        """Returns the shapes of what `init` returns.

        `jax.eval_shape` of a function made on the spot would do the same, but JAX then keeps that function, and the
        trainer with it, for good.
        """
        return Trainer.init.eval_shape(self, self.seeds())

    def _init_one(self, seed: Array) -> TrainState:
        model = new_model(self.program, nnx.Rngs(jax.random.key(seed)), self.sizes)
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

    def _run_of(self, given: Given) -> tuple[Config, Normalizer, Mesh | None]:
        return self.program, Normalizer(given.offset, given.scale), self.data_mesh

    def _loss_and_sums(self, model: Any, batch: Batch, given: Given) -> tuple[tuple[Array, Array], metrics.MetricSums]:
        if not isinstance(batch, StepBatch | PackedSteps):
            return loss_and_sums(model, batch, *self._run_of(given))
        task = cast("SequenceTask", self.task)
        return sequence_loss_and_sums(model, batch, task, given.told, self.program, self.data_mesh)

    def _model(self, params: Any, other: Any, *, training: bool) -> Any:
        # copy: the variables belong to the trace that made them, and dropout counts its keys up in this one.
        model = nnx.merge(self.graphdef, params, other, copy=True)
        model.train() if training else model.eval()
        return model

    def train_on_batch(self, trained: Trained, batch: Batch, given: Given) -> tuple[Trained, metrics.MetricSums, Array]:
        """Updates the parameters once, or with truncated backpropagation once a window."""
        run = self._run_of(given)
        if not self._cuts_windows:
            trained, _, sums, is_finite = self._update(trained, lambda model: self._loss_and_sums(model, batch, given))
            return trained, by_itself(sums), is_finite

        def train_on_window(carry: Any, window: Windows) -> Any:
            before, state, totals, all_finite = carry
            after, weight, (sums, state), is_finite = self._update(
                before, lambda model: window_loss_and_sums(model, window, state, *run)
            )
            # Behind the end of the batch's longest row there is nothing to learn, and nothing is.
            after = jax.tree.map(functools.partial(jnp.where, weight > 0), after, before)
            return (after, state, totals + sums, all_finite & is_finite), None

        windows = cut_windows(batch, self.program.training.tbptt)  # type: ignore[arg-type]  # never packed
        state = self._model(trained.params, trained.other, training=False).rnn.initial_state(batch[0].shape[0])
        carry = (trained, state, metrics.MetricSums.zero(self.batch_rows), jnp.bool_(True))
        (trained, _, sums, is_finite), _ = lax.scan(train_on_window, carry, windows)
        return trained, sums, is_finite

    def _update(
        self, trained: Trained, objective: Callable[[Any], tuple[tuple[Array, Array], Any]]
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
        trained = constrain_state(Trained(params, other, opt_state), self.data_mesh)
        return trained, weight, more, is_finite

    def add_chunk(
        self, state: TrainState, totals: metrics.MetricSums, chunk: Batch, given: Given
    ) -> metrics.MetricSums:
        """Adds the sums of a chunk of validation rows."""
        run = self._run_of(given)

        def new_model() -> Any:
            return self._model(state.params, state.other, training=False)

        def add_window(carry: Any, window: Windows) -> Any:
            totals, before = carry
            _, (sums, after) = window_loss_and_sums(new_model(), window, before, *run)
            return (totals + sums, after), None

        if not self._cuts_windows:
            return totals + by_itself(self._loss_and_sums(new_model(), chunk, given)[1])
        windows = cut_windows(chunk, self.program.training.tbptt)  # type: ignore[arg-type]  # never packed
        begin = new_model().rnn.initial_state(chunk[0].shape[0])
        return lax.scan(add_window, (totals, begin), windows)[0][0]

    def finish_epoch(self, before: TrainState, trained: TrainState, checked: dict[str, Array] | None) -> TrainState:
        """Remembers the parameters if they are the best so far, and decides whether to go on.

        Args:
          before: The state before the epoch.
          trained: The state after it.
          checked: The figures of the validation rows; None where there are no such rows: then the last epoch is best.
        """
        settings = self.program.training
        if checked is not None:
            figure = checked[settings.monitor].astype(jnp.float32)
            score = figure if settings.monitor in HIGHER_IS_BETTER else -figure
        else:  # nothing says which epoch is best
            score = trained.epoch.astype(jnp.float32)
        improved = jnp.isfinite(score) & (score > before.best_score)
        keep = functools.partial(jnp.where, improved)
        best_epoch = keep(trained.epoch, before.best_epoch)
        waited = trained.epoch - best_epoch
        stop = (waited > settings.patience) if settings.patience else jnp.bool_(False)
        return trained._replace(
            best_params=lax.cond(improved, lambda: trained.params, lambda: before.best_params),
            best_score=keep(score, before.best_score),
            best_epoch=best_epoch,
            status=jnp.where(stop, STOPPED_EARLY, RUNNING).astype(jnp.int32),
        )
