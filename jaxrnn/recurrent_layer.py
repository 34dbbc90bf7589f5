"""What RNN, LSTM and GRU layers share: stacking, directions, dropout, and everything about variable length."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn import cells, recurrence
from jaxrnn._typing import Array, Bool, Float, Int, Mask, State

_DIRECTION_SUFFIXES = ("", "_reverse")


class CellParameters(NamedTuple):
    """The parameters of one layer in one direction, as plain arrays; None where the layer has none."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None

    @property
    def recurrent(self) -> recurrence.RecurrentWeights:
        return recurrence.RecurrentWeights(self.weight_hh, self.bias_hh, self.weight_hr)


class AbstractRecurrentLayer(nnx.Module):
    """A stack of recurrent layers, in one direction or both; RNN, LSTM and GRU say which equation.

    Parameters are attributes with PyTorch's names, layouts and initial distribution:
    ``weight_ih_l{k}``, ``weight_hh_l{k}``, ``bias_ih_l{k}``, ``bias_hh_l{k}`` and, with a projection,
    ``weight_hr_l{k}``; those of the reverse direction end in ``_reverse``.
    """

    def __init__(
        self,
        equation: cells.Equation,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int,
        bias: bool,
        dropout: float,
        bidirectional: bool,
        param_dtype: Any,
        rngs: nnx.Rngs,
        proj_size: int = 0,
    ):
        cells.check_size("input_size", input_size)
        cells.check_size("hidden_size", hidden_size)
        cells.check_size("num_layers", num_layers)
        cells.check_size("proj_size", proj_size, minimum=0)
        if proj_size >= hidden_size:
            raise ValueError(f"proj_size: got {proj_size}; expected less than hidden_size = {hidden_size}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout: got {dropout}; expected a probability, from 0 to 1")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout = {dropout} has no effect with num_layers = 1: it acts on the output of every"
                " layer but the last",
                stacklevel=3,
            )
        self.equation = equation
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.dropout = nnx.Dropout(dropout, rngs=rngs if dropout > 0 else None)

        for layer in range(num_layers):
            layer_input_size = input_size if layer == 0 else self.num_directions * self.output_size
            shapes = cells.parameter_shapes(equation, layer_input_size, hidden_size, proj_size=proj_size, bias=bias)
            for suffix in _DIRECTION_SUFFIXES[: self.num_directions]:
                for name, shape in shapes.items():
                    parameter = cells.create_parameter(shape, hidden_size, rngs=rngs, dtype=param_dtype)
                    setattr(self, f"{name}_l{layer}{suffix}", parameter)
                for name, value in equation.extra_parameters(hidden_size).items():
                    setattr(self, f"{name}_l{layer}{suffix}", nnx.Param(value.astype(param_dtype)))

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Size of the hidden state that each direction puts out: proj_size where there is one."""
        return self.proj_size or self.hidden_size

    def cell_parameters(self, layer: int, direction: int = 0) -> CellParameters:
        """Returns the parameters of one layer in one direction (0 forward, 1 reverse)."""
        ending = f"_l{layer}{_DIRECTION_SUFFIXES[direction]}"
        named = {name: getattr(self, name + ending, None) for name in CellParameters._fields}
        values = {name: None if p is None else p.get_value() for name, p in named.items()}
        return CellParameters(**values)  # type: ignore[arg-type]

    def initial_state(self, batch_size: int | None = None) -> State:
        """Returns zeros: arrays of (num_layers * num_directions, batch, size), without batch if None."""
        rows = () if batch_size is None else (batch_size,)
        leading = (self.num_layers * self.num_directions, *rows)
        dtype = self.cell_parameters(0).weight_ih.dtype
        return self.equation.zero_state(self.hidden_size, self.output_size, leading=leading, dtype=dtype)

    def __call__(
        self,
        inputs: Float[Array, "*batch time input"],
        initial_state: State | None = None,
        *,
        lengths: Int[Array, "*batch"] | None = None,
        mask: Bool[Array, "*batch time"] | None = None,
        segment_ids: Int[Array, "*batch time"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
    ) -> tuple[Float[Array, "*batch time features"], State]:
        """Runs the layers over sequences of different lengths.

        Steps that `lengths`, `mask` or `segment_ids` leave out are padding: whatever stands there, NaN
        and infinities included, reaches no output, state or gradient. The reverse direction starts at
        the last valid step. Rows of length 0 return the initial state.

        Args:
          inputs: (batch, time, input), or (time, input) of a single row.
          initial_state: Arrays of (num_layers * num_directions, batch, size), layer by layer and
            forward before reverse within a layer; without batch for a single row. Zeros if None.
          lengths: (batch,): the first lengths[b] steps of row b count.
          mask: (batch, time): True at steps that count, in any pattern.
          segment_ids: (batch, time): rows that hold several sequences; 0 is padding, and a new number
            is a new sequence, started from the initial state.
          resets: (batch, time): True where the state returns to the initial state before the step.

        Returns:
          ``(outputs, final_state)``. Outputs are (batch, time, num_directions * output), exactly 0 at
          padding; the final state is that after the last valid step, in the form of `initial_state`.

        Raises:
          TypeError: Inputs that are not floating point, numbers where booleans belong or the reverse,
            lists in place of arrays; a state of the wrong structure.
          ValueError: Sizes that do not fit; lengths outside 0..time.
        """
        outputs, final_state, _ = self._run(
            recurrence.hidden_of, inputs, initial_state, lengths, mask, segment_ids, resets
        )
        return outputs, final_state

    def all_states(
        self,
        inputs: Float[Array, "*batch time input"],
        initial_state: State | None = None,
        *,
        lengths: Int[Array, "*batch"] | None = None,
        mask: Bool[Array, "*batch time"] | None = None,
        segment_ids: Int[Array, "*batch time"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
    ) -> State:
        """Returns the state after every step of every layer and direction, an LSTM's c_t included.

        Args and errors are those of a call.

        Returns:
          Arrays of (num_layers * num_directions, batch, time, size), without batch for a single row;
          exactly 0 at padding.
        """
        _, _, states = self._run(_whole_state, inputs, initial_state, lengths, mask, segment_ids, resets)
        return states

    def _run(
        self,
        collect: Callable[[State], Any],
        inputs: Array,
        initial_state: State | None,
        lengths: Array | None,
        mask: Array | None,
        segment_ids: Array | None,
        resets: Array | None,
    ) -> tuple[Array, State, Any]:
        """Returns the outputs, the final state, and what `collect` takes from every state."""
        self._check_inputs(inputs)
        if inputs.ndim == 2:
            length = None if lengths is None else jnp.reshape(lengths, (1,))
            variable = [length, *(None if x is None else x[None] for x in (mask, segment_ids, resets))]
            state = None if initial_state is None else jax.tree.map(lambda leaf: leaf[:, None], initial_state)
            outputs, final_state, collected = self._run(collect, inputs[None], state, *variable)
            return outputs[0], *jax.tree.map(lambda leaf: leaf[:, 0], (final_state, collected))

        batch, num_steps, _ = inputs.shape
        state = self._checked_state(initial_state, (batch,))
        valid = _valid_steps(batch, num_steps, lengths, mask)
        _check_integers("segment_ids", segment_ids, (batch, num_steps))
        _check_booleans("resets", resets, (batch, num_steps))
        steps = recurrence.steps_from_masks((batch, num_steps), valid=valid, segment_ids=segment_ids, resets=resets)
        features = jnp.swapaxes(inputs, 0, 1)
        if steps.valid is not None:
            features = jnp.where(steps.valid[:, :, None], features, 0)
        final_states, collected_states = [], []
        for layer in range(self.num_layers):
            directions = []
            for direction in range(self.num_directions):
                index = layer * self.num_directions + direction
                start = jax.tree.map(lambda leaf, i=index: leaf[i], state)
                collected, final_state = self._run_direction(collect, features, start, steps, layer, direction)
                directions.append(recurrence.hidden_of(collected))
                final_states.append(final_state)
                collected_states.append(collected)
            features = directions[0] if len(directions) == 1 else jnp.concatenate(directions, axis=-1)
            if layer < self.num_layers - 1:
                features = self.dropout(features)
        outputs = jnp.swapaxes(features, 0, 1)
        all_collected = jax.tree.map(lambda *leaves: jnp.swapaxes(jnp.stack(leaves), 1, 2), *collected_states)
        return outputs, jax.tree.map(lambda *leaves: jnp.stack(leaves), *final_states), all_collected

    def step(
        self, inputs: Float[Array, "*batch input"], state: State | None = None
    ) -> tuple[Float[Array, "*batch output"], State]:
        """Advances by one step, for streams: the same numbers as the whole sequence gives.

        Args:
          inputs: (batch, input), or (input,) of a single row.
          state: As `initial_state` of a call; zeros if None.

        Returns:
          ``(output, state)``: (batch, output) and the state after the step.

        Raises:
          ValueError: A size does not fit, or the layer is bidirectional: the reverse direction needs
            the whole sequence.
        """
        if self.bidirectional:
            raise ValueError(
                "step: a bidirectional layer cannot stream, its reverse direction starts at the end;"
                " call the layer on the whole sequence"
            )
        if inputs.ndim not in (1, 2) or inputs.shape[-1] != self.input_size:
            raise ValueError(
                f"inputs: got shape {inputs.shape}; expected (batch, {self.input_size}) or ({self.input_size},)"
            )
        outputs, final_state = self(jnp.expand_dims(inputs, -2), state)
        return jnp.squeeze(outputs, -2), final_state

    def _run_direction(
        self,
        collect: Callable[[State], Any],
        features: Float[Array, "time batch features"],
        state: State,
        steps: recurrence.Steps,
        layer: int,
        direction: int,
    ) -> tuple[Any, State]:
        parameters = self.cell_parameters(layer, direction)
        input_gates = recurrence.linear(features, parameters.weight_ih, parameters.bias_ih)
        return recurrence.recur(
            self.equation.pointwise,
            input_gates,
            parameters.recurrent,
            jax.tree.map(lambda leaf: leaf.astype(input_gates.dtype), state),
            valid=steps.valid,
            reset=steps.reset_backward if direction else steps.reset_forward,
            extras=self._extras(layer, direction),
            reverse=bool(direction),
            collect=collect,
        )

    def _extras(self, layer: int, direction: int) -> tuple[Array, ...]:
        """The equation's own parameters, in its order."""
        ending = f"_l{layer}{_DIRECTION_SUFFIXES[direction]}"
        return tuple(getattr(self, name + ending).get_value() for name in self.equation.extra_parameters(1))

    def _check_inputs(self, inputs: Array) -> None:
        _check_is_array("inputs", inputs)
        if inputs.ndim not in (2, 3):
            raise ValueError(
                f"inputs: got {inputs.ndim} dimensions, shape {inputs.shape}; expected (batch, time,"
                f" {self.input_size}), or (time, {self.input_size}) of a single row"
            )
        if inputs.shape[-1] != self.input_size:
            raise ValueError(
                f"inputs: inconsistent input_size: got {inputs.shape[-1]} in shape {inputs.shape};"
                f" expected {self.input_size}"
            )
        if not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise TypeError(f"inputs: got {inputs.dtype}; expected floating point: use inputs.astype(jnp.float32)")

    def _checked_state(self, state: State | None, batch_shape: tuple[int, ...]) -> State:
        if state is None:
            return self.initial_state(*batch_shape)
        sizes = self.equation.state_sizes(self.hidden_size, self.output_size)
        cells.check_state(state, sizes, (self.num_layers * self.num_directions, *batch_shape))
        return state


def _whole_state(state: State) -> State:
    return state


def _valid_steps(batch: int, num_steps: int, lengths: Any, mask: Any) -> Mask | None:
    """Combines lengths and a mask; None where every step counts."""
    _check_integers("lengths", lengths, (batch,))
    _check_booleans("mask", mask, (batch, num_steps))
    if lengths is None:
        return mask
    if not isinstance(lengths, jax.core.Tracer) and lengths.size:
        known = np.asarray(lengths)  # NumPy's minimum: while JAX traces, its own has no value, even of a constant
        shortest, longest = int(known.min()), int(known.max())
        if shortest < 0 or longest > num_steps:
            raise ValueError(
                f"lengths: got values from {shortest} to {longest}; expected 0 to {num_steps}, the"
                " number of steps of the inputs"
            )
    within = jnp.arange(num_steps)[None] < jnp.asarray(lengths)[:, None]
    return within if mask is None else within & mask


def _check_integers(name: str, array: Any, shape: tuple[int, ...]) -> None:
    _check_shape(name, array, shape)
    if array is not None and not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: got {array.dtype}; expected integers: use {name}.astype(int)")


def _check_booleans(name: str, array: Any, shape: tuple[int, ...]) -> None:
    _check_shape(name, array, shape)
    if array is not None and array.dtype != jnp.bool_:
        raise TypeError(f"{name}: got {array.dtype}; expected booleans: use {name}.astype(bool)")


def _check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    if array is None:
        return
    _check_is_array(name, array)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}; expected {shape}")


def _check_is_array(name: str, value: Any) -> None:
    if not hasattr(value, "dtype"):
        raise TypeError(f"{name}: got {type(value).__name__}; expected an array: use jnp.asarray({name})")
