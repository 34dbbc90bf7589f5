"""Where a run goes on from, and what is said of one that diverged."""

from typing import Any

import jax
import numpy as np

from jaxrnn.foundation.errors import DivergedError
from jaxrnn.parallel.devices import to_host
from jaxrnn.parallel.state_sharding import place_state, with_shardings
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError, named_leaves
from jaxrnn.training.train_state import DIVERGED, RUNNING, STOPPED_EARLY, TrainState
from jaxrnn.training.trainer import Trainer


def restore_state(trainer: Trainer, checkpointer: Checkpointer) -> TrainState:
    """Restores the latest state of a run that is whole, or draws the initial one where none was saved."""
    step = checkpointer.newest_good()
    if step is None:
        return place_state(trainer.init(trainer.seeds()), trainer.mesh)
    wanted = with_shardings(jax.eval_shape(lambda: trainer.init(trainer.seeds())), trainer.mesh)
    restored = restore_step(checkpointer, step, wanted._asdict())
    return place_state(with_patience(trainer, TrainState(**restored)), trainer.mesh)


def restore_step(checkpointer: Checkpointer, step: int, wanted: dict[str, Any]) -> dict[str, Any]:
    """Restores all arrays of a step.

    Args:
      checkpointer: Where from.
      step: One that is whole.
      wanted: Their structure, and where they are to lie.

    Raises:
      CheckpointError: The step has others.
    """
    checkpointer.read_metadata(step)  # refuses another format
    restored = checkpointer.restore(step, wanted)
    surplus = checkpointer.stored_arrays(step).keys() - named_leaves(wanted).keys()
    if surplus:
        raise CheckpointError(
            f"{checkpointer.directory / str(step)}: got arrays that a run of this configuration has not:"
            f" {', '.join(sorted(surplus))}; expected config.toml as the run wrote it"
        )
    return restored


def with_patience(trainer: Trainer, state: TrainState) -> TrainState:
    """Lets a run go on that has stopped early, if there is more patience now than there was."""
    patience = trainer.config.training.patience
    is_patient = not patience or np.all(np.asarray(state.epoch - state.best_epoch) <= patience)
    if not trainer.is_ensemble and int(state.status) == STOPPED_EARLY and is_patient:  # more than it was
        state = state._replace(status=np.int32(RUNNING))
    return state


def describe_divergence(trainer: Trainer, state: TrainState) -> DivergedError:
    """Returns the error of a run that diverged: where, and what to do. Of an ensemble the first member counts."""
    state = to_host(state)
    status, epochs = np.atleast_1d(state.status), np.atleast_1d(state.epoch)
    first = np.argmin(np.where(status == DIVERGED, epochs, np.iinfo(np.int32).max))
    epoch, batch, seed = (int(np.atleast_1d(leaf)[first]) for leaf in (state.epoch, state.bad_batch, state.seed))
    rate = trainer.config.optimizer.learning_rate
    clip = "" if trainer.config.optimizer.clip_norm else " or --clip-norm=1"
    whose = f" of the member with seed {seed}" if trainer.is_ensemble else ""
    return DivergedError(
        f"the loss or its gradient{whose} became NaN or infinite in epoch {epoch + 1}, batch {batch}; the"
        f" parameters after epoch {epoch} are kept; try --learning-rate={rate / 10:g}{clip}, with"
        " --resume to go on from there",
        epoch=epoch + 1,
        batch=batch,
    )
