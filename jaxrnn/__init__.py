"""Recurrent networks on variable-length sequences in JAX: PyTorch's RNN, LSTM and GRU, exactly."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrnn.commands.fitting import fit
    from jaxrnn.data.batching import pad_sequences, unpad_sequences
    from jaxrnn.data.packing import Packed, pack_sequences
    from jaxrnn.data.ragged import Ragged
    from jaxrnn.data.readers.reader import read_sequences
    from jaxrnn.data.sequences import Sequences
    from jaxrnn.data.tables.reading import read
    from jaxrnn.evaluation.trained_model import TrainedModel, load
    from jaxrnn.interop.flax import load_flax
    from jaxrnn.interop.flax_cell import as_flax_cell
    from jaxrnn.interop.torch import load_torch_state_dict, to_torch_state_dict
    from jaxrnn.nn.cells import GRUCell, LSTMCell, RNNCell
    from jaxrnn.nn.engine.cpu_kernels import register_kernels
    from jaxrnn.nn.equations import Equation, LSTMState
    from jaxrnn.nn.layers import GRU, LSTM, RNN, RecurrentLayer

__version__ = "0.1.0"

# Imported when first asked for: a command's --help must not wait for JAX.
_HOMES = {
    "Equation": "nn.equations",
    "GRU": "nn.layers",
    "GRUCell": "nn.cells",
    "LSTM": "nn.layers",
    "LSTMCell": "nn.cells",
    "LSTMState": "nn.equations",
    "RNN": "nn.layers",
    "Packed": "data.packing",
    "RNNCell": "nn.cells",
    "Ragged": "data.ragged",
    "RecurrentLayer": "nn.layers",
    "Sequences": "data.sequences",
    "TrainedModel": "evaluation.trained_model",
    "as_flax_cell": "interop.flax_cell",
    "fit": "commands.fitting",
    "load": "evaluation.trained_model",
    "load_flax": "interop.flax",
    "load_torch_state_dict": "interop.torch",
    "pack_sequences": "data.packing",
    "pad_sequences": "data.batching",
    "read": "data.tables.reading",
    "read_sequences": "data.readers.reader",
    "register_kernels": "nn.engine.cpu_kernels",
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
    "Sequences",
    "TrainedModel",
    "as_flax_cell",
    "fit",
    "load",
    "load_flax",
    "load_torch_state_dict",
    "pack_sequences",
    "pad_sequences",
    "read",
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
