"""What XLA compiles: how often, how long, and kept from run to run if a user wants that."""

import contextlib
import functools
import hashlib
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.versions import versions

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_OTHER_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)


def keep_compilations() -> Path:
    """Turns on JAX's persistent cache, in the user's own cache directory, readable by nobody else.

    Programs compiled once are then read back by later runs of this user with the same sizes and versions. They hold
    instructions of the processor that they were compiled for, and a home directory may be that of several machines:
    each kind of them has a directory of its own.

    Returns:
      The directory: ``$XDG_CACHE_HOME/jaxrnn/MACHINE`` or ``~/.cache/jaxrnn/MACHINE``.

    Raises:
      UserError: It cannot be made, or belongs to somebody else.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    directory = (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "jaxrnn"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not directory.is_dir() or directory.is_symlink() or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            raise UserError(f"--compilation-cache: {directory}: expected a directory of this user's own")
        directory.chmod(0o700)  # programs are run as they are read: nobody else may put any there
        directory = directory / machine_name()
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--compilation-cache: {directory}: {error.strerror}; expected a directory to write to"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return directory


def machine_name() -> str:
    """Names the kind of this machine, by its processor's features and jaxlib's version."""
    features = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        known = ("flags", "Features", "model name", "CPU part")
        described = {line.partition(":")[0].strip(): line for line in lines}  # of many processors the last
        features = "\n".join(line for name, line in described.items() if name in known)
    text = "\n".join([platform.machine(), features, versions()["jaxlib"]])
    return f"{platform.machine() or 'unknown'}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# Half of the passes; and the emitters of code for CPUs that take less time, which jax 0.10 has as a choice.
_FEW_PASSES: dict[str, Any] = {"xla_backend_optimization_level": 1}
_OLDER_EMITTERS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False}


def compile_for_one_call(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a program that runs once, and so takes longer to compile than to run: on CPUs in a third of the time."""
    try:
        return lowered.compile(compiler_options=_haste())
    except jax.errors.JaxRuntimeError as error:  # an option that this XLA does not know
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()


def _haste() -> dict[str, Any] | None:
    if jax.default_backend() != "cpu":
        return None
    return _FEW_PASSES | (_OLDER_EMITTERS if jax.__version_info__ < (0, 11) else {})


class CompilationCounter:
    """Counts compilations while it is entered, in all threads.

    Attributes:
      count: Programs that XLA compiled, small ones included.
    """

    @property
    def count(self) -> int:
        return len(self._compiled)

    def __init__(self) -> None:
        self._compiled: list[str] = []  # appending is safe in threads, counting up is not
        self._spans: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """How long something was being traced, lowered or compiled; the same second counts once for all threads."""
        total, end = 0.0, 0.0
        for first, last in sorted(self._spans):
            total += max(0.0, last - max(first, end))
            end = max(end, last)
        return total

    def __enter__(self) -> "CompilationCounter":
        _listen_once()
        _entered.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _entered.remove(self)

    def note(self, event: str, seconds: float) -> None:
        """Takes note of something that has just been compiled, or of a step towards it."""
        if event == _COMPILE_EVENT:
            self._compiled.append(event)
        now = time.perf_counter()
        self._spans.append((now - seconds, now))


_entered: list[CompilationCounter] = []


@functools.cache
def _listen_once() -> None:
    # JAX offers no way to take a listener off again that all supported versions share: one stays, whoever counts.
    jax.monitoring.register_event_duration_secs_listener(_tell_counters)


def _tell_counters(event: str, duration_secs: float, **details: str | int) -> None:
    del details
    if event == _COMPILE_EVENT or event in _OTHER_EVENTS:
        for counter in list(_entered):
            counter.note(event, duration_secs)
