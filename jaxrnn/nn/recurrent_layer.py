"""What RNN, LSTM and GRU layers share: stacking, directions, dropout, and everything about variable length."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.foundation.array_types import (
    Array,
    ArrayLike,
    Float,
    Mask,
    RowFlags,
    RowLengths,
    State,
    StepFlags,
    StepNumbers,
)
from jaxrnn.nn import checks, shared_units, side_by_side
from jaxrnn.nn.cell_stack import AbstractCellStack
from jaxrnn.nn.engine import loops, masks, recurrence
from jaxrnn.nn.sequential import check_sequential
from jaxrnn.nn.side_by_side import Run


class AbstractRecurrentLayer(AbstractCellStack):
    """A stack of recurrent layers, in one direction or both; RNN, LSTM and GRU say which equation.

    `AbstractCellStack` has the parameters and the options; here is what runs them.
    """

    def __call__(
        self,
        inputs: Float[ArrayLike, "*batch time input"],
        initial_state: State | None = None,
        *,
        lengths: RowLengths | None = None,
        mask: StepFlags | None = None,
        segment_ids: StepNumbers | None = None,
        resets: StepFlags | None = None,
        reset_state: State | None = None,
    ) -> tuple[Float[Array, "*batch time features"], State]:
        """Runs the layers over sequences of different lengths.

        Steps that `lengths`, `mask` or `segment_ids` leave out are padding: whatever stands there, NaN
        and infinities included, reaches no output, state or gradient. The reverse direction starts at
        the last valid step. Rows of length 0 return the initial state.

        Args:
          inputs: (batch, time, input), or (time, input) of a single row.
          initial_state: Arrays of (num_layers * num_directions, batch, size), layer by layer and
            forward before reverse within a layer; without batch for a single row. Zeros if None.
          lengths: (batch,): the first lengths[b] steps of row b count; one number for a single row. Lengths and what
            follows may be arrays or lists.
          mask: (batch, time): True, or 1, at steps that count, in any pattern.
          segment_ids: (batch, time): rows that hold several sequences; 0 is padding, and a new number
            is a new sequence, started from the initial state.
          resets: (batch, time): True, or 1, where the state becomes `reset_state` before the step.
          reset_state: A state as `initial_state`, or without its batch; zeros if None. So a carry from the chunk
            before is used up to the first reset only, as recurrent reinforcement learning chunks its rollouts.

        Returns:
          ``(outputs, final_state)``. Outputs are (batch, time, num_directions * output), exactly 0 at
          padding; the final state is that after the last valid step, in the form of `initial_state`.

        Raises:
          TypeError: Inputs that are not floating point, or lists; numbers where booleans belong or the reverse; a state
            of the wrong structure; an equation that takes or returns something else.
          ValueError: Sizes that do not fit, those of the parameters included; lengths outside 0..time. Lengths that
            `jax.jit` traces have no value yet: there, lengths beyond the inputs count as time.
        """
        check_sequential(self)
        arguments = (inputs, initial_state, lengths, mask, segment_ids, resets, reset_state)
        outputs, final_state, _ = self._run(loops.hidden_of, *arguments)
        return outputs, final_state

    def all_states(
        self,
        inputs: Float[ArrayLike, "*batch time input"],
        initial_state: State | None = None,
        *,
        lengths: RowLengths | None = None,
        mask: StepFlags | None = None,
        segment_ids: StepNumbers | None = None,
        resets: StepFlags | None = None,
        reset_state: State | None = None,
    ) -> State:
        """Returns the state after every step of every layer and direction, an LSTM's c_t included.

        Args and errors are those of a call.

        Returns:
          Arrays of (num_layers * num_directions, batch, time, size), without batch for a single row;
          exactly 0 at padding.
        """
        arguments = (inputs, initial_state, lengths, mask, segment_ids, resets, reset_state)
        _, _, states = self._run(_whole_state, *arguments)
        return states

    def final_state(
        self,
        inputs: Float[ArrayLike, "*batch time input"],
        initial_state: State | None = None,
        *,
        lengths: RowLengths | None = None,
        mask: StepFlags | None = None,
        segment_ids: StepNumbers | None = None,
        resets: StepFlags | None = None,
        reset_state: State | None = None,
    ) -> State:
        """Returns the state that a call returns, without the outputs: the last layer's take no memory.

        Args and errors are those of a call.
        """
        arguments = (inputs, initial_state, lengths, mask, segment_ids, resets, reset_state)
        return self._run(loops.nothing_of, *arguments)[1]

    def _run(
        self,
        collect: Callable[[State], Any],
        inputs: ArrayLike,
        initial_state: State | None,
        lengths: RowLengths | None,
        mask: StepFlags | None,
        segment_ids: StepNumbers | None,
        resets: StepFlags | None,
        reset_state: State | None,
    ) -> tuple[Any, State, Any]:
        """Returns the outputs, empty if nothing is collected, the final state, and what `collect` takes from all."""
        dtype = self._check_parameters()
        checks.check_inputs(inputs, self.input_size, ("batch", "time"))
        rows, num_steps = inputs.shape[:-2], inputs.shape[-2]
        given = (
            checks.as_lengths(lengths, rows, num_steps),
            checks.as_booleans("mask", mask, (*rows, num_steps)),
            checks.as_segment_ids(segment_ids, (*rows, num_steps)),
            checks.as_booleans("resets", resets, (*rows, num_steps)),
        )
        state = self._zero_state(rows, dtype) if initial_state is None else initial_state
        sizes = self.equation.state_sizes(self.hidden_size, self.output_size)
        leading = (self.num_layers * self.num_directions, *rows)
        layout = f"(num_layers * num_directions, {'batch, ' if rows else ''}size)"
        checks.check_state(state, sizes, leading, layout=layout)
        self._check_equation(rows[0] if rows else 1, dtype)
        if reset_state is not None:
            ndims = {leaf.ndim for leaf in jax.tree.leaves(reset_state) if hasattr(leaf, "ndim")}
            of_one = leading[: max(ndims, default=2) - 1] if rows else leading
            checks.check_state(reset_state, sizes, of_one, layout=layout, name="reset_state")
            if len(of_one) < len(leading):
                spread = [jnp.asarray(leaf)[:, None] for leaf in jax.tree.leaves(reset_state)]
                spread = [jnp.broadcast_to(leaf, (*leading, leaf.shape[-1])) for leaf in spread]
                reset_state = jax.tree.unflatten(jax.tree.structure(reset_state), spread)
        inputs, *states = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (inputs, state, reset_state))
        arrays = jax.tree.map(jnp.asarray, (inputs, *given))
        if rows:
            return self._run_batch(collect, *states, *arrays)
        states = jax.tree.map(lambda leaf: leaf[:, None], states)
        arrays = jax.tree.map(lambda leaf: leaf[None], arrays)
        outputs, *found = self._run_batch(collect, *states, *arrays)
        return jax.tree.map(lambda leaf: leaf[0], outputs), *jax.tree.map(lambda leaf: leaf[:, 0], found)

    def _run_batch(
        self,
        collect: Callable[[State], Any],
        state: State,
        reset_state: State | None,
        inputs: Array,
        lengths: Array | None,
        mask: Array | None,
        segment_ids: Array | None,
        resets: Array | None,
    ) -> tuple[Any, State, Any]:
        batch, num_steps, _ = inputs.shape
        valid = _valid_steps(num_steps, lengths, mask)
        steps = masks.steps_from_masks((batch, num_steps), valid=valid, segment_ids=segment_ids, resets=resets)
        targets: tuple[State, ...] = () if segment_ids is None else (state,)  # in the order of the reset codes
        if resets is not None and reset_state is not None:
            targets = (*targets, reset_state)
        # The recurrence does not read what stands at padding. But JAX looks through all arrays, where it is told to.
        is_watched = jax.config.jax_debug_nans or jax.config.jax_debug_infs  # type: ignore[attr-defined]
        if steps.valid is not None and is_watched:
            inputs = jnp.where(steps.valid.T[:, :, None], inputs, 0)
        features = jnp.swapaxes(inputs, 0, 1)
        final_states, collected_states = [], []
        for layer in range(self.num_layers):
            is_last, directions = layer == self.num_layers - 1, []
            take = loops.hidden_of if collect is loops.nothing_of and not is_last else collect
            runs = []
            for direction in range(self.num_directions):
                index = layer * self.num_directions + direction
                start, own_targets = jax.tree.map(lambda leaf, i=index: leaf[i], (state, targets))
                given = Run(
                    features, start, own_targets, steps.valid, steps.reset_forward, *self._own(layer, direction)
                )
                runs.append(given._replace(reset=steps.reset_backward) if self.directions[direction] else given)
            run = functools.partial(self._run_direction, take, hides_padding=layer == 0 and not is_watched)
            if self._runs_side_by_side(features):
                found = side_by_side.run_both(run, *runs)
            else:
                found = [run(given, reverse=reverse) for given, reverse in zip(runs, self.directions, strict=True)]
            for collected, final_state in found:
                directions.append(collected)
                final_states.append(final_state)
            collected_states += directions
            if take is not loops.nothing_of:
                hidden = [loops.hidden_of(collected) for collected in directions]
                features = hidden[0] if len(hidden) == 1 else _joined(hidden)
            if not is_last:
                features = self.dropout(features)
        finals = jax.tree.map(lambda *leaves: jnp.stack(leaves), *final_states)
        if collect is loops.nothing_of:
            return (), finals, ()
        all_collected = jax.tree.map(lambda *leaves: jnp.swapaxes(jnp.stack(leaves), 1, 2), *collected_states)
        return jnp.swapaxes(features, 0, 1), finals, all_collected

    def step(
        self,
        inputs: Float[ArrayLike, "*batch input"],
        state: State | None = None,
        *,
        reset: RowFlags | None = None,
        reset_state: State | None = None,
    ) -> tuple[Float[Array, "*batch output"], State]:
        """Advances by one step, for streams: the same numbers as the whole sequence gives.

        Args:
          inputs: (batch, input), or (input,) of a single row.
          state: As `initial_state` of a call; zeros if None.
          reset: (batch,), or () of a single row: True where the state becomes `reset_state` before the step.
          reset_state: As in a call; zeros if None.

        Returns:
          ``(output, state)``: (batch, output) and the state after the step.

        Raises:
          ValueError: A size does not fit, or a direction of the layer is reverse: that needs the whole sequence.
        """
        if any(self.directions):
            which = "bidirectional layer" if self.bidirectional else "layer with reverse=True"
            raise ValueError(
                f"step: a {which} cannot stream, its reverse direction starts at the end; call the layer on the whole"
                " sequence"
            )
        checks.check_inputs(inputs, self.input_size, ("batch",))
        if reset is not None:
            reset = jnp.asarray(checks.as_booleans("reset", reset, inputs.shape[:-1]))[..., None]
        outputs, final_state = self(jnp.expand_dims(inputs, -2), state, resets=reset, reset_state=reset_state)
        return jnp.squeeze(outputs, -2), final_state

    def _own(self, layer: int, direction: int) -> tuple[Any, Any]:
        return self.cell_parameters(layer, direction), self._extras(layer, direction)

    def _runs_side_by_side(self, features: Float[Array, "time batch features"]) -> bool:
        is_compiled = self.mesh is None and self.equation.kernel is not None and self.backend != "scan"
        if not is_compiled or not self.custom_gradient or self.proj_size or self.compute_dtype is not None:
            return False
        return self.bidirectional and side_by_side.is_worthwhile(features, self.equation.num_gates, self.hidden_size)

    def _run_direction(
        self, collect: Callable[[State], Any], given: Run, *, reverse: bool, hides_padding: bool
    ) -> tuple[Any, State]:
        parameters, pointwise = given.parameters, self.equation.pointwise
        num_summed = self.equation.summed_gates
        if self.mesh is not None:
            parameters = shared_units.deal_rows(parameters, self.equation.num_gates, self.mesh)
            pointwise = shared_units.dealt(pointwise, self.mesh)
            num_summed = num_summed if num_summed == self.equation.num_gates else 0  # those are no longer the first
        return recurrence.recur(
            pointwise,
            given.features,
            parameters,
            given.state,
            num_summed=num_summed * self.hidden_size,
            valid=given.valid,
            reset=given.reset,
            targets=given.targets,
            extras=given.extras,
            reverse=reverse,
            collect=collect,
            custom_gradient=self.custom_gradient,
            chunk=self.remat_steps,
            dtype=self.compute_dtype,
            kernel=self.equation.kernel if self.mesh is None else None,
            backend=self.backend,
            hides_padding=hides_padding,
        )


def _whole_state(state: State) -> State:
    return state


def _valid_steps(num_steps: int, lengths: Array | None, mask: Mask | None) -> Mask | None:
    """Combines lengths and a mask; None where every step counts."""
    if lengths is None:
        return mask
    within = jnp.arange(num_steps)[None] < jnp.asarray(lengths)[:, None]
    return within if mask is None else within & mask


def _joined(hidden: list[Array]) -> Array:
    """Joins the features of both directions, (time, batch, size) each, with rows first: as layers' results are."""
    return jnp.swapaxes(jnp.concatenate([jnp.swapaxes(part, 0, 1) for part in hidden], axis=-1), 0, 1)
