"""What a run says of itself before it begins: versions, devices, data, parameters."""

import shutil
from pathlib import Path

import jax
from jax.sharding import Mesh

from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel import hosts
from jaxrnn.parallel.devices import DATA_AXIS, MEMBER_AXIS, model_size


def print_devices(mesh: Mesh | None) -> None:
    """Says which versions run on which devices."""
    found = versions()
    say("  ".join(f"{name} {found[name]}" for name in ("jaxrnn", "python", "jax", "jaxlib", "flax", "optax")))
    devices = jax.devices()
    used, shared = (1, DATA_AXIS) if mesh is None else (mesh.devices.size, mesh.axis_names[0])
    what = {DATA_AXIS: "a batch", MEMBER_AXIS: "the ensemble"}[shared]
    what += f", groups of {model_size(mesh)} the weights" if model_size(mesh) > 1 else ""
    what += f"; {jax.process_count()} processes" if hosts.is_distributed() else ""
    say(f"devices: {len(devices)} x {devices[0].device_kind} ({jax.default_backend()}); {used} share {what}")
    if jax.default_backend() == "cpu" and not cpu_kernels.is_built():
        say("the compiled recurrence is missing, training is slower: install a C++ compiler, then jaxrnn once more")
    warning = gpu_without_support(jax.default_backend())
    if warning:
        say(warning)


def gpu_without_support(backend: str) -> str | None:
    """Returns a warning where there is a GPU that this JAX cannot use."""
    if backend != "cpu":
        return None
    seen = next((path for path in ("/dev/nvidia0", "/dev/kfd") if Path(path).exists()), None)
    seen = seen or shutil.which("nvidia-smi")
    if seen is None:
        return None
    bar = "!" * 78
    return (
        f"{bar}\n!! THIS MACHINE HAS A GPU ({seen}) BUT JAX RUNS ON THE CPU: jaxlib is the CPU-only build.\n"
        f"!! Install the GPU build:  python -m pip install -e '.[cuda]'\n{bar}"
    )
