"""One of several classes, of a whole sequence or of every step: cross-entropy, and figures from a confusion matrix."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.foundation.array_types import Array
from jaxrnn.settings.task_config import FIGURES_OF_TASK
from jaxrnn.tasks.metrics import MetricSums
from jaxrnn.tasks.readout import Readout


class ClassTallies(NamedTuple):
    """What figures of classes are made of; sums over batches.

    Attributes:
      confusion: (classes, classes) int32: how many of each true class (first axis) were taken for each other.
      log_loss: The sum of the negative logarithms of the true classes' probabilities.
      rows_right: Rows all of whose steps are right.
      rows: Rows.
    """

    confusion: Any
    log_loss: Any
    rows_right: Any
    rows: Any


@dataclasses.dataclass(frozen=True)
class Classify:
    """Tells the class of a sequence; methods as those of `jaxrnn.tasks.task.SequenceTask`."""

    reads: Readout
    num_classes: int = 2

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK["classify"]

    def zero(self, num_rows: int) -> MetricSums:
        del num_rows
        return _no_tallies(self.num_classes)

    def measure(self, outputs: Array, targets: Array, lengths: Array, told: Any) -> Any:
        counts = (lengths > 0) & (targets >= 0)
        return _measure(outputs[:, None], targets[:, None], counts[:, None], told)

    def measure_packed(self, outputs: Array, targets: Array, segment_ids: Array, told: Any) -> Any:
        return _measure(outputs, targets, (targets >= 0) & (segment_ids > 0), told)

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        del told
        figures = _figures(sums)
        return {name: figures[name] for name in self.figures}


@dataclasses.dataclass(frozen=True)
class Tag:
    """Tells the class of every step; methods as those of `jaxrnn.tasks.task.SequenceTask`."""

    num_classes: int = 2

    @property
    def reads(self) -> Readout:
        return "every"

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK["tag"]

    def zero(self, num_rows: int) -> MetricSums:
        del num_rows
        return _no_tallies(self.num_classes)

    def measure(self, outputs: Array, targets: Array, lengths: Array, told: Any) -> Any:
        counts = (jnp.arange(targets.shape[1])[None] < lengths[:, None]) & (targets >= 0)
        return _measure(outputs, targets, counts, told)

    def measure_packed(self, outputs: Array, targets: Array, segment_ids: Array, told: Any) -> Any:
        counts = (targets >= 0) & (segment_ids > 0)
        loss, sums = _measure(outputs, targets, counts, told)
        # Segments are numbered from 1 in each row: of each of them, whether any step counts, and whether one is wrong.
        wrong = counts & (outputs.argmax(axis=-1) != targets)
        rows, zeros = jnp.arange(targets.shape[0])[:, None], jnp.zeros((targets.shape[0], targets.shape[1] + 1), bool)
        has_any, has_wrong = (zeros.at[rows, segment_ids].max(flags) for flags in (counts, wrong))
        tallies = sums.rows._replace(
            rows_right=jnp.sum(has_any & ~has_wrong, dtype=jnp.int32), rows=jnp.sum(has_any, dtype=jnp.int32)
        )
        return loss, sums._replace(rows=tallies)

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        del told
        figures = _figures(sums)
        return {name: figures[name] for name in self.figures}


def _no_tallies(num_classes: int) -> MetricSums:
    confusion, zero = np.zeros((num_classes, num_classes), np.int32), np.float32(0)
    tallies = ClassTallies(confusion, zero, np.int32(0), np.int32(0))
    return MetricSums(zero, zero, tallies, np.zeros(2, np.float32))


def _measure(logits: Array, targets: Array, counts: Array, told: Any) -> tuple[tuple[Array, Array], MetricSums]:
    """Sums over (rows, steps): logits (rows, steps, classes), targets and what counts (rows, steps)."""
    num_classes = logits.shape[-1]
    known = jnp.where(counts, targets, 0)
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), known[..., None], axis=-1)[..., 0]
    weights = counts * jnp.asarray(told["class_weights"])[known]
    loss = jnp.sum(weights * each), jnp.sum(weights)
    best = lax.stop_gradient(logits).argmax(axis=-1).astype(jnp.int32)
    ones = counts.astype(jnp.int32)
    confusion = jnp.zeros((num_classes, num_classes), jnp.int32).at[known, best].add(ones)
    has_any = jnp.any(counts, axis=1)
    is_right = has_any & jnp.all((best == known) | ~counts, axis=1)
    tallies = ClassTallies(
        confusion,
        lax.stop_gradient(jnp.sum(jnp.where(counts, each, 0))),
        jnp.sum(is_right, dtype=jnp.int32),
        jnp.sum(has_any, dtype=jnp.int32),
    )
    return loss, MetricSums(*loss, tallies)


def _figures(sums: MetricSums) -> dict[str, Any]:
    tallies = sums.rows
    return figures_of_confusion(tallies.confusion) | {
        "loss": sums.mean_loss(),
        "log_loss": tallies.log_loss / tallies.confusion.sum(),
        "rows_right": tallies.rows_right / tallies.rows,
    }


def figures_of_confusion(confusion: Any) -> dict[str, Any]:
    """Returns accuracy, balanced_accuracy and macro_f1 as scikit-learn defines them.

    Args:
      confusion: (classes, classes) counts, true classes first; NumPy's or JAX's.
    """
    right, true, taken = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    is_there = true > 0
    recall = (right / true.clip(1)).sum() / is_there.sum()  # of a class that is not there it is 0
    either = true + taken
    f1 = (2 * right / either.clip(1)).sum() / (either > 0).sum()
    return {"accuracy": right.sum() / true.sum(), "balanced_accuracy": recall, "macro_f1": f1}
