"""What follows from the rows and the configuration before anything is computed: batches, devices, updates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxrnn.data.arranging import Batching
from jaxrnn.data.encoding import ONE_NUMBER, Encoding, Sizes
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.foundation.errors import UserError
from jaxrnn.models.model_state import runs_compiled
from jaxrnn.models.windows import count_windows
from jaxrnn.parallel.devices import choose_mesh
from jaxrnn.settings.config import Config
from jaxrnn.tasks.task import told_of
from jaxrnn.training.train_state import Given

GATES_OF_CELL = {"rnn": 1, "lstm": 4, "gru": 3}
# Rows of a chunk in validation: bounds memory. Smaller chunks are slower: two of 1,000 rows take four times as long as
# one of 2,000 at H = 8.
VALIDATION_CHUNK_ROWS = 4096


class Plan(NamedTuple):
    """How an epoch over some rows goes.

    Attributes:
      normalizer: The normaliser, fitted on the training rows.
      batching: How rows are arranged.
      lengths: The steps of each part's rows; the rows of a part have one padded length.
      num_rows: The real rows of each part; packed rows count as one each.
      real_steps: The steps of each part that are not padding.
      num_sequences: The training rows of the data, however many share a packed row.
      batch_rows: Rows of a batch.
      mesh: The devices that share a batch, or an ensemble; None for the default one.
      steps_per_epoch: Updates of the parameters in an epoch.
      encoding: What the training rows say of columns and classes; None with task = next.
    """

    normalizer: Normalizer
    batching: Batching
    lengths: list[int]
    num_rows: tuple[int, ...]
    real_steps: tuple[int, ...]
    num_sequences: int
    batch_rows: int
    mesh: Mesh | None
    steps_per_epoch: int
    encoding: Encoding | None = None

    @property
    def sizes(self) -> Sizes:
        """What the network's shapes depend on besides the configuration."""
        return ONE_NUMBER if self.encoding is None else self.encoding.sizes

    @property
    def batches_of_part(self) -> tuple[int, ...]:
        """The batches of each part in an epoch."""
        return tuple(-(-rows // self.batch_rows) for rows in self.num_rows)

    @property
    def num_batches(self) -> int:
        """The batches of an epoch."""
        return sum(self.batches_of_part)


def make_plan(
    config: Config,
    normalizer: Normalizer,
    batching: Batching,
    *,
    lengths: list[int],
    num_rows: tuple[int, ...],
    real_steps: tuple[int, ...],
    num_sequences: int,
    batch_rows: int,
    encoding: Encoding | None = None,
) -> Plan:
    """Chooses the devices of a run from the size of its batches, and counts its updates.

    Raises:
      UserError: There are fewer devices than asked for, or they cannot share the batches.
    """
    model, settings = config.model, config.training
    mesh = choose_mesh(
        settings.num_devices,
        batch_gates=batch_rows * max(lengths) * GATES_OF_CELL[model.cell] * model.hidden_size,
        batch_rows=batch_rows,
        members=settings.ensemble,
        threaded=runs_compiled(config),
        sizes=settings.mesh_sizes,
    )
    updates = count_updates(config, num_rows, lengths, batch_rows)
    return Plan(normalizer, batching, lengths, num_rows, real_steps, num_sequences, batch_rows, mesh, updates, encoding)


def count_updates(config: Config, num_rows: Sequence[int], lengths: Sequence[int], batch_rows: int) -> int:
    """Returns how many updates of the parameters an epoch takes.

    Args:
      config: The run's configuration.
      num_rows: Rows of each part.
      lengths: Steps of each part's rows.
      batch_rows: Rows of a batch.
    """
    settings = config.training
    window = settings.tbptt if settings.target == "every" else 0
    return sum(
        -(-rows // batch_rows) * count_windows(length, window) for rows, length in zip(num_rows, lengths, strict=True)
    )


def given_by(config: Config, normalizer: Normalizer, encoding: Encoding | None = None) -> Given:
    """Returns what programs are told of a run when they are called."""
    told = () if encoding is None else told_of(config, encoding)
    return Given(np.float32(normalizer.offset), np.float32(normalizer.scale), np.uint32(config.split_seed), told)


def require_whole_sequences(config: Config) -> None:
    """Refuses windows where sequences are read: what cuts them knows rows of numbers alone.

    Raises:
      UserError: They are asked for.
    """
    if config.training.tbptt:
        raise UserError(f"--tbptt: got {config.training.tbptt}; expected 0 where columns are named")
