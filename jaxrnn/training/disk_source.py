"""A prepared data set as a source of batches: they are read from the disk while the device computes."""

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.store.layout import Layout
from jaxrnn.parallel.device_memory import planned_bytes, require_memory, tree_bytes
from jaxrnn.parallel.devices import (
    MEMBER_AXIS,
    data_size,
    place_rows,
    replicate,
    replicated,
    rows_of_process,
    share_of_rows,
)
from jaxrnn.parallel.state_sharding import with_shardings
from jaxrnn.settings.config import Config
from jaxrnn.training.disk_arranging import Part, arrange_dataset
from jaxrnn.training.piecewise_epochs import (
    add_chunks,
    begin_epoch,
    end_epoch,
    no_sums,
    train_batches,
    trained_state,
)
from jaxrnn.training.plan import GATES_OF_CELL, given_by
from jaxrnn.training.stream_order import Seeds
from jaxrnn.training.super_batches import SuperBatch, SuperBatches, read_ahead
from jaxrnn.training.train_state import DIVERGED, Position, history_lines
from jaxrnn.training.trainer import Trainer


class _Reading(NamedTuple):
    """Rows of one part of the data set, how they are arranged, and the super batches of all epochs."""

    layout: Layout
    batches: SuperBatches

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(part.length for part in self.layout.parts)


class DiskSource:
    """Super batches of training and validation rows; each of several processes reads its own rows of every batch.

    Args:
      config: The run's configuration.
      dataset: The prepared rows.

    Attributes:
      plan: How an epoch goes.

    Raises:
      DataError: A value is too large for float32 once normalised.
    """

    keeps_copy = True  # of what a step changes: an epoch that diverges is undone

    def __init__(self, config: Config, dataset: Dataset):
        settings, model = config.training, config.model
        arranged = arrange_dataset(config, dataset)
        self.plan = plan = arranged.plan
        self.given = given_by(config, plan.normalizer, plan.encoding)
        products = GATES_OF_CELL[model.cell] * model.hidden_size * (model.hidden_size + 1) * 3
        products *= 2 * model.num_layers - 1

        def reading(part: Part, seeds: Seeds | None, members: int = 0) -> _Reading:
            deals_members = plan.mesh is not None and MEMBER_AXIS in plan.mesh.axis_names
            own = rows_of_process(None if deals_members else plan.mesh, part.layout.batch_rows)
            given: Any = {"products_per_step": products, "width": arranged.width, "rows_of_batch": own}
            given |= {"epochs": settings.epochs, "members": members}
            batches = SuperBatches(part.reading, part.layout, seeds=seeds, **given)
            return _Reading(part.layout, batches)

        seeds = Seeds(settings.seed, config.split_seed) if settings.shuffle else None
        self._training = reading(arranged.training, seeds, settings.ensemble if settings.ensemble > 1 else 0)
        self._validation = None if arranged.validation is None else reading(arranged.validation, None)
        self._train_batches: Any = None
        self._read: dict[str, Generator[SuperBatch, None, None]] = {}

    def trace(self, trainer: Trainer) -> Callable[[], Any]:
        """Traces the training steps from shapes alone, before there is a state.

        Returns:
          What compiles them. It returns the compiled program, which knows the memory that XLA has planned, and raises
          UserError where a device has less than that and the state that an epoch goes back to.
        """
        shapes = trainer.state_shapes()
        progress = begin_epoch.eval_shape(trainer, shapes)
        batches, parts = self._training.batches.shapes(_filled(self.plan.batch_rows, trainer))
        lowered = train_batches.lower(
            trainer,
            with_shardings(progress, trainer.mesh),
            share_of_rows(batches, self._sharing(trainer), axis=_dealt_axis(trainer)),
            replicated(parts, trainer.mesh),
            np.int32(1),
            self.given,
            self._training.lengths,
        )
        return functools.partial(self._compile, lowered, trainer, tree_bytes(shapes))

    def _compile(self, lowered: jax.stages.Lowered, trainer: Trainer, state_bytes: int) -> Any:
        compiled = lowered.compile()
        advice = "use a smaller --batch-size, shorter rows, or --remat-steps"
        own = () if trainer.mesh is None else trainer.mesh.local_devices[:1]
        needed = sum(planned_bytes(compiled) or ()) + state_bytes
        require_memory(
            needed, "training, as XLA has planned it, beside the state before the epoch", advice, devices=own
        )
        self._train_batches = compiled
        return compiled

    def advance(self, trainer: Trainer, position: Position, *, epochs: int) -> tuple[Position, list[dict[str, Any]]]:
        """Trains on one super batch, or validates on one, in one call of the device.

        Args:
          trainer: What does not change.
          position: Where to go on from; the arrays of its progress are donated.
          epochs: Without meaning here: an epoch takes many calls.

        Returns:
          The new position, and the line of metrics.jsonl of an epoch that was finished.
        """
        del epochs
        if position.batches < self.plan.num_batches:
            return self._train(trainer, position), []
        position = position.settled()
        if position.has(DIVERGED):
            return position, []
        return self._validate(trainer, position)

    def close(self) -> None:
        """Ends the threads that read ahead."""
        for reading in self._read.values():
            reading.close()
        self._read = {}

    def _train(self, trainer: Trainer, position: Position) -> Position:
        batch = self._next("training", self._training, position.epoch, position.batches)
        arrays = self._place(batch, self._sharing(trainer), trainer.mesh, axis=_dealt_axis(trainer))
        progress = begin_epoch(trainer, position.state) if position.progress is None else position.progress
        position = position.settled()  # waits for the call before: one is computed while the next is read, no more
        if position.has(DIVERGED):
            return position
        if self._train_batches is not None:
            progress = self._train_batches(progress, *arrays, self.given)
        else:
            progress = train_batches(trainer, progress, *arrays, self.given, self._training.lengths)
        return Position(position.state, progress, position.batches + batch.num_batches)

    def _validate(self, trainer: Trainer, position: Position) -> tuple[Position, list[dict[str, Any]]]:
        assert position.progress is not None
        trained = trained_state(trainer, position.state, position.progress)
        totals = None
        if self._validation is not None:
            num_rows = self._validation.layout.batch_rows
            # Only members need zeros of a program: in several processes it would keep them waiting for one another.
            nothing = no_sums(trainer, num_rows, trained) if trainer.is_ensemble else trainer.task.zero(num_rows)
            totals = nothing if position.checked is None else position.checked
            batch = self._next("validation", self._validation, position.epoch, 0)
            arrays = self._place(batch, trainer.data_mesh, trainer.mesh)
            totals = add_chunks(trainer, trained, totals, *arrays, self.given, self._validation.lengths, num_rows)
            jax.block_until_ready(totals)
            chunks = position.chunks + 1
            if chunks < self._validation.batches.per_epoch:
                return position._replace(checked=totals, chunks=chunks), []
        state, history = end_epoch(trainer, position.state, trained, position.progress, totals, self.given)
        after = Position(state)
        return after, history_lines(history, position.epoch, np.asarray(state.epoch))

    def _next(self, name: str, reading: _Reading, epoch: int, batch: int) -> SuperBatch:
        if name not in self._read:
            self._read[name] = read_ahead(reading.batches, epoch=epoch, batch=batch)
        return next(self._read[name])

    def _sharing(self, trainer: Trainer) -> Mesh | None:
        """The devices among which training batches are dealt out: by rows, or by members."""
        return trainer.mesh if trainer.is_ensemble else trainer.data_mesh

    def _place(
        self, batch: SuperBatch, sharing: Mesh | None, mesh: Mesh | None, *, axis: int = 1
    ) -> tuple[Any, Any, Any]:
        """Puts a super batch on the devices: on each of several its own rows, or those of its members."""
        rows = replicate(batch.batches, mesh) if sharing is None else place_rows(batch.batches, sharing, axis=axis)
        return rows, replicate(batch.parts, mesh), np.int32(batch.num_batches)


def _dealt_axis(trainer: Trainer) -> int:
    """Returns the axis of a super batch that is dealt out: members, or rows, which stand behind members."""
    return 2 if trainer.is_ensemble and trainer.data_mesh is not None else 1


def _filled(num_rows: int, trainer: Trainer) -> int:
    """Returns the rows of a batch with those that fill it up for the devices."""
    return num_rows + -num_rows % data_size(trainer.mesh)
