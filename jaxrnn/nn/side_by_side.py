"""Both directions of a layer of few rows at once: two models of one call of the compiled recurrence, a thread each."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.foundation.array_types import Array, Float, State
from jaxrnn.nn.engine import cpu_kernels, loops

# The compiled recurrence leaves fewer rows than that to one thread (kernels/threads.h). Both directions then run side
# by side, if their multiply-adds are worth waking a second thread and laying the weights one behind the other.
_ROWS_OF_ONE_THREAD = 8
_WORK_OF_TWO_THREADS = 1 << 22
_ROW_STEPS_WORTH_A_COPY = 32


class Run(NamedTuple):
    """What a direction of a layer runs over, time first, and what it computes with."""

    features: Array
    state: State
    targets: tuple[State, ...]
    valid: Array | None
    reset: Array | None
    parameters: loops.Weights
    extras: Any


def is_worthwhile(features: Float[Array, "time batch features"], num_gates: int, hidden_size: int) -> bool:
    """Whether two directions of a layer that the compiled recurrence serves take less time side by side.

    Args:
      features: What both read.
      num_gates: The equation's.
      hidden_size: The layer's.
    """
    num_steps, batch, size = features.shape
    if not (isinstance(num_steps, int) and isinstance(batch, int) and 0 < batch < _ROWS_OF_ONE_THREAD):
        return False
    if features.dtype != jnp.float32 or jax.default_backend() != "cpu" or not cpu_kernels.is_built():
        return False  # the loop's
    work = num_steps * batch * num_gates * hidden_size * (size + hidden_size)
    return num_steps * batch >= _ROW_STEPS_WORTH_A_COPY and work >= _WORK_OF_TWO_THREADS


def run_both(run: Callable[..., tuple[Any, State]], forward: Run, backward: Run) -> list[tuple[Any, State]]:
    """Runs both directions as one run of two models, the second over steps from the end.

    Args:
      run: ``run(given, reverse=False) -> (collected, final_state)``, of one direction.
      forward: The first direction.
      backward: The second, in the order of time.

    Returns:
      What `run` returns of either, in the order of time.
    """

    def turned(array: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[::-1], array)

    backward = backward._replace(
        features=turned(backward.features), valid=turned(backward.valid), reset=turned(backward.reset)
    )
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), forward, backward)
    collected, final = jax.vmap(functools.partial(run, reverse=False))(both)
    first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], (collected, final)) for i in (0, 1))
    return [first, (turned(second[0]), second[1])]
