"""Weights of Flax's own recurrent cells and layers, of nnx and of linen, for the cells and layers of this package.

Flax has one bias a gate where PyTorch has two: it goes to the one that makes the equations equal, the other is 0. An
LSTM's stands with W_hh, those of an RNN and a GRU with W_ih; linen's GRU has b_hn beside, nnx's has none.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx

from jaxrnn.foundation.array_types import Array
from jaxrnn.nn import cells
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer

Kind = Literal["LSTM", "GRU", "RNN"]


class _Layout(NamedTuple):
    """Where a cell of Flax keeps its weights.

    Attributes:
      kind: Which of this package's equations it computes.
      inputs: The linear maps of the input, their gates in this package's order.
      hiddens: Those of the hidden state.
      biased: Which of them have a bias.
    """

    kind: Kind
    inputs: tuple[str, ...]
    hiddens: tuple[str, ...]
    biased: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """The names of all arrays, such as ``dense_i.kernel``."""
        return {f"{part}.kernel" for part in self.inputs + self.hiddens} | {f"{part}.bias" for part in self.biased}


_LINEN_LSTM = _Layout("LSTM", ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho"), ("hi", "hf", "hg", "ho"))
_LAYOUTS: dict[type, _Layout] = {
    nnx.LSTMCell: _LINEN_LSTM._replace(inputs=("ii", "if_", "ig", "io")),
    nnx.OptimizedLSTMCell: _Layout("LSTM", ("dense_i",), ("dense_h",), ("dense_h",)),
    nnx.GRUCell: _Layout("GRU", ("dense_i",), ("dense_h",), ("dense_i",)),
    nnx.SimpleCell: _Layout("RNN", ("dense_i",), ("dense_h",), ("dense_i",)),
    linen.LSTMCell: _LINEN_LSTM,
    linen.OptimizedLSTMCell: _LINEN_LSTM,
    linen.GRUCell: _Layout("GRU", ("ir", "iz", "in"), ("hr", "hz", "hn"), ("ir", "iz", "in", "hn")),
    linen.SimpleCell: _Layout("RNN", ("i",), ("h",), ("i",)),
}
# Cells that no equation here computes: why, and the names of their linear maps.
_REFUSED: dict[type, tuple[str, set[str]]] = {
    linen.MGUCell: ("an MGUCell has one gate where a GRU has two", {"if", "in", "hf", "hn"}),
    linen.ConvLSTMCell: ("a ConvLSTMCell convolves, and adds 1 to its forget gate", {"ih", "hh"}),
}
_EQUATIONS: dict[cells.Equation, tuple[Kind, str]] = {
    cells.LSTM: ("LSTM", "tanh"),
    cells.GRU: ("GRU", "tanh"),
    cells.RNN_TANH: ("RNN", "tanh"),
    cells.RNN_RELU: ("RNN", "relu"),
}
_MAX_LISTED = 8  # names in one message
# Flax's functions are JAX's. Compared as objects: two functions may agree on values and differ in their gradients.
_ACTIVATIONS = {
    "sigmoid": (jax.nn.sigmoid, jax.lax.logistic),
    "tanh": (jnp.tanh, jax.lax.tanh),
    "relu": (jax.nn.relu,),
}


def load_flax(module: nnx.Module, source: Any) -> None:
    """Sets a cell's or layer's parameters to those of Flax's recurrent cells, in place, so that both compute the same.

    The gates are joined in PyTorch's order, the kernels transposed; biases that Flax does not have become 0. What
    computes something else - another activation, another way of joining directions, an `MGUCell` - is refused. A
    mapping of linen's does not say which activations it was trained with: the module's own are taken. Bind the linen
    module to its variables, and they are compared.

    Args:
      module: A `jaxrnn.LSTM`, `GRU` or `RNN` with biases, or one of their cells.
      source: An `nnx.LSTMCell`, `OptimizedLSTMCell`, `GRUCell` or `SimpleCell`, an `nnx.RNN` of one or an
        `nnx.Bidirectional` of two; the same of linen, bound to its variables; or a mapping of their parameters, such
        as what linen's ``init`` returns. For several layers: a list of one a layer, or an `nnx.Sequential`.

    Raises:
      TypeError: The module or the source is none of these, or computes another equation; an array is not of
        floating-point numbers.
      KeyError: Parameters are missing or unexpected; names them.
      ValueError: A shape, a number of layers or an option does not fit; names it.

    Example:
      >>> import jaxrnn
      >>> from flax import nnx
      >>> trained = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
      >>> layer = jaxrnn.LSTM(3, 4, rngs=nnx.Rngs(1))
      >>> jaxrnn.load_flax(layer, trained)
      >>> bool((layer.weight_hh_l0[...] == trained.cell.dense_h.kernel[...].T).all())
      True
    """
    if not isinstance(module, cells.AbstractCell | AbstractRecurrentLayer):
        raise TypeError(
            f"module: got {_type_name(module)}; expected a cell or layer of jaxrnn: load a model's one by one"
        )
    name = type(module).__name__
    if module.equation not in _EQUATIONS:
        raise TypeError(f"module: got a {name} whose equation no cell of Flax computes; expected an LSTM, GRU or RNN")
    if not module.bias:
        raise ValueError(f"module: got a {name} without biases; Flax's cells have them: expected bias=True")
    proj_size = getattr(module, "proj_size", 0)
    if proj_size:
        raise ValueError(f"module: got proj_size = {proj_size}; Flax's LSTM has no projection: expected 0")
    loaded = []
    for ending, input_size, label, cell in _cells(module, source):
        kind, activation = _EQUATIONS[module.equation]
        layout, arrays = _read(cell, label, kind, activation)
        weights = _joined(layout, arrays, label, input_size, module.hidden_size)
        if getattr(cell, "residual", False):  # W h + h = (W + 1) h
            weights["weight_hh"] += jnp.eye(module.hidden_size, dtype=weights["weight_hh"].dtype)
        for what, value in weights.items():
            parameter = getattr(module, what + ending)
            if parameter.get_value().shape != value.shape:
                raise ValueError(
                    f"module.{what + ending}: got shape {parameter.get_value().shape}; expected {value.shape}, by the"
                    " sizes that the module was made with"
                )
            loaded.append((parameter, value))
    for parameter, value in loaded:  # nothing is set unless everything fits
        # A copy: an array that two modules hold is gone from both once a compiled step gives one's memory away.
        parameter.set_value(jnp.array(value, parameter.get_value().dtype, copy=True))


def _cells(module: cells.AbstractCell | AbstractRecurrentLayer, source: Any) -> Iterator[tuple[str, int, str, Any]]:
    """Yields of every cell of a module: its parameters' ending, its input size, its source's place and the source."""
    if isinstance(module, cells.AbstractCell):
        yield "", module.input_size, *_single("source", source, reads_backward=None)
        return
    layers = [("source", source)]
    if isinstance(source, nnx.Sequential):
        source = source.layers
    if isinstance(source, list | tuple | nnx.List):
        layers = [(f"source[{index}]", layer) for index, layer in enumerate(source)]
    if len(layers) != module.num_layers:
        raise ValueError(
            f"source: got {len(layers)} of Flax's layers; expected num_layers = {module.num_layers}: give a list"
        )
    for index, (label, layer) in enumerate(layers):
        input_size = module.num_directions * module.hidden_size if index else module.input_size
        if not module.bidirectional:
            yield f"_l{index}", input_size, *_single(label, layer, reads_backward=module.reverse)
            continue
        for (where, rnn), ending in zip(_directions(label, layer), ("", "_reverse"), strict=True):
            yield f"_l{index}{ending}", input_size, *_single(where, rnn, reads_backward=None)


def _without_collection(label: str, source: Any) -> tuple[str, Any]:
    """Leaves out the level that names linen's collection of variables."""
    is_whole = isinstance(source, Mapping) and "params" in source
    return (f"{label}.params", source["params"]) if is_whole else (label, source)


def _directions(label: str, source: Any) -> list[tuple[str, Any]]:
    """Returns the forward and the backward part of one bidirectional layer, and where they stand."""
    label, source = _without_collection(label, source)
    names = ("forward_rnn", "backward_rnn")
    if isinstance(source, nnx.Bidirectional | linen.Bidirectional):
        _check_bound(label, source)
        if source.merge_fn is not type(source).merge_fn:
            raise ValueError(
                f"{label}.merge_fn: got {_function_name(source.merge_fn)}; expected Flax's default, which joins the"
                " outputs of both directions, as the module does"
            )
        return [(f"{label}.{name}", getattr(source, name)) for name in names]
    if _holds(source, *names):
        return [(f"{label}.{name}", source[name]) for name in names]
    raise TypeError(
        f"{label}: got {_describe(source)}; the module is bidirectional: expected a Bidirectional, or a mapping of"
        f" {' and '.join(names)}"
    )


def _single(label: str, source: Any, *, reads_backward: bool | None) -> tuple[str, Any]:
    """Returns the cell of an RNN, or what is one, and where it stands.

    Args:
      label: Where `source` stands.
      source: An RNN, a cell or a mapping.
      reads_backward: What an RNN's `reverse` must be, its outputs in the order of the inputs; None where another says.
    """
    label, source = _without_collection(label, source)
    if isinstance(source, nnx.Bidirectional | linen.Bidirectional) or _holds(source, "forward_rnn", "backward_rnn"):
        raise TypeError(f"{label}: got {_describe(source)}; the module has one direction: expected bidirectional=True")
    if isinstance(source, nnx.RNN | linen.RNN):
        _check_bound(label, source)
        if reads_backward is not None and bool(source.reverse) != reads_backward:
            raise ValueError(
                f"{label}.reverse: got {source.reverse}; expected {reads_backward}, the module's reverse: it reads the"
                " steps in the other order"
            )
        if reads_backward and not source.keep_order:
            raise ValueError(
                f"{label}.keep_order: got {source.keep_order}; expected True: the module's outputs stand at the steps"
                " that they belong to; where that is what you want, give the cell alone"
            )
        return f"{label}.cell", source.cell
    if _holds(source, "cell"):
        return f"{label}.cell", source["cell"]
    return label, source


def _holds(source: Any, *names: str) -> bool:
    """Whether a mapping has these names; nnx's states hold random streams beside."""
    return isinstance(source, Mapping) and set(source) - {"rngs"} == set(names)


def _check_bound(label: str, source: Any) -> None:
    if isinstance(source, linen.Module) and source.scope is None:
        raise TypeError(
            f"{label}: got {_describe(source)} without variables; expected it bound: use module.bind(variables),"
            " or give variables['params']"
        )


def _joined(layout: _Layout, arrays: dict[str, Any], label: str, input_size: int, hidden_size: int) -> dict[str, Array]:
    """Returns a cell's weights under PyTorch's names and in its layout."""
    num_gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[layout.kind]
    found: dict[str, Array] = {}
    for side, parts, size in (("ih", layout.inputs, input_size), ("hh", layout.hiddens, hidden_size)):
        width = num_gates * hidden_size // len(parts)
        kernels, biases = [], []
        for part in parts:
            kernels.append(_checked(f"{label}.{part}.kernel", arrays[f"{part}.kernel"], (size, width)))
            bias = arrays.get(f"{part}.bias", jnp.zeros(width, kernels[-1].dtype))
            biases.append(_checked(f"{label}.{part}.bias", bias, (width,)))
        found |= {f"weight_{side}": jnp.concatenate(kernels, axis=1).T, f"bias_{side}": jnp.concatenate(biases)}
    return found


def _checked(label: str, array: Any, shape: tuple[int, ...]) -> Array:
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{label}: got {dtype or type(array).__name__}; expected floating-point numbers")
    if array.shape != shape:
        raise ValueError(f"{label}: got shape {array.shape}; expected {shape}, by the sizes of the module")
    return jnp.asarray(array)


def _read(cell: Any, label: str, kind: Kind, activation: str) -> tuple[_Layout, dict[str, Any]]:
    """Returns a cell's layout and its arrays by name, once it is known to compute the right equation."""
    _check_bound(label, cell)
    known = next((known for known in (*_LAYOUTS, *_REFUSED) if type(cell) is known), None)
    if known is None and not isinstance(cell, Mapping):
        names = _listed({known.__name__ for known in _LAYOUTS})
        raise TypeError(
            f"{label}: got {_describe(cell)}; expected a cell of Flax ({names}), an RNN of one, or a mapping of its"
            " parameters"
        )
    tree = cell if known is None else nnx.state(cell, nnx.Param) if isinstance(cell, nnx.Module) else cell.variables
    _, tree = _without_collection(label, tree)
    arrays = {name: value for name, value in _flat(linen.meta.unbox(tree)) if not name.startswith("rngs.")}
    parts = {name.rpartition(".")[0] for name in arrays}
    for refused, (reason, refused_parts) in _REFUSED.items():
        if known is refused or (known is None and parts == refused_parts):
            raise TypeError(f"{label}: {reason}; expected what the module computes, a cell of kind {kind}")
    # Where the names of two kinds agree, the shapes tell which it is not; where none fits, the nearest one is named.
    candidates = sorted(_LAYOUTS.values(), key=lambda layout: layout.kind != kind)
    layout = _LAYOUTS[known] if known else min(candidates, key=lambda layout: len(layout.names ^ set(arrays)))
    differences = {"missing": layout.names - set(arrays), "unexpected": set(arrays) - layout.names}
    found = "; ".join(f"{what}: {_listed(names)}" for what, names in differences.items() if names)
    if found:
        raise KeyError(f"{label}: got parameters that are nearest to those of kind {layout.kind}; {found}")
    if layout.kind != kind:
        raise TypeError(f"{label}: got {_describe(cell)}, of kind {layout.kind}; the module's is {kind}")
    if known:
        _check_functions(label, cell, kind, activation)
    return layout, arrays


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value.get_value() if isinstance(value, nnx.Variable) else value


def _check_functions(label: str, cell: Any, kind: Kind, activation: str) -> None:
    """Raises unless the functions of a cell are those of the module's equation."""
    expected = {"activation_fn": activation} if kind == "RNN" else {"gate_fn": "sigmoid", "activation_fn": "tanh"}
    for name, wanted in expected.items():
        function = getattr(cell, name)
        if not any(function is known for known in _ACTIVATIONS[wanted]):
            raise ValueError(
                f"{label}.{name}: got {_function_name(function)}; the module computes {wanted}: expected"
                f" jax.nn.{wanted}"
            )


def _function_name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _listed(names: Iterable[str]) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:_MAX_LISTED]) + (f" and {len(names) - _MAX_LISTED} more" if names[_MAX_LISTED:] else "")


def _describe(source: Any) -> str:
    """Names what was given: nnx.GRUCell, linen.RNN, a mapping of its names."""
    if isinstance(source, Mapping):
        return f"a mapping of {_listed(source) or 'nothing'}"
    kind = type(source)
    if kind.__module__.startswith("flax."):
        return f"{'nnx' if isinstance(source, nnx.Module) else 'linen'}.{kind.__name__}"
    return _type_name(source)
