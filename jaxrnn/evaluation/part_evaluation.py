"""Figures of rows in memory, and of a part of a prepared data set, of any size, in bounded memory.

Rows in memory are evaluated at once, and so is a part on the disk of up to `EXACT_ROWS` rows. Of a larger one the
figures are those of all rows, added up block by block; what needs all predictions at once, the interval and the share
of rows near 0, comes from a sample of rows at equal distances.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.ragged import Ragged
from jaxrnn.data.store.dataset import EXACT_ROWS, EXACT_VALUES
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.evaluation.value_evaluation import Evaluation
from jaxrnn.tasks.judgement import Judgement

Rows = Ragged | ShardedRows

BLOCK_VALUES = 1 << 21
SAMPLE_ROWS = 1 << 18


class PartEvaluation(NamedTuple):
    """What a model makes of a part.

    Attributes:
      evaluation: Figures of all rows; predictions of the sample.
      baselines: Figures of all rows.
      judgement: The sample's judgement.
      sample: Its rows: all, or some.
      numbers: Their numbers.
      num_rows: Rows of the part.
    """

    evaluation: Evaluation
    baselines: dict[str, dict[str, float]]
    judgement: Judgement
    sample: Ragged
    numbers: NDArray[np.int64]
    num_rows: int

    def notes(self) -> list[str]:
        """Returns the judgement's lines, and one about the sample if it is not all rows."""
        lines = self.judgement.notes()
        if len(self.sample) < self.num_rows:
            lines.append(
                f"the figures are of all {self.num_rows:,} rows; the interval and the rows near 0 are of"
                f" {len(self.sample):,} of them, at equal distances"
            )
        return lines


def take_sample(rows: Rows) -> tuple[NDArray[np.int64], Ragged]:
    """Returns the numbers and the values of all rows, or of some at equal distances if many are on the disk."""
    if isinstance(rows, Ragged):
        return np.arange(len(rows)), rows
    if _is_small(rows):
        numbers = np.arange(len(rows))
    else:
        count = min(SAMPLE_ROWS, len(rows), max(1, EXACT_VALUES * len(rows) // rows.num_values))
        numbers = np.arange(count) * len(rows) // count
    return numbers, rows.take(numbers)


def evaluate_part(model: TrainedModel, rows: Rows) -> PartEvaluation:
    """Evaluates a model and the baselines on all rows of a part.

    Raises:
      DataError: A value is too large for float32 once normalised.
    """
    numbers, sample = take_sample(rows)
    evaluation, baselines = model.evaluate(sample), model.evaluate_baselines(sample)
    if isinstance(rows, ShardedRows) and len(sample) < len(rows):
        figures, members, baselines = _add_up(model, rows.blocks(BLOCK_VALUES))
        evaluation = evaluation._replace(figures=figures, members=members)
    judgement = model.judge(sample, evaluation, baselines)
    return PartEvaluation(evaluation, baselines, judgement, sample, numbers, len(rows))


def evaluate_figures(model: TrainedModel, rows: Rows) -> Evaluation:
    """Evaluates a model on all rows of a part; a large one's without predictions."""
    if isinstance(rows, Ragged) or _is_small(rows):
        return model.evaluate(take_sample(rows)[1])
    figures, members, _ = _add_up(model, rows.blocks(BLOCK_VALUES))
    return Evaluation(figures, np.empty(0), np.empty(0), members)


def _is_small(rows: ShardedRows) -> bool:
    return len(rows) <= EXACT_ROWS and rows.num_values <= EXACT_VALUES


def _add_up(
    model: TrainedModel, blocks: Iterable[Ragged]
) -> tuple[dict[str, float], list[dict[str, float]], dict[str, dict[str, float]]]:
    """Returns figures of the model, of its members and of the baselines."""
    weights: list[tuple[int, int]] = []
    found: list[list[dict[str, float]]] = []
    names: list[str] = []
    for block in blocks:
        evaluation, baselines = model.evaluate(block), model.evaluate_baselines(block)
        names = list(baselines)
        every = model.config.training.target == "every"
        weights.append((len(block), block.num_values - len(block) if every else len(block)))
        found.append([evaluation.figures, *baselines.values(), *evaluation.members])
    rows, targets = np.array(weights, np.float64).T
    is_baseline = range(1, 1 + len(names))
    joined = [
        _join(figures, rows, rows if place in is_baseline else targets)
        for place, figures in enumerate(zip(*found, strict=True))
    ]
    return joined[0], joined[1 + len(names) :], dict(zip(names, joined[1:], strict=False))


def _join(figures: Any, rows: NDArray[np.float64], targets: NDArray[np.float64]) -> dict[str, float]:
    """Joins figures of blocks: means over rows, of the loss over targets, of the rmse over squares."""
    joined = {}
    for name in figures[0]:
        values = np.array([block[name] for block in figures], np.float64)
        weight = targets if name == "loss" else rows
        power = 2 if name == "rmse" else 1
        joined[name] = float((np.average(values**power, weights=weight)) ** (1 / power))
    return joined
