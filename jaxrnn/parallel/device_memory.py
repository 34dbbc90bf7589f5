"""How much memory a device has, and whether what is planned fits: asked before anything of that size is made."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxrnn.foundation.errors import UserError

# Of a container, in version 2 and version 1 of control groups; "max", or a number that no machine has, is no limit.
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def device_bytes(device: Any = None) -> int | None:
    """Returns the memory of a device, in bytes; of a CPU what the machine or its container has; None if unknown.

    Args:
      device: By default this process's first one.
    """
    device = jax.local_devices()[0] if device is None else device
    if device.platform != "cpu":
        try:
            return (device.memory_stats() or {}).get("bytes_limit")
        except jax.errors.JaxRuntimeError:  # another process's, or one that is compiled for and not there
            return None
    limits = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CONTAINER_LIMITS:
        try:
            limits.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(limits, default=None)


def tree_bytes(shapes: Any) -> int:
    """Adds up the bytes of arrays, or of shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def planned_bytes(compiled: Any) -> tuple[int, int, int] | None:
    """Returns the bytes of arguments, temporaries and results that XLA has planned; None if it does not tell."""
    planned = compiled.memory_analysis()
    if planned is None:
        return None
    made = planned.output_size_in_bytes - planned.alias_size_in_bytes
    return planned.argument_size_in_bytes, planned.temp_size_in_bytes, made


def require_memory(num_bytes: int, what: str, advice: str, *, devices: Sequence[Any] = ()) -> None:
    """Refuses what devices cannot hold.

    Args:
      num_bytes: Needed.
      what: What needs them, such as "the parameters".
      advice: What to do.
      devices: Those that may share it, by default this process's first one alone; CPU devices have one memory.

    Raises:
      UserError: They have less.
    """
    devices = list(devices) or jax.local_devices()[:1]
    own = next((device for device in devices if device.process_index == jax.process_index()), devices[0])
    limit = device_bytes(own)
    if limit is None:
        return
    place = "this machine"
    if own.platform != "cpu":
        number = len(devices)
        limit, place = limit * number, "a device" if number == 1 else f"{number} devices"
    if num_bytes > limit:
        raise UserError(
            f"{what}: got {readable(num_bytes)}; expected at most {readable(limit)}, the memory of {place}; {advice}"
        )


def readable(num_bytes: int) -> str:
    """Writes a number of bytes in kB, MB, GB or TB."""
    size, unit = num_bytes / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1e3, larger
    return f"{size:,.1f} {unit}"
