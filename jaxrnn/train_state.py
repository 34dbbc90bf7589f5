"""What training changes: the state of a run, and the figures of its epochs."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn._typing import Array

MAX_EPOCHS_PER_CALL = 256

RUNNING, STOPPED_EARLY, DIVERGED = 0, 1, 2


class TrainState(NamedTuple):
    """All that changes in training, and all that a run needs to go on; a pytree of arrays.

    Of an ensemble every array has a leading axis of members.

    Attributes:
      seed: Of the initial parameters, the batches and dropout.
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


class History(NamedTuple):
    """Figures of the epochs of one call: arrays of (MAX_EPOCHS_PER_CALL, *members), filled from the front."""

    training: dict[str, Array]
    validation: dict[str, Array]
    learning_rate: Array


def where_leading(condition: Array, chosen: Array, other: Array) -> Array:
    """Chooses by the leading axes: the condition is () or (members,)."""
    return jnp.where(condition.reshape(*condition.shape, *[1] * (chosen.ndim - condition.ndim)), chosen, other)
