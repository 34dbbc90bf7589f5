"""XLA's flags while tests run: most of a test's time is compiling, and with these it takes half as long or less.

XLA computes the same programs with them, less optimised. Only the tests set them; users' programs keep XLA's own.
"""

import os
from importlib import metadata

DEVICES = "--xla_force_host_platform_device_count"


def quick_flags(jaxlib: str) -> list[str]:
    """Lists the flags that a version of jaxlib knows: it aborts the process on any other."""
    flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    if tuple(map(int, jaxlib.split(".")[:2])) < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return flags


def set_quick_flags() -> None:
    """Sets the flags for this process and its children, but none that XLA_FLAGS sets already; call it before JAX."""
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    ours = [flag for flag in quick_flags(metadata.version("jaxlib")) if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join([*ours, *given])


def flags_of_child(devices: int | None = None) -> dict[str, str]:
    """Gives the variable for a child process of so many simulated devices, or of as many as it makes itself."""
    kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(DEVICES)]
    return {"XLA_FLAGS": " ".join([*kept, *([f"{DEVICES}={devices}"] if devices is not None else [])])}
