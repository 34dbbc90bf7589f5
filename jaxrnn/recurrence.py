"""The recurrence engine: what is computed over time, for any cell.

A cell is two linear maps and a pointwise equation::

    input_gates  = W_ih x_t + b_ih                    no dependence on time: the caller computes all steps at once
    hidden_gates = W_hh h_(t-1) + b_hh                the only matmul inside the loop
    state_t      = pointwise(state_(t-1), input_gates, hidden_gates)

The engine owns time: it masks, resets, reverses and differentiates. Its gradient is written once, for every cell: the
forward loop keeps the state and the hidden gates that each step saw; the backward loop asks JAX for the gradient of
`pointwise`, step by step, and emits the gradient of the gates; a weight's gradient is then one matmul over all steps.
(Left to itself, the transpose of `lax.scan` adds every step's weight gradient into an array as large as the weight.)

Arrays in, arrays out: nothing here knows a module or a configuration. All arrays are time-major.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn._typing import Array, Bool, Float, Mask, State, TimeMajorMask

Pointwise = Callable[..., State]

# Short loops over small steps of a cell with one gate are unrolled: XLA then fuses the steps, where a `while`
# pays a few microseconds for each (a third of the time at H=8). Cells with several gates run up to twice slower
# unrolled: their fusions compute gates again and again.
MAX_UNROLLED_STEPS = 16
MAX_UNROLLED_STEP_ELEMENTS = 2**13
# Up to this many hidden units a broadcast, multiply and sum beats a call of the matmul library on CPU.
MAX_HIDDEN_FOR_MULTIPLY_SUM = 8


class RecurrentWeights(NamedTuple):
    """The weights that act on the state.

    Attributes:
      weight_hh: (gates, output).
      bias_hh: (gates,), or None.
      weight_hr: (output, hidden) of a layer that projects its hidden state, or None.
    """

    weight_hh: Float[Array, "gates output"]
    bias_hh: Float[Array, " gates"] | None = None
    weight_hr: Float[Array, "output hidden"] | None = None


class Steps(NamedTuple):
    """Which steps count, and before which ones the state starts afresh, for each direction.

    None stands for "all" in `valid` and for "never" in the resets.
    """

    valid: TimeMajorMask | None = None
    reset_forward: TimeMajorMask | None = None
    reset_backward: TimeMajorMask | None = None


def hidden_of(state: State) -> Array:
    """Returns the hidden vector of a state: its first array."""
    return jax.tree.leaves(state)[0]


def with_hidden(state: State, hidden: Array) -> State:
    """Returns `state` with its hidden vector replaced."""
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [hidden, *leaves[1:]])


def linear(
    inputs: Float[Array, "*rows features"],
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"] | None = None,
) -> Float[Array, "*rows gates"]:
    """Computes ``inputs @ weight.T + bias``, PyTorch's layout of a linear map."""
    if weight.shape[1] == 1:  # an outer product: a matmul call would cost more than the arithmetic
        product = inputs * weight[:, 0].reshape((1,) * (inputs.ndim - 1) + (-1,))
    else:
        product = inputs @ weight.T
    return product if bias is None else product + _as_row(bias, product.ndim)


def step(
    pointwise: Pointwise,
    state: State,
    input_gates: Float[Array, "batch gates"],
    weights: RecurrentWeights,
    extras: tuple[Any, ...] = (),
) -> State:
    """Advances a state by one step: the equation at the head of this file, and the projection."""
    new_state, _ = _advance(pointwise, state, input_gates, weights, extras)
    return new_state


def recur(
    pointwise: Pointwise,
    input_gates: Float[Array, "time batch gates"],
    weights: RecurrentWeights,
    initial_state: State,
    *,
    valid: TimeMajorMask | None = None,
    reset: TimeMajorMask | None = None,
    extras: tuple[Any, ...] = (),
    reverse: bool = False,
    collect: Callable[[State], Any] = hidden_of,
    custom_gradient: bool = True,
) -> tuple[Any, State]:
    """Runs a recurrence over time.

    Args:
      pointwise: ``pointwise(state, input_gates, hidden_gates, *extras) -> state``; elementwise over
        the batch. It may read every array of the state; the first one is the hidden vector.
      input_gates: ``W_ih x + b_ih`` of every step. Must be finite, also where `valid` is False.
      weights: The weights that act on the state.
      initial_state: Arrays of (batch, size).
      valid: Where False, the step is passed over: the state stays, the output is 0.
      reset: Where True, the state returns to the initial state before the step. Ignored at steps that
        are passed over.
      extras: More parameters of `pointwise`, differentiated too.
      reverse: Runs from the last step to the first.
      collect: What a step puts out, from its new state; by default the hidden vector.
      custom_gradient: False lets JAX differentiate the plain loop instead, which forward-mode
        differentiation needs and which is slower in reverse mode.

    Returns:
      ``(outputs, final_state)``: what `collect` gave, stacked over time, 0 at steps that are passed
      over; and the state after the last valid step, the initial state where there was none.
    """
    if reset is not None and valid is not None:
        reset = reset & valid
    run = _recur if custom_gradient else _recur_plain
    return run(pointwise, collect, reverse, input_gates, weights, initial_state, extras, valid, reset)


def steps_from_masks(
    shape: tuple[int, int],
    *,
    valid: Mask | None = None,
    segment_ids: Array | None = None,
    resets: Bool[Array, "batch time"] | None = None,
) -> Steps:
    """Works out where the engine computes and where it starts afresh.

    A boundary lies between two neighbouring valid steps of a row where their segment ids differ, or
    where a reset is set after the first of them and not after the second. Going forward the state
    starts afresh after a boundary, going backward before it; so both directions see the same
    sequences, whatever lies between them.

    Args:
      shape: (batch, time).
      valid: Steps that count; None if all do.
      segment_ids: Integers, 0 at padding.
      resets: True at steps before which a new sequence starts.
    """
    if segment_ids is not None:
        occupied = segment_ids > 0
        valid = occupied if valid is None else valid & occupied
    labels = [] if segment_ids is None else [segment_ids]
    if resets is not None:
        labels.append(jnp.cumsum(resets, axis=1, dtype=jnp.int32))
    if not labels:
        return Steps(valid=None if valid is None else valid.T)
    every = jnp.ones(shape, bool) if valid is None else valid
    forward = _boundaries(every, labels)
    backward = _boundaries(every[:, ::-1], [label[:, ::-1] for label in labels])[:, ::-1]
    return Steps(None if valid is None else valid.T, forward.T, backward.T)


def _boundaries(valid: Mask, labels: list[Array]) -> Bool[Array, "batch time"]:
    """True at valid steps whose label differs from that of the valid step before them."""
    time = jnp.arange(valid.shape[1], dtype=jnp.int32)[None]
    last_valid = lax.cummax(jnp.where(valid, time, -1), axis=1)
    previous = jnp.pad(last_valid[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    clipped = jnp.maximum(previous, 0)
    differs = functools.reduce(
        jnp.logical_or,
        [label != jnp.take_along_axis(label, clipped, axis=1) for label in labels],
    )
    return valid & (previous >= 0) & differs


def _as_row(vector: Array, ndim: int) -> Array:
    return vector.reshape((1,) * (ndim - 1) + (-1,))


def _where(condition: Array | None, on_true: Any, on_false: Any) -> Any:
    """Selects whole rows of every array of a tree; no condition means `on_true`."""
    if condition is None:
        return on_true
    return jax.tree.map(lambda a, b: jnp.where(condition[:, None], a, b), on_true, on_false)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _matmul(a: Float[Array, "batch k"], b: Float[Array, "k n"]) -> Float[Array, "batch n"]:
    """A matmul inside the loop, by the faster of two ways for its size."""
    if a.shape[1] <= MAX_HIDDEN_FOR_MULTIPLY_SUM:
        return jnp.sum(a[:, :, None] * b[None], axis=1)
    return a @ b


def _unroll(input_gates: Array, weights: RecurrentWeights) -> int:
    """How many steps one turn of the loop computes."""
    num_steps, batch, gates = input_gates.shape
    one_gate = gates == weights.weight_hh.shape[1]
    small = batch * gates <= MAX_UNROLLED_STEP_ELEMENTS
    return num_steps if one_gate and small and 0 < num_steps <= MAX_UNROLLED_STEPS else 1


def _advance(
    pointwise: Pointwise,
    state: State,
    input_gates: Array,
    weights: RecurrentWeights,
    extras: tuple[Any, ...],
) -> tuple[State, Array]:
    hidden_gates = _matmul(hidden_of(state), weights.weight_hh.T)
    if weights.bias_hh is not None:
        hidden_gates = hidden_gates + weights.bias_hh[None]
    new_state = pointwise(state, input_gates, hidden_gates, *extras)
    if weights.weight_hr is not None:
        new_state = with_hidden(new_state, _matmul(hidden_of(new_state), weights.weight_hr.T))
    return new_state, hidden_gates


def _run_forward(
    pointwise: Pointwise,
    collect: Callable[[State], Any],
    reverse: bool,
    keep: bool,
    input_gates: Array,
    weights: RecurrentWeights,
    initial_state: State,
    extras: tuple[Any, ...],
    valid: Array | None,
    reset: Array | None,
) -> tuple[Any, State, Any]:
    def body(state: State, xs: Any) -> tuple[State, Any]:
        gates, is_valid, is_reset = xs
        if is_reset is not None:
            state = _where(is_reset, initial_state, state)
        new_state, hidden_gates = _advance(pointwise, state, gates, weights, extras)
        out = collect(new_state)
        if is_valid is not None:
            out = _where(is_valid, out, _zeros_like(out))
        kept = (state, hidden_gates) if keep else None
        return _where(is_valid, new_state, state), (out, kept)

    final_state, (outputs, kept) = lax.scan(
        body,
        initial_state,
        (input_gates, valid, reset),
        reverse=reverse,
        unroll=_unroll(input_gates, weights),
    )
    return outputs, final_state, kept


def _recur_plain(
    pointwise: Pointwise, collect: Callable[[State], Any], reverse: bool, *arrays: Any
) -> tuple[Any, State]:
    outputs, final_state, _ = _run_forward(pointwise, collect, reverse, False, *arrays)
    return outputs, final_state


_recur = jax.custom_vjp(_recur_plain, nondiff_argnums=(0, 1, 2))


def _recur_forward(
    pointwise: Pointwise, collect: Callable[[State], Any], reverse: bool, *arrays: Any
) -> tuple[tuple[Any, State], Any]:
    outputs, final_state, kept = _run_forward(pointwise, collect, reverse, True, *arrays)
    return (outputs, final_state), (arrays, kept)


def _recur_backward(
    pointwise: Pointwise,
    collect: Callable[[State], Any],
    reverse: bool,
    residuals: Any,
    cotangents: Any,
) -> tuple[Any, ...]:
    (input_gates, weights, initial_state, extras, valid, reset), (states, hidden_gates) = residuals
    d_outputs, d_final_state = cotangents
    weight_hr = weights.weight_hr

    def body(carry: Any, xs: Any) -> tuple[Any, Any]:
        d_state_after, d_initial, d_extras = carry
        d_out, state, gates, h_gates, is_valid, is_reset = xs
        raw_state, pointwise_vjp = jax.vjp(pointwise, state, gates, h_gates, *extras)
        new_state = raw_state
        if weight_hr is not None:
            new_state = with_hidden(raw_state, _matmul(hidden_of(raw_state), weight_hr.T))

        _, collect_vjp = jax.vjp(collect, new_state)
        d_new = _add(d_state_after, collect_vjp(d_out)[0])
        d_new = _where(is_valid, d_new, _zeros_like(d_new))
        projected = None
        if weight_hr is not None:
            d_hidden = hidden_of(d_new)
            projected = (hidden_of(raw_state), d_hidden)
            d_new = with_hidden(d_new, _matmul(d_hidden, weight_hr))

        d_state, d_gates, d_h_gates, *d_extras_step = pointwise_vjp(d_new)
        d_hidden_in = hidden_of(d_state) + _matmul(d_h_gates, weights.weight_hh)
        d_state = with_hidden(d_state, d_hidden_in)
        d_state = _where(is_valid, d_state, d_state_after)
        if is_reset is not None:
            zeros = _zeros_like(d_state)
            d_initial = _add(d_initial, _where(is_reset, d_state, zeros))
            d_state = _where(is_reset, zeros, d_state)
        carry = (d_state, d_initial, _add(d_extras, tuple(d_extras_step)))
        return carry, (d_gates, d_h_gates, projected)

    zero_initial = None if reset is None else _zeros_like(initial_state)
    (d_state, d_initial, d_extras), (d_input_gates, d_hidden_gates, projected) = lax.scan(
        body,
        (d_final_state, zero_initial, _zeros_like(extras)),
        (d_outputs, states, input_gates, hidden_gates, valid, reset),
        reverse=not reverse,
        unroll=_unroll(input_gates, weights),
    )
    if d_initial is not None:
        d_state = _add(d_state, d_initial)
    d_weights = RecurrentWeights(
        weight_hh=_outer_sum(d_hidden_gates, hidden_of(states)),
        bias_hh=None if weights.bias_hh is None else d_hidden_gates.sum((0, 1)),
        weight_hr=None if weight_hr is None else _outer_sum(projected[1], projected[0]),
    )
    # Weights of a shorter type than the gates get gradients of their own type, as from JAX's own transpose.
    d_weights = jax.tree.map(lambda d, weight: d.astype(weight.dtype), d_weights, weights)
    return d_input_gates, d_weights, d_state, d_extras, None, None


def _outer_sum(a: Float[Array, "time batch m"], b: Float[Array, "time batch n"]) -> Float[Array, "m n"]:
    return lax.dot_general(a, b, (((0, 1), (0, 1)), ((), ())))


_recur.defvjp(_recur_forward, _recur_backward)
