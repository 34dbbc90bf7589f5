"""Rows in memory as a source of batches: they lie on the device, which draws the batches of many epochs by itself."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrnn.data.arranging import Arranged, arrange, choose_batching, in_chunks
from jaxrnn.data.encoding import Encoded
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.sequence_parts import SequenceParts
from jaxrnn.data.series.encodings import fit_encoding
from jaxrnn.data.split import Split, draw_split
from jaxrnn.data.step_batches import StepBatch, arrange_steps, pack_steps
from jaxrnn.parallel.device_memory import planned_bytes, require_memory
from jaxrnn.parallel.devices import replicate
from jaxrnn.parallel.state_sharding import with_shardings
from jaxrnn.settings.config import Config
from jaxrnn.training.plan import VALIDATION_CHUNK_ROWS, Plan, given_by, make_plan, require_whole_sequences
from jaxrnn.training.train_state import History, Position, TrainState, history_lines
from jaxrnn.training.trainer import Trainer
from jaxrnn.training.whole_epochs import run_epochs


class MemorySource:
    """Rows split, normalised, padded and put on the device.

    Args:
      config: The run's configuration.
      rows: Rows in the data's units, of at least two values each; or for the other tasks sequences, split.
      split: The row numbers of the parts; None to draw them as the configuration says.

    Attributes:
      split: Row numbers of the parts of rows of numbers.
      plan: How an epoch goes.
      training: Normalised parts of whole batches, on the device.
      validation: Normalised parts of (chunks, rows, length), on the device.

    Raises:
      DataError: Too few rows, or a value too large for float32 once normalised.
    """

    keeps_copy = False
    split: Split

    def __init__(self, config: Config, rows: Ragged | SequenceParts, split: Split | None = None):
        if isinstance(rows, Ragged):
            self.split = draw_split(config, rows) if split is None else split
            self.plan, training, validation = _arrange_rows(config, rows, self.split)
        else:
            self.plan, training, validation = _arrange_sequences(config, rows)
        self.given = given_by(config, self.plan.normalizer, self.plan.encoding)
        self.training = replicate(training, self.plan.mesh)
        self.validation = replicate(validation, self.plan.mesh)
        self._compiled: Callable[..., Any] | None = None

    def trace(self, trainer: Trainer) -> Callable[[], Any]:
        """Traces the epochs from shapes alone, before there is a state.

        Returns:
          What compiles them. It returns the compiled program, which knows the memory that XLA has planned, and raises
          UserError where a device has less.
        """
        shapes = trainer.state_shapes()
        state = with_shardings(shapes, trainer.mesh)
        given = (self.training, self.validation, np.int32(1), self.given, self.plan.num_rows)
        lowered = run_epochs.lower(trainer, state, *given)
        return functools.partial(self._compile, lowered, trainer)

    def _compile(self, lowered: jax.stages.Lowered, trainer: Trainer) -> Any:
        compiled = lowered.compile()
        advice = "use a smaller --batch-size, shorter rows, or --remat-steps"
        own = () if trainer.mesh is None else trainer.mesh.local_devices[:1]
        require_memory(sum(planned_bytes(compiled) or ()), "training, as XLA has planned it", advice, devices=own)
        self._compiled = compiled
        return compiled

    def advance(self, trainer: Trainer, position: Position, *, epochs: int) -> tuple[Position, list[dict[str, Any]]]:
        """Runs some epochs in one call of the device.

        Args:
          trainer: What does not change.
          position: Where to go on from; its arrays are donated.
          epochs: How many, at most.

        Returns:
          The new position, and a line of metrics.jsonl for every epoch that was finished.
        """
        before = position.epoch  # its arrays are gone after the call
        state, history = self.run_epochs(trainer, position.state, epochs)
        return Position(state), history_lines(history, before, np.asarray(state.epoch))

    def run_epochs(self, trainer: Trainer, state: TrainState, num_epochs: int) -> tuple[TrainState, History]:
        """Calls `whole_epochs.run_epochs` on the rows."""
        before = (state, self.training, self.validation, np.int32(num_epochs), self.given)
        if self._compiled is not None:
            return self._compiled(*before)
        return run_epochs(trainer, *before, self.plan.num_rows)

    def close(self) -> None:
        """Does nothing: the rows stay where they are."""


Parts = tuple[Any, ...]


def _arrange_rows(config: Config, rows: Ragged, split: Split) -> tuple[Plan, Parts, Parts]:
    """Normalises and pads or packs rows of numbers; returns the plan, the training and the validation parts."""
    training_rows, validation_rows = rows.take(split.training), rows.take(split.validation)
    normalizer = Normalizer.fit(config.data.normalizer, training_rows, divisor=config.data.divisor)
    normalizer.require_parts(rows)
    settings = config.training
    batching = choose_batching(
        training_rows.lengths, settings.batching, settings.num_buckets, may_pack=not settings.tbptt
    )

    def arranged(part: Ragged, batch_size: int) -> Arranged:
        normalized = normalizer.normalize_rows(part)
        batch_size = min(batch_size, len(part))
        return arrange(normalized, batching, batch_size=batch_size, num_buckets=settings.num_buckets)

    training = arranged(training_rows, settings.batch_size)
    plan = make_plan(
        config,
        normalizer,
        batching,
        lengths=training.lengths,
        num_rows=training.num_rows,
        real_steps=tuple(map(_real_steps, training.parts)),
        num_sequences=len(training_rows),
        batch_rows=training.batch_rows,
    )
    if not len(validation_rows):
        return plan, training.parts, ()
    validation = arranged(validation_rows, VALIDATION_CHUNK_ROWS)
    return plan, training.parts, tuple(in_chunks(part, validation.batch_rows) for part in validation.parts)


def _arrange_sequences(config: Config, parts: SequenceParts) -> tuple[Plan, Parts, Parts]:
    """Encodes and pads sequences; returns the plan, the training and the validation parts."""
    settings, task = config.training, config.task.task
    require_whole_sequences(config)
    encoding = fit_encoding(parts.training.sequences, config)
    every = settings.target == "every"
    rows = encoding.encode_training(parts.training.sequences, task, every=every)
    # The test rows too: what is wrong with them is said before anything is trained.
    checked, _ = (None if part is None else encoding.encode(part.sequences, task, every=every) for part in parts[1:])
    training = _arrange_encoded(rows, config, settings.batch_size)
    plan = make_plan(
        config,
        Normalizer(),
        training.batching,
        lengths=[part.inputs.shape[1] for part in training.parts],
        num_rows=training.num_rows,
        real_steps=tuple(map(_real_steps, training.parts)),
        num_sequences=len(rows),
        batch_rows=training.batch_rows,
        encoding=encoding,
    )
    if checked is None:
        return plan, training.parts, ()
    validation = _arrange_encoded(checked, config, VALIDATION_CHUNK_ROWS)
    return plan, training.parts, tuple(in_chunks(part, validation.batch_rows) for part in validation.parts)


def _arrange_encoded(rows: Encoded, config: Config, batch_size: int) -> Arranged:
    """Pads sequences to one length or a few, or packs them; "auto" pads to a few."""
    settings, batch_size = config.training, min(batch_size, len(rows))
    if settings.batching == "pack":
        packed, num_rows, batch_rows = pack_steps(rows, batch_size=batch_size)
        return Arranged((packed,), (num_rows,), batch_rows, "pack")
    max_buckets = 1 if settings.batching == "pad" else settings.num_buckets
    found = arrange_steps(rows, max_buckets=max_buckets, batch_size=batch_size)
    num_rows_of = tuple(len(indices) for indices, _ in found)
    return Arranged(tuple(part for _, part in found), num_rows_of, batch_size, "pad" if len(found) == 1 else "bucket")


def _real_steps(part: Any) -> int:
    """Counts the steps that are not padding; the last value of a row is a target only."""
    if hasattr(part, "segment_ids"):
        return int(np.count_nonzero(part.segment_ids))
    is_of_steps = isinstance(part, StepBatch)
    return int(np.maximum(part.lengths - (not is_of_steps), 0).sum())
