"""Recurrent networks on variable-length sequences in JAX: PyTorch's RNN, LSTM and GRU, exactly."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrnn.cells import GRUCell, LSTMCell, RNNCell
    from jaxrnn.cpu_kernels import register_kernels
    from jaxrnn.data.batching import pad_sequences, unpad_sequences
    from jaxrnn.data.packing import Packed, pack_sequences
    from jaxrnn.data.ragged import Ragged
    from jaxrnn.data.reader import read_sequences
    from jaxrnn.equations import Equation, LSTMState
    from jaxrnn.inference import TrainedModel
    from jaxrnn.interop.flax import load_flax
    from jaxrnn.interop.flax_cell import as_flax_cell
    from jaxrnn.interop.torch import load_torch_state_dict, to_torch_state_dict
    from jaxrnn.layers import GRU, LSTM, RNN, RecurrentLayer

__version__ = "0.1.0"

# Imported when first asked for: a command's --help must not wait for JAX.
_HOMES = {
    "Equation": "equations",
    "GRU": "layers",
    "GRUCell": "cells",
    "LSTM": "layers",
    "LSTMCell": "cells",
    "LSTMState": "equations",
    "RNN": "layers",
    "Packed": "data.packing",
    "RNNCell": "cells",
    "Ragged": "data.ragged",
    "RecurrentLayer": "layers",
    "TrainedModel": "inference",
    "as_flax_cell": "interop.flax_cell",
    "load_flax": "interop.flax",
    "load_torch_state_dict": "interop.torch",
    "pack_sequences": "data.packing",
    "pad_sequences": "data.batching",
    "read_sequences": "data.reader",
    "register_kernels": "cpu_kernels",
    "to_torch_state_dict": "interop.torch",
    "unpad_sequences": "data.batching",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Equation",
    "GRUCell",
    "LSTMCell",
    "LSTMState",
    "Packed",
    "RNNCell",
    "Ragged",
    "RecurrentLayer",
    "TrainedModel",
    "as_flax_cell",
    "load_flax",
    "load_torch_state_dict",
    "pack_sequences",
    "pad_sequences",
    "read_sequences",
    "register_kernels",
    "to_torch_state_dict",
    "unpad_sequences",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
