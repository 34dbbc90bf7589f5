"""Predictions for sequences, as CSV with a header or as JSON Lines."""

import csv
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.sequences import IDS, TIMES, Sequences
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError


def predict_sequences(model: TrainedModel, path: str | None, *, probabilities: bool, as_json: bool) -> None:
    """Prints what a model predicts for the sequences of a file, in their order.

    Args:
      model: A model whose task reads sequences; its configuration says how the file is read.
      path: The file.
      probabilities: Print the probability of each class too.
      as_json: Print JSON Lines in place of CSV.

    Raises:
      UserError: Bad data, or no file; nothing is printed then.
    """
    if path is None or path == "-":
        got = "none" if path is None else "standard input"
        raise UserError(f"FILE: got {got}; expected a file of sequences with task = {model.config.task.task}")
    if probabilities and not model.classes:
        raise UserError(f"--probabilities: got the flag; expected none with task = {model.config.task.task}")
    with naming(path):
        sequences = load_sequences(path, model.config, with_answers=False)
        header, lines = lay_out(model, sequences, probabilities=probabilities)
    if as_json:
        sys.stdout.writelines(
            json.dumps(dict(zip(header, line, strict=True)), ensure_ascii=False) + "\n" for line in lines
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


def _different(names: list[str]) -> list[str]:
    """Gives names that are taken a number, so that no column hides another: two of "id" are "id" and "id_2"."""
    taken: list[str] = []
    for name in names:
        others = (f"{name}_{number}" for number in itertools.count(2))
        taken.append(name if name not in taken else next(other for other in others if other not in [*names, *taken]))
    return taken


def ids_of(sequences: Sequences) -> list[Any]:
    """Returns the sequences' ids; their numbers from 0 where they have none."""
    field = sequences.rows.get(IDS)
    return list(range(len(sequences))) if field is None else field.texts()


def times_of(sequences: Sequences) -> list[Any]:
    """Returns the time of every step; its number within the sequence, from 0, where there are none."""
    field = sequences.steps.get(TIMES)
    if field is not None:
        return field.texts()
    return [step for length in sequences.lengths.tolist() for step in range(length)]


def _plain(value: Any) -> float:
    """Returns a number with the digits that float32 holds."""
    return float(str(np.float32(value)))
