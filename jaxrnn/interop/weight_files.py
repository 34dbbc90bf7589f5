"""Files of weights: safetensors and NumPy's .npz without torch, PyTorch's .pt (gzipped too) where torch is installed.

Nothing is ever unpickled but by ``torch.load(weights_only=True)``, which takes tensors and plain containers alone.
"""

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.foundation.array_types import StateDict
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import write_atomically

_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict.

    Args:
      path: A .safetensors, .npz, .pt or .pth file; the last two may be gzipped.

    Returns:
      Arrays by name; bfloat16 ones as float32.

    Raises:
      UserError: The file is missing, damaged or no state dict, or a package to read it is missing.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a file of weights") from error
    if path.suffix == ".safetensors":
        found = _read_safetensors(content, path)
    elif path.suffix == ".npz":
        found = _read_npz(content, path)
    else:
        found = _read_torch(content, path)
    return {name: _as_array(name, value, path) for name, value in found.items()}


def write_state_dict(path: str | Path, mapping: StateDict) -> None:
    """Writes a state dict in the format that the name ends in.

    Args:
      path: Ends in .safetensors, .npz, .pt or .pth.
      mapping: Arrays by name.

    Raises:
      UserError: Another ending, a package that is missing, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    arrays = {name: np.ascontiguousarray(array) for name, array in mapping.items()}
    buffer = io.BytesIO()
    if path.suffix == ".safetensors":
        buffer.write(_safetensors().save(arrays))
    elif path.suffix == ".npz":
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
    else:
        torch = _torch(path)
        torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror}") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise UserError("reading .safetensors needs a package: python -m pip install safetensors") from error
    return safetensors.numpy


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: PyTorch's files need torch: python -m pip install torch==2.13.0;"
            " or save the weights as .safetensors, which needs no torch here"
        ) from error
    return torch


def _read_safetensors(content: bytes, path: Path) -> dict[str, Any]:
    try:
        return _safetensors().load(content)
    except UserError:
        raise
    except Exception as error:  # the package raises its own type, and others on damaged headers
        raise UserError(f"{path}: not a safetensors file: {error}") from error


def _read_npz(content: bytes, path: Path) -> dict[str, Any]:
    if content[:4] != _ZIP_MAGIC:
        raise UserError(f"{path}: not an .npz file")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an .npz file of arrays: {error}") from error


def _read_torch(content: bytes, path: Path) -> dict[str, Any]:
    torch = _torch(path)
    try:
        if content[:2] == _GZIP_MAGIC:
            content = gzip.decompress(content)
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways; all of them mean the file
        raise UserError(
            f"{path}: torch.load(weights_only=True) refuses it ({type(error).__name__}); expected what"
            " torch.save(model.state_dict(), FILE) writes, gzipped or not"
        ) from error
    if isinstance(loaded, dict) and not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        nested = [key for key in ("state_dict", "model_state_dict", "model") if isinstance(loaded.get(key), dict)]
        loaded = loaded[nested[0]] if nested else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise UserError(f"{path}: got {type(loaded).__name__}; expected a state dict: tensors by name")
    return {
        name: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in loaded.items()
    }


def _as_array(name: str, value: Any, path: Path) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind == "V" or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind != "f":
        raise UserError(f"{path}: {name} is {array.dtype}; expected floating-point numbers")
    return array
