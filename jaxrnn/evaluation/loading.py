"""A checkpoint as a model needs it: found by its path, held against its own metadata, its parameters chosen."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.data.encoding import ONE_NUMBER, Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.evaluation.step_metadata import read_settings
from jaxrnn.foundation.messages import say
from jaxrnn.models.model_state import abstract_model, parameter_structs, split_model, stack_shapes
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError
from jaxrnn.runs.stored_arrays import check_group
from jaxrnn.settings.config import Config

CHECKPOINTS_DIR = "checkpoints"
LOAD_ATTEMPTS = 20


class Loaded(NamedTuple):
    """What a checkpoint holds of a model; the attributes are those of `TrainedModel`."""

    config: Config
    normalizer: Normalizer
    params: Any
    other: Any
    metadata: dict[str, Any]
    step: int
    directory: Path
    encoding: Encoding | None


def load_checkpoint(path: str | Path) -> Loaded:
    """Restores what a path names; arguments and errors as those of `TrainedModel.load`."""
    directory, named, which = locate(path)
    for attempt in range(LOAD_ATTEMPTS):
        with Checkpointer(directory, read_only=True, warn=say) as checkpointer:
            step = checkpointer.newest_good() if named is None else named
            if step is None or (named is not None and not checkpointer.is_finished(named)):
                raise CheckpointError(
                    f"{path}: holds no whole checkpoint yet; go on with the run by --resume, or train a new one"
                )
            try:
                return _restore(checkpointer, step, which)
            except Exception:
                # A run that goes on removes its older steps, perhaps while one is read here.
                is_gone = named is None and checkpointer.newest_good() != step
                if not is_gone or attempt == LOAD_ATTEMPTS - 1:
                    raise
    raise AssertionError("the last attempt returns or raises")


def _restore(checkpointer: Checkpointer, step: int, which: str) -> Loaded:
    metadata = checkpointer.read_metadata(step)
    step_dir = checkpointer.directory / str(step)
    config, normalizer, encoding = read_settings(metadata, str(step_dir))
    sizes = ONE_NUMBER if encoding is None else encoding.sizes
    stored = checkpointer.stored_arrays(step)
    claimed = {f"{which}/{name}": struct for name, struct in parameter_structs(config, sizes).items()}
    check_group(stored, claimed, step_dir)  # before anything is built
    _, params, other = split_model(abstract_model(config, sizes))
    params, other = stack_shapes((params, other), config.training.ensemble)
    within = metadata.get("batch") and any(name.startswith("progress/trained/params/") for name in stored)
    if which == "params" and within:  # those after the latest batch
        inside = {"progress": {"trained": {"params": params, "other": other}}}
        latest = checkpointer.restore(step, inside)["progress"]["trained"]
        loaded = (config, normalizer, latest["params"], latest["other"], metadata, step)
        return Loaded(*loaded, checkpointer.directory, encoding)
    has_best = np.atleast_1d(metadata.get("best_epoch", 1)) > 0
    wanted = {which: params, "other": other}
    is_trained = metadata["data"] is not None  # not converted
    if which == "best_params" and is_trained and not has_best.all():
        wanted["params"] = params
        if metadata.get("epoch", 1) == 0:
            run = checkpointer.directory.parent
            raise CheckpointError(
                f"{run}: no epoch of this run is finished, so there are no best parameters yet; go on with it by"
                f" python -m jaxrnn.train --resume --run-dir={run}, or name {run / 'latest'} for those so far"
            )
        say(f"warning: {step_dir}: no validation figure was finite: the last parameters take the place of the best")
    restored = checkpointer.restore(step, wanted)
    found = restored[which]
    if which != "params" and "params" in restored:
        found = choose_best(has_best, found, restored["params"])
    return Loaded(config, normalizer, found, restored["other"], metadata, step, checkpointer.directory, encoding)


def choose_best(has_best: Any, best: Any, last: Any) -> Any:
    """Returns the best parameters, and the last ones where no validation was finite.

    Args:
      has_best: Whether there are best ones: (), or (members,) for an ensemble.
      best: The best parameters.
      last: The last parameters.
    """
    has_best = np.asarray(has_best)
    if has_best.size == 1:
        return best if has_best.all() else last
    return jax.tree.map(
        lambda best, last: np.where(has_best.reshape(-1, *[1] * (best.ndim - 1)), best, last), best, last
    )


def locate(path: str | Path) -> tuple[Path, int | None, str]:
    """Resolves a checkpoint's path.

    Returns:
      ``(directory of the steps, step or None for the latest, "best_params" or "params")``.

    Raises:
      CheckpointError: There is nothing at the path.
    """
    path = Path(path)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; expected a run directory that this user may read") from error
    if path.name in ("best", "latest") and not path.exists():
        run, which = path.parent, "params" if path.name == "latest" else "best_params"
    else:
        run, which = path, "best_params"
    if (run / CHECKPOINTS_DIR).is_dir():
        return run / CHECKPOINTS_DIR, None, which
    if run.name.isascii() and run.name.isdigit() and run.is_dir() and run == path:
        return run.parent, int(run.name), "params"
    reason = "no such directory" if not run.exists() else f"has no {CHECKPOINTS_DIR} directory and is not a step"
    raise CheckpointError(
        f"{path}: {reason}; expected a run directory, DIR/best, DIR/latest or the directory of a step"
    )
