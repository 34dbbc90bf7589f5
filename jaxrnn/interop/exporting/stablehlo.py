"""A trained model as a StableHLO program of `jax.export`, with symbolic batch and time, for CPUs, GPUs and TPUs."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.exporting import programs, signature
from jaxrnn.interop.exporting.array_ops import ArrayOps
from jaxrnn.interop.exporting.signature import Port, signature_of

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(model: TrainedModel) -> bytes:
    """Returns a serialized `jax.export.Exported`, a function from and to dictionaries of arrays by name.

    It computes what `TrainedModel.predict` does, from and to the data's units; whoever runs it needs JAX alone, with
    64-bit types enabled (`jax_enable_x64`). Matmuls are asked for in full precision, on every platform.

    Args:
      model: The model.

    Raises:
      UserError: It has more weights than such a file holds, or the package that JAX writes such files with is missing.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("--format=stablehlo needs a package: python -m pip install flatbuffers")
    given = signature_of(model, has_texts=False)
    members = programs.members_of(model, "stablehlo")
    timed = next(port.name for port in given.inputs if signature.TIME in port.dims)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        lengths = jnp.clip(inputs[signature.LENGTHS], 0, inputs[timed].shape[1])
        found = programs.run(ArrayOps(), model, members, {**inputs, signature.LENGTHS: lengths})
        if given.classes:
            found[signature.CODE] = found[signature.PROBABILITIES].argmax(axis=-1)
        return found

    batch, time = jax.export.symbolic_shape(f"{signature.BATCH}, {signature.TIME}")
    sizes: dict[Any, Any] = {signature.BATCH: batch, signature.TIME: time, signature.TIME_AHEAD: time + given.horizon}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):

        def struct(port: Port) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct([sizes.get(size, size) for size in port.dims], np.dtype(port.kind))

        structs = {port.name: struct(port) for port in given.inputs}
        exported = jax.export.export(jax.jit(run), platforms=PLATFORMS)(structs)
        return bytes(exported.serialize())


class StableHloRunner:
    """Runs what `to_stablehlo` gives on this process's default device.

    Args:
      content: The program's bytes.
    """

    def __init__(self, content: bytes):
        self._exported = jax.export.deserialize(bytearray(content))

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        with jax.enable_x64(True):
            found = self._exported.call(dict(feeds))
            return {name: np.asarray(array) for name, array in found.items()}
