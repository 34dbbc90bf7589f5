"""An exported model held against the model itself, on random sequences, before it is written."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.exporting import samples, signature
from jaxrnn.interop.exporting.signature import Signature, signature_of

LENGTHS = np.array([1, 2, 3, 4, 5, 6, 8, 40])
_JUNK: dict[str, Any] = {"float64": np.nan, "int64": -(2**40), "text": samples.UNSEEN}

Runner = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


class Checked(NamedTuple):
    """What a check has found.

    Attributes:
      sequences: How many random sequences were compared.
      difference: The greatest difference (`samples.greatest_difference`).
    """

    sequences: int
    difference: float


def check(
    model: TrainedModel,
    run: Runner,
    *,
    codes: bool,
    tolerance: float,
    lengths: NDArray[np.int64] = LENGTHS,
    seed: int = 0,
) -> Checked:
    """Compares an exported model with the model itself; what stands at padding is junk.

    Args:
      model: The model.
      run: Runs the exported one: from inputs to outputs by name.
      codes: Whether it takes categories as codes.
      tolerance: The difference that is allowed.
      lengths: The steps of each random sequence.
      seed: Which random sequences.

    Raises:
      UserError: They differ by more.
    """
    rows = samples.draw_rows(model, lengths, np.random.default_rng(seed))
    given = signature_of(model, has_texts=not codes)
    feeds = spoil_padding(samples.feeds_of(model, rows, codes=codes), given)
    found = run(feeds)
    expected = samples.predictions_of(model, rows)
    difference = samples.greatest_difference(model, expected, found[given.outputs[0].name], lengths)
    if not difference <= tolerance:
        raise UserError(
            f"the exported model differs from the model's own predictions by {difference:.1e} on random sequences;"
            f" expected at most {tolerance:g}; nothing is written; give --tolerance to allow more"
        )
    return Checked(len(lengths), difference)


def spoil_padding(feeds: Mapping[str, NDArray[Any]], given: Signature) -> dict[str, NDArray[Any]]:
    """Returns inputs with junk behind each sequence's last step."""
    spoiled = {}
    for port in given.inputs:
        array = np.array(feeds[port.name])
        ends = feeds[signature.LENGTHS]
        if len(port.dims) > 1 and port.dims[1] in (signature.TIME, signature.TIME_AHEAD):
            ends = ends + (given.horizon if port.dims[1] == signature.TIME_AHEAD else 0)
            array[np.arange(array.shape[1])[None] >= ends[:, None]] = _JUNK[port.kind]
        spoiled[port.name] = array
    return spoiled
