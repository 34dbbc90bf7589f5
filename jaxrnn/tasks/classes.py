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
      log_loss: The sum of the negative logarithms of the true classes' probabilities; 0 where every step has a class.
      rows_right: Rows all of whose steps are right; 0 where a row has one class.
      rows: Rows; likewise.
    """

    confusion: Any
    log_loss: Any
    rows_right: Any
    rows: Any


@dataclasses.dataclass(frozen=True)
class Classes:
    """Tells the class of a sequence, or of every step; methods as those of `jaxrnn.tasks.task.SequenceTask`.

    Attributes:
      reads: What the head reads; "every" tells a class of every step.
      num_classes: How many classes there are.
    """

    reads: Readout
    num_classes: int = 2

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK["tag" if self.reads == "every" else "classify"]

    def zero(self, num_rows: int) -> MetricSums:
        del num_rows
        confusion, zero = np.zeros((self.num_classes, self.num_classes), np.int32), np.float32(0)
        return MetricSums(zero, zero, ClassTallies(confusion, zero, np.int32(0), np.int32(0)), np.zeros(2, np.float32))

    def measure(self, outputs: Array, targets: Array, lengths: Array, told: Any) -> Any:
        if self.reads != "every":  # one step a sequence
            outputs, targets, lengths = outputs[:, None], targets[:, None], (lengths > 0).astype(jnp.int32)
        segment_ids = (jnp.arange(targets.shape[1])[None] < lengths[:, None]).astype(jnp.int32)
        return self.measure_packed(outputs, targets, segment_ids, told)

    def measure_packed(self, outputs: Array, targets: Array, segment_ids: Array, told: Any) -> Any:
        counts = (targets >= 0) & (segment_ids > 0)
        known = jnp.where(counts, targets, 0)
        each = -jnp.take_along_axis(jax.nn.log_softmax(outputs), known[..., None], axis=-1)[..., 0]
        weights = counts * jnp.asarray(told["class_weights"])[known]
        loss = jnp.sum(weights * each), jnp.sum(weights)
        best = lax.stop_gradient(outputs).argmax(axis=-1).astype(jnp.int32)
        confusion = (
            jnp.zeros((self.num_classes, self.num_classes), jnp.int32).at[known, best].add(counts.astype(jnp.int32))
        )
        # Only what a figure is made of is summed: where XLA drops a sum, it adds the loss up in another order.
        tallies = ClassTallies(confusion, jnp.float32(0), jnp.int32(0), jnp.int32(0))
        if self.reads == "every":
            tallies = tallies._replace(**_count_rows(counts, counts & (best != known), segment_ids))
        else:
            tallies = tallies._replace(log_loss=lax.stop_gradient(jnp.sum(jnp.where(counts, each, 0))))
        return loss, MetricSums(*loss, tallies)

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        del told
        tallies = sums.rows
        figures = figures_of_confusion(tallies.confusion) | {"loss": sums.mean_loss()}
        if self.reads == "every":
            figures["rows_right"] = tallies.rows_right / tallies.rows
        else:
            figures["log_loss"] = tallies.log_loss / tallies.confusion.sum()
        return {name: figures[name] for name in self.figures}


def _count_rows(counts: Array, is_wrong: Array, segment_ids: Array) -> dict[str, Array]:
    """Counts the sequences any of whose steps count, and those of which none is wrong."""
    # Segments are numbered from 1 in each row.
    rows, nothing = jnp.arange(counts.shape[0])[:, None], jnp.zeros((counts.shape[0], counts.shape[1] + 1), bool)
    has_any, has_wrong = (nothing.at[rows, segment_ids].max(flags) for flags in (counts, is_wrong))
    return {
        "rows_right": jnp.sum(has_any & ~has_wrong, dtype=jnp.int32),
        "rows": jnp.sum(has_any, dtype=jnp.int32),
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
