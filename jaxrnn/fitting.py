"""A run from rows to a trained model: the host's side of training. It prepares data, logs, saves and stops."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrnn import training
from jaxrnn.checkpoint import Checkpointer
from jaxrnn.config import Config
from jaxrnn.data.arranging import Batching, arrange, choose_batching, in_chunks
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import Split, split_rows
from jaxrnn.devices import choose_mesh, replicate
from jaxrnn.errors import DivergedError, InterruptedRun
from jaxrnn.inference import TrainedModel
from jaxrnn.optimizers import build_optimizer, learning_rate_schedule
from jaxrnn.reporting import Progress
from jaxrnn.run_directory import RunDirectory, versions
from jaxrnn.signals import NoteSignal

# One jitted call should last about this long: long enough to hide the host's work, short enough to show progress
# and to answer a signal.
SECONDS_PER_CALL = 0.4
# Rows of a chunk in validation: bounds memory. Smaller chunks are slower: two of 1,000 rows take four times as long as
# one of 2,000 at H = 8.
VALIDATION_CHUNK_ROWS = 4096
GATES_OF_CELL = {"rnn": 1, "lstm": 4, "gru": 3}


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
      mesh: The devices that share a batch; None for the default one.
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

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return sum(-(-rows // self.batch_rows) for rows in self.num_rows)


def draw_split(config: Config, rows: Ragged) -> Split:
    """Returns the parts that a configuration's seed gives.

    Raises:
      DataError: Too few rows.
    """
    data = config.data
    return split_rows(
        rows,
        data.split,
        fractions=data.split_fractions,
        seed=config.training.seed,
        block=data.split_block,
    )


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
    settings = config.training
    batching = choose_batching(training_rows.lengths, settings.batching, settings.num_buckets)
    training, validation = (
        arrange(
            normalizer.normalize_rows(part),
            batching,
            batch_size=min(batch_size, len(part)),
            num_buckets=settings.num_buckets,
        )
        for part, batch_size in ((training_rows, settings.batch_size), (validation_rows, VALIDATION_CHUNK_ROWS))
    )
    model = config.model
    mesh = choose_mesh(
        settings.devices,
        batch_gates=training.batch_rows * max(training.lengths) * GATES_OF_CELL[model.cell] * model.hidden_size,
        batch_rows=training.batch_rows,
    )
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
    )


def build_trainer(config: Config, data: PreparedData) -> training.Trainer:
    """Builds what does not change in training."""
    span = {"epochs": config.training.epochs, "steps_per_epoch": data.steps_per_epoch}
    return training.Trainer(
        config,
        data.normalizer,
        data.batch_rows,
        build_optimizer(config.optimizer, **span),
        learning_rate_schedule(config.optimizer, **span),
        data.mesh,
    )


@dataclasses.dataclass
class Fit:
    """One run, from its initial or restored state to its end.

    Attributes:
      trainer: What does not change.
      data: The rows.
      state: Where the run is.
      run_dir: Where it is written.
      data_description: Path and hash of the data file, for the checkpoint.
    """

    trainer: training.Trainer
    data: PreparedData
    state: training.TrainState
    run_dir: RunDirectory
    data_description: dict[str, Any]
    seconds: float = 0.0

    @property
    def config(self) -> Config:
        return self.trainer.config

    def run(self, checkpointer: Checkpointer) -> None:
        """Trains until the last epoch, an early stop, a divergence or a signal; saves on all of them.

        Raises:
          DivergedError: A loss or gradient was not finite; the state before that epoch is saved.
          InterruptedRun: A signal came; the state is saved.
        """
        begin = time.perf_counter()
        total = self.config.training.epochs
        start = saved = self.epoch
        saved_at = time.monotonic()
        num_epochs, has_compiled = 1, False
        with NoteSignal() as signals, Progress(total, start=start) as progress:
            while self._may_go_on() and signals.received is None:
                before, called = self.epoch, time.perf_counter()
                self.state, history = self.trainer.run_epochs(
                    self.state,
                    self.data.training,
                    self.data.validation,
                    min(num_epochs, total - before),
                    self.data.num_rows,
                )
                epochs = _rows_of(history, before, self.epoch)
                if has_compiled:  # the first call's time says nothing about an epoch's
                    per_epoch = (time.perf_counter() - called) / max(len(epochs), 1)
                    num_epochs = int(np.clip(SECONDS_PER_CALL / per_epoch, 1, training.MAX_EPOCHS_PER_CALL))
                has_compiled = True
                self.run_dir.append_metrics(epochs)
                if epochs:
                    progress.update(epochs[-1], final=not self._may_go_on())
                due = time.monotonic() - saved_at >= self.config.training.checkpoint_seconds
                if due and self.epoch > saved:  # not where the first epoch diverged after a long compilation
                    self.save(checkpointer)
                    saved, saved_at = self.epoch, time.monotonic()
            if self.epoch > saved:
                self.save(checkpointer)
        self.seconds += time.perf_counter() - begin
        if int(self.state.status) == training.DIVERGED:
            self._raise_diverged()
        if signals.received is not None and self._may_go_on():
            raise InterruptedRun(f"interrupted after epoch {self.epoch}", signal_number=signals.received)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.state.epoch)

    def _may_go_on(self) -> bool:
        return self.epoch < self.config.training.epochs and int(self.state.status) == training.RUNNING

    def save(self, checkpointer: Checkpointer) -> None:
        """Writes a checkpoint of the current epoch."""
        metadata = {
            "config": self.config.to_flat(),
            "normalizer": dataclasses.asdict(self.data.normalizer),
            "data": self.data_description,
            "versions": versions(),
            "epoch": self.epoch,
            "best_epoch": int(self.state.best_epoch),
        }
        # Which epoch diverges is found out again on resuming, perhaps with other settings.
        state = self.state
        if int(state.status) == training.DIVERGED:
            state = state._replace(status=np.int32(training.RUNNING), bad_batch=np.int32(0))
        checkpointer.save(self.epoch, state._asdict(), metadata)

    def best_model(self) -> TrainedModel:
        """Returns the model with the best parameters."""
        params = self.state.best_params if int(self.state.best_epoch) else self.state.params
        params, other = jax.device_get((params, self.state.other))
        return TrainedModel(self.config, self.data.normalizer, params, other)

    def _raise_diverged(self) -> None:
        epoch, batch = self.epoch, int(self.state.bad_batch)
        rate = self.config.optimizer.learning_rate
        clip = "" if self.config.optimizer.clip_norm else " or --clip-norm=1"
        raise DivergedError(
            f"the loss or its gradient became NaN or infinite in epoch {epoch + 1}, batch {batch}; the"
            f" parameters after epoch {epoch} are kept; try --learning-rate={rate / 10:g}{clip}",
            epoch=epoch + 1,
            batch=batch,
        )


def restore_state(trainer: training.Trainer, checkpointer: Checkpointer) -> training.TrainState:
    """Restores the latest state of a run, or draws the initial one where none was saved."""
    steps = checkpointer.steps()
    if not steps:
        return replicate(trainer.init(np.uint32(trainer.config.training.seed)), trainer.mesh)
    template = jax.eval_shape(lambda: trainer.init(np.uint32(trainer.config.training.seed)))
    return replicate(training.TrainState(**checkpointer.restore(steps[-1], template._asdict())), trainer.mesh)


def _rows_of(history: training.History, before: int, after: int) -> list[dict[str, Any]]:
    """Turns a call's history into lines of metrics.jsonl."""
    host = jax.tree.map(np.asarray, history)
    return [
        {
            "epoch": before + 1 + i,
            "training": {name: float(values[i]) for name, values in host.training.items()},
            "validation": {name: float(values[i]) for name, values in host.validation.items()},
            "learning_rate": float(host.learning_rate[i]),
        }
        for i in range(after - before)
    ]
