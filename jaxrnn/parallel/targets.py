"""Machines to compile for that are not there: TPUs and NVIDIA GPUs, whose compilers run on any CPU."""

import dataclasses
import math
import os
import re
from importlib import metadata
from typing import Any

import jax

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import quoted

# For libtpu: no question to a cloud about the machine, and no lock on a device that nobody uses here. For JAX: a plugin
# of CUDA does not look for CUDA.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of whatever kind and number: the topology says them
}
# Memory of a chip, in bytes, as Google's pages of Cloud TPU have it.
TPUS = {"v5e": 16 * 2**30, "v5p": 95 * 2**30, "v6e": 32 * 2**30}
# From NVIDIA's tables of the SXM modules and of compute capabilities 8.0 and 9.0.
GPUS: dict[str, dict[str, Any]] = {
    "a100": {"name": "NVIDIA A100-SXM4-80GB", "capability": 8, "cores": 108, "clock": 1.41, "memory": 85_899_345_920,
             "bandwidth": 2_039_000_000_000, "l2": 41_943_040, "shared": 167_936},
    "h100": {"name": "NVIDIA H100 80GB HBM3", "capability": 9, "cores": 132, "clock": 1.98, "memory": 85_899_345_920,
             "bandwidth": 3_350_000_000_000, "l2": 52_428_800, "shared": 233_472},
    "h200": {"name": "NVIDIA H200", "capability": 9, "cores": 132, "clock": 1.98, "memory": 151_397_597_184,
             "bandwidth": 4_800_000_000_000, "l2": 52_428_800, "shared": 233_472},
}  # fmt: skip
_MAX_GPUS = 1024
# XLA's GpuTargetConfigProto; a block may have all of a core's shared memory but a kilobyte.
_GPU = """
platform_name: "CUDA"
device_description_str: "{name}"
dnn_version_info {{ major: 9 minor: 8 }}
gpu_device_info {{
  cuda_compute_capability {{ major: {capability} minor: 0 }}
  core_count: {cores}
  fpus_per_core: {fpus}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2}
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {optin}
  shared_memory_per_core: {shared}
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
}}
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices of one kind.

    Attributes:
      platform: "tpu" or "cuda".
      kind: A key of `TPUS` or `GPUS`.
      shape: Of TPUs the sides of their mesh, such as (2, 2); of GPUs their number.
    """

    platform: str
    kind: str
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Reads what ``--target-devices`` takes.

        Raises:
          UserError: It names no such devices.

        Example:
          >>> Target.parse("tpu:v5e:4x4").num_devices
          16
        """
        match = re.fullmatch(r"(tpu|cuda):([a-z0-9]+):([0-9]{1,4}(?:x[0-9]{1,4}){0,2})", text)
        kinds = {"tpu": [*TPUS], "cuda": [*GPUS]}
        if match and match[2] in kinds[match[1]]:
            found = cls(match[1], match[2], tuple(map(int, match[3].split("x"))))
            if found._has_such_a_shape():
                return found
        raise UserError(
            f"--target-devices: got {quoted(text)}; expected tpu:KIND:SHAPE, such as tpu:v5e:2x2 or tpu:v5p:4x4x4 (KIND"
            f" one of {', '.join(TPUS)}; v5p has three sides, the others two, and the first two are even), or"
            f" cuda:KIND:NUMBER, such as cuda:h100:8 (KIND one of {', '.join(GPUS)}; up to {_MAX_GPUS})"
        )

    def _has_such_a_shape(self) -> bool:
        if self.platform == "cuda":
            return len(self.shape) == 1 and 1 <= self.shape[0] <= _MAX_GPUS
        # Hosts have two by two chips.
        is_even = all(side > 0 and side % 2 == 0 for side in self.shape[:2])
        return len(self.shape) == (3 if self.kind == "v5p" else 2) and is_even and min(self.shape) > 0

    @property
    def num_devices(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def device_bytes(self) -> int:
        """The memory of one."""
        return TPUS[self.kind] if self.platform == "tpu" else GPUS[self.kind]["memory"]

    @property
    def package(self) -> str:
        """What has the compiler."""
        return "libtpu" if self.platform == "tpu" else "jax-cuda13-plugin"

    def compiler(self) -> str:
        """Returns the compiler's package and version.

        Raises:
          UserError: It is not installed; says how to install it.
        """
        try:
            return f"{self.package} {metadata.version(self.package)}"
        except metadata.PackageNotFoundError:
            version = metadata.version("jaxlib")
            install = (
                f"python -m pip install 'jax[tpu]=={version}'"
                if self.platform == "tpu"
                else f"python -m pip install --no-deps jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}"
            )
            raise UserError(
                f"--target-devices: {self.package}, the compiler for {self}, is not installed; install it, for any"
                f" machine: {install}"
            ) from None

    def devices(self) -> list[Any]:
        """Returns the devices, for the shardings of shapes that a program is compiled for.

        Raises:
          UserError: The compiler is not installed, or does not know them.
        """
        self.compiler()
        from jax.experimental import topologies

        options: dict[str, Any] = {"platform": "tpu", "topology_name": f"{self.kind}:{'x'.join(map(str, self.shape))}"}
        if self.platform == "cuda":
            facts = GPUS[self.kind]
            fpus = {8: 64, 9: 128}[facts["capability"]]
            config = _GPU.format(**facts, fpus=fpus, optin=facts["shared"] - 1024)
            options = {"platform": "cuda", "topology_name": self.kind, "topology": f"1x1x{self.num_devices}",
                       "target_config": config}  # fmt: skip
        try:
            return list(topologies.get_topology_desc(**options).devices)[: self.num_devices]
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"--target-devices: got {self}; its compiler knows no such devices: {reason}") from error

    def __str__(self) -> str:
        return f"{self.platform}:{self.kind}:{'x'.join(map(str, self.shape))}"


def prepare_environment() -> None:
    """Sets what the compilers look at when they are loaded; what this process itself computes is for its CPU."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
