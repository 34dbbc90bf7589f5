"""Several processes that train one model: how they find each other, agree and end together.

All of it goes through JAX's own distributed runtime; with one process nothing is asked and nothing waits. Whatever
depends on a clock, a signal or a disk is decided here, since processes that decide it each for itself would wait for
each other for ever: process 0 decides, or all of them tell each other.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrnn.foundation.errors import DivergedError, InterruptedRun, LostProcessError, ToldElsewhereError, UserError
from jaxrnn.foundation.messages import mute

Result = TypeVar("Result")

# Within this time JAX notices that a process has gone or hangs, and ends the others; a collective notices at once.
HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 300
SHUTDOWN_SECONDS = 60
# What errors of a collective say, by the library that fails: a process at the other end is gone.
LOST_SIGNS = ("gloo", "nccl", "unavailable", "connection", "coordination service", "deadline", "barrier", "heartbeat")


class Decision(NamedTuple):
    """What all processes do after a call of the device.

    Attributes:
      signal: The number of a signal that one of them got, or None.
      num_epochs: Epochs of the next call.
      is_due: Whether to save a checkpoint now.
    """

    signal: int | None
    num_epochs: int
    is_due: bool


def initialize(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, before JAX makes its devices; those but process 0 write nothing to the console.

    Args:
      coordinator_address: HOST:PORT of process 0; None for what JAX finds out: from Slurm, Kubernetes, a TPU pod, Open
        MPI, or JAX_COORDINATOR_ADDRESS.
      num_processes: How many there are; None as above.
      process_id: This one's number, from 0; None as above.

    Raises:
      UserError: Neither given nor found out; or they did not come together in time.
    """
    # Ours is the answer to SIGTERM: JAX's own would replace the handlers.
    jax.config.update("jax_enable_preemption_service", False)
    if jax.config.jax_cpu_collectives_implementation is None:  # type: ignore[attr-defined]
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # With all three given there is nothing to look for.
    is_given = None not in (coordinator_address, num_processes, process_id)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            cluster_detection_method="deactivate" if is_given else None,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        got = ", ".join(f"{name} {value}" for name, value in (
            ("coordinator", coordinator_address), ("processes", num_processes), ("process", process_id))
            if value is not None) or "nothing"  # fmt: skip
        raise UserError(
            f"--distributed: got {got}: {_first_line(error)}; expected what JAX detects (Slurm, Kubernetes, TPU, Open"
            " MPI), or --coordinator-address=HOST:PORT --num-processes=N --process-id=I, and all N processes within"
            f" {CONNECT_SECONDS} s"
        ) from error
    if not is_main():
        mute()


def is_distributed() -> bool:
    """Whether there are several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Whether this is the process that logs and writes the run directory: process 0, or the only one."""
    return not is_distributed() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until all processes are here.

    Args:
      name: The place's name; all must be at the same one.
    """
    if is_distributed():
        multihost_utils.sync_global_devices(name)


def gather(values: list[int]) -> np.ndarray:
    """Returns every process's numbers: (processes, len(values)) int32."""
    array = np.asarray(values, np.int32)
    return np.asarray(multihost_utils.process_allgather(array)) if is_distributed() else array[None]


def agree(signal: int | None, num_epochs: int, *, is_due: bool) -> Decision:
    """Decides for all processes what comes after a call of the device: by process 0's clock, and anybody's signal.

    Args:
      signal: The number of a signal that this process got, or None.
      num_epochs: Epochs of the next call, by this process's clock.
      is_due: Whether it is time for a checkpoint, by this process's clock.
    """
    told = gather([signal or 0, num_epochs, is_due])
    signals = [int(number) for number in told[:, 0] if number]
    return Decision(signals[0] if signals else None, int(told[0, 1]), bool(told[0, 2]))


def from_main(call: Callable[[], Result]) -> Result:
    """Calls in process 0 and returns its result in all of them.

    Args:
      call: Returns what JSON can hold.

    Raises:
      UserError: The one that `call` raised; in the other processes `ToldElsewhereError`.
    """
    if not is_distributed():
        return call()
    told: dict[str, Any] = {}
    failure: UserError | OSError | None = None
    if is_main():
        try:
            told = {"value": call()}
        except (UserError, OSError) as error:
            failure, told = error, {"error": str(error)}
    told = json.loads(_broadcast(json.dumps(told)))
    if failure is not None:
        raise agreed(failure)
    if "error" in told:
        raise ToldElsewhereError(told["error"])
    return told["value"]


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Lets all processes fail where one fails, so that none waits for those that have ended.

    Raises:
      ToldElsewhereError: Another process failed inside.
    """
    if not is_distributed():
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except (UserError, OSError) as error:
        failure = error
    failed = gather([failure is not None])[:, 0]
    if failure is not None and (is_main() or not failed[0]):
        raise agreed(failure)
    if failed.any():
        raise ToldElsewhereError(f"process {int(np.argmax(failed))} failed")


def agreed(error: Any, *, same: bool = False) -> Any:
    """Returns an exception, marked as one of those that all processes raise at the same place.

    Args:
      error: This process's.
      same: Whether it is the same in all of them, so that one of them says it for all.
    """
    if same and is_distributed() and not is_main():
        error = ToldElsewhereError(str(error))
    error.is_agreed = True
    return error


def leave() -> None:
    """Waits for the other processes, which leave too, and lets go of them; from here on each is by itself."""
    if is_distributed():
        jax.distributed.shutdown()


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Ends the processes together: after the last word, or an exception that all of them raise.

    Raises:
      LostProcessError: Another process has gone.
    """
    if not is_distributed():
        yield
        return
    try:
        yield
        barrier("the end")
    except (UserError, DivergedError, InterruptedRun, OSError) as error:
        if getattr(error, "is_agreed", False) or isinstance(error, ToldElsewhereError):
            leave()
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if any(sign in str(error).lower() for sign in LOST_SIGNS):
            raise LostProcessError(f"process {jax.process_index()} lost another one: {_first_line(error)}") from error
        raise
    leave()


def _broadcast(text: str) -> str:
    data = np.frombuffer(text.encode(), np.uint8)
    size = int(gather([len(data)])[0, 0])
    sent = data if is_main() else np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8)).decode()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
