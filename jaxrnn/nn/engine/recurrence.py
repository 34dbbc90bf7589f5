"""The recurrence engine: what is computed over time, for any cell.

A cell is two linear maps and a pointwise equation::

    input_gates  = W_ih x_t + b_ih                    linear in the input
    hidden_gates = W_hh h_(t-1) + b_hh                linear in the hidden state
    state_t      = pointwise(state_(t-1), input_gates, hidden_gates)

The engine owns time: it masks, resets, reverses and differentiates. Its gradient is written once, for every cell: the
forward loop keeps the state and the gates that each step saw; the backward loop asks JAX for the gradient of
`pointwise`, step by step, and emits the gradient of the gates; a weight's gradient is then one matmul over all steps.
(Left to itself, the transpose of `lax.scan` adds every step's weight gradient into an array as large as the weight.)

Where an equation reads its first gates only as the sum of both, as an LSTM does with all and a GRU with two of three,
the engine keeps that sum and one gradient in place of two arrays each. In chunks, it keeps only the state that each
chunk began with, and computes the chunk once more on the way back: memory then grows as time / chunk + chunk.

What a program is compiled for decides how a run is computed: by the recurrence compiled ahead for CPUs, or by the form
of the loop that suits the platform (`platforms`). All keep arrays of the same shapes.

Arrays in, arrays out: nothing here knows a module or a configuration. All arrays are time-major, but for what the
compiled recurrence keeps for itself.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxrnn.foundation.array_types import Array, Backend, Float, ResetCodes, State, TimeMajorMask
from jaxrnn.nn.engine import closed, cpu_kernels, forms, platforms
from jaxrnn.nn.engine.loops import (
    Pointwise,
    Recurrence,
    Timeline,
    Weights,
    add_trees,
    gates_of,
    hidden_of,
    next_state,
    project_hidden,
    run_backward,
    run_forward,
    without_padding,
    zeros_like,
)
from jaxrnn.nn.engine.platforms import Target


def step(
    pointwise: Pointwise,
    state: State,
    inputs: Float[Array, "batch input"],
    weights: Weights,
    extras: tuple[Any, ...] = (),
    *,
    num_summed: int = 0,
    dtype: Any = None,
) -> State:
    """Advances a state by one step: the equation at the head of this file, and the projection. Args as `recur`."""
    recurrence = Recurrence(pointwise, hidden_of, num_summed, False, None, dtype)
    form = forms.Form()
    gates = gates_of(recurrence, form, weights, projected=False)(inputs, hidden_of(state))
    return project_hidden(recurrence, form, next_state(recurrence, state, gates, extras), weights)


def recur(
    pointwise: Pointwise,
    inputs: Float[Array, "time batch input"],
    weights: Weights,
    initial_state: State,
    *,
    num_summed: int = 0,
    valid: TimeMajorMask | None = None,
    reset: ResetCodes | None = None,
    targets: tuple[State, ...] = (),
    extras: tuple[Any, ...] = (),
    reverse: bool = False,
    collect: Callable[[State], Any] = hidden_of,
    custom_gradient: bool = True,
    chunk: int | None = None,
    dtype: Any = None,
    kernel: cpu_kernels.Kernel | None = None,
    backend: Backend = "auto",
    hides_padding: bool = False,
) -> tuple[Any, State]:
    """Runs a recurrence over time.

    Args:
      pointwise: ``pointwise(state, input_gates, hidden_gates, *extras) -> state``; elementwise over
        the batch. It may read every array of the state; the first one is the hidden vector.
      inputs: The inputs of every step. Must be finite, also where `valid` is False, unless `hides_padding`.
      weights: The parameters.
      initial_state: Arrays of (batch, size).
      num_summed: How many gates, rows of the weights from the first, `pointwise` reads only as the sum of input and
        hidden gates. It gets the sum among the input gates, and zeros among the hidden ones.
      valid: Where False, the step is passed over: the state stays, the output is 0.
      reset: Where k > 0, the state becomes the k-th of the targets before the step, zeros if there is none. Ignored at
        steps that are passed over.
      targets: States that resets put rows to, arrays of (batch, size).
      extras: More parameters of `pointwise`, differentiated too.
      reverse: Runs from the last step to the first.
      collect: What a step puts out, from its new state; by default the hidden vector.
      custom_gradient: False lets JAX differentiate the plain loop instead, which forward-mode
        differentiation needs and which is slower in reverse mode.
      chunk: Steps of a chunk, of which only the first state is kept for the gradient; None keeps every step's.
      dtype: A shorter type for the operands of matmuls; states, sums and everything pointwise keep theirs.
      kernel: The compiled recurrence that computes `pointwise`; None if none does.
      backend: "auto" uses it in programs that run in this process on a CPU, where it can; "compiled" in exported ones
        too, and refuses where it cannot; "scan" always runs the loop.
      hides_padding: Whether inputs may be anything where `valid` is False. The compiled recurrence never reads them;
        the loop puts zeros there first.

    Returns:
      ``(outputs, final_state)``: what `collect` gave, stacked over time, 0 at steps that are passed
      over; and the state after the last valid step, the initial state where there was none.

    Raises:
      ValueError: `backend` is "compiled", and the compiled recurrence cannot compute this.
    """
    if reset is not None and valid is not None:
        reset = jnp.where(valid, reset, 0).astype(reset.dtype)
    num_steps = inputs.shape[0]
    if chunk is not None and isinstance(num_steps, int) and chunk >= num_steps:
        chunk = None
    pointwise, extras = closed.hoist_tracers(pointwise, initial_state, inputs, weights, extras)
    recurrence = Recurrence(pointwise, collect, num_summed, reverse, chunk, dtype, hides_padding=hides_padding)
    steps = Timeline(inputs, valid, reset)
    if chunk is not None:  # which are cut, and filled up, before any of them is run
        steps = without_padding(recurrence, steps)
    if backend != "scan":
        reason = cpu_kernels.reason_against(kernel, recurrence, steps, weights, initial_state, extras)
        if not custom_gradient:
            reason = "custom_gradient is False"
        if reason is None:
            recurrence = dataclasses.replace(recurrence, kernel=kernel, needs_kernel=backend == "compiled")
        elif backend == "compiled":
            raise ValueError(f"backend: got 'compiled', which cannot compute this: {reason}; use backend='auto'")
    run_now = functools.partial(_recur_now if custom_gradient else _recur_plain_now, recurrence)
    run = platforms.with_rows_of(inputs, run_now)
    try:
        return run(*platforms.vary_alike((steps, weights, initial_state, targets, extras)))
    except TypeError as error:
        if "jvp" not in str(error) or "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "got forward-mode differentiation (jax.jvp, jax.jacfwd), which the engine's own gradient does not have;"
            " expected reverse mode: use jax.vjp or jax.jacrev, or a layer with custom_gradient=False"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Forward(platforms.PlatformFunction):
    """A run over steps: ``(steps, weights, state, targets, extras) -> (outputs, last state, what is kept or None)``."""

    recurrence: Recurrence
    keep: bool

    @property
    def is_dealt(self) -> bool:
        return self.recurrence.kernel is not None

    def __call__(self, target: Target, steps: Timeline, weights: Weights, state: State, *rest: Any) -> Any:
        recurrence, (targets, extras) = self.recurrence, rest
        if cpu_kernels.serves(recurrence, target):
            return cpu_kernels.run_forward(
                recurrence, steps, weights, state, targets, keep=self.keep, is_partitioned=target.is_partitioned
            )
        steps = without_padding(recurrence, steps)
        outputs, last, kept = run_forward(
            recurrence, steps, weights, state, targets, extras, keep=self.keep, platform=target.platform
        )
        return outputs, last, cpu_kernels.pack_kept(recurrence, kept) if recurrence.kernel and self.keep else kept

    def plain(self, steps: Timeline, weights: Weights, state: State, *rest: Any) -> Any:
        steps = without_padding(self.recurrence, steps)
        return run_forward(self.recurrence, steps, weights, state, *rest, keep=False, platform="any")[:2]


@dataclasses.dataclass(frozen=True)
class _Backward(platforms.PlatformFunction):
    """The gradient of a run: of the state, the targets, the inputs (None unless wanted), the weights and the extras.

    Its own derivative is that of the plain loop's gradient: what was kept is not read there.
    """

    recurrence: Recurrence
    with_inputs: bool

    @property
    def is_dealt(self) -> bool:
        return self.recurrence.kernel is not None

    def __call__(self, target: Target, steps: Timeline, weights: Weights, state: State, *rest: Any) -> Any:
        recurrence, (targets, extras, kept, d_outputs, d_state) = self.recurrence, rest
        if cpu_kernels.serves(recurrence, target):
            with_inputs, is_partitioned = self.with_inputs, target.is_partitioned
            arguments = (steps, weights, state, targets, kept, d_outputs, d_state)
            compiled = cpu_kernels.run_backward(
                recurrence, *arguments, with_inputs=with_inputs, is_partitioned=is_partitioned
            )
            return *compiled, extras  # of which there are none
        steps = without_padding(recurrence, steps)
        if recurrence.kernel:
            kept = cpu_kernels.unpack_kept(recurrence, kept, steps, weights, state, target.platform)
        d_state, d_targets, d_inputs, *found = run_backward(
            recurrence, steps, weights, targets, extras, kept, d_outputs, d_state, platform=target.platform
        )
        return d_state, d_targets, d_inputs if self.with_inputs else None, *found

    def plain(self, steps: Timeline, weights: Weights, state: State, *rest: Any) -> Any:
        targets, extras, _, d_outputs, d_state = rest

        def run(state: State, targets: Any, inputs: Array, weights: Weights, extras: Any) -> Any:
            timeline = without_padding(self.recurrence, steps._replace(inputs=inputs))
            options: Any = {"keep": False, "platform": "any"}
            return run_forward(self.recurrence, timeline, weights, state, targets, extras, **options)[:2]

        (outputs, _), pull = jax.vjp(run, state, targets, steps.inputs, weights, extras)
        d_state, d_targets, d_inputs, *found = pull((zeros_like(outputs) if d_outputs is None else d_outputs, d_state))
        return d_state, d_targets, d_inputs if self.with_inputs else None, *found


def _in_chunks(steps: Timeline, chunk: int | None) -> Timeline:
    """Cuts steps into (chunks, chunk, ...), filled up with steps that are passed over."""
    assert chunk is not None
    num_steps = steps.inputs.shape[0]
    fill = -num_steps % chunk
    valid = steps.valid
    if fill and valid is None:
        valid = jnp.ones(steps.inputs.shape[:2], bool)

    def cut(array: Array) -> Array:
        padded = jnp.pad(array, [(0, fill)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape((num_steps + fill) // chunk, chunk, *array.shape[1:])

    return jax.tree.map(cut, Timeline(steps.inputs, valid, steps.reset))


def _joined(chunks: Any, num_steps: int) -> Any:
    """Undoes `_in_chunks`."""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])[:num_steps], chunks)


def _recur_plain(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    state: State,
    targets: tuple[State, ...],
    extras: tuple[Any, ...],
) -> tuple[Any, State]:
    (outputs, final_state), _ = _forward(recurrence, steps, weights, state, targets, extras, keep=False)
    return outputs, final_state


def _forward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    state: State,
    targets: tuple[State, ...],
    extras: tuple[Any, ...],
    *,
    keep: bool,
) -> tuple[tuple[Any, State], Any]:
    if recurrence.chunk is None:
        run = _Forward(recurrence, keep)
        outputs, final_state, kept = platforms.call(run, steps, weights, state, targets, extras)
        return (outputs, final_state), kept

    def run_chunk(state: State, chunk: Timeline) -> Any:
        run = _Forward(recurrence, False)
        outputs, final, _ = platforms.call(run, chunk, weights, state, targets, extras)
        return final, (outputs, state if keep else None)

    chunks = platforms.vary_alike((_in_chunks(steps, recurrence.chunk), state))[0]
    final_state, (outputs, starts) = lax.scan(run_chunk, state, chunks, reverse=recurrence.reverse)
    return (_joined(outputs, steps.inputs.shape[0]), final_state), starts


_recur = jax.custom_vjp(_recur_plain, nondiff_argnums=(0,))


def _recur_forward(recurrence: Recurrence, *arguments: Any) -> tuple[tuple[Any, State], Any]:
    primals = jax.tree.map(lambda primal: primal.value, arguments, is_leaf=lambda leaf: hasattr(leaf, "perturbed"))
    results, kept = _forward(recurrence, *primals, keep=True)
    # Whether the inputs' gradient is wanted: a compiled call cannot find out that nobody reads it.
    with_inputs = (None,) if arguments[0].inputs.perturbed else ()
    return results, (primals, kept, with_inputs)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _materialize(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_zero(leaf) else leaf


def _recur_backward(recurrence: Recurrence, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    (steps, weights, state, targets, extras), kept, marker = residuals
    run = _Backward(recurrence, with_inputs=bool(marker))
    d_outputs, d_final_state = cotangents
    # Who reads the final state only must not pay for a gradient of the outputs that is 0 everywhere.
    unread = all(map(_is_zero, jax.tree.leaves(d_outputs, is_leaf=_is_zero)))
    d_outputs = None if unread else jax.tree.map(_materialize, d_outputs, is_leaf=_is_zero)
    d_state = jax.tree.map(_materialize, d_final_state, is_leaf=_is_zero)

    if recurrence.chunk is None:
        d_state, d_targets, d_inputs, d_weights, d_extras = platforms.call(
            run, steps, weights, state, targets, extras, kept, d_outputs, d_state
        )
    else:

        def run_chunk(carry: Any, xs: Any) -> Any:
            d_state, *d_sums = carry
            chunk, start, d_outputs = xs
            _, _, kept = platforms.call(_Forward(recurrence, True), chunk, weights, start, targets, extras)
            d_state, d_targets, d_inputs, d_weights, d_extras = platforms.call(
                run, chunk, weights, start, targets, extras, kept, d_outputs, d_state
            )
            return (d_state, *add_trees(tuple(d_sums), (d_targets, d_weights, d_extras))), d_inputs

        def cut(leaf: Array) -> Array:
            return _in_chunks(Timeline(leaf, None, None), recurrence.chunk).inputs

        num_steps = steps.inputs.shape[0]
        zeros = zeros_like((targets, weights, extras))
        carry, chunks, d_chunks, starts = platforms.vary_alike(
            ((d_state, *zeros), _in_chunks(steps, recurrence.chunk), jax.tree.map(cut, d_outputs), kept)
        )
        (d_state, d_targets, d_weights, d_extras), d_inputs = lax.scan(
            run_chunk, carry, (chunks, starts, d_chunks), reverse=not recurrence.reverse
        )
        d_inputs = _joined(d_inputs, num_steps)
    return Timeline(d_inputs, None, None), d_weights, d_state, d_targets, d_extras


_recur.defvjp(_recur_forward, _recur_backward, symbolic_zeros=True)
# Called outside of a trace, one compiled program: not an operation at a time, and what JAX's eager shard_map cannot do.
_recur_now = jax.jit(_recur, static_argnums=0, inline=True)
_recur_plain_now = jax.jit(_recur_plain, static_argnums=0, inline=True)
