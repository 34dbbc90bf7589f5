"""Numbers of a whole sequence: their loss in the network's units, their figures in the data's."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.foundation.array_types import Array
from jaxrnn.settings.task_config import FIGURES_OF_TASK
from jaxrnn.tasks.metrics import HALF, MetricSums, elementwise_loss
from jaxrnn.tasks.readout import Readout


class NumberTallies(NamedTuple):
    """What figures of numbers are made of: sums over rows, (targets,) each, in the network's units.

    Attributes:
      absolute: The absolute errors.
      squared: The squared errors.
      actual: The targets; 0 with task = next, as their squares.
      actual_squared: Their squares.
      relative: With task = next the sums of the relative errors, in the data's units.
      within_half: With task = next how many are off by at most half a unit.
      rows: Rows, ().
    """

    absolute: Any
    squared: Any
    actual: Any
    actual_squared: Any
    relative: Any
    within_half: Any
    rows: Any


@dataclasses.dataclass(frozen=True)
class Regress:
    """Tells one or several numbers of a sequence, or the next ones; methods as those of
    `jaxrnn.tasks.task.SequenceTask`.

    Attributes:
      reads: What the head reads; "every" to tell the number after every step, of which the last ones are measured.
      loss: "mse", "mae" or "huber".
      num_targets: How many numbers.
      task: "regress", or "next": which figures are computed.
      accuracy_epsilon: As the configuration's, in the data's units.
    """

    reads: Readout
    loss: str = "mse"
    num_targets: int = 1
    task: str = "regress"
    accuracy_epsilon: float = 0.0

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK[self.task]

    def zero(self, num_rows: int) -> MetricSums:
        del num_rows
        nothing, zero = np.zeros(self.num_targets, np.float32), np.float32(0)
        tallies = NumberTallies(nothing, nothing, nothing, nothing, nothing, nothing, np.int32(0))
        return MetricSums(zero, zero, tallies, np.zeros(2, np.float32))

    def measure(self, outputs: Array, targets: Array, lengths: Array, told: Any) -> Any:
        if self.reads != "every":
            return self._measure(outputs, targets, lengths > 0, lengths > 0, told)
        left = lengths[:, None] - jnp.arange(outputs.shape[1])[None]
        return self._measure_steps(outputs, targets, left > 0, left == 1, told)

    def measure_packed(self, outputs: Array, targets: Array, segment_ids: Array, told: Any) -> Any:
        behind = jnp.pad(segment_ids[:, 1:], ((0, 0), (0, 1)))
        is_there = segment_ids > 0
        is_last = is_there & (behind != segment_ids)
        return self._measure_steps(outputs, targets, is_there if self.reads == "every" else is_last, is_last, told)

    def _measure_steps(self, outputs: Array, targets: Array, counts: Array, is_last: Array, told: Any) -> Any:
        flat_outputs, flat_targets = (values.reshape(-1, values.shape[-1]) for values in (outputs, targets))
        return self._measure(flat_outputs, flat_targets, counts.reshape(-1), is_last.reshape(-1), told)

    def _measure(self, outputs: Array, targets: Array, counts: Array, is_last: Array, told: Any) -> Any:
        """Sums over (rows, targets) outputs and targets; (rows,) say which count in the loss, and which in figures."""
        if outputs.shape != targets.shape:
            raise ValueError(f"measure: got outputs {outputs.shape}, targets {targets.shape}; expected the same")
        is_there, weight = is_last, counts.astype(outputs.dtype)
        each = elementwise_loss(self.loss, outputs, targets).mean(axis=1)
        loss = jnp.sum(weight * each), jnp.sum(weight)
        error, counted = abs(lax.stop_gradient(outputs) - targets), is_last.astype(outputs.dtype)[:, None]
        tallies = dict.fromkeys(NumberTallies._fields, jnp.zeros_like(targets[0]))
        tallies["rows"] = jnp.sum(is_there, dtype=jnp.int32)
        # Only what a figure is made of is summed: where XLA drops a sum, it adds the loss up in another order.
        each_of = {"absolute": error, "squared": error * error} | self._besides(error, targets, told)
        tallies |= {name: jnp.sum(counted * values, axis=0) for name, values in each_of.items()}
        return loss, MetricSums(*loss, NumberTallies(**tallies))

    def _besides(self, error: Array, targets: Array, told: Any) -> dict[str, Array]:
        """Returns what else this task's figures are made of, (rows, targets) each."""
        if self.task != "next":
            return {"actual": targets, "actual_squared": targets * targets}
        scales = jnp.asarray(told["scales"])
        actual = targets * scales + told["offsets"]
        relative = error * scales / (abs(actual) + self.accuracy_epsilon)
        return {"relative": relative, "within_half": (error * scales <= HALF).astype(error.dtype)}

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        tallies, scales = sums.rows, told["scales"]
        rows = tallies.rows
        figures = {
            "loss": sums.mean_loss(),
            "mae": (tallies.absolute / rows * scales).mean(),
            "rmse": ((tallies.squared / rows) ** 0.5 * scales).mean(),
        }
        if self.task == "next":
            figures["accuracy"] = 1 - (tallies.relative / rows).mean()
            figures["within_half"] = (tallies.within_half / rows).mean()
        else:
            spread = tallies.actual_squared - tallies.actual**2 / rows
            figures["r2"] = (1 - tallies.squared / spread).mean()
        return {name: figures[name] for name in self.figures}
