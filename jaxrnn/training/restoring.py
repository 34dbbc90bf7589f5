"""Where a run goes on from, and what is said of one that diverged."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.foundation.errors import DivergedError
from jaxrnn.foundation.files import to_json
from jaxrnn.parallel.devices import to_host
from jaxrnn.parallel.state_sharding import place_state, with_shardings
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError, named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.training.piecewise_epochs import begin_epoch
from jaxrnn.training.train_state import DIVERGED, RUNNING, STOPPED_EARLY, EpochProgress, Position, TrainState
from jaxrnn.training.trainer import Trainer

Saved = tuple[int, tuple[int, int]] | None
# A run may go on with these changed: what it computes does not depend on them, but for the last bits.
WITHOUT_EFFECT = {
    "checkpoint_seconds",
    "max_bytes",
    "max_row_length",
    "data",
    "validation_data",
    "test_data",
    "devices",
    "mesh",
    "remat_steps",
    "tensorboard",
}
# With these changed it goes on another way than it began.
FROM_HERE_ON = {"epochs", "patience", "learning_rate", "clip_norm", "weight_decay"}


def as_tree(position: Position) -> dict[str, Any]:
    """Returns what a checkpoint holds of a position: the state, and within an epoch how far that is."""
    progress = {} if position.progress is None else {"progress": position.progress._asdict()}
    return {**position.state._asdict(), **progress}


def restore_position(trainer: Trainer, checkpointer: Checkpointer | None) -> tuple[Position, Saved]:
    """Restores the latest position of a run that is whole, or draws the initial one where none was saved.

    Returns:
      The position, and what `Fit.saved` is of it.

    Raises:
      CheckpointError: The checkpoint is damaged, or has arrays that a run of this configuration has not.
    """
    step = None if checkpointer is None else checkpointer.newest_good()
    if checkpointer is None or step is None:
        return Position(place_state(trainer.initial_state(), trainer.mesh)), None
    metadata = checkpointer.read_metadata(step)
    _require_same_run(trainer.config, metadata, checkpointer.directory / str(step))
    stored = set(checkpointer.stored_arrays(step))
    is_within = bool(metadata.get("batch"))
    if "batch" not in metadata:  # an earlier version's, which counted pieces: its run goes on from the epoch's start
        stored = {name for name in stored if not name.startswith("progress/")} - {"super_batches"}

    shapes = trainer.state_shapes()
    template = as_tree(Position(shapes, begin_epoch.eval_shape(trainer, shapes) if is_within else None))
    wanted = with_shardings(template, trainer.mesh)
    surplus = stored - named_leaves(wanted).keys()
    restored = checkpointer.restore(step, wanted)
    if surplus:
        raise CheckpointError(
            f"{checkpointer.directory / str(step)}: got arrays that a run of this configuration has not:"
            f" {', '.join(sorted(surplus))}; expected config.toml as the run wrote it"
        )
    progress = EpochProgress(**restored.pop("progress")) if is_within else None
    state = _with_patience(trainer, TrainState(**restored))
    state, progress = place_state((state, progress), trainer.mesh)
    batches = 0 if progress is None else int(np.max(np.asarray(progress.batches)))  # those of all members
    position = Position(state, progress, batches)
    return position, (step, position.key)


def _require_same_run(config: Config, metadata: dict[str, Any], step_dir: Path) -> None:
    """Refuses to go on from a step of another configuration: somebody has changed config.toml.

    What an earlier version did not know, or this one does not, is left out of account.
    """
    stored = metadata.get("config")
    # A second training is as long as the first says, and its warm-up no longer.
    free = WITHOUT_EFFECT | FROM_HERE_ON | ({"warmup_epochs"} if config.task.refit else set())
    now = json.loads(to_json(config.to_flat()))
    saved = {key: value for key, value in stored.items() if key in now} if isinstance(stored, dict) else {}
    lines = [
        f"  {key}: the checkpoint has {value!r}, the configuration {now[key]!r}"
        for key, value in saved.items()
        if key not in free and value != now[key]
    ]
    if lines:
        raise CheckpointError(
            f"{step_dir}: was saved by a run of another configuration:\n" + "\n".join(lines)
            + "\nput config.toml back as the run wrote it, or start a new run without --resume"
        )  # fmt: skip


def _with_patience(trainer: Trainer, state: TrainState) -> TrainState:
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
    config = trainer.config.optimizer
    rate = min(config.learning_rate, 10 * Config().optimizer.learning_rate) / 10  # 1e12 is not ten times too high
    clip = "" if config.clip_norm else " or --clip-norm=1"
    whose = f" of the member with seed {seed}" if trainer.is_ensemble else ""
    kept = f"the parameters after epoch {epoch} are kept" if epoch else "no epoch was finished, so none are kept"
    again = "to go on from there" if epoch else "to begin again"
    return DivergedError(
        f"the loss or its gradient{whose} became NaN or infinite in epoch {epoch + 1}, batch {batch}; {kept};"
        f" try --learning-rate={rate:g}{clip}, with --resume {again}",
        epoch=epoch + 1,
        batch=batch,
    )
