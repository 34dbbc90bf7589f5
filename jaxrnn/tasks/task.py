"""A task: what a network's outputs mean, what they cost, and which figures say how good they are."""

from typing import Any, Protocol

import numpy as np

from jaxrnn.data.encoding import ONE_NUMBER, Encoding, Sizes
from jaxrnn.settings.config import Config
from jaxrnn.tasks.classes import Classes
from jaxrnn.tasks.forecast import Forecast
from jaxrnn.tasks.metrics import MetricSums
from jaxrnn.tasks.next_value import NextValue
from jaxrnn.tasks.readout import Readout
from jaxrnn.tasks.regression import Regress
from jaxrnn.tasks.verdict import class_weights


class Task(Protocol):
    """What programs are compiled for; hashable. What differs from data to data is told to them when they run."""

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures that `compute` returns."""
        ...

    def zero(self, num_rows: int) -> MetricSums:
        """Returns sums of nothing, of batches of `num_rows` rows."""
        ...

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        """Returns the figures of sums.

        Args:
          sums: Those of some batches, added up.
          told: What the program is told of the data.
        """
        ...


class SequenceTask(Task, Protocol):
    """A task that a `SequenceModel` answers."""

    @property
    def reads(self) -> Readout:
        """What the head reads: the last state, the mean or maximum of the outputs, or every output."""
        ...

    def measure(self, outputs: Any, targets: Any, lengths: Any, told: Any) -> tuple[tuple[Any, Any], MetricSums]:
        """Sums the loss of outputs, and what the figures are made of.

        Args:
          outputs: (rows, outputs), or (rows, length, outputs) where every step is read.
          targets: As `StepBatch.targets` holds them.
          lengths: (rows,): 0 for rows that do not count.
          told: What the program is told of the data.

        Returns:
          ``((loss_sum, loss_weight), sums)``.
        """
        ...

    def measure_packed(
        self, outputs: Any, targets: Any, segment_ids: Any, told: Any
    ) -> tuple[tuple[Any, Any], MetricSums]:
        """As `measure`, of several sequences a row.

        Args:
          outputs: (rows, length, outputs).
          targets: As `PackedSteps.targets` holds them.
          segment_ids: (rows, length): 0 at padding.
          told: What the program is told of the data.
        """
        ...


def task_of(config: Config, sizes: Sizes = ONE_NUMBER) -> Task:
    """Returns the task of a configuration, with as many classes or targets as the network has outputs."""
    is_of_one = config.task.task == "next" and sizes == ONE_NUMBER
    return NextValue() if is_of_one else sequence_task_of(config, sizes)


def sequence_task_of(config: Config, sizes: Sizes) -> SequenceTask:
    """Returns the task of a configuration that a `SequenceModel` answers."""
    readout, training = config.task.readout, config.training
    if sizes.ahead is not None:
        quantiles = config.task.quantile_levels if training.loss == "pinball" else (0.5,)
        number = sizes.outputs // (sizes.ahead.horizon * len(quantiles))
        return Forecast(sizes.ahead.horizon, number, training.loss, quantiles)
    if config.task.task == "regress":
        return Regress(readout, training.loss, sizes.outputs)
    if config.task.task == "next":
        reads = "every" if training.target == "every" else readout
        return Regress(reads, training.loss, sizes.outputs, "next", training.accuracy_epsilon)
    return Classes("every" if config.task.task == "tag" else readout, sizes.outputs)


def told_of(config: Config, encoding: Encoding) -> dict[str, Any]:
    """Returns what the programs of a task are told of the data: weights of classes, or units of targets."""
    if not encoding.classes:
        targets = encoding.targets
        return {"scales": targets.scales.astype(np.float32), "offsets": targets.offsets.astype(np.float32)}
    return {"class_weights": class_weights(encoding, config).astype(np.float32)}
