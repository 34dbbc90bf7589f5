"""Converts PyTorch's weights to a checkpoint, and back.

    python -m jaxrnn.convert model.pt --out=runs/from-torch --scale=50
    python -m jaxrnn.convert runs/lstm --out=model.safetensors

The weights are those of a torch.nn.RNN, LSTM or GRU and a Linear, as `state_dict()` gives them, in a .safetensors, .npz
or .pt file (a gzipped one too). A .pt file needs torch installed, the others do not.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxrnn import command_line

PROGRAM = "python -m jaxrnn.convert"


@dataclasses.dataclass(frozen=True)
class ConvertCommand:
    """Converts a file of PyTorch's weights to a run directory, or a checkpoint to such a file."""

    source: Annotated[str, tyro.conf.Positional]
    """File of weights; or a run directory, DIR/best, DIR/latest, the directory of a step."""
    out: str
    """New run directory; or new file, ending in .safetensors, .npz or .pt."""
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    """Of a torch.nn.RNN: its weights do not tell."""
    offset: float = 0.0
    """Subtracted from the data before the PyTorch model saw it."""
    scale: float = 1.0
    """What the data was then divided by."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _convert(argv))


def _convert(argv: Sequence[str] | None) -> None:
    command = command_line.parse(ConvertCommand, argv, program=PROGRAM)

    from jaxrnn import conversion  # JAX is imported from here on, so that --help need not wait for it
    from jaxrnn.data.normalizer import Normalizer

    if Path(command.source).is_file() or Path(command.source).suffix in (".pt", ".pth", ".npz", ".safetensors"):
        conversion.from_torch(
            command.source,
            command.out,
            nonlinearity=command.nonlinearity,
            normalizer=Normalizer(command.offset, command.scale),
        )
    else:
        conversion.to_torch(command.source, command.out)


if __name__ == "__main__":
    sys.exit(main())
