"""What follows from the size of a batch: which devices share it, and how many updates an epoch takes."""

from collections.abc import Sequence

from jax.sharding import Mesh

from jaxrnn.models.model_state import runs_compiled
from jaxrnn.models.windows import count_windows
from jaxrnn.parallel.devices import choose_mesh
from jaxrnn.settings.config import Config

GATES_OF_CELL = {"rnn": 1, "lstm": 4, "gru": 3}


def choose_data_mesh(config: Config, *, batch_rows: int, longest: int) -> Mesh | None:
    """Chooses the devices of a run from the size of its batches; `longest` in steps."""
    model, settings = config.model, config.training
    return choose_mesh(
        settings.num_devices,
        batch_gates=batch_rows * longest * GATES_OF_CELL[model.cell] * model.hidden_size,
        batch_rows=batch_rows,
        members=settings.ensemble,
        threaded=runs_compiled(config),
        sizes=settings.mesh_sizes,
    )


def count_updates(config: Config, num_rows: Sequence[int], lengths: Sequence[int], batch_rows: int) -> int:
    """Returns how many updates of the parameters an epoch takes.

    Args:
      config: Of the run.
      num_rows: Of each part.
      lengths: Their steps.
      batch_rows: Rows of a batch.
    """
    settings = config.training
    window = settings.tbptt if settings.target == "every" else 0
    return sum(
        -(-rows // batch_rows) * count_windows(length, window) for rows, length in zip(num_rows, lengths, strict=True)
    )
