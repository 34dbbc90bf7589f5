"""Converts PyTorch's weights to a checkpoint, and back.

    python -m jaxrnn.convert model.pt --out=runs/from-torch --scale=50
    python -m jaxrnn.convert runs/lstm --out=model.safetensors

The weights are those of a torch.nn.RNN, LSTM or GRU that reads one number a step in one direction and a Linear to one
number, as `state_dict()` gives them, in a .safetensors, .npz or .pt file (the last may be gzipped). A .pt file needs
torch installed, the others do not.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.foundation.errors import UserError

PROGRAM = "python -m jaxrnn.convert"


@dataclasses.dataclass(frozen=True)
class ConvertCommand:
    """Converts a file of PyTorch's weights to a run directory, or a checkpoint to such a file."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File of weights; or a run directory, DIR/best, DIR/latest, the directory of a step."""
    out: str
    """New run directory; or new file, ending in .safetensors, .npz or .pt."""
    nonlinearity: Optional[Literal["tanh", "relu"]] = None
    """Activation of a torch.nn.RNN, which its weights do not tell; tanh if left out."""
    offset: Optional[float] = None
    """Subtracted from the data before the PyTorch model saw it; 0 if left out."""
    scale: Optional[float] = None
    """What the data was then divided by; 1 if left out."""
    member: Optional[int] = None
    """Which model of an ensemble's checkpoint, counted from 0."""


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _convert(argv), own_process=own_process)


def _convert(argv: Sequence[str] | None) -> None:
    command = command_line.parse(ConvertCommand, argv, program=PROGRAM)

    from jaxrnn.commands import conversion  # JAX is imported from here on, so that --help need not wait for it
    from jaxrnn.data.normalizer import Normalizer

    source = Path(command.source)
    if not source.is_dir() and (source.is_file() or source.suffix in (".pt", ".pth", ".npz", ".safetensors")):
        if command.member is not None:
            raise UserError(f"--member: is for checkpoints of ensembles; {command.source} is a file of weights")
        offset = 0.0 if command.offset is None else command.offset
        scale = 1.0 if command.scale is None else command.scale
        conversion.from_torch(
            command.source, command.out, nonlinearity=command.nonlinearity, normalizer=Normalizer(offset, scale)
        )
        return
    given = [name for name in ("nonlinearity", "offset", "scale") if getattr(command, name) is not None]
    if given:
        raise UserError(f"--{given[0]}: is for files of weights; {command.source} is a checkpoint, which has its own")
    conversion.to_torch(command.source, command.out, member=command.member)


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
