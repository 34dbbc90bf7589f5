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

Arrays in, arrays out: nothing here knows a module or a configuration. All arrays are time-major.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxrnn import cpu_kernels, forms
from jaxrnn._typing import Array, Float, State, TimeMajorMask
from jaxrnn.loops import (
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
    zeros_like,
)


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
    form = forms.choose_form(1, inputs.shape[0], *weights.weight_hh.shape)
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
    reset: TimeMajorMask | None = None,
    extras: tuple[Any, ...] = (),
    reverse: bool = False,
    collect: Callable[[State], Any] = hidden_of,
    custom_gradient: bool = True,
    chunk: int | None = None,
    dtype: Any = None,
    kernel: cpu_kernels.Kernel | None = None,
) -> tuple[Any, State]:
    """Runs a recurrence over time.

    Args:
      pointwise: ``pointwise(state, input_gates, hidden_gates, *extras) -> state``; elementwise over
        the batch. It may read every array of the state; the first one is the hidden vector.
      inputs: Of every step. Must be finite, also where `valid` is False.
      weights: The parameters.
      initial_state: Arrays of (batch, size).
      num_summed: How many gates, rows of the weights from the first, `pointwise` reads only as the sum of input and
        hidden gates. It gets the sum among the input gates, and zeros among the hidden ones.
      valid: Where False, the step is passed over: the state stays, the output is 0.
      reset: Where True, the state returns to the initial state before the step. Ignored at steps that
        are passed over.
      extras: More parameters of `pointwise`, differentiated too.
      reverse: Runs from the last step to the first.
      collect: What a step puts out, from its new state; by default the hidden vector.
      custom_gradient: False lets JAX differentiate the plain loop instead, which forward-mode
        differentiation needs and which is slower in reverse mode.
      chunk: Steps of a chunk, of which only the first state is kept for the gradient; None keeps every step's.
      dtype: A shorter type for the operands of matmuls; states, sums and everything pointwise keep theirs.
      kernel: The compiled recurrence that computes `pointwise`, to be used where it can; None always runs the loop.

    Returns:
      ``(outputs, final_state)``: what `collect` gave, stacked over time, 0 at steps that are passed
      over; and the state after the last valid step, the initial state where there was none.
    """
    if reset is not None and valid is not None:
        reset = reset & valid
    if chunk is not None and chunk >= inputs.shape[0]:
        chunk = None
    run = _recur if custom_gradient else _recur_plain
    recurrence = Recurrence(pointwise, collect, num_summed, reverse, chunk, dtype)
    steps = Timeline(inputs, valid, reset)
    if custom_gradient:
        chosen = cpu_kernels.choose_kernel(kernel, recurrence, steps, weights, initial_state, extras)
        recurrence = dataclasses.replace(recurrence, kernel=chosen)
    return run(recurrence, steps, weights, initial_state, extras)


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
        return padded.reshape(-1, chunk, *array.shape[1:])

    return jax.tree.map(cut, Timeline(steps.inputs, valid, steps.reset))


def _joined(chunks: Any, num_steps: int) -> Any:
    """Undoes `_in_chunks`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_steps], chunks)


def _recur_plain(
    recurrence: Recurrence, steps: Timeline, weights: Weights, initial_state: State, extras: tuple[Any, ...]
) -> tuple[Any, State]:
    (outputs, final_state), _ = _forward(recurrence, steps, weights, initial_state, extras, keep=False)
    return outputs, final_state


def _run_forward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    initial_state: State,
    extras: tuple[Any, ...],
    state: State,
    *,
    keep: bool,
) -> tuple[Any, State, Any]:
    if recurrence.kernel:
        return cpu_kernels.run_forward(recurrence, steps, weights, state, keep=keep)
    return run_forward(recurrence, steps, weights, initial_state, extras, state, keep=keep)


def _run_backward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    extras: tuple[Any, ...],
    kept: Any,
    d_outputs: Any,
    d_state: State,
    d_initial: State | None,
    *,
    with_inputs: bool,
) -> tuple[State, State | None, Array | None, Weights, tuple[Any, ...]]:
    if recurrence.kernel:
        d_state, d_inputs, d_weights = cpu_kernels.run_backward(
            recurrence, steps, weights, kept, d_outputs, d_state, with_inputs=with_inputs
        )
        return d_state, d_initial, d_inputs, d_weights, extras  # of which there are none
    return run_backward(recurrence, steps, weights, extras, kept, d_outputs, d_state, d_initial)


def _forward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    initial_state: State,
    extras: tuple[Any, ...],
    *,
    keep: bool,
) -> tuple[tuple[Any, State], Any]:
    if recurrence.chunk is None:
        outputs, final_state, kept = _run_forward(
            recurrence, steps, weights, initial_state, extras, initial_state, keep=keep
        )
        return (outputs, final_state), kept

    def run_chunk(state: State, chunk: Timeline) -> Any:
        outputs, final, _ = _run_forward(recurrence, chunk, weights, initial_state, extras, state, keep=False)
        return final, (outputs, state if keep else None)

    chunks = _in_chunks(steps, recurrence.chunk)
    final_state, (outputs, starts) = lax.scan(run_chunk, initial_state, chunks, reverse=recurrence.reverse)
    return (_joined(outputs, steps.inputs.shape[0]), final_state), starts


_recur = jax.custom_vjp(_recur_plain, nondiff_argnums=(0,))


def _recur_forward(recurrence: Recurrence, *arguments: Any) -> tuple[tuple[Any, State], Any]:
    steps, weights, initial_state, extras = jax.tree.map(
        lambda primal: primal.value, arguments, is_leaf=lambda leaf: hasattr(leaf, "perturbed")
    )
    results, kept = _forward(recurrence, steps, weights, initial_state, extras, keep=True)
    # Whether the inputs' gradient is wanted: a compiled call cannot find out that nobody reads it.
    with_inputs = (None,) if arguments[0].inputs.perturbed else ()
    return results, ((steps, weights, initial_state, extras), kept, with_inputs)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _materialize(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_zero(leaf) else leaf


def _recur_backward(recurrence: Recurrence, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    (steps, weights, initial_state, extras), kept, marker = residuals
    with_inputs = bool(marker)
    d_outputs, d_final_state = cotangents
    # Who reads the final state only must not pay for a gradient of the outputs that is 0 everywhere.
    unread = all(map(_is_zero, jax.tree.leaves(d_outputs, is_leaf=_is_zero)))
    d_outputs = None if unread else jax.tree.map(_materialize, d_outputs, is_leaf=_is_zero)
    d_state = jax.tree.map(_materialize, d_final_state, is_leaf=_is_zero)
    d_initial = None if steps.reset is None else zeros_like(initial_state)

    if recurrence.chunk is None:
        d_state, d_initial, d_inputs, d_weights, d_extras = _run_backward(
            recurrence, steps, weights, extras, kept, d_outputs, d_state, d_initial, with_inputs=with_inputs
        )
    else:

        def run_chunk(carry: Any, xs: Any) -> Any:
            d_state, d_initial, d_weights, d_extras = carry
            chunk, start, d_outputs = xs
            _, _, kept = _run_forward(recurrence, chunk, weights, initial_state, extras, start, keep=True)
            d_state, d_initial, d_inputs, *d_rest = _run_backward(
                recurrence, chunk, weights, extras, kept, d_outputs, d_state, d_initial, with_inputs=with_inputs
            )
            return (d_state, d_initial, *add_trees((d_weights, d_extras), tuple(d_rest))), d_inputs

        num_steps = steps.inputs.shape[0]
        chunks = _in_chunks(steps, recurrence.chunk)
        d_chunks = jax.tree.map(lambda leaf: _in_chunks(Timeline(leaf, None, None), recurrence.chunk).inputs, d_outputs)
        (d_state, d_initial, d_weights, d_extras), d_inputs = lax.scan(
            run_chunk,
            (d_state, d_initial, zeros_like(weights), zeros_like(extras)),
            (chunks, kept, d_chunks),
            reverse=not recurrence.reverse,
        )
        d_inputs = _joined(d_inputs, num_steps)
    if d_initial is not None:
        d_state = add_trees(d_state, d_initial)
    return Timeline(d_inputs, None, None), d_weights, d_state, d_extras


_recur.defvjp(_recur_forward, _recur_backward, symbolic_zeros=True)
