"""A run from rows to a trained model: the host's side of training. It prepares data, logs, saves and stops."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrnn.console.progress import Progress
from jaxrnn.console.signals import NoteSignal
from jaxrnn.data.arranging import Batching, arrange, choose_batching, in_chunks
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import Split, draw_split
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import InterruptedRun
from jaxrnn.foundation.versions import versions
from jaxrnn.parallel import hosts
from jaxrnn.parallel.device_memory import planned_bytes, require_memory, tree_bytes
from jaxrnn.parallel.devices import replicate, to_host
from jaxrnn.parallel.state_sharding import with_shardings
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.scalar_log import ScalarLog
from jaxrnn.settings.config import Config
from jaxrnn.training.optimizers import build_optimizer, learning_rate_schedule
from jaxrnn.training.restoring import describe_divergence, restore_state
from jaxrnn.training.step_sizes import choose_data_mesh, count_updates
from jaxrnn.training.train_state import DIVERGED, MAX_EPOCHS_PER_CALL, RUNNING, TrainState, history_lines
from jaxrnn.training.trainer import Trainer

# One jitted call should last about this long: long enough to hide the host's work, short enough to show progress
# and to answer a signal.
SECONDS_PER_CALL = 0.4
# Rows of a chunk in validation: bounds memory. Smaller chunks are slower: two of 1,000 rows take four times as long as
# one of 2,000 at H = 8.
VALIDATION_CHUNK_ROWS = 4096


class PreparedData(NamedTuple):
    """Rows as training wants them.

    Attributes:
      split: Row numbers of the parts.
      normalizer: Fitted on the training rows.
      training: Normalised parts of whole batches, on the device.
      validation: Normalised parts of (chunks, rows, length), on the device.
      num_rows: Real rows of each training part.
      batch_rows: Rows of a batch.
      batching: How rows are arranged.
      lengths: The steps of each training part's rows.
      mesh: The devices that share a batch, or an ensemble; None for the default one.
      steps_per_epoch: Updates of the parameters in an epoch.
    """

    split: Split
    normalizer: Normalizer
    training: tuple[Any, ...]
    validation: tuple[Any, ...]
    num_rows: tuple[int, ...]
    batch_rows: int
    batching: Batching
    lengths: list[int]
    mesh: Mesh | None
    steps_per_epoch: int


def compile_epochs(trainer: Trainer, data: PreparedData) -> Callable[..., Any]:
    """Compiles `Trainer.run_epochs` from shapes alone, before there is a state.

    Raises:
      UserError: A device has less memory than XLA has planned.
    """
    shapes = jax.eval_shape(lambda: trainer.init(trainer.seeds()))
    state = with_shardings(shapes, trainer.mesh)
    arguments = (trainer, state, data.training, data.validation, np.int32(1), data.num_rows)
    compiled = trainer.run_epochs.lower(*arguments).compile()
    advice = "use a smaller --batch-size, shorter rows, or --remat-steps"
    own = () if trainer.mesh is None else trainer.mesh.local_devices[:1]
    require_memory(sum(planned_bytes(compiled) or ()), "training, as XLA has planned it", advice, devices=own)
    return compiled


def prepare_data(config: Config, rows: Ragged) -> PreparedData:
    """Splits, normalises and pads rows, and puts them on the device.

    Args:
      config: Of the run.
      rows: In the data's units, of at least two values each.

    Raises:
      DataError: Too few rows.
    """
    split = draw_split(config, rows)
    training_rows, validation_rows = rows.take(split.training), rows.take(split.validation)
    normalizer = Normalizer.fit(config.data.normalizer, training_rows, divisor=config.data.divisor)
    normalizer.require_parts(rows)
    settings = config.training
    batching = choose_batching(
        training_rows.lengths, settings.batching, settings.num_buckets, may_pack=not settings.tbptt
    )
    training, validation = (
        arrange(
            normalizer.normalize_rows(part),
            batching,
            batch_size=min(batch_size, len(part)),
            num_buckets=settings.num_buckets,
        )
        for part, batch_size in ((training_rows, settings.batch_size), (validation_rows, VALIDATION_CHUNK_ROWS))
    )
    mesh = choose_data_mesh(config, batch_rows=training.batch_rows, longest=max(training.lengths))
    return PreparedData(
        split,
        normalizer,
        replicate(training.parts, mesh),
        replicate(tuple(in_chunks(part, validation.batch_rows) for part in validation.parts), mesh),
        training.num_rows,
        training.batch_rows,
        batching,
        training.lengths,
        mesh,
        count_updates(config, training.num_rows, training.lengths, training.batch_rows),
    )


def build_trainer(config: Config, data: Any) -> Trainer:
    """Builds what does not change in training, from `PreparedData` or `StreamData`.

    Raises:
      UserError: A device cannot hold the model and what its training keeps.
    """
    span = {"epochs": config.training.epochs, "steps_per_epoch": data.steps_per_epoch}
    trainer = Trainer(
        config,
        data.normalizer,
        data.batch_rows,
        build_optimizer(config.optimizer, **span),
        learning_rate_schedule(config.optimizer, **span),
        data.mesh,
        data.steps_per_epoch,
    )
    shapes = jax.eval_shape(lambda: trainer.init(trainer.seeds()))
    require_memory(
        tree_bytes(shapes) + tree_bytes(shapes.params),
        f"hidden_size = {config.model.hidden_size}: parameters, the best ones, gradient and optimiser state",
        "use a smaller --hidden-size, --num-layers or --ensemble",
        devices=() if data.mesh is None else list(data.mesh.devices.flat),
    )
    return trainer


@dataclasses.dataclass
class Fit:
    """One run, from its initial or restored state to its end.

    Attributes:
      trainer: What does not change.
      data: The rows.
      state: Where the run is.
      run_dir: Where it is written.
      data_description: Path and hash of the data file, for the checkpoint.
      compiled: What `compile_epochs` returns, perhaps still on its way; None to compile when the run begins.
      scalars: Where the figures go for TensorBoard; None for nowhere.
    """

    trainer: Trainer
    data: PreparedData
    state: TrainState
    run_dir: RunDirectory
    data_description: dict[str, Any]
    compiled: Future[Callable[..., Any]] | None = None
    scalars: ScalarLog | None = None
    seconds: float = 0.0

    @property
    def config(self) -> Config:
        return self.trainer.config

    def run(self, checkpointer: Checkpointer, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Trains until the last epoch, an early stop, a divergence or a signal; saves on all of them.

        Args:
          checkpointer: Where to.
          meanwhile: Called once, when the device is about to compute and leaves the host with nothing to do.

        Raises:
          DivergedError: A loss or gradient was not finite; the state before that epoch is saved.
          InterruptedRun: A signal came; the state is saved.
        """
        total = self.config.training.epochs
        start = saved = self.epoch
        num_epochs = 1
        begin = time.perf_counter()
        with Progress(total, start=start) as progress:
            if self._may_go_on():  # a signal ends this at once: there is nothing to save
                with hosts.all_or_none():
                    run_epochs = self.compiled.result() if self.compiled else compile_epochs(self.trainer, self.data)
                meanwhile()
            with NoteSignal() as signals:
                begin, saved_at, interrupted = time.perf_counter(), time.monotonic(), None
                # One of several processes does not end alone: the others would wait for it.
                signals.unsaved = hosts.is_distributed()
                while self._may_go_on() and interrupted is None:
                    before, called = self.epoch, time.perf_counter()
                    self.state, history = run_epochs(
                        self.state, self.data.training, self.data.validation, np.int32(min(num_epochs, total - before))
                    )
                    epochs = history_lines(history, before, np.asarray(self.state.epoch))
                    signals.unsaved = signals.unsaved or self.epoch > saved
                    per_epoch = (time.perf_counter() - called) / max(len(epochs), 1)
                    num_epochs = int(np.clip(SECONDS_PER_CALL / per_epoch, 1, MAX_EPOCHS_PER_CALL))
                    self.run_dir.append_metrics(epochs)
                    if self.scalars is not None:
                        self.scalars.add(epochs)
                    if epochs:
                        progress.update(epochs[-1], final=not self._may_go_on())
                    due = time.monotonic() - saved_at >= self.config.training.checkpoint_seconds
                    agreed = hosts.agree(signals.received, num_epochs, is_due=due)
                    num_epochs = agreed.num_epochs
                    # Not where the first epoch diverged after a long compilation, nor an ensemble that diverged.
                    if agreed.is_due and self.epoch > saved and not self._has(DIVERGED):
                        self.save(checkpointer)
                        saved, saved_at = self.epoch, time.monotonic()
                        signals.unsaved = hosts.is_distributed()
                    interrupted = agreed.signal if hosts.is_distributed() else signals.received
                diverged = describe_divergence(self.trainer, self.state) if self._has(DIVERGED) else None
                if diverged and self.trainer.is_ensemble:
                    self._rewind(checkpointer, run_epochs)
                if self.epoch > saved:
                    self.save(checkpointer)
                if interrupted is not None and self._may_go_on():
                    hosts.leave()  # now, while the signal does not end this process before the others
        self.seconds += time.perf_counter() - begin
        if diverged:
            raise hosts.agreed(diverged)
        if interrupted is not None and self._may_go_on():
            raise hosts.agreed(InterruptedRun(f"interrupted after epoch {self.epoch}", signal_number=interrupted))

    def is_over(self) -> bool:
        """Whether there is nothing left to train: the last epoch is done, or training has stopped early."""
        return not self._may_go_on() and not self._has(DIVERGED)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(np.max(self.state.epoch))

    @property
    def best_epoch(self) -> int:
        """The best epoch so far; of an ensemble that of its best member."""
        best = np.argmax(np.atleast_1d(self.state.best_score))
        return int(np.atleast_1d(self.state.best_epoch)[best])

    def describe_members(self) -> dict[str, list[int]]:
        """Returns the seeds of an ensemble's members, their best epochs, and the epochs that they ran."""
        state = self.state
        named = {"seeds": state.seed, "best_epochs": state.best_epoch, "epochs_run": state.epoch}
        return {name: np.asarray(leaf).tolist() for name, leaf in named.items()}

    def _has(self, status: int) -> bool:
        return bool(np.any(np.asarray(self.state.status) == status))

    def _may_go_on(self) -> bool:
        is_short = self.epoch < self.config.training.epochs
        return is_short and self._has(RUNNING) and not self._has(DIVERGED)

    def save(self, checkpointer: Checkpointer) -> None:
        """Writes a checkpoint of the current epoch."""
        metadata = {
            "config": self.config.to_flat(),
            "normalizer": dataclasses.asdict(self.data.normalizer),
            "data": self.data_description,
            "versions": versions(),
            "epoch": self.epoch,
            "best_epoch": np.asarray(self.state.best_epoch).tolist(),
        }
        # Which epoch diverges is found out again on resuming, perhaps with other settings.
        state = self.state
        if self._has(DIVERGED):
            state = state._replace(status=np.int32(RUNNING), bad_batch=np.int32(0))
        self.run_dir.sync_metrics()
        checkpointer.save(self.epoch, state._asdict(), metadata)

    def best_model(self) -> TrainedModel:
        """Returns the model with the best parameters."""
        state = self.state
        other = to_host(state.other)
        if not self.trainer.is_ensemble:
            params = to_host(state.best_params if int(state.best_epoch) else state.params)
            return TrainedModel(self.config, self.data.normalizer, params, other)
        has_best, best, last = jax.device_get((state.best_epoch > 0, state.best_params, state.params))
        params = jax.tree.map(
            lambda best, last: np.where(has_best.reshape(-1, *[1] * (best.ndim - 1)), best, last), best, last
        )
        return TrainedModel(self.config, self.data.normalizer, params, other)

    def _rewind(self, checkpointer: Checkpointer, run_epochs: Callable[..., Any]) -> None:
        """Computes once more, from the latest checkpoint on, an ensemble before the epoch in which a member diverged.

        The members do not wait for each other: within a call of the device the others have gone on.
        """
        state = jax.device_get(self.state)
        last_good = int(np.min(state.epoch[state.status == DIVERGED]))
        self.state = restore_state(self.trainer, checkpointer)
        for _ in range(self.epoch, last_good):
            self.state, _ = run_epochs(self.state, self.data.training, self.data.validation, np.int32(1))
        self.run_dir.keep_metrics_until(last_good)
