"""What programs for a TPU v5e and an NVIDIA H100 hold, compiled on a machine that has neither.

    pip install -e '.[tpu]'                                                      # for the v5e
    pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION    # for the H100; VERSION: that of jax
    python -m benchmarks.accelerators

Their compilers run on any CPU. Printed is, for those that are installed, what one step of a layer's loop executes: on a
GPU every operation is a kernel, whose launch takes microseconds whatever it computes. Then what the devices exchange in
the training program. Nothing is run, so nothing here is a time.
"""

import dataclasses
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

# For libtpu: no question to a cloud about the machine, and no lock on a device that nobody uses here. For JAX: what
# this process computes itself, it computes on its CPU.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
# XLA's GpuTargetConfigProto, from NVIDIA's tables of an H100 SXM5 and of compute capability 9.0.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 85899345920
  memory_bandwidth: 3350000000000
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
}
"""
STEPS, ROWS, INPUTS, HIDDEN = 100, 64, 32, 128
# What XLA writes down as an operation, and no device executes.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One that programs can be compiled for.

    Attributes:
      package: What has its compiler.
      num_devices: Those of the smallest machine of several.
      options: What JAX wants to know of that machine.
    """

    package: str
    num_devices: int
    options: dict[str, str]

    def version(self) -> str | None:
        """Returns the version of the installed compiler; None where there is none."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    def devices(self) -> list[Any]:
        """Returns the machine's devices, for the shardings of shapes that a program is compiled for."""
        from jax.experimental import topologies

        return list(topologies.get_topology_desc(**self.options).devices)[: self.num_devices]


ACCELERATORS = {
    "v5e": Accelerator("libtpu", 4, {"platform": "tpu", "topology_name": "v5e:2x2"}),
    "h100": Accelerator(
        "jax-cuda13-plugin",
        8,
        {"platform": "cuda", "topology_name": "h100", "topology": "1x1x8", "target_config": H100},
    ),
}


def place(tree: Any, sharding: Any) -> Any:
    """Returns the shapes of a tree of arrays with a sharding."""
    import jax

    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def layer_program(layer: Callable[[], Any], device: Any, *, gradient: bool) -> str:
    """Compiles a layer's call, or that and the gradient of all it is given; returns the program's text."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import SingleDeviceSharding

    graphdef, state = nnx.split(nnx.eval_shape(layer))
    inputs = jax.ShapeDtypeStruct((ROWS, STEPS, INPUTS), jnp.float32)

    def call(state: Any, inputs: Any) -> Any:
        return nnx.merge(graphdef, state)(inputs)

    def loss(state: Any, inputs: Any) -> Any:
        return jnp.sum(call(state, inputs)[0] ** 2)

    program = jax.value_and_grad(loss, argnums=(0, 1)) if gradient else call
    shapes = place((state, inputs), SingleDeviceSharding(device))
    return jax.jit(program).lower(*shapes).compile().as_text()


def compile_training(devices: Sequence[Any], *, hidden_size: int = HIDDEN, rows: int = 20 * ROWS) -> tuple[Any, int]:
    """Compiles the training program of an LSTM, from the command's own parts; returns it and its parameters' number."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

    from jaxrnn.data.ragged import Ragged
    from jaxrnn.parallel.device_memory import tree_bytes
    from jaxrnn.parallel.devices import DATA_AXIS
    from jaxrnn.settings.config import Config
    from jaxrnn.training.fit import build_trainer
    from jaxrnn.training.memory_source import MemorySource

    config = Config().replace_flat({"cell": "lstm", "hidden_size": hidden_size, "batch_size": ROWS, "batching": "pad"})
    lengths = 3 + np.arange(rows) % 8
    source = MemorySource(config, Ragged.from_rows([np.arange(length) + row for row, length in enumerate(lengths)]))
    if len(devices) == 1:
        mesh, sharding = None, SingleDeviceSharding(devices[0])
    else:
        shape, axis_types = (len(devices),), (AxisType.Auto,)
        mesh = jax.make_mesh(shape, (DATA_AXIS,), devices=list(devices), axis_types=axis_types)
        sharding = NamedSharding(mesh, PartitionSpec())
    source.training, source.validation = place((source.training, source.validation), sharding)
    source.plan = source.plan._replace(mesh=mesh)
    trainer = build_trainer(config, source)
    params = jax.eval_shape(lambda: trainer.init(trainer.seeds())).params
    return source.compile(trainer), tree_bytes(params) // 4


def step_operations(text: str) -> list[Counter[str]]:
    """Counts, for each loop of a compiled program in the order of execution, the operations of one turn by kind."""
    computations: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"(ENTRY )?%(\S+) \(.*\{$", line):
            current = computations["ENTRY" if match[1] else match[2]] = []
        elif " = " in line and computations:
            current.append(line)

    def count(name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in computations[name]:
            kind = _kind(line)
            if kind == "call":  # a part of the program kept apart
                found += count(re.search(r"to_apply=%([^\s,]+)", line)[1])  # type: ignore[index]
            elif kind not in _FREE and not kind.endswith("-done"):  # the other half of an operation that has begun
                found[kind] += 1
        return found

    bodies = [re.search(r"body=%([^\s,]+)", line) for line in computations["ENTRY"] if _kind(line) == "while"]
    return [count(body[1]) for body in bodies if body]


def _kind(line: str) -> str:
    """Returns the kind of an operation: the word behind the type of its result."""
    rest = line.partition(" = ")[2]
    depth = 0
    for place_, letter in enumerate(rest):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == " " and depth == 0:
            return rest[place_ + 1 :].partition("(")[0]
    return ""


def exchanged(text: str) -> list[tuple[str, int]]:
    """Lists what the devices of a compiled program send each other: the kind, and how many numbers come of it."""
    # What begins and ends apart says at its end what came of it; its beginning may name what it was given, too.
    pattern = r" = (.*) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-done)?\("
    found = [match for line in text.splitlines() if (match := re.search(pattern, line))]
    return [(match[2], sum(map(_size, re.findall(r"\w+\[([\d,]*)\]", match[1])))) for match in found]


def _size(shape: str) -> int:
    size = 1
    for number in filter(None, shape.split(",")):
        size *= int(number)
    return size


def print_steps(name: str, device: Any) -> None:
    """Prints, for a layer of each kind, what a step executes in its loops."""
    from flax import nnx

    import jaxrnn

    kinds: dict[str, Any] = {"RNN": jaxrnn.RNN, "GRU": jaxrnn.GRU, "LSTM": jaxrnn.LSTM}
    for kind, cls in kinds.items():

        def layer(cls: Any = cls) -> Any:
            return cls(INPUTS, HIDDEN, rngs=nnx.Rngs(0))

        call, gradient = (layer_program(layer, device, gradient=wanted) for wanted in (False, True))
        loops = [*step_operations(call), *step_operations(gradient)]
        print(f"{name:6} {kind:6}" + "".join(f"{sum(loop.values()):8} ({loop['fusion']:2})" for loop in loops))


def print_training(name: str, devices: Sequence[Any]) -> None:
    """Prints what the devices exchange in the training program."""
    compiled, num_parameters = compile_training(devices)
    sent = ", ".join(f"{kind} of {size:,}" for kind, size in exchanged(compiled.as_text())) or "nothing"
    print(f"{name:6} training an LSTM of {num_parameters:,} parameters on {len(devices)}: {sent}")


def main() -> int:
    """Compiles and prints."""
    os.environ.update(ENVIRONMENT)
    import jax

    found = {name: accelerator for name, accelerator in ACCELERATORS.items() if accelerator.version()}
    versions = "".join(f", {accelerator.package} {accelerator.version()}" for accelerator in found.values())
    print(f"jax {jax.__version__}{versions}; T {STEPS}, B {ROWS}, D {INPUTS}, H {HIDDEN}, float32")
    for name, accelerator in ACCELERATORS.items():
        if name not in found:
            print(f"{name}: {accelerator.package} is not installed")
    print("operations of a step (fusions among them): of a call; of its gradient, forward and back")
    for name, accelerator in found.items():
        print_steps(name, accelerator.devices()[0])
    for name, accelerator in found.items():
        for number in (1, accelerator.num_devices):
            print_training(name, accelerator.devices()[:number])
    return 0


if __name__ == "__main__":
    sys.exit(main())
