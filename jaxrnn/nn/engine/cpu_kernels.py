"""The recurrence compiled ahead for CPUs: what `loops` runs as a `lax.scan`, in two calls of C++.

Each thread takes its rows through all steps, padding is not computed at all, and the gradients of the weights are added
up while their factors are in the cache. It serves the cells of this package in float32, whose gradients it knows;
everything else, and every other platform, is served by the loop. The library is built where the package is installed
(hatch_build.py), if there is a C++ compiler; without it nothing is missing but speed.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.foundation.array_types import Array, State
from jaxrnn.nn.engine import kernel_library, loops, partitioning
from jaxrnn.nn.engine.loops import Recurrence, Timeline, Weights
from jaxrnn.nn.engine.partitioning import ROWS
from jaxrnn.nn.engine.platforms import Target

Kernel = Literal["rnn_tanh", "rnn_relu", "lstm", "gru"]
_CELL_NUMBERS = {"rnn_tanh": 0, "rnn_relu": 1, "lstm": 2, "gru": 3}
# Groups of gates that the backward call wants kept: a plain RNN's gradient needs its outputs only.
_KEPT_GROUPS = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 4, "gru": 4}
_NOTHING = (0,)
# Where the rows stand in the arguments that both calls begin with, and in those that the backward call has beside them.
_ROW_AXES = (-3, -1, -1, None, None, None, None, -2, -2, -2, -2)
_ROW_AXES_BACKWARD = (*_ROW_AXES, -3, -2, -2, -3, -2, -2)


def is_built() -> bool:
    """Whether the compiled library is there and loads: it was built, and the processor has what it was built for."""
    return _loaded() is not None


@functools.cache
def _loaded() -> kernel_library.Loaded | None:
    try:
        loaded = kernel_library.load_libraries()
        for name, handler in (loaded.handlers if loaded else {}).items():
            target = name.replace("Jaxrnn", "jaxrnn_").lower()
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform="cpu")
    except Exception:  # built for another system: the loop serves
        return None
    return loaded


def register_kernels() -> bool:
    """Makes the compiled recurrence known to this process, for exported programs that hold it.

    Programs that this process compiles itself need no such call.

    Returns:
      Whether it is built here.

    Example:
      >>> import jaxrnn
      >>> jaxrnn.register_kernels() in (True, False)
      True
    """
    return is_built()


def reason_against(
    kernel: Kernel | None, recurrence: Recurrence, steps: Timeline, weights: Weights, state: State, extras: Any
) -> str | None:
    """Returns why a compiled recurrence cannot compute one, in words; None where it can.

    Args:
      kernel: The one that computes the recurrence's equation; None if none does.
      recurrence: What is computed.
      steps: Over which.
      weights: The parameters.
      state: The first one.
      extras: The equation's own parameters.
    """
    types = {str(array.dtype) for array in jax.tree.leaves((steps.inputs, weights, state))}
    reasons = {
        "the equation is not one of RNN, LSTM and GRU, or a mesh shares its units": kernel is None or bool(extras),
        "every step's whole state is wanted": recurrence.collect not in (loops.hidden_of, loops.nothing_of),
        "compute_dtype is set": recurrence.dtype is not None,
        "the hidden state is projected (proj_size)": weights.weight_hr is not None,
        "there is no step": steps.inputs.shape[0] == 0,
        "there is no row": steps.inputs.shape[1] == 0,
        f"it computes in float32 alone, not {', '.join(sorted(types - {'float32'}))}": types != {"float32"},
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def serves(recurrence: Recurrence, target: Target) -> bool:
    """Whether a program for a target holds the compiled recurrence.

    An exported program runs in processes that may not know it, so it does not, unless it was asked for by name.

    Raises:
      RuntimeError: It was asked for by name, for a CPU, and is not built.
    """
    if recurrence.kernel is None or target.platform != "cpu" or (target.is_exported and not recurrence.needs_kernel):
        return False
    if recurrence.needs_kernel and not is_built():
        raise RuntimeError("backend: got 'compiled', but the compiled recurrence is not built here; use backend='auto'")
    return is_built()


class Kept(NamedTuple):
    """What a forward run keeps for the backward one: arrays of these shapes, whoever runs and whatever they hold.

    Attributes:
      hidden: (batch, time, hidden).
      cells: (time, batch, padded hidden), or empty.
      gates: (time, batch, groups * padded hidden), or empty.
    """

    hidden: Array
    cells: Array
    gates: Array


def run_forward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    state: State,
    targets: tuple[State, ...],
    *,
    keep: bool,
    is_partitioned: bool,
) -> tuple[Any, State, Kept | None]:
    """Does what `loops.run_forward` does, but for what is kept.

    Args:
      recurrence: What is computed; its kernel is set.
      steps: Over which.
      weights: The parameters.
      state: The first one.
      targets: What resets put the state to.
      keep: Whether a backward run will follow.
      is_partitioned: Whether XLA deals the rows out to several devices.
    """
    kernel = _kernel_of(recurrence)
    num_steps, hidden = steps.inputs.shape[0], weights.weight_hh.shape[1]
    padded = padded_size(hidden)
    has_cells, groups = kernel == "lstm", _KEPT_GROUPS[kernel]
    makes_outputs = keep or recurrence.collect is loops.hidden_of  # the backward call reads them
    results = (
        (ROWS, num_steps, hidden) if makes_outputs else _NOTHING,
        (ROWS, hidden),
        (ROWS, hidden) if has_cells else _NOTHING,
        (num_steps, ROWS, padded) if has_cells and keep else _NOTHING,
        (num_steps, ROWS, groups * padded) if groups and keep else _NOTHING,
    )
    call = partitioning.Call("jaxrnn_forward2", _attributes(recurrence), _ROW_AXES, results)
    outputs, h, c, cells, gates = call(_arrays(steps, weights, state, targets), is_partitioned=is_partitioned)
    collected = recurrence.collect(_turned(outputs) if makes_outputs else outputs)
    return collected, _state_of(state, h, c), Kept(outputs, cells, gates) if keep else None


def run_backward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    state: State,
    targets: tuple[State, ...],
    kept: Kept,
    d_outputs: Array | None,
    d_state: State,
    *,
    with_inputs: bool,
    is_partitioned: bool,
) -> tuple[State, tuple[State, ...], Array | None, Weights]:
    """Returns the gradients of the first state, the targets, the inputs (None unless `with_inputs`) and the weights.

    Args:
      recurrence: As in the forward run.
      steps: As in the forward run.
      weights: As in the forward run.
      state: As in the forward run.
      targets: As in the forward run.
      kept: What the forward run kept.
      d_outputs: Gradient of the outputs; None where it is 0.
      d_state: Gradient of the last state.
      with_inputs: Whether the inputs' gradient is wanted.
      is_partitioned: As in the forward run.
    """
    has_bias = weights.bias_ih is not None
    has_cells = _kernel_of(recurrence) == "lstm"
    num_steps, _, input_size = steps.inputs.shape
    gates, hidden = weights.weight_hh.shape
    to = (len(targets), ROWS, hidden) if targets else _NOTHING
    results = (
        (ROWS, num_steps, input_size) if with_inputs else _NOTHING,
        (gates, input_size),
        (gates, hidden),
        (gates,) if has_bias else _NOTHING,
        (gates,) if has_bias else _NOTHING,
        (ROWS, hidden),
        (ROWS, hidden) if has_cells else _NOTHING,
        to,
        to if has_cells else _NOTHING,
    )
    call = partitioning.Call("jaxrnn_backward2", _attributes(recurrence), _ROW_AXES_BACKWARD, results)
    d_outputs = _or_nothing(None) if d_outputs is None else _turned(d_outputs)
    arrays = (*_arrays(steps, weights, state, targets), *kept, d_outputs, *_h_and_c(d_state))
    d_inputs, d_ih, d_hh, d_bias_ih, d_bias_hh, d_h, d_c, d_h_to, d_c_to = call(arrays, is_partitioned=is_partitioned)
    d_weights = Weights(d_ih, d_hh, d_bias_ih, d_bias_hh) if has_bias else Weights(d_ih, d_hh)
    d_targets = tuple(
        _state_of(state, d_h_to[number], d_c_to[number] if has_cells else d_c_to) for number in range(len(targets))
    )
    return _state_of(state, d_h, d_c), d_targets, _turned(d_inputs) if with_inputs else None, d_weights


def pack_kept(recurrence: Recurrence, kept: tuple[State, loops.Gates]) -> Kept:
    """Puts what the loop keeps into arrays of the shapes of what the compiled recurrence keeps.

    A program for several platforms says the shapes once for all of them; one platform keeps, and the same one reads.
    """
    states, gates = kept
    hidden, cells = _h_and_c(states)
    turned = _turned(hidden)
    padded = padded_size(hidden.shape[-1])

    def pad(array: Array) -> Array:
        return jnp.pad(array, ((0, 0), (0, 0), (0, padded - array.shape[-1])))

    if not _KEPT_GROUPS[_kernel_of(recurrence)]:
        return Kept(turned, cells, _or_nothing(None))
    groups = [jnp.split(part, part.shape[-1] // hidden.shape[-1], axis=-1) for part in gates if part.shape[-1]]
    joined = jnp.concatenate([pad(group) for part in groups for group in part], axis=-1)
    return Kept(turned, pad(cells) if cells.ndim == 3 else cells, joined)


def unpack_kept(
    recurrence: Recurrence, kept: Kept, steps: Timeline, weights: Weights, state: State, platform: Any
) -> tuple[State, loops.Gates]:
    """Undoes `pack_kept`; gates that have no place there are computed again, in one matmul over all steps."""
    hidden = weights.weight_hh.shape[1]
    cells = kept.cells[..., :hidden] if kept.cells.ndim == 3 else kept.cells
    states = _state_of(state, _turned(kept.hidden), cells)
    number = recurrence.num_summed
    if not _KEPT_GROUPS[_kernel_of(recurrence)]:
        form = loops.forms.Form(project_first=True, platform=platform)
        products = loops.project_inputs(recurrence, form, steps.inputs, weights)
        gates_at = loops.gates_of(recurrence, form, weights, projected=True)
        return states, jax.vmap(gates_at)(products, _turned(kept.hidden))
    groups = jnp.split(kept.gates, kept.gates.shape[-1] // padded_size(hidden), axis=-1)
    joined = jnp.concatenate([group[..., :hidden] for group in groups], axis=-1)
    rest = (joined.shape[-1] - number) // 2
    return states, loops.Gates(*jnp.split(joined, (number, number + rest), axis=-1))


def padded_size(hidden: int) -> int:
    """Returns how long a row of what is kept is: whole vectors."""
    loaded = _loaded()
    return hidden + -hidden % (loaded.lanes_for(hidden) if loaded else 8)


def _kernel_of(recurrence: Recurrence) -> str:
    assert recurrence.kernel is not None
    return recurrence.kernel


def _attributes(recurrence: Recurrence) -> tuple[tuple[str, Any], ...]:
    return (("cell", _CELL_NUMBERS[_kernel_of(recurrence)]), ("reverse", recurrence.reverse))


def _turned(array: Array) -> Array:
    """Returns (time, batch, size) for (batch, time, size), and the other way round.

    The calls have rows first, as layers do, which turn their arrays for the loop's sake: XLA leaves both turns out.
    """
    return jnp.swapaxes(array, 0, 1)


def _or_nothing(array: Array | None, dtype: Any = np.float32) -> Array:
    return jnp.zeros(0, dtype) if array is None else array


def _h_and_c(state: State) -> tuple[Array, Array]:
    h, *c = jax.tree.leaves(state)
    return h, c[0] if c else _or_nothing(None)


def _state_of(state: State, h: Array, c: Array) -> State:
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [h, c][: len(leaves)])


def _arrays(steps: Timeline, weights: Weights, state: State, targets: tuple[State, ...]) -> tuple[Array, ...]:
    """The arguments that both calls begin with; what is missing is empty."""
    masks = (_or_nothing(steps.valid, bool), _or_nothing(steps.reset, np.uint8))
    biases = (_or_nothing(bias) for bias in (weights.bias_ih, weights.bias_hh))
    nothing = (_or_nothing(None), _or_nothing(None))
    h_to, c_to = _h_and_c(jax.tree.map(lambda *leaves: jnp.stack(leaves), *targets)) if targets else nothing
    return (_turned(steps.inputs), *masks, weights.weight_ih, weights.weight_hh, *biases, *_h_and_c(state), h_to, c_to)
