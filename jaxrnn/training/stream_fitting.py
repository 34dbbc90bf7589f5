"""A run over a prepared data set: as `fitting.Fit`, with batches that are read while the device computes."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrnn.console.progress import Progress
from jaxrnn.console.signals import NoteSignal
from jaxrnn.data.arranging import Batching
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.store.layout import Layout, choose_batching_of, lay_out
from jaxrnn.foundation.errors import InterruptedRun
from jaxrnn.foundation.versions import versions
from jaxrnn.parallel import hosts
from jaxrnn.parallel.devices import place_rows, replicate, rows_of_process
from jaxrnn.parallel.state_sharding import place_state, with_shardings
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.settings.config import Config
from jaxrnn.tasks.metrics import MetricSums, as_floats
from jaxrnn.training.fitting import VALIDATION_CHUNK_ROWS, Fit, build_trainer
from jaxrnn.training.restoring import describe_divergence, restore_step, with_patience
from jaxrnn.training.step_sizes import GATES_OF_CELL, choose_data_mesh, count_updates
from jaxrnn.training.stream_order import Seeds
from jaxrnn.training.stream_training import EpochProgress, StreamTrainer
from jaxrnn.training.streaming import SuperBatch, SuperBatches, read_ahead
from jaxrnn.training.train_state import DIVERGED, RUNNING, TrainState


class StreamData(NamedTuple):
    """A prepared data set as training wants it; the counterpart of `fitting.PreparedData`.

    Attributes:
      dataset: The rows.
      normalizer: Fitted on the training rows.
      training: Super batches of all epochs.
      validation: Super batches of chunks, of as many passes.
      num_rows: Real rows of each training part.
      batch_rows: Rows of a batch.
      chunk_rows: Rows of a chunk.
      batching: How rows are arranged.
      lengths: The steps of each training part's rows.
      padded_lengths: The values of a row of each training part, and of each validation part.
      mesh: The devices that share a batch; None for the default one.
      steps_per_epoch: Updates of the parameters in an epoch.
    """

    dataset: Dataset
    normalizer: Normalizer
    training: SuperBatches
    validation: SuperBatches
    num_rows: tuple[int, ...]
    batch_rows: int
    chunk_rows: int
    batching: Batching
    lengths: list[int]
    padded_lengths: tuple[tuple[int, ...], tuple[int, ...]]
    mesh: Mesh | None
    steps_per_epoch: int


def open_data(config: Config, dataset: Dataset) -> StreamData:
    """Arranges the rows of a prepared data set; each of several processes reads its own rows of every batch.

    Args:
      config: Of the run.
      dataset: The rows.

    Raises:
      DataError: A value is too large for float32 once normalised.
    """
    settings, model = config.training, config.model
    normalizer = dataset.fit_normalizer(config)
    batching = choose_batching_of(
        dataset.histogram("training"), settings.batching, settings.num_buckets, may_pack=not settings.tbptt
    )
    training, validation = (
        lay_out(
            dataset.parts[name],
            dataset.histogram(name),
            batching,
            batch_size=min(batch_size, dataset.num_rows(name)),
            num_buckets=settings.num_buckets,
        )
        for name, batch_size in (("training", settings.batch_size), ("validation", VALIDATION_CHUNK_ROWS))
    )
    products = GATES_OF_CELL[model.cell] * model.hidden_size * (model.hidden_size + 1) * 3
    products *= 2 * model.num_layers - 1
    mesh = choose_data_mesh(config, batch_rows=training.batch_rows, longest=max(training.lengths))

    def read(name: str, layout: Layout, **order: Any) -> SuperBatches:
        own = rows_of_process(mesh, layout.batch_rows)
        rows = dataset.parts[name]
        return SuperBatches(rows, layout, normalizer, products_per_step=products, rows_of_batch=own, **order)

    seeds = Seeds(settings.seed, config.split_seed) if settings.shuffle else None
    return StreamData(
        dataset,
        normalizer,
        read("training", training, seeds=seeds, epochs=settings.epochs),
        read("validation", validation, seeds=None, epochs=settings.epochs),
        training.num_rows,
        training.batch_rows,
        validation.batch_rows,
        batching,
        training.lengths,
        (tuple(part.length for part in training.parts), tuple(part.length for part in validation.parts)),
        mesh,
        count_updates(config, training.num_rows, training.lengths, training.batch_rows),
    )


def build_stream_trainer(config: Config, data: StreamData) -> StreamTrainer:
    """Builds what does not change in training."""
    trainer = build_trainer(config, data)
    return StreamTrainer(**{field.name: getattr(trainer, field.name) for field in dataclasses.fields(trainer)})


@dataclasses.dataclass
class StreamFit(Fit):
    """One run over a prepared data set, from its initial or restored state to its end.

    A checkpoint holds the state at the beginning of its epoch, which is what an epoch that diverges goes back to, and
    how far the epoch is.

    Attributes:
      progress: Of the epoch that is going on; None between two.
      super_batches: Trained on in this epoch.
      saved_step: The number of the latest checkpoint.
    """

    trainer: StreamTrainer
    data: StreamData  # type: ignore[assignment]
    progress: EpochProgress | None = None
    super_batches: int = 0
    saved_step: int = -1

    @property
    def step(self) -> int:
        """The number of a checkpoint: of the super batches, and two more an epoch."""
        return self.epoch * (self.data.training.per_epoch + 2) + self.super_batches

    def run(self, checkpointer: Checkpointer, meanwhile: Callable[[], object] = lambda: None) -> None:
        """As `Fit.run`; a checkpoint, and the answer to a signal, wait for a super batch at most."""
        begin, last_save = time.perf_counter(), time.monotonic()
        per_epoch = self.data.training.per_epoch
        source = read_ahead(self.data.training, start=self.epoch * per_epoch + self.super_batches)
        chunks = read_ahead(self.data.validation, start=self.epoch * self.data.validation.per_epoch)
        with (
            contextlib.closing(source),
            contextlib.closing(chunks),
            Progress(self.config.training.epochs, start=self.epoch) as progress,
            NoteSignal() as signals,
        ):
            signals.unsaved = hosts.is_distributed()  # one of several processes does not end alone
            interrupted = None
            while self._may_go_on() and interrupted is None:
                if self.super_batches < per_epoch:
                    self._train_on(next(source))
                    meanwhile()
                    meanwhile = _nothing
                    progress.within(self.epoch + 1, self.super_batches / per_epoch, self._rows())
                else:
                    line, interrupted = self._judge(chunks, signals)
                    if line is None:
                        break
                    self.run_dir.append_metrics([line])
                    if self.scalars is not None:
                        self.scalars.add([line])
                    progress.update(line, final=not self._may_go_on())
                signals.unsaved = hosts.is_distributed() or self.step > self.saved_step
                is_due = time.monotonic() - last_save >= self.config.training.checkpoint_seconds
                agreed = hosts.agree(signals.received, 0, is_due=is_due)
                if agreed.is_due and self._is_finite():
                    self.save(checkpointer)
                    last_save = time.monotonic()
                    signals.unsaved = hosts.is_distributed()
                interrupted = agreed.signal if hosts.is_distributed() else signals.received
            self._is_finite()
            diverged = describe_divergence(self.trainer, self.state) if self._has(DIVERGED) else None
            self.save(checkpointer)
            if interrupted is not None and self._may_go_on():
                hosts.leave()  # now, while the signal does not end this process before the others
        self.seconds += time.perf_counter() - begin
        if diverged:
            raise hosts.agreed(diverged)
        if interrupted is not None and self._may_go_on():
            within = f", in the middle of the next ({self.super_batches / per_epoch:.0%})"
            text = f"interrupted after epoch {self.epoch}" + within * bool(self.super_batches)
            raise hosts.agreed(InterruptedRun(text, signal_number=interrupted))

    def save(self, checkpointer: Checkpointer) -> None:
        """Writes a checkpoint, between two epochs or in the middle of one; none that is there already.

        Of an epoch that diverged the state before it has a number above those of its middle, so that it is the latest.
        """
        state, step = self.state, self.step
        if self._has(DIVERGED):  # found out again on resuming, perhaps with other settings
            step += self.data.training.per_epoch + 1
            state = state._replace(status=np.int32(RUNNING), bad_batch=np.int32(0))
        if step <= self.saved_step:
            return
        progress = self.trainer.begin_epoch(state) if self.progress is None else self.progress
        metadata = {
            "config": self.config.to_flat(),
            "normalizer": dataclasses.asdict(self.data.normalizer),
            "data": self.data_description,
            "versions": versions(),
            "epoch": self.epoch,
            "best_epoch": np.asarray(self.state.best_epoch).tolist(),
        }
        self.run_dir.sync_metrics()
        checkpointer.save(step, _as_tree(state, progress, self.super_batches), metadata)
        self.saved_step = step

    def _train_on(self, batch: SuperBatch) -> None:
        arrays = self._place(batch)
        if self.progress is None:
            self.progress = self.trainer.begin_epoch(self.state)
        if self._is_finite():  # waits for the call before: one is computed while the next is read, no more
            self.progress = self.trainer.train_batches(self.progress, *arrays, self.data.padded_lengths[0])
            self.super_batches += 1

    def _is_finite(self) -> bool:
        """Whether the epoch is so far; undoes one that is not."""
        bad_batch = 0 if self.progress is None else int(self.progress.bad_batch)
        if bad_batch:
            self.state = self.state._replace(status=np.int32(DIVERGED), bad_batch=np.int32(bad_batch))
            self.progress, self.super_batches = None, 0
        return not bad_batch

    def _place(self, batch: SuperBatch) -> tuple[Any, Any, Any]:
        """Puts a super batch on the devices: of several, on each its own rows."""
        rows = place_rows(batch.batches, self.data.mesh, axis=1)
        return rows, replicate(batch.parts, self.data.mesh), np.int32(batch.num_batches)

    def _judge(self, source: Iterator[SuperBatch], signals: NoteSignal) -> tuple[dict[str, Any] | None, int | None]:
        """Validates and ends the epoch; returns its line, None if it diverged, and a signal that came in between."""
        if not self._is_finite():
            return None, None
        assert self.progress is not None
        trained = self.trainer.trained_state(self.state, self.progress)
        totals = MetricSums.zero(self.data.chunk_rows)
        for chunks in itertools.islice(source, self.data.validation.per_epoch):
            signal = hosts.agree(signals.received, 0, is_due=False).signal
            if signal is not None:
                return None, signal
            totals = self.trainer.add_chunks(trained, totals, *self._place(chunks), self.data.padded_lengths[1])
            jax.block_until_ready(totals)
        self.state, figures, rate = self.trainer.end_epoch(self.state, trained, self.progress, totals)
        self.progress, self.super_batches = None, 0
        host = jax.device_get(figures)
        figures = {part: as_floats(host[part]) for part in host}
        return {"epoch": self.epoch, **figures, "learning_rate": float(rate)}, None

    def _rows(self) -> int:
        """Rows trained on in this epoch so far, about."""
        share = self.super_batches / self.data.training.per_epoch
        return round(self.data.dataset.num_rows("training") * share)


def _nothing() -> None:
    pass


def restore_progress(trainer: StreamTrainer, checkpointer: Checkpointer) -> dict[str, Any]:
    """Restores the latest state of a run that is whole, or draws the initial one.

    Returns:
      "state", "progress", "super_batches" and "saved_step", as `StreamFit` takes them.
    """
    step = checkpointer.newest_good()
    if step is None:
        return {"state": place_state(trainer.init(trainer.seeds()), trainer.mesh)}

    def template() -> dict[str, Any]:
        state = trainer.init(trainer.seeds())
        return _as_tree(state, trainer.begin_epoch(state), 0)

    restored = restore_step(checkpointer, step, with_shardings(jax.eval_shape(template), trainer.mesh))
    progress = EpochProgress(**restored.pop("progress"))
    super_batches = int(restored.pop("super_batches"))
    state = with_patience(trainer, TrainState(**restored))
    state, progress = place_state((state, progress), trainer.mesh)
    found = {"state": state, "super_batches": super_batches, "saved_step": step}
    return found | ({"progress": progress} if super_batches else {})


def _as_tree(state: TrainState, progress: EpochProgress, super_batches: int) -> dict[str, Any]:
    return {**state._asdict(), "progress": progress._asdict(), "super_batches": np.int32(super_batches)}
