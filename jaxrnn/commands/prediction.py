"""Predictions for people: of a file, of standard input, or of rows typed at a prompt."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.commands.sequence_prediction import predict_sequences
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.exact_parser import HEADER_REMEDY, parse_line
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import to_json
from jaxrnn.foundation.messages import say
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.data_config import ReaderConfig

PROMPT = "positions so far: "
ANSWER = "next: "
# Values predicted at once, of all rows together: half a GiB.
MAX_PREDICTED_VALUES = 2**26


class Wishes(NamedTuple):
    """What to print.

    Attributes:
      horizon: How many values follow a row, with task = next; how many steps ahead, with forecast; None by default.
      std: Print their standard deviations over an ensemble's members too.
      probabilities: Print the probability of each class too.
      as_json: Print JSON Lines.
      known: With task = forecast the file of what is known ahead.
    """

    horizon: int | None = None
    std: bool = False
    probabilities: bool = False
    as_json: bool = False
    known: str | None = None

    @property
    def num_values(self) -> int:
        """How many values follow a row, with task = next."""
        return 1 if self.horizon is None else self.horizon


def predict(
    checkpoint: str, path: str | None, wishes: Wishes, *, reader: ReaderConfig, given: Mapping[str, Any]
) -> None:
    """Prints what a model predicts for a file, for standard input, or for what is typed at a terminal.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      path: A file, or - for standard input; None for what is typed, or for standard input where it is no terminal.
      wishes: What to print.
      reader: How rows are read, with task = next.
      given: Settings of columns and files that take the place of the run's, with the other tasks, by name.

    Raises:
      UserError: Bad data, a bad checkpoint, or something that the model cannot tell; nothing is printed then.
    """
    is_typed = path is None and sys.stdin is not None and sys.stdin.isatty()
    source = "-" if path is None else path
    try:
        model = TrainedModel.load(checkpoint)
    except UserError as missing:
        if not is_typed and not Path(checkpoint).exists():  # what is wrong with the data is said first
            try:
                load_rows(source, reader, min_length=1)
            except UserError as error:
                may_be_table = source != "-" and HEADER_REMEDY in str(error)  # which a model of tables would take
                first, second = (missing, error) if may_be_table else (error, missing)
                raise UserError(f"{first}; besides, {second}") from error
        raise
    if model.encoding is not None:
        is_forecast = model.config.task.task == "forecast"
        _refuse(model, "--horizon", not is_forecast and wishes.horizon not in (None, 1))
        _refuse(model, "--known-data", not is_forecast and wishes.known is not None)
        _refuse(model, "--std", wishes.std)
        model = dataclasses.replace(model, config=model.config.replace_flat(dict(given)))
        predict_sequences(
            model,
            path,
            probabilities=wishes.probabilities,
            as_json=wishes.as_json,
            horizon=wishes.horizon,
            known=wishes.known,
            given=given,
        )
        return
    _refuse(model, "--known-data", wishes.known is not None)
    _refuse(model, "--probabilities", wishes.probabilities)
    columns = [name for name in given if name in ColumnsConfig.__dataclass_fields__]
    _refuse(model, f"--{''.join(columns[:1]).replace('_', '-')}", bool(columns))
    _tell_members(model, checkpoint, std=wishes.std)
    if is_typed:
        _converse(model, reader, horizon=wishes.num_values)
    else:
        _predict_file(model, source, reader, wishes)


def _refuse(model: TrainedModel, flag: str, is_given: bool) -> None:
    if is_given:
        raise UserError(f"{flag}: got the flag; expected none with task = {model.config.task.task}")


def _predict_file(model: TrainedModel, path: str, reader: ReaderConfig, wishes: Wishes) -> None:
    """Prints one line per row of a file, in the file's order: numbers joined by commas, or an object of JSON.

    An ensemble's are the means over its members; standard deviations come behind them.
    """
    rows = load_rows(path, reader, min_length=1)
    _require_fitting(len(rows), wishes.num_values, model.num_members)
    with naming("<stdin>" if path == "-" else path):
        predicted, deviations = _predict(model, rows, wishes.num_values)
    if wishes.as_json:
        for number, (values, spread) in enumerate(zip(predicted, deviations, strict=True)):
            more = {"std": _as_floats(spread)} if wishes.std else {}
            print(to_json({"id": number, "values": _as_floats(values), **more}))
        return
    if wishes.std:
        predicted = np.concatenate([predicted, deviations], axis=1)
    sys.stdout.writelines(_joined(values) + "\n" for values in predicted)


def _converse(model: TrainedModel, reader: ReaderConfig, *, horizon: int) -> None:
    """Asks for a row, answers with what follows, and asks again, until the input ends.

    A line that is no row is answered with what is wrong with it. An ensemble answers with the mean and the standard
    deviation over its members.
    """
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


def _tell_members(model: TrainedModel, checkpoint: str, *, std: bool) -> None:
    if model.num_members > 1:
        say(f"means over {model.num_members} members" + ("" if std else "; --std prints standard deviations too"))
    elif std:
        raise UserError(f"--std: {checkpoint} holds one model; expected an ensemble: train one with --ensemble=8")


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


def _as_floats(values: Any) -> list[float]:
    return [float(str(np.float32(value))) for value in values]


def _joined(values: Any) -> str:
    """Joins numbers, each with the digits that float32 holds."""
    return ",".join(str(np.float32(value)) for value in values)
