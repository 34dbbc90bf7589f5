"""What a run says of itself before it begins: versions, devices, data, parameters."""

import shutil
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxrnn.commands.data_words import describe_units
from jaxrnn.commands.training_data import TrainingData
from jaxrnn.console.tables import parameter_table
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel import hosts
from jaxrnn.parallel.devices import DATA_AXIS, MEMBER_AXIS, model_size
from jaxrnn.runs.checkpoint import named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.tasks.judgement import alike_warnings, leakage_warning, overlap_warning, single_step_warning
from jaxrnn.training.plan import Plan


def print_devices(mesh: Mesh | None) -> None:
    """Says which versions run on which devices."""
    found = versions()
    say("  ".join(f"{name} {found[name]}" for name in ("jaxrnn", "python", "jax", "jaxlib", "flax", "optax")))
    devices = jax.devices()
    used, shared = (1, DATA_AXIS) if mesh is None else (mesh.devices.size, mesh.axis_names[0])
    what = {DATA_AXIS: "a batch", MEMBER_AXIS: "the ensemble"}[shared]
    what += f", groups of {model_size(mesh)} the weights" if model_size(mesh) > 1 else ""
    what += f"; {jax.process_count()} processes" if hosts.is_distributed() else ""
    how = f"{used} share {what}" if used > 1 else "one is used"
    say(f"devices: {len(devices)} x {devices[0].device_kind} ({jax.default_backend()}); {how}")
    if jax.default_backend() == "cpu" and not cpu_kernels.is_built():
        say("the compiled recurrence is missing, training is slower: install a C++ compiler, then jaxrnn once more")
    warning = gpu_without_support(jax.default_backend())
    if warning:
        say(warning)


def print_banner(data: TrainingData, params: Any) -> None:
    """Says what is trained, on what and with what; warns of rows that stand in several parts.

    Args:
      data: The data, arranged.
      params: The parameters, or their shapes.
    """
    plan = data.source.plan
    print_devices(plan.mesh)
    holds, parts = data.in_words()
    say(f"data: {holds}")
    say(
        f"split: {data.config.data.split}: {parts}; {_describe_normalizer(plan, data.config)};"
        f" {'packed' if plan.batching == 'pack' else 'padded'} to {', '.join(map(str, plan.lengths))} steps,"
        f" {plan.batch_rows:,} rows a batch"
    )
    seen = [leakage_warning(*data.shared_rows), overlap_warning(*data.overlapping)]
    seen.append(single_step_warning(plan.lengths, data.config.task.task))
    for warning in [*seen, *alike_warnings(plan.encoding, data.config)]:
        if warning:
            say(warning)
    say(parameter_table(named_leaves(params)))


def _describe_normalizer(plan: Plan, config: Config) -> str:
    if plan.encoding is not None:
        return describe_units(plan.encoding, config)
    offset, scale = plan.normalizer.offset, plan.normalizer.scale
    subtracted = f"+ {-offset:.6g}" if offset < 0 else f"- {offset:.6g}"
    return f"normalised by (x {subtracted}) / {scale:.6g}"


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
