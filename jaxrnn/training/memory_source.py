"""Rows in memory as a source of batches: they lie on the device, which draws the batches of many epochs by itself."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrnn.data.arranging import arrange, choose_batching, in_chunks
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import draw_split
from jaxrnn.parallel.device_memory import planned_bytes, require_memory
from jaxrnn.parallel.devices import replicate
from jaxrnn.parallel.state_sharding import with_shardings
from jaxrnn.settings.config import Config
from jaxrnn.training.plan import VALIDATION_CHUNK_ROWS, given_by, make_plan
from jaxrnn.training.train_state import History, Position, TrainState, history_lines
from jaxrnn.training.trainer import Trainer
from jaxrnn.training.whole_epochs import run_epochs


class MemorySource:
    """Rows split, normalised, padded and put on the device.

    Args:
      config: The run's configuration.
      rows: Rows in the data's units, of at least two values each.

    Attributes:
      split: Row numbers of the parts.
      plan: How an epoch goes.
      training: Normalised parts of whole batches, on the device.
      validation: Normalised parts of (chunks, rows, length), on the device.

    Raises:
      DataError: Too few rows, or a value too large for float32 once normalised.
    """

    keeps_copy = False

    def __init__(self, config: Config, rows: Ragged):
        self.split = draw_split(config, rows)
        training_rows, validation_rows = rows.take(self.split.training), rows.take(self.split.validation)
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
        self.plan = make_plan(
            config,
            normalizer,
            batching,
            lengths=training.lengths,
            num_rows=training.num_rows,
            real_steps=tuple(map(_real_steps, training.parts)),
            num_sequences=len(training_rows),
            batch_rows=training.batch_rows,
        )
        self.given = given_by(config, normalizer)
        self.training = replicate(training.parts, self.plan.mesh)
        chunks = tuple(in_chunks(part, validation.batch_rows) for part in validation.parts)
        self.validation = replicate(chunks, self.plan.mesh)
        self._compiled: Callable[..., Any] | None = None

    def compile(self, trainer: Trainer) -> Any:
        """Compiles the epochs from shapes alone, before there is a state.

        Returns:
          The compiled program, which knows the memory that XLA has planned.

        Raises:
          UserError: A device has less memory than XLA has planned.
        """
        shapes = jax.eval_shape(lambda: trainer.init(trainer.seeds()))
        state = with_shardings(shapes, trainer.mesh)
        given = (self.training, self.validation, np.int32(1), self.given, self.plan.num_rows)
        compiled = run_epochs.lower(trainer, state, *given).compile()
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


def _real_steps(part: Any) -> int:
    """Counts the steps that are not padding; the last value of a row is a target only."""
    if hasattr(part, "segment_ids"):
        return int(np.count_nonzero(part.segment_ids))
    return int(np.maximum(part.lengths - 1, 0).sum())
