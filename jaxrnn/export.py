"""Exports a trained model for programs that do not have this package.

    python -m jaxrnn.export --checkpoint=runs/classify --format=onnx --out=model.onnx
    python -m jaxrnn.export --checkpoint=runs/forecast --format=stablehlo --out=model.stablehlo
    python -m jaxrnn.export --checkpoint=runs/lstm --format=torch --out=model.pt

An ONNX model and a StableHLO program take numbers in the data's units with the lengths of the sequences, and give
predictions in these units, probabilities and classes. Both are checked against the model before they are written. For
PyTorch the weights are written. docs/deploying.md shows how each is run.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, Optional

import tyro

from jaxrnn.console import command_line
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.checking import require

PROGRAM = "python -m jaxrnn.export"


@dataclasses.dataclass(frozen=True)
class ExportCommand:
    """Writes a trained model as ONNX, as a StableHLO program, or as PyTorch's weights."""

    checkpoint: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """Run directory (its best parameters), DIR/best, DIR/latest, or the directory of a step."""
    format: Literal["onnx", "stablehlo", "torch"]
    """onnx for onnxruntime and others; stablehlo for JAX and XLA; torch for PyTorch's state dict."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """New file; with format = torch ending in .safetensors, .npz or .pt."""
    codes: bool = False
    """With format = onnx: categories go in, and classes come out, as numbers in place of texts."""
    member: Optional[int] = None
    """Which model of an ensemble, counted from 0; all of them if left out, whose mean predicts."""
    tolerance: float = 1e-5
    """Greatest difference from the model's own predictions at which the file is written."""

    def __post_init__(self) -> None:
        require(self.tolerance > 0, "tolerance", self.tolerance, "above 0")


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    return command_line.run(lambda: _export(argv), own_process=own_process)


def _export(argv: Sequence[str] | None) -> None:
    command = command_line.parse(ExportCommand, argv, program=PROGRAM)

    if command.codes and command.format != "onnx":
        raise UserError(f"--codes: is for --format=onnx; with --format={command.format} categories are codes always")

    from jaxrnn.commands import conversion  # JAX is imported from here on, so that --help need not wait for it

    if command.format == "torch":
        conversion.to_torch(command.checkpoint, command.out, member=command.member, describe=True)
        return
    conversion.export(
        command.checkpoint,
        command.out,
        format=command.format,
        codes=command.codes,
        member=command.member,
        tolerance=command.tolerance,
    )


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
