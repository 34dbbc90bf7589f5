"""The loop over time, forward and back: what one step computes, and what it keeps for its gradient."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.foundation.array_types import Array, Float, State
from jaxrnn.nn.engine import forms
from jaxrnn.nn.engine.platforms import Platform

Pointwise = Callable[..., State]


class Weights(NamedTuple):
    """The parameters of one layer in one direction, in PyTorch's layouts.

    Attributes:
      weight_ih: (gates, input).
      weight_hh: (gates, output).
      bias_ih: (gates,), or None.
      bias_hh: (gates,), or None.
      weight_hr: (output, hidden) of a layer that projects its hidden state, or None.
    """

    weight_ih: Float[Array, "gates input"]
    weight_hh: Float[Array, "gates output"]
    bias_ih: Float[Array, " gates"] | None = None
    bias_hh: Float[Array, " gates"] | None = None
    weight_hr: Float[Array, "output hidden"] | None = None


class Gates(NamedTuple):
    """The gates of a step: those read as a sum only, and of the others those of the input and of the hidden state."""

    summed: Array
    input_rest: Array
    hidden_rest: Array


class Timeline(NamedTuple):
    """What the loop runs over.

    Attributes:
      inputs: (time, batch, input).
      valid: (time, batch), True at steps that count; None where all do.
      reset: (time, batch), the numbers of what the state becomes before a step: 0 for no change, k for the k-th of the
        targets, zeros where there is no such target; None where it is never reset.
    """

    inputs: Any
    valid: Array | None
    reset: Array | None


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """What does not change while a recurrence runs, and holds no array."""

    pointwise: Pointwise
    collect: Callable[[State], Any]
    num_summed: int
    reverse: bool
    chunk: int | None
    dtype: Any
    kernel: str | None = None
    needs_kernel: bool = False
    hides_padding: bool = False


def hidden_of(state: State) -> Array:
    """Returns the hidden vector of a state: its first array."""
    return jax.tree.leaves(state)[0]


def without_padding(recurrence: Recurrence, steps: Timeline) -> Timeline:
    """Puts zeros for the inputs of steps that are passed over, if they may be anything: 0 times NaN is NaN."""
    if not recurrence.hides_padding or steps.valid is None:
        return steps
    return steps._replace(inputs=jnp.where(steps.valid[:, :, None], steps.inputs, 0))


def nothing_of(state: State) -> tuple[()]:
    """Takes nothing from a state: for who reads the last one only."""
    del state
    return ()


def with_hidden(state: State, hidden: Array) -> State:
    """Returns `state` with its hidden vector replaced."""
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [hidden, *leaves[1:]])


def gates_of(
    recurrence: Recurrence, form: forms.Form, weights: Weights, *, projected: bool
) -> Callable[[Array, Array], Gates]:
    """Builds the linear half of a step; what does not change from step to step is computed here.

    Args:
      recurrence: What is computed.
      form: How.
      weights: The parameters.
      projected: Whether the inputs went through `project_inputs` already.

    Returns:
      ``gates(inputs, hidden)``, of (batch, input) or projected (batch, gates), and (batch, output).
    """
    number, dtype = recurrence.num_summed, recurrence.dtype
    weight_ih, weight_hh, bias_ih, bias_hh, _ = weights
    together = jnp.concatenate([weight_ih[:number], weight_hh[:number]], axis=1).T

    def add_biases(summed: Array, input_rest: Array, hidden_rest: Array) -> Gates:
        if bias_ih is not None and bias_hh is not None:
            summed = summed + (bias_ih + bias_hh)[None, :number]
            input_rest = input_rest + bias_ih[None, number:]
            hidden_rest = hidden_rest + bias_hh[None, number:]
        return Gates(summed, input_rest, hidden_rest)

    def gates_of_products(products: Array, hidden: Array) -> Gates:
        from_hidden = form.matmul(hidden, weight_hh.T, dtype=dtype)
        summed = products[:, :number] + from_hidden[:, :number]
        return add_biases(summed, products[:, number:], from_hidden[:, number:])

    def gates_of_inputs(inputs: Array, hidden: Array) -> Gates:
        # Of one feature the products are cheap; for one row, a step of a stream, joining the weights is not.
        if inputs.shape[1] == 1 or inputs.shape[0] == 1:
            return gates_of_products(project_inputs(recurrence, form, inputs, weights), hidden)
        inputs = inputs.astype(hidden.dtype)
        summed = form.matmul(jnp.concatenate([inputs, hidden], axis=1), together, dtype=dtype)
        if number == weight_hh.shape[0]:
            nothing = summed[:, :0]
            return add_biases(summed, nothing, nothing)
        input_rest = form.matmul(inputs, weight_ih[number:].T, dtype=dtype)
        return add_biases(summed, input_rest, form.matmul(hidden, weight_hh[number:].T, dtype=dtype))

    return gates_of_products if projected else gates_of_inputs


def project_inputs(recurrence: Recurrence, form: forms.Form, inputs: Array, weights: Weights) -> Array:
    """``inputs @ weight_ih.T``, without the bias, which is cheaper to add inside the loop."""
    if weights.weight_ih.shape[1] == 1:  # an outer product: a matmul call would cost more than the arithmetic
        return inputs * weights.weight_ih[:, 0].reshape((1,) * (inputs.ndim - 1) + (-1,))
    return forms.matmul(inputs, weights.weight_ih.T, dtype=recurrence.dtype, platform=form.platform)


def next_state(recurrence: Recurrence, state: State, gates: Gates, extras: tuple[Any, ...]) -> State:
    """Calls `pointwise`; its state is not projected yet."""
    input_gates = jnp.concatenate([gates.summed, gates.input_rest], axis=1)
    hidden_gates = jnp.concatenate([jnp.zeros_like(gates.summed), gates.hidden_rest], axis=1)
    return recurrence.pointwise(state, input_gates, hidden_gates, *extras)


def project_hidden(recurrence: Recurrence, form: forms.Form, state: State, weights: Weights) -> State:
    if weights.weight_hr is None:
        return state
    return with_hidden(state, form.matmul(hidden_of(state), weights.weight_hr.T, dtype=recurrence.dtype))


def _where(condition: Array | None, on_true: Any, on_false: Any) -> Any:
    """Selects whole rows of every array of a tree; no condition means `on_true`."""
    if condition is None:
        return on_true
    return jax.tree.map(lambda a, b: jnp.where(condition[:, None], a, b), on_true, on_false)


def zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def add_trees(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _form_of(steps: Timeline, weights: Weights, platform: Platform) -> forms.Form:
    return forms.choose_form(*steps.inputs.shape[:2], *weights.weight_hh.shape, platform=platform)


def _reset(codes: Array | None, state: State, targets: tuple[State, ...]) -> State:
    """Puts the rows that a step resets to their targets, or to zeros."""
    if codes is None:
        return state
    for number, target in enumerate((*targets, zeros_like(state)), start=1):
        is_last = number > len(targets)
        state = _where(codes >= number if is_last else codes == number, target, state)
    return state


def run_forward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    state: State,
    targets: tuple[State, ...],
    extras: tuple[Any, ...],
    *,
    keep: bool,
    platform: Platform,
) -> tuple[Any, State, Any]:
    """Runs over steps; returns outputs, the last state, and what each step saw if it is to be kept.

    Args:
      recurrence: What is computed.
      steps: Over which.
      weights: The parameters.
      state: The first one.
      targets: What resets put the state to.
      extras: The equation's own parameters.
      keep: Whether a backward run will follow.
      platform: What the form of the loop is chosen for.
    """
    form = _form_of(steps, weights, platform)
    projected = form.project_first
    features = project_inputs(recurrence, form, steps.inputs, weights) if projected else steps.inputs
    gates_at = gates_of(recurrence, form, weights, projected=projected)

    def body(state: State, _: None, xs: Any) -> Any:
        features, (is_valid, codes) = xs
        state = _reset(codes, state, targets)
        gates = gates_at(features, hidden_of(state))
        new_state = form.settle(next_state(recurrence, state, gates, extras))
        new_state = project_hidden(recurrence, form, new_state, weights)
        out = recurrence.collect(new_state)
        if is_valid is not None:
            out = _where(is_valid, out, zeros_like(out))
        kept = (state, gates) if keep else None
        return (_where(is_valid, new_state, state), None), ((out, kept), None)

    (final_state, _), ((outputs, kept), _) = form.scan(
        body, (state, None), (features, (steps.valid, steps.reset)), reverse=recurrence.reverse
    )
    return outputs, final_state, kept


def run_backward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    targets: tuple[State, ...],
    extras: tuple[Any, ...],
    kept: Any,
    d_outputs: Any,
    d_state: State,
    *,
    platform: Platform,
) -> tuple[State, tuple[State, ...], Array, Weights, tuple[Any, ...]]:
    """Runs back over steps; returns the gradients of the first state, of the targets, inputs, weights and extras."""
    form, dtype = _form_of(steps, weights, platform), recurrence.dtype
    number, num_gates = recurrence.num_summed, weights.weight_hh.shape[0]

    def advance(state: State, gates: Gates, extras: tuple[Any, ...]) -> State:
        return next_state(recurrence, state, gates, extras)

    def body(rows: Any, d_extras: Any, xs: Any) -> Any:
        d_state_after, d_targets = rows
        (d_out, (state, gates)), (is_valid, codes) = xs
        raw_state, pointwise_vjp = jax.vjp(advance, state, gates, extras)
        d_new = d_state_after
        if d_out is not None:
            new_state = project_hidden(recurrence, form, raw_state, weights)
            d_new = add_trees(d_new, jax.vjp(recurrence.collect, new_state)[1](d_out)[0])
        d_new = _where(is_valid, d_new, zeros_like(d_new))
        projected = None
        if weights.weight_hr is not None:
            projected = (hidden_of(raw_state), hidden_of(d_new))
            d_new = with_hidden(d_new, form.matmul(hidden_of(d_new), weights.weight_hr, dtype=dtype))

        d_state, d_gates, d_extras_step = pointwise_vjp(d_new)
        d_hidden = hidden_of(d_state) + form.matmul(d_gates.summed, weights.weight_hh[:number], dtype=dtype)
        if number < num_gates:
            d_hidden = d_hidden + form.matmul(d_gates.hidden_rest, weights.weight_hh[number:], dtype=dtype)
        d_state = _where(is_valid, with_hidden(d_state, d_hidden), d_state_after)
        if codes is not None:
            zeros = zeros_like(d_state)
            d_targets = tuple(
                add_trees(d_target, _where(codes == number, d_state, zeros))
                for number, d_target in enumerate(d_targets, start=1)
            )
            d_state = _where(codes > 0, zeros, d_state)
        return ((d_state, d_targets), add_trees(d_extras, d_extras_step)), ((d_gates, projected), None)

    ((d_state, d_targets), d_extras), ((d_gates, projected), _) = form.scan(
        body,
        ((d_state, zeros_like(targets)), zeros_like(extras)),
        ((d_outputs, kept), (steps.valid, steps.reset)),
        reverse=not recurrence.reverse,
    )
    states, _ = kept
    outer_sum = functools.partial(forms.outer_sum, dtype=dtype, platform=platform)
    d_weights = _weight_gradients(outer_sum, steps.inputs, hidden_of(states), d_gates, weights)
    if weights.weight_hr is not None:
        d_weights = d_weights._replace(weight_hr=outer_sum(projected[1], projected[0]))
    # Weights of a shorter type than the gates get gradients of their own type, as from JAX's own transpose.
    d_weights = jax.tree.map(lambda d, weight: d.astype(weight.dtype), d_weights, weights)
    d_inputs = forms.matmul(d_gates.summed, weights.weight_ih[:number], dtype=dtype, platform=platform)
    if number < num_gates:
        rest = forms.matmul(d_gates.input_rest, weights.weight_ih[number:], dtype=dtype, platform=platform)
        d_inputs = d_inputs + rest
    return d_state, d_targets, d_inputs.astype(steps.inputs.dtype), d_weights, d_extras


def _weight_gradients(
    outer_sum: Callable[[Array, Array], Array], inputs: Array, hidden: Array, d_gates: Gates, weights: Weights
) -> Weights:
    """Sums the gradients of the linear maps over all steps; of inputs and hidden states in one matmul where it can."""
    input_size = inputs.shape[2]
    both = jnp.concatenate([inputs.astype(hidden.dtype), hidden], axis=2)
    joint = outer_sum(d_gates.summed, both)
    d_ih, d_hh = joint[:, :input_size], joint[:, input_size:]
    d_bias_ih = d_bias_hh = d_gates.summed.sum((0, 1))
    if d_gates.hidden_rest.shape[2]:
        d_ih = jnp.concatenate([d_ih, outer_sum(d_gates.input_rest, inputs)])
        d_hh = jnp.concatenate([d_hh, outer_sum(d_gates.hidden_rest, hidden)])
        d_bias_ih = jnp.concatenate([d_bias_ih, d_gates.input_rest.sum((0, 1))])
        d_bias_hh = jnp.concatenate([d_bias_hh, d_gates.hidden_rest.sum((0, 1))])
    has_bias = weights.bias_ih is not None
    return Weights(d_ih, d_hh, d_bias_ih if has_bias else None, d_bias_hh if has_bias else None)
