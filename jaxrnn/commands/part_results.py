"""What a model makes of a part, whatever its task: figures for tables, summary.json and eval --json."""

import dataclasses
from typing import Any

from jaxrnn.console.tables import table
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.sequences import Sequences, ids_of
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.evaluation.forecasting import ForecastEvaluation
from jaxrnn.evaluation.part_evaluation import PartEvaluation, evaluate_figures, evaluate_part
from jaxrnn.evaluation.sequence_errors import count_confusions
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.evaluation.value_evaluation import Evaluation
from jaxrnn.settings.task_config import FIGURES_OF_TASK, FURTHER_FIGURES, task_of_figures
from jaxrnn.tasks.figures import ACCURACY_NOTE, explain_forecasts, write_figure

Rows = Ragged | ShardedRows | Sequences | ShardedSequences

SEQUENCES = Sequences | ShardedSequences


@dataclasses.dataclass(frozen=True)
class PartResult:
    """Figures of a part, and what stands beside them.

    Attributes:
      evaluation: The figures, and those of an ensemble's members.
      baselines: The baselines' figures.
      entries: What summary.json and eval --json hold besides; the interval under "interval".
      notes: Lines in words.
      num_rows: Rows of the part.
      details: What eval --json holds besides those: figures of each series.
      sampled: What the figures of next values are made of.
    """

    evaluation: Evaluation | SequenceEvaluation
    baselines: dict[str, dict[str, float]]
    entries: dict[str, Any]
    notes: list[str]
    num_rows: int
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    sampled: PartEvaluation | None = None


def measure_figures(model: TrainedModel, rows: Rows, *, origins: int | None = None) -> Evaluation | SequenceEvaluation:
    """Evaluates a model on a part; `origins` as `measure_part` takes it."""
    return model.evaluate(rows, origins=origins) if isinstance(rows, SEQUENCES) else evaluate_figures(model, rows)


def measure_part(model: TrainedModel, rows: Rows, *, origins: int | None = None) -> PartResult:
    """Evaluates a model and the baselines on a part, and says what the figures are worth.

    Args:
      model: The model.
      rows: The part.
      origins: With task = forecast, from how many steps of each series to forecast.

    Raises:
      DataError: A value is too large for float32 once normalised, or a column is missing.
    """
    if isinstance(rows, SEQUENCES):
        return _measure_sequences(model, rows, origins)
    found = evaluate_part(model, rows)
    judgement = found.judgement
    entries = {
        "interval": judgement.interval,
        "against_baselines": judgement.against_baselines,
        "accuracy_near_zero": judgement.near_zero,
    }
    explained = ACCURACY_NOTE.format(epsilon=model.config.training.accuracy_epsilon)
    notes = [explained, *found.notes()]
    return PartResult(found.evaluation, found.baselines, entries, notes, found.num_rows, sampled=found)


def _measure_sequences(model: TrainedModel, sequences: Sequences | ShardedSequences, origins: int | None) -> PartResult:
    found = model.evaluate(sequences, origins=origins)
    entries: dict[str, Any] = {
        "interval": found.verdict.interval,
        "against_baselines": found.verdict.against_baselines,
    }
    if model.classes:
        entries["confusion_matrix"] = {
            "classes": list(model.classes),
            "counts": count_confusions(found.predicted, found.rows, len(model.classes)).tolist(),
        }
    details: dict[str, Any] = {}
    notes = found.verdict.notes
    if isinstance(found, ForecastEvaluation):
        entries |= {"origins": found.origins.shape[1], "by_step": found.by_step}
        names, columns = list(found.by_series), [values.tolist() for values in found.by_series.values()]
        details["series"] = [
            {"id": number, **dict(zip(names, figures, strict=True))}
            for number, *figures in zip(ids_of(found.sequences), *columns, strict=True)
        ]
        notes = [explain_forecasts(found.quantiles), *notes]
    return PartResult(found, found.baselines, entries, notes, len(sequences), details)


def figures_table(rows: dict[str, dict[str, float]]) -> str:
    """Lays out figures, a line for every model or baseline."""
    given = {key for figures in rows.values() for key in figures}
    task = task_of_figures(given)
    names = [name for name in (*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task]) if name in given]
    body = [[name, *[write_figure(key, figures) for key in names]] for name, figures in rows.items()]
    return table(["", *names], body)


def print_figures(
    figures: dict[str, dict[str, float]],
    baselines: dict[str, dict[str, float]],
    notes: list[str],
) -> None:
    """Prints a model's figures with the baselines' beside them, and notes."""
    named = {f"baseline {name}": values for name, values in baselines.items()}
    print(figures_table({**figures, **named}))
    for note in notes:
        print(note)


def spread_rows(name: str, spread: dict[str, dict[str, float]], members: int) -> dict[str, dict[str, float]]:
    """Returns the lines of a table of figures that say how the members of an ensemble differ."""
    return {f"{name}, {key} of {members} members": spread[key] for key in ("mean", "std")}
