"""The fastest form of a step: every choice that depends on sizes, in one place, with the measurement behind it.

None of them changes what is computed. benchmarks/README.md has the figures.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.foundation.array_types import Array, Float
from jaxrnn.nn.engine.platforms import Platform

# Short loops over small steps of a cell with one gate are unrolled: XLA then fuses the steps, where a `while`
# pays a few microseconds for each (a third of the time at H=8). Cells with several gates run up to twice slower
# unrolled: their fusions compute gates again and again.
MAX_UNROLLED_STEPS = 16
MAX_UNROLLED_STEP_ELEMENTS = 2**13
# On a GPU every operation of a turn is a kernel to launch. Of a loop that computes several steps a turn, the outputs of
# all go to their places in one, and the counter is counted up once: compiled for an H100, an LSTM's step takes 2.4
# kernels in place of 4, and 3.0 in place of 7 where it keeps what its gradient needs. On an H200 the call takes a
# quarter to two thirds of the time, and with its gradient two thirds to nine tenths; 20 steps a turn gain nothing more.
ACCELERATOR_STEPS_OF_A_TURN = 5
# Up to this many hidden units of a cell with one gate a broadcast, multiply and sum beats a call of the matmul library.
MAX_HIDDEN_FOR_MULTIPLY_SUM = 8
# Up to this many hidden units the loop of a cell with several gates holds its arrays as (features, batch): a gate is
# then a contiguous block, where in (batch, features) it is a few numbers of every row.
MAX_HIDDEN_FOR_FEATURES_MAJOR = 16
# Up to this many columns the sum of outer products is a product of flat matrices: XLA's CPU then makes its own loop of
# it, where it hands (time, batch) pairs to a library, which is half as fast at this size and up to twice at others.
# Only of so few rows that no devices share them: merging their axis with time's would gather them.
MAX_COLUMNS_FOR_FLAT_PRODUCT = 16
MAX_ROWS_FOR_FLAT_PRODUCT = 2**12


class Form(NamedTuple):
    """How the loop over time is run.

    Attributes:
      unroll: Steps that one turn of the loop computes.
      multiply_sum: Whether the matmul is a broadcast, multiply and sum.
      features_major: Whether arrays lie as (features, batch) from step to step.
      project_first: Whether all inputs are multiplied by their weights in one matmul before the loop.
      platform: What it was chosen for.
    """

    unroll: int = 1
    multiply_sum: bool = False
    features_major: bool = False
    project_first: bool = False
    platform: Platform = "any"

    def settle(self, state: Any) -> Any:
        """Has a new state be computed once, and written down, where a turn computes several on an accelerator."""
        return lax.optimization_barrier(state) if self.platform == "accelerator" and self.unroll > 1 else state

    def matmul(self, a: Float[Array, "batch k"], b: Float[Array, "k n"], *, dtype: Any = None) -> Array:
        """A matmul inside the loop; `dtype` is that of its operands, which may be shorter than that of the result."""
        if self.multiply_sum:
            short_a, short_b = (_shorten(operand, dtype, self.platform) for operand in (a, b))
            return jnp.sum(short_a[:, :, None] * short_b[None], axis=1)
        if self.features_major:
            return matmul(b.T, a.T, dtype=dtype, platform=self.platform).T
        return matmul(a, b, dtype=dtype, platform=self.platform)

    def scan(
        self, body: Callable[[Any, Any, Any], Any], init: tuple[Any, Any], xs: tuple[Any, Any], *, reverse: bool
    ) -> Any:
        """Runs `lax.scan` over steps.

        Args:
          body: ``body(rows, others, xs) -> (rows, others), (out_rows, out_others)``.
          init: Two trees that are carried: arrays of (batch, features), and arrays of any shape.
          xs: Two trees that are scanned over: arrays of (time, batch, features), and arrays of any shape.
          reverse: From the last step to the first.

        Returns:
          The carried trees, and the trees that were put out, stacked over time.
        """
        turn = _swap if self.features_major else lambda tree: tree

        def turned(carry: Any, x: Any) -> Any:
            (rows, others), (out_rows, out_others) = body(turn(carry[0]), carry[1], (turn(x[0]), x[1]))
            return (turn(rows), others), (turn(out_rows), out_others)

        init, xs = (turn(init[0]), init[1]), (turn(xs[0]), xs[1])
        (rows, others), (out_rows, out_others) = lax.scan(turned, init, xs, reverse=reverse, unroll=self.unroll)
        return (turn(rows), others), (turn(out_rows), out_others)


def choose_form(num_steps: Any, batch: Any, gates: int, hidden: int, *, platform: Platform) -> Form:
    """Chooses the form of a loop.

    On a GPU or TPU one large matmul before the loop should beat many small ones in it, which was not measured; fewer
    kernels a step do (benchmarks/README.md, on a GPU). On a CPU it is the other way about with the matmul: the products
    of all steps leave the cache and come back, which takes longer than a larger matmul at every step.

    Args:
      num_steps: Steps of the loop. A number that is not known yet (of `jax.export`'s symbols) counts as a large one.
      batch: Rows, likewise.
      gates: Rows of the weight matrix.
      hidden: Columns of the recurrent weight matrix.
      platform: What the program is compiled for.
    """
    if platform == "accelerator":
        is_known = is_at_most(num_steps, sys.maxsize)  # JAX cannot cut what is not into turns
        return Form(ACCELERATOR_STEPS_OF_A_TURN if is_known else 1, project_first=True, platform=platform)
    if platform == "any":
        return Form()
    if gates == hidden:
        small = is_at_most(batch * gates, MAX_UNROLLED_STEP_ELEMENTS) and is_at_most(num_steps, MAX_UNROLLED_STEPS)
        unroll = num_steps if small and num_steps > 0 else 1
        return Form(unroll, multiply_sum=hidden <= MAX_HIDDEN_FOR_MULTIPLY_SUM, platform=platform)
    return Form(features_major=hidden <= MAX_HIDDEN_FOR_FEATURES_MAJOR, platform=platform)


def is_at_most(size: Any, limit: int) -> bool:
    """Whether a size is known, and at most `limit`."""
    return isinstance(size, int | np.integer) and int(size) <= limit


def matmul(a: Array, b: Array, *, dtype: Any, platform: Platform) -> Array:
    """``a @ b``, with operands of a shorter type where `dtype` says one, added up in the operands' own type."""
    result = jnp.result_type(a, b)
    return jnp.matmul(_shorten(a, dtype, platform), _shorten(b, dtype, platform), preferred_element_type=result)


def outer_sum(
    a: Float[Array, "time batch m"], b: Float[Array, "time batch n"], *, dtype: Any, platform: Platform
) -> Array:
    """Sums the outer products of all rows at all steps: the gradient of a weight, one matmul after the loop."""
    if a.shape[2] > b.shape[2]:  # XLA turns the first operand round before it multiplies: better the smaller one
        return outer_sum(b, a, dtype=dtype, platform=platform).T
    result = jnp.result_type(a, b)
    rows = a.shape[0] * a.shape[1]
    if max(a.shape[2], b.shape[2]) <= MAX_COLUMNS_FOR_FLAT_PRODUCT and is_at_most(rows, MAX_ROWS_FOR_FLAT_PRODUCT):
        flat = (a.reshape(rows, a.shape[2]).T, b.reshape(rows, b.shape[2]))
        return matmul(*flat, dtype=dtype, platform=platform)
    dimensions = (((0, 1), (0, 1)), ((), ()))
    short_a, short_b = (_shorten(operand, dtype, platform) for operand in (a, b))
    return lax.dot_general(short_a, short_b, dimensions, preferred_element_type=result)


def _shorten(array: Array, dtype: Any, platform: Platform) -> Array:
    """Rounds to a shorter type; on CPU, where XLA multiplies no bfloat16 into float32, in an array of its own type."""
    if dtype is None:
        return array
    short = array.astype(dtype)
    return short if platform == "accelerator" else short.astype(array.dtype)


def _swap(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -1, -2), tree)
