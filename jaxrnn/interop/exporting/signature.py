"""What an exported model takes and gives: names, types, dimensions, columns; the same in every format."""

import dataclasses
from typing import Any, Literal, NamedTuple

from jaxrnn.data.sequences import mark_of
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.versions import versions

BATCH, TIME, TIME_AHEAD = "batch", "time", "time_ahead"
VALUES, INPUTS, KNOWN, TIMES = "values", "inputs", "known", "times"
CATEGORIES, STATICS, LENGTHS = "categories", "statics", "lengths"
PREDICTED, PROBABILITIES, CLASS, CODE, FORECASTS = "predicted", "probabilities", "class", "class_code", "forecasts"

Kind = Literal["float64", "int64", "text"]


class Port(NamedTuple):
    """An input or an output.

    Attributes:
      name: What it is called.
      kind: The type of its entries.
      dims: Its dimensions: names of those that are free, numbers of the others.
      columns: What its last dimension stands for; none where the last dimension is no columns.
    """

    name: str
    kind: Kind
    dims: tuple[str | int, ...]
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Signature:
    """What an exported model takes and gives.

    Attributes:
      task: The model's task.
      inputs: What it takes.
      outputs: What it gives.
      missing: What NaN in the inputs means: "error", there must not be any; "forward", the last number before stands
        for it; or "mask", a missing number as training had them.
      categories: The texts of each column of categories, the first of which has code 1; 0 is any other.
      classes: The texts of the classes, in the order of the probabilities.
      quantiles: The levels of the forecasts; none of points.
      horizon: How many steps ahead the forecasts go; 0 for other tasks.
    """

    task: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    missing: str = "error"
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    horizon: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns what a file says of itself, in types that JSON has."""
        ports = {
            side: [port._asdict() for port in getattr(self, side)] for side in ("inputs", "outputs")
        }  # fmt: skip
        rest = {key: getattr(self, key) for key in ("task", "missing", "classes", "quantiles", "horizon")}
        texts = {name: list(held) for name, held in self.categories}
        return {**rest, **ports, "categories": texts, "versions": versions()}


def signature_of(model: TrainedModel, *, has_texts: bool) -> Signature:
    """Says what a model takes and gives once it is exported.

    Args:
      model: The model.
      has_texts: Whether categories go in, and classes come out, as texts; else as codes.

    Raises:
      UserError: Its sequences have nothing but a length.
    """
    encoding, task = model.encoding, model.config.task
    lengths = Port(LENGTHS, "int64", (BATCH,))
    if encoding is None:
        values = Port(VALUES, "float64", (BATCH, TIME))
        return Signature("next", (values, lengths), (Port(PREDICTED, "float64", (BATCH, 1)),))
    inputs: list[Port] = []

    def take(name: str, time: str | None, columns: tuple[str, ...], kind: Kind = "float64") -> None:
        if columns:
            dims: tuple[str | int, ...] = (BATCH, len(columns)) if time is None else (BATCH, time, len(columns))
            inputs.append(Port(name, kind, dims, columns))

    series = encoding if isinstance(encoding, SeriesEncoding) else None
    if series is not None:
        take(VALUES, TIME, series.targets.names)
    take(INPUTS, TIME, unmarked(encoding.inputs.names))
    if series is not None:
        take(KNOWN, TIME_AHEAD, unmarked(series.known.names))
        if series.calendar:
            inputs.append(Port(TIMES, "int64", (BATCH, TIME_AHEAD)))
    take(CATEGORIES, TIME, tuple(name for name, _ in encoding.categories), "text" if has_texts else "int64")
    take(STATICS, None, encoding.statics.names)
    if not any(TIME in port.dims for port in inputs):
        raise UserError("the model reads nothing of single steps; expected inputs or categories to export it")
    given: dict[str, Any] = {
        "missing": model.config.columns.missing,
        "categories": encoding.categories,
        "classes": encoding.classes,
    }
    outputs: tuple[Port, ...]
    if series is not None:
        levels, targets = max(series.levels, 1), len(series.targets.names)
        outputs = (Port(FORECASTS, "float64", (BATCH, series.horizon, targets, levels)),)
        given |= {"horizon": series.horizon, "quantiles": task.quantile_levels if levels > 1 else ()}
    elif encoding.classes:
        dims = (BATCH, TIME) if task.task == "tag" else (BATCH,)
        told = Port(CLASS, "text", dims) if has_texts else Port(CODE, "int64", dims)
        outputs = (Port(PROBABILITIES, "float64", (*dims, len(encoding.classes)), encoding.classes), told)
    else:
        names = encoding.targets.names
        outputs = (Port(PREDICTED, "float64", (BATCH, len(names)), names),)
    return Signature(task.task, (*inputs, lengths), outputs, **given)


def unmarked(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns columns without the marks of others: an exported model makes these of NaN."""
    marks = {mark_of(name) for name in names}
    return tuple(name for name in names if name not in marks)
