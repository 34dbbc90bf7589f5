"""A run directory is opened: a new one, or that of a run that goes on, which may not have become another run."""

import contextlib
from typing import Any

import jax

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.messages import say
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel import hosts
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory, describe_environment
from jaxrnn.runs.run_files import read_config
from jaxrnn.runs.run_lock import RunLock
from jaxrnn.runs.run_origin import read_recurrence
from jaxrnn.runs.scalar_log import ScalarLog
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import Fit
from jaxrnn.training.restoring import FROM_HERE_ON, WITHOUT_EFFECT


def take_over(config: Config, run_dir: RunDirectory, stack: contextlib.ExitStack) -> None:
    """Locks the directory of a run that goes on.

    Args:
      config: As it is to go on.
      run_dir: The run's directory.
      stack: Holds the lock.

    Raises:
      UserError: Another process has it, or the configuration has changed in what may not.
    """
    hosts.from_main(lambda: _lock(run_dir, stack))
    hosts.from_main(lambda: _check_changes(config, run_dir))


def open_checkpoints(
    config: Config, run_dir: RunDirectory, stack: contextlib.ExitStack, description: dict[str, Any], *, resume: bool
) -> Checkpointer:
    """Makes and locks the directory of a new run, or warns of what is different where one goes on.

    Args:
      config: The run's configuration.
      run_dir: Where to write.
      stack: Holds the lock and the checkpoints.
      description: Path, hash and size of the data.
      resume: Whether a run goes on; then `take_over` has locked it.

    Returns:
      The run's checkpoints.

    Raises:
      UserError: The directory is there already, or cannot be written.
    """
    if resume:
        _warn_of_another_recurrence(run_dir)
    else:
        environment = _describe_environment(description)
        run_dir.move(hosts.from_main(lambda: _begin(run_dir, stack, config, environment)))
    return stack.enter_context(Checkpointer(run_dir.checkpoints, warn=say))


def may_train(fit: Fit, run_dir: RunDirectory, config: Config, description: dict[str, Any], *, resume: bool) -> bool:
    """Prepares the directory for a run's epochs; returns False, with a word, where there are none left to run.

    Args:
      fit: The run, new or restored.
      run_dir: Its directory.
      config: What the run is asked for; where it trains twice, `fit` has fewer epochs.
      description: Path, hash and size of the data.
      resume: Whether it goes on.

    Raises:
      UserError: More epochs are done than asked for.
    """
    if fit.config.training.epochs < fit.epoch:
        text = f"--epochs: got {fit.config.training.epochs}; expected at least {fit.epoch}, so many are done"
        raise hosts.agreed(UserError(text), same=True)
    if resume:
        if hosts.from_main(lambda: fit.is_over() and run_dir.is_reported(fit.epoch)):
            with open_scalars(config, run_dir):  # asked for late, they are written whole
                say(f"this run is finished, after epoch {fit.epoch}: see {run_dir.summary}; it is left as it is")
            return False
        environment = _describe_environment(description)
        hosts.from_main(lambda: run_dir.create(config, environment))
    run_dir.keep_metrics_until(fit.epoch)
    return True


def open_scalars(config: Config, run_dir: RunDirectory) -> contextlib.AbstractContextManager[ScalarLog | None]:
    """Opens TensorBoard's files, if the run writes them, with the epochs that it has; else gives None."""
    if not config.training.tensorboard or not run_dir.is_written:
        return contextlib.nullcontext()
    return ScalarLog(run_dir.tensorboard, run_dir.read_metrics())


def _lock(run_dir: RunDirectory, stack: contextlib.ExitStack) -> None:
    """Takes the directory of a run that goes on."""
    stack.enter_context(RunLock(run_dir.path))
    run_dir.remove_leftovers()


def _begin(run_dir: RunDirectory, stack: contextlib.ExitStack, config: Config, environment: dict[str, Any]) -> str:
    """Makes the directory of a new run; returns its path."""
    run_dir.claim()
    stack.enter_context(RunLock(run_dir.path))
    run_dir.require_empty()
    run_dir.remove_leftovers()
    run_dir.create(config, environment)
    return str(run_dir.path)


def _describe_environment(description: dict[str, Any]) -> dict[str, Any]:
    return describe_environment([str(device) for device in jax.devices()], _recurrence_here(), description)


def _check_changes(config: Config, run_dir: RunDirectory) -> None:
    saved = read_config(run_dir.config)
    changed = {key: value for key, value in config.to_flat().items() if value != saved[key]}
    refused = changed.keys() - WITHOUT_EFFECT - FROM_HERE_ON
    lines = [
        f"  {key}: the run has {saved[key]!r}, got {value!r}" + ("" if key in refused else "; this may change")
        for key, value in changed.items()
    ]
    if refused:
        free = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(WITHOUT_EFFECT | FROM_HERE_ON))
        raise UserError(
            "--resume: a run cannot go on with another configuration:\n"
            + "\n".join(lines)
            + f"\nleave these flags out, or start a new run without --resume; what may change: {free}"
        )
    for key, value in changed.items():
        say(f"{key}: {saved[key]!r} until now, {value!r} from here on")


def _warn_of_another_recurrence(run_dir: RunDirectory) -> None:
    """Says so if a run goes on with another form of the recurrence; not before JAX may make its devices."""
    before, here = read_recurrence(run_dir), _recurrence_here()
    if before not in (None, here):
        change = f"the run began with {before} and goes on with {here}"
        say(f"warning: {change}: its numbers may differ in the last bits")


def _recurrence_here() -> str:
    """Says which form of the recurrence this installation and device run."""
    is_compiled = jax.default_backend() == "cpu" and cpu_kernels.is_built()
    return "the compiled recurrence" if is_compiled else "JAX's loop"
