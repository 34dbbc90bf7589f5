"""Predictions for sequences, as CSV with a header or as JSON Lines."""

import csv
import itertools
import sys
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.sequences import TIMES, Sequences, ids_of
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.evaluation.forecast_tables import STEP, TARGET
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import to_json

DIGITS = 10  # of forecasts: a level of float64 and a change of float32


def predict_sequences(
    model: TrainedModel,
    path: str | None,
    *,
    probabilities: bool,
    as_json: bool,
    horizon: int | None = None,
    known: str | None = None,
    given: Collection[str] = (),
) -> None:
    """Prints what a model predicts for the sequences of a file, in their order.

    Args:
      model: A model whose task reads sequences; its configuration says how the file is read.
      path: The file.
      probabilities: Print the probability of each class too.
      as_json: Print JSON Lines in place of CSV.
      horizon: With task = forecast the steps ahead to print; None for all.
      known: With task = forecast the file of what is known ahead.
      given: Settings that are not the run's.

    Raises:
      UserError: Bad data, or no file; nothing is printed then.
    """
    if path is None or path == "-":
        got = "none" if path is None else "standard input"
        raise UserError(f"FILE: got {got}; expected a file of sequences with task = {model.config.task.task}")
    if probabilities and not model.classes:
        raise UserError(f"--probabilities: got the flag; expected none with task = {model.config.task.task}")
    with naming(path):
        sequences = load_sequences(path, model.config, with_answers=False, encoding=model.encoding, given=given)
        if model.config.task.task == "forecast":
            header, lines = lay_out_forecasts(model, sequences, horizon, known)
        else:
            header, lines = lay_out(model, sequences, probabilities=probabilities)
    if as_json:
        sys.stdout.writelines(
            to_json(dict(zip(header, line, strict=True)), ensure_ascii=False) + "\n" for line in lines
        )
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)


def lay_out(
    model: TrainedModel, sequences: Sequences, *, probabilities: bool = False
) -> tuple[list[str], Iterator[list[Any]]]:
    """Returns the header and the lines of predictions.

    Args:
      model: The model.
      sequences: What to predict from.
      probabilities: Whether the probability of each class stands behind it.
    """
    ids, task = ids_of(sequences), model.config.task.task
    if task in ("regress", "next"):
        assert model.encoding is not None
        numbers = np.asarray(model.predict(sequences)).reshape(len(sequences), -1)
        names = model.encoding.targets.names
        header = ["value"] if names == ("label",) else list(names)
        return _different(["id", *header]), (
            [number, *map(_plain, row)] for number, row in zip(ids, numbers, strict=True)
        )
    more = [f"p_{name}" for name in model.classes] if probabilities else []
    predicted = model.predict_proba(sequences)
    if task == "classify":
        return ["id", "class", *more], (
            [number, model.classes[int(row.argmax())], *(map(_plain, row) if probabilities else ())]
            for number, row in zip(ids, predicted, strict=True)
        )
    times = times_of(sequences)
    return ["id", "time", "class", *more], (
        [number, time, model.classes[int(row.argmax())], *(map(_plain, row) if probabilities else ())]
        for number, rows, start in zip(ids, predicted, sequences.offsets[:-1], strict=True)
        for time, row in zip(times[start : start + len(rows)], rows, strict=True)
    )


def lay_out_forecasts(
    model: TrainedModel, sequences: Sequences, horizon: int | None, known: str | None
) -> tuple[list[str], Iterator[list[Any]]]:
    """Returns the header and the lines of forecasts: id, time, step ahead from 1, and quantiles or a prediction.

    Args:
      model: The model.
      sequences: The series.
      horizon: How many steps ahead; None for all that the model forecasts.
      known: The file of what is known ahead.
    """
    table = model.forecast(sequences, horizon, known=known)
    names = ["id", "time", *table.column_names[2:]]
    times = table.column(1).to_numpy()
    # Python has no times behind the year 9999.
    columns = [texts_of_times(times) if at == 1 else column.to_pylist() for at, column in enumerate(table.columns)]
    first = names.index(STEP) + 1 + (TARGET in names)
    columns[first:] = [[float(f"{value:.{DIGITS}g}") for value in column] for column in columns[first:]]
    return names, (list(line) for line in zip(*columns, strict=True))


def texts_of_times(times: NDArray[Any]) -> list[Any]:
    """Returns times as they are printed: dates alone where no time has an hour; numbers as they are."""
    if times.dtype.kind != "M":
        return times.tolist()
    days = times.astype("M8[D]")
    if (days == times).all():
        return days.astype(str).tolist()
    return [text.replace("T", " ") for text in times.astype("M8[s]" if _are_seconds(times) else "M8[us]").astype(str)]


def _are_seconds(times: NDArray[Any]) -> bool:
    return bool((times.astype("M8[s]") == times).all())


def _different(names: list[str]) -> list[str]:
    """Gives names that are taken a number, so that no column hides another: two of "id" are "id" and "id_2"."""
    taken: list[str] = []
    for name in names:
        others = (f"{name}_{number}" for number in itertools.count(2))
        taken.append(name if name not in taken else next(other for other in others if other not in [*names, *taken]))
    return taken


def times_of(sequences: Sequences) -> list[Any]:
    """Returns the time of every step; its number within the sequence, from 0, where there are none."""
    field = sequences.steps.get(TIMES)
    if field is not None:
        return texts_of_times(field.values[:, 0])
    return [step for length in sequences.lengths.tolist() for step in range(length)]


def _plain(value: Any) -> float:
    """Returns a number with the digits that float32 holds."""
    return float(str(np.float32(value)))
