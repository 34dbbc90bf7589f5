"""What training changes: the state of a run, how far its epoch is, and the figures of its epochs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.foundation.array_types import Array
from jaxrnn.tasks.metrics import MetricSums, spread_over_members

MAX_EPOCHS_PER_CALL = 256

RUNNING, STOPPED_EARLY, DIVERGED = 0, 1, 2


class TrainState(NamedTuple):
    """All that changes in training, and all that a run needs to go on; a pytree of arrays.

    An ensemble's arrays have a leading axis of members.

    Attributes:
      seed: The seed of the initial parameters, the batches and dropout.
      params: The parameters.
      other: The rest of the model's state: dropout's random keys.
      opt_state: The optimiser's.
      epoch: Epochs finished.
      best_params: Those of the best epoch so far.
      best_score: Its validation figure, negated where lower is better; -inf before the first.
      best_epoch: Counted from 1; 0 before the first.
      status: RUNNING, STOPPED_EARLY or DIVERGED.
      bad_batch: Where the next epoch diverged, counted from 1; 0 if it has not.
    """

    seed: Any
    params: Any
    other: Any
    opt_state: Any
    epoch: Any
    best_params: Any
    best_score: Any
    best_epoch: Any
    status: Any
    bad_batch: Any


class Trained(NamedTuple):
    """What a step changes of a `TrainState`."""

    params: Any
    other: Any
    opt_state: Any


class EpochProgress(NamedTuple):
    """How far an epoch is that runs piece by piece; a pytree of arrays, of an ensemble with a leading axis of members.

    Attributes:
      trained: What its steps have changed so far.
      totals: The sums of its batches.
      bad_batch: The first batch that was not finite, counted from 1; 0 if all were.
      batches: Batches done.
    """

    trained: Trained
    totals: MetricSums
    bad_batch: Any
    batches: Any


class Position(NamedTuple):
    """Where a run is: between two epochs, or within one.

    Attributes:
      state: The state after the last epoch that was finished, to which an epoch that diverges goes back.
      progress: How far the next epoch is; None between two.
      batches: Batches of that epoch done, whatever pieces they were read in.
      checked: Sums of the validation rows so far, once all batches are done; never saved.
      chunks: Pieces of validation rows done.
    """

    state: TrainState
    progress: EpochProgress | None = None
    batches: int = 0
    checked: MetricSums | None = None
    chunks: int = 0

    @property
    def epoch(self) -> int:
        """Epochs finished; of an ensemble those of the member that is furthest."""
        return int(np.max(np.asarray(self.state.epoch)))

    @property
    def key(self) -> tuple[int, int]:
        """Epochs finished, and batches of the next one: what tells one checkpoint from another."""
        return self.epoch, self.batches

    def has(self, status: int) -> bool:
        """Whether the run, or a member, has a status."""
        return bool(np.any(np.asarray(self.state.status) == status))

    def settled(self) -> "Position":
        """Waits for the batches so far; returns the state before the epoch, marked, if one was not finite."""
        if self.progress is None:
            return self
        status = np.asarray(self.state.status)
        bad_batch = np.where(status == RUNNING, np.asarray(self.progress.bad_batch), 0).astype(np.int32)
        if not bad_batch.any():
            return self
        status = np.where(bad_batch > 0, DIVERGED, status).astype(np.int32)
        return Position(self.state._replace(status=status, bad_batch=bad_batch))


class Given(NamedTuple):
    """What a program is told of the data and the seed when it runs, so that another run's numbers compile nothing.

    Attributes:
      offset: The normaliser's, in the data's units.
      scale: The normaliser's, in the data's units.
      split_seed: The seed of the split.
      told: What the task is told of the data, as `jaxrnn.tasks.task.told_of` returns it.
    """

    offset: Any
    scale: Any
    split_seed: Any
    told: Any = ()


class History(NamedTuple):
    """Figures of the epochs of one call: arrays of (MAX_EPOCHS_PER_CALL, *members), filled from the front."""

    training: dict[str, Array]
    validation: dict[str, Array]
    learning_rate: Array


def where_leading(condition: Array, chosen: Array, other: Array) -> Array:
    """Chooses by the leading axes: the condition is () or (members,)."""
    return jnp.where(condition.reshape(*condition.shape, *[1] * (chosen.ndim - condition.ndim)), chosen, other)


def history_lines(history: History, before: int, after: np.ndarray) -> list[dict[str, Any]]:
    """Turns a call's history into lines of metrics.jsonl.

    Args:
      history: The call's history.
      before: Epochs that had been finished.
      after: How many are now: () or (members,).

    Returns:
      A line an epoch. Of an ensemble the figures are means over the members that ran it; further entries hold their
      standard deviations and how many ran.
    """
    host = jax.tree.map(np.asarray, history)
    lines = []
    for i in range(int(np.max(after)) - before):
        line: dict[str, Any] = {"epoch": before + 1 + i}
        parts = {"training": host.training, "validation": host.validation}
        if host.learning_rate.ndim == 1:
            line |= {part: {name: float(figure[i]) for name, figure in parts[part].items()} for part in parts}
        else:
            ran = after > before + i
            spreads = {
                part: spread_over_members({name: figure[i][ran] for name, figure in parts[part].items()})
                for part in parts
            }
            line |= {part: spread["mean"] for part, spread in spreads.items()}
            line |= {f"{part}_std": spread["std"] for part, spread in spreads.items()}
            line["members"] = int(ran.sum())
        line["learning_rate"] = float(host.learning_rate[i].max())
        lines.append(line)
    return lines
