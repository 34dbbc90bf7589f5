"""The recurrence compiled ahead for CPUs: what `loops` runs as a `lax.scan`, in two calls of C++.

Each thread takes its rows through all steps, padding is not computed at all, and the gradients of the weights are added
up while their factors are in the cache. It serves the cells of this package in float32, whose gradients it knows;
everything else, and every other platform, is served by the loop. The library is built where the package is installed
(hatch_build.py), if there is a C++ compiler; without it nothing is missing but speed.
"""

import ctypes
import dataclasses
import functools
import platform
import re
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import loops
from jaxrnn._typing import Array, State
from jaxrnn.loops import Recurrence, Timeline, Weights

Kernel = Literal["rnn_tanh", "rnn_relu", "lstm", "gru"]
_CELL_NUMBERS = {"rnn_tanh": 0, "rnn_relu": 1, "lstm": 2, "gru": 3}
# Groups of gates that the backward call wants kept: a plain RNN's gradient needs its outputs only.
_KEPT_GROUPS = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 4, "gru": 4}
_LANES = 8  # rows of what is kept are filled up to whole vectors
LIBRARIES = Path(__file__).parent / "kernels"


@functools.cache
def is_built() -> bool:
    """Whether the compiled library is there and loads: it was built, and the processor has what it was built for."""
    path = _find_library()
    if path is None or not _has_vectors():
        return False
    try:
        library = ctypes.CDLL(str(path))
        for name in ("Forward", "Backward"):
            handler = jax.ffi.pycapsule(getattr(library, f"Jaxrnn{name}"))
            jax.ffi.register_ffi_target(f"jaxrnn_{name.lower()}", handler, platform="cpu")
    except Exception:  # built for another system: the loop serves
        return False
    return True


def _find_library() -> Path | None:
    """Finds the newest library that XLA here can call; one for a later version of its interface would end the process.

    They are named after that version (hatch_build.py), and XLA's own stands in its header.
    """
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if not header.is_file():
        return None
    known = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header.read_text(encoding="utf-8"))
    built = {int(path.stem.partition("-")[2]): path for path in LIBRARIES.glob("librecurrence-*.so")}
    usable = [version for version in built if known and version <= int(known[0])]
    return built[max(usable)] if usable else None


def _has_vectors() -> bool:
    """Whether the processor has the library's instructions: on x86-64 Linux it is built for AVX2 and FMA."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return True
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    return "avx2" in flags and "fma" in flags


def choose_kernel(
    kernel: Kernel | None, recurrence: Recurrence, steps: Timeline, weights: Weights, state: State, extras: Any
) -> Kernel | None:
    """Returns `kernel` where it can run a recurrence, else None.

    Args:
      kernel: The one that computes the recurrence's equation; None if none does.
      recurrence: What is computed.
      steps: Over which.
      weights: The parameters.
      state: The first one.
      extras: The equation's own parameters.
    """
    arrays = jax.tree.leaves((steps.inputs, weights, state))
    served = (
        kernel is not None
        and recurrence.collect in (loops.hidden_of, loops.nothing_of)
        and recurrence.dtype is None
        and not extras
        and weights.weight_hr is None
        and not (recurrence.chunk and steps.reset is not None)  # a chunk does not begin with what it resets to
        and steps.inputs.shape[0] * steps.inputs.shape[1] > 0
        and all(array.dtype == jnp.float32 for array in arrays)
    )
    return kernel if served and jax.default_backend() == "cpu" and is_built() else None


def run_forward(
    recurrence: Recurrence, steps: Timeline, weights: Weights, state: State, *, keep: bool
) -> tuple[Any, State, Any]:
    """Does what `loops.run_forward` does, but for what is kept.

    Args:
      recurrence: What is computed; its kernel is set.
      steps: Over which; a reset returns to `state`.
      weights: The parameters.
      state: The first one.
      keep: Whether a backward run will follow.
    """
    outputs, last, kept = _forward(recurrence, keep, steps.inputs, steps.valid, steps.reset, weights, state)
    return recurrence.collect(outputs), last, (state, outputs, kept)


def run_backward(
    recurrence: Recurrence,
    steps: Timeline,
    weights: Weights,
    kept: Any,
    d_outputs: Array | None,
    d_state: State,
    *,
    with_inputs: bool,
) -> tuple[State, Array | None, Weights]:
    """Returns the gradients of the first state, of the inputs (None unless `with_inputs`) and of the weights.

    Args:
      recurrence: As in the forward run.
      steps: As in the forward run.
      weights: As in the forward run.
      kept: What the forward run kept.
      d_outputs: Gradient of the outputs; None where it is 0.
      d_state: Gradient of the last state.
      with_inputs: Whether the inputs' gradient is wanted.
    """
    state, outputs, kept_arrays = kept
    arguments = (steps.inputs, steps.valid, steps.reset, weights, state, d_outputs, d_state, (outputs, kept_arrays))
    return _backward(recurrence, with_inputs, *arguments)


# Both calls have a rule of their own for derivatives of higher order: those of the plain loop. What a forward run keeps
# has no derivative there: the backward call's is that of a function of its other arguments.
@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _forward(
    recurrence: Recurrence,
    keep: bool,
    inputs: Array,
    valid: Array | None,
    reset: Array | None,
    weights: Weights,
    state: State,
) -> tuple[Array, State, Any]:
    kernel = _kernel_of(recurrence)
    num_steps, batch = inputs.shape[:2]
    hidden = weights.weight_hh.shape[1]
    padded = hidden + -hidden % _LANES
    has_cells = kernel == "lstm"
    results = (
        _float32(num_steps, batch, hidden) if _makes_outputs(recurrence, keep) else _float32(0),
        _float32(batch, hidden),
        _float32(batch, hidden) if has_cells else _float32(0),
        _float32(num_steps, batch, padded) if has_cells and keep else _float32(0),
        _float32(num_steps, batch, _KEPT_GROUPS[kernel] * padded) if _KEPT_GROUPS[kernel] and keep else _float32(0),
    )
    call = jax.ffi.ffi_call("jaxrnn_forward", results, vmap_method="broadcast_all")
    arrays = _arrays(inputs, valid, reset, weights, state)
    outputs, h, c, cells, gates = call(*arrays, cell=_CELL_NUMBERS[kernel], reverse=recurrence.reverse)
    return outputs, _state_of(state, h, c), (cells, gates)


@_forward.defjvp
def _forward_jvp(recurrence: Recurrence, keep: bool, primals: Any, tangents: Any) -> Any:
    inputs, valid, reset, weights, state = primals
    d_inputs, _, _, d_weights, d_state = tangents

    def plain(inputs: Array, weights: Weights, state: State) -> Any:
        steps = Timeline(inputs, valid, reset)
        outputs, last, _ = loops.run_forward(with_outputs, steps, weights, state, (), state, keep=False)
        return outputs if _makes_outputs(recurrence, keep) else _or_nothing(None), last

    with_outputs = dataclasses.replace(recurrence, collect=loops.hidden_of)
    results = _forward(recurrence, keep, *primals)
    _, (d_outputs, d_last) = jax.jvp(plain, (inputs, weights, state), (d_inputs, d_weights, d_state))
    return results, (d_outputs, d_last, loops.zeros_like(results[2]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _backward(
    recurrence: Recurrence,
    with_inputs: bool,
    inputs: Array,
    valid: Array | None,
    reset: Array | None,
    weights: Weights,
    state: State,
    d_outputs: Array | None,
    d_last: State,
    kept: Any,
) -> tuple[State, Array | None, Weights]:
    kernel = _kernel_of(recurrence)
    outputs, (cells, gates) = kept
    nothing = _float32(0)
    has_bias = weights.bias_ih is not None
    h_struct, *c_struct = (_float32(*leaf.shape) for leaf in jax.tree.leaves(state))
    results = (
        _float32(*inputs.shape) if with_inputs else nothing,
        _float32(*weights.weight_ih.shape),
        _float32(*weights.weight_hh.shape),
        *(_float32(weights.weight_hh.shape[0]) if has_bias else nothing for _ in range(2)),
        h_struct,
        *(c_struct or [nothing]),
    )
    call = jax.ffi.ffi_call("jaxrnn_backward", results, vmap_method="broadcast_all")
    d_h, d_c = _h_and_c(d_last)
    d_inputs, d_ih, d_hh, d_bias_ih, d_bias_hh, d_h, d_c = call(
        *_arrays(inputs, valid, reset, weights, state),
        *(outputs, cells, gates, _or_nothing(d_outputs), d_h, d_c),
        cell=_CELL_NUMBERS[kernel],
        reverse=recurrence.reverse,
    )
    d_weights = Weights(d_ih, d_hh, d_bias_ih, d_bias_hh) if has_bias else Weights(d_ih, d_hh)
    return _state_of(state, d_h, d_c), d_inputs if with_inputs else None, d_weights


@_backward.defjvp
def _backward_jvp(recurrence: Recurrence, with_inputs: bool, primals: Any, tangents: Any) -> Any:
    inputs, valid, reset, weights, state, d_outputs, d_last, _ = primals
    moved = (inputs, weights, state, d_outputs, d_last)

    def plain(inputs: Array, weights: Weights, state: State, d_outputs: Array | None, d_last: State) -> Any:
        def run(inputs: Array, weights: Weights, state: State) -> Any:
            steps = Timeline(inputs, valid, reset)
            return loops.run_forward(recurrence, steps, weights, state, (), state, keep=False)[:2]

        (outputs, _), pull = jax.vjp(run, inputs, weights, state)
        zeros = jax.tree.map(jnp.zeros_like, outputs)
        d_inputs, d_weights, d_state = pull((zeros if d_outputs is None else d_outputs, d_last))
        return d_state, d_inputs if with_inputs else None, d_weights

    d_moved = (tangents[0], *tangents[3:7])
    return _backward(recurrence, with_inputs, *primals), jax.jvp(plain, moved, d_moved)[1]


def _makes_outputs(recurrence: Recurrence, keep: bool) -> bool:
    return keep or recurrence.collect is loops.hidden_of  # the backward call reads them


def _kernel_of(recurrence: Recurrence) -> str:
    assert recurrence.kernel is not None
    return recurrence.kernel


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)


def _or_nothing(array: Array | None, dtype: Any = np.float32) -> Array:
    return jnp.zeros(0, dtype) if array is None else array


def _h_and_c(state: State) -> tuple[Array, Array]:
    h, *c = jax.tree.leaves(state)
    return h, c[0] if c else _or_nothing(None)


def _state_of(state: State, h: Array, c: Array) -> State:
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [h, c][: len(leaves)])


def _arrays(inputs: Array, valid: Array | None, reset: Array | None, weights: Weights, state: State) -> tuple[Any, ...]:
    """The arguments that both calls begin with; what is missing is empty."""
    masks = (_or_nothing(mask, bool) for mask in (valid, reset))
    biases = (_or_nothing(bias) for bias in (weights.bias_ih, weights.bias_hh))
    return (inputs, *masks, weights.weight_ih, weights.weight_hh, *biases, *_h_and_c(state))
