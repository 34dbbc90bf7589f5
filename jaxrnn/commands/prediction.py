"""Predictions for people: of a file, of standard input, or of rows typed at a prompt."""

import sys
from typing import Any

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.exact_parser import parse_line
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.messages import say
from jaxrnn.settings.config import ReaderConfig

PROMPT = "positions so far: "
ANSWER = "next: "
# Values predicted at once, of all rows together: half a GiB.
MAX_PREDICTED_VALUES = 2**26


def predict_file(checkpoint: str, path: str, reader: ReaderConfig, *, horizon: int, std: bool = False) -> None:
    """Prints one line per row of a file, in the file's order: `horizon` numbers joined by commas.

    An ensemble's are the means over its members.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      path: A file, or - for standard input.
      reader: How to read it.
      horizon: How many values to predict.
      std: Print as many standard deviations over the members behind them.

    Raises:
      UserError: Bad data, a bad checkpoint, or `std` of a single model; nothing is printed then.
    """
    rows = load_rows(path, reader, min_length=1)
    model = _load(checkpoint, std)
    _require_fitting(len(rows), horizon, model.num_members)
    with naming("<stdin>" if path == "-" else path):
        predicted, deviations = _predict(model, rows, horizon)
    if std:
        predicted = np.concatenate([predicted, deviations], axis=1)
    sys.stdout.writelines(_joined(values) + "\n" for values in predicted)


def converse(checkpoint: str, reader: ReaderConfig, *, horizon: int) -> None:
    """Asks for a row, answers with what follows, and asks again, until the input ends.

    A line that is no row is answered with what is wrong with it. An ensemble answers with the mean and the standard
    deviation over its members.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      reader: How a line is read.
      horizon: How many values to predict.

    Raises:
      CheckpointError: A bad checkpoint.
    """
    model = _load(checkpoint)
    _require_fitting(1, horizon, model.num_members)
    say("Type positions separated by commas, such as 1,3,5,7; end with Ctrl-D.")
    line_number = 0
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return
        except UnicodeDecodeError as error:
            print(f"error: the line is not {error.encoding}: {error.reason}")
            continue
        line_number += 1
        try:
            values = parse_line(line, name="line", line_number=line_number, delimiter=reader.delimiter)
            with naming(f"line:{line_number}"):
                predicted, deviations = _predict(model, Ragged.from_rows([values]), horizon)
        except UserError as error:
            print(f"error: {error}")
            continue
        print(ANSWER + _joined(predicted[0]) + (f"  std {_joined(deviations[0])}" if model.num_members > 1 else ""))


def _load(checkpoint: str, std: bool = False) -> TrainedModel:
    model = TrainedModel.load(checkpoint)
    if model.num_members > 1:
        say(f"means over {model.num_members} members" + ("" if std else "; --std prints standard deviations too"))
    elif std:
        raise UserError(f"--std: {checkpoint} holds one model; expected an ensemble: train one with --ensemble=8")
    return model


def _predict(model: TrainedModel, rows: Ragged, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns means and sample standard deviations over the members: (rows, horizon) each; 0 of a single model."""
    predicted = model.predict_members(rows, horizon)
    deviations = predicted.std(axis=0, ddof=1) if model.num_members > 1 else np.zeros(predicted.shape[1:])
    return predicted.mean(axis=0), deviations


def _require_fitting(num_rows: int, horizon: int, members: int = 1) -> None:
    of_members = f" and {members} members" if members > 1 else ""
    if num_rows * horizon * members > MAX_PREDICTED_VALUES:
        raise UserError(
            f"--horizon: got {horizon} values for each of {num_rows} rows{of_members}; expected at most"
            f" {MAX_PREDICTED_VALUES} in all; give a smaller horizon or fewer rows"
        )


def _joined(values: Any) -> str:
    """Joins numbers, each with the digits that float32 holds."""
    return ",".join(str(np.float32(value)) for value in values)
