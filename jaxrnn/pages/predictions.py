"""A run's predictions of its test rows, by the best parameters of its latest checkpoint."""

from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.sequences import Sequences
from jaxrnn.evaluation.own_rows import open_own_rows
from jaxrnn.evaluation.own_sequences import open_sequences, take_sequences
from jaxrnn.evaluation.part_evaluation import evaluate_part
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.pages.records import RunRecord
from jaxrnn.tasks.judgement import Judgement


class TestedRows(NamedTuple):
    """The test rows of a run and what its model makes of them.

    Attributes:
      rows: In the data's units.
      row_numbers: Where they stand in the file, or in the test part of a prepared data set, counted from 1.
      row_ids: The same for identical rows.
      predicted: (rows,) predictions of the last values.
      actual: (rows,) the last values.
      figures: The model's.
      spread: "mean" and "std" of the members' figures; None of a single model.
      baselines: The baselines' figures.
      judgement: What they are worth.
      shared: Validation and test rows that stand in the training part too.
      epoch: That of the checkpoint.
    """

    rows: Ragged
    row_numbers: np.ndarray
    row_ids: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    figures: dict[str, float]
    spread: dict[str, dict[str, float]] | None
    baselines: dict[str, dict[str, float]]
    judgement: Judgement
    shared: tuple[int, int]
    epoch: Any

    @property
    def task(self) -> str:
        """What the run predicts."""
        return "next"


class TestedSequences(NamedTuple):
    """The test sequences of a run whose task reads sequences, and what its model makes of them.

    Attributes:
      model: The run's.
      sequences: In the data's units.
      row_numbers: Where they stand in their file, counted from 1.
      evaluation: Predictions, figures and what they are worth.
      shared: Validation and test sequences that stand in the training part too.
      overlapping: Those that look like windows of training ones.
      epoch: That of the checkpoint.
    """

    model: TrainedModel
    sequences: Sequences
    row_numbers: np.ndarray
    evaluation: SequenceEvaluation
    shared: tuple[int, int]
    overlapping: tuple[int, int]
    epoch: Any

    @property
    def task(self) -> str:
        """What the run predicts."""
        return self.model.config.task.task

    @property
    def figures(self) -> dict[str, float]:
        """The model's."""
        return self.evaluation.figures

    @property
    def spread(self) -> dict[str, dict[str, float]] | None:
        """The mean and the standard deviation of the members' figures, as "mean" and "std"; None of a single model."""
        return self.evaluation.spread() if self.model.num_members > 1 else None

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """The baselines' figures."""
        return self.evaluation.baselines


def predict_test_rows(record: RunRecord) -> TestedRows | TestedSequences | None:
    """Predicts a run's test rows; where that is impossible, says so among what is missing of the record."""
    if not record.is_run:
        return None
    try:
        model = TrainedModel.load(record.path)
        return _predict_rows(model, record) if model.encoding is None else _predict_sequences(model, record)
    except (UserError, OSError) as error:
        record.missing.append(f"Predictions of the test rows: {error}")
        return None


def _predict_sequences(model: TrainedModel, record: RunRecord) -> TestedSequences:
    opened = open_sequences(model, None)
    sequences, numbers = take_sequences(opened.sequences)
    if len(sequences) < len(opened.sequences):
        record.missing.append(
            f"Predictions of the test rows: the figures and pictures are of {len(sequences):,} of"
            f" {len(opened.sequences):,} sequences, at equal distances; python -m jaxrnn.eval measures all."
        )
    return TestedSequences(
        model,
        sequences,
        opened.numbers[numbers] + 1,
        model.evaluate(sequences),
        opened.shared or (0, 0),
        opened.overlapping,
        model.metadata.get("epoch"),
    )


def _predict_rows(model: TrainedModel, record: RunRecord) -> TestedRows:
    own = open_own_rows(model, model.config.reader)
    found = evaluate_part(model, own.rows)
    if len(found.sample) < found.num_rows:
        record.missing.append(
            f"Predictions of the test rows: {len(found.sample):,} of {found.num_rows:,} are shown, at equal distances;"
            " the figures are of all."
        )
    evaluation = found.evaluation
    return TestedRows(
        found.sample,
        own.numbers[found.numbers] + 1,
        found.sample.group_ids(),
        evaluation.predicted,
        evaluation.actual,
        evaluation.figures,
        evaluation.spread() if model.num_members > 1 else None,
        found.baselines,
        found.judgement,
        own.shared,
        model.metadata.get("epoch"),
    )
