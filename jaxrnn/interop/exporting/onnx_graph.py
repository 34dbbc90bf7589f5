"""An ONNX graph that grows node by node, from values with arithmetic."""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.foundation.errors import UserError

OPSET, OPSET_ML, IR_VERSION = 17, 3, 8  # what readers of 2022 and later know
TEXT = np.dtype(object)


@functools.cache
def onnx() -> Any:
    """Returns the module `onnx`.

    Raises:
      UserError: It is not installed.
    """
    try:
        import onnx as module
    except ImportError as error:
        raise UserError("--format=onnx needs packages: python -m pip install onnx onnxruntime") from error
    return module


def onnx_type(dtype: Any) -> int:
    """Returns ONNX's number of a type."""
    tensor = onnx().TensorProto
    if np.dtype(dtype) == TEXT:
        return int(tensor.STRING)
    return int(onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What a node of a graph gives: a name and a type, with arithmetic that adds nodes."""

    graph: "Graph"
    name: str
    dtype: Any

    def __add__(self, other: Any) -> "Value":
        return self.graph.add("Add", self, other)

    def __sub__(self, other: Any) -> "Value":
        return self.graph.add("Sub", self, other)

    def __mul__(self, other: Any) -> "Value":
        return self.graph.add("Mul", self, other)

    def __truediv__(self, other: Any) -> "Value":
        return self.graph.add("Div", self, other)

    def __lt__(self, other: Any) -> "Value":
        return self.graph.add("Less", self, other, dtype=np.bool_)

    def __le__(self, other: Any) -> "Value":
        return self.graph.add("LessOrEqual", self, other, dtype=np.bool_)

    def __gt__(self, other: Any) -> "Value":
        return self.graph.add("Greater", self, other, dtype=np.bool_)

    def __ge__(self, other: Any) -> "Value":
        return self.graph.add("GreaterOrEqual", self, other, dtype=np.bool_)

    def __and__(self, other: "Value") -> "Value":
        return self.graph.add("And", self, other)

    def __or__(self, other: "Value") -> "Value":
        return self.graph.add("Or", self, other)

    def __invert__(self) -> "Value":
        return self.graph.add("Not", self)

    def __abs__(self) -> "Value":
        return self.graph.add("Abs", self)


class Graph:
    """The nodes and constants of an ONNX graph, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[Any, Value] = {}
        self._count = 0

    def input(self, name: str, dtype: Any) -> Value:
        """Returns an input of the graph."""
        return Value(self, name, np.dtype(dtype))

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """Returns a constant; the same one for equal arrays."""
        array = np.asarray(array) if dtype is None else np.asarray(array, dtype)
        key = (array.dtype.str, array.shape, tuple(array.ravel()) if array.dtype == TEXT else array.tobytes())
        if key not in self._constants:
            value = self._constants[key] = Value(self, self._new_name("constant"), array.dtype)
            self.initializers.append(_tensor(array, value.name))
        return self._constants[key]

    def cast(self, x: Value, dtype: Any) -> Value:
        """Returns a value in another type."""
        if x.dtype == np.dtype(dtype):
            return x
        return self.add("Cast", x, dtype=dtype, to=onnx_type(dtype))

    def add(
        self, kind: str, *operands: Any, dtype: Any = None, domain: str = "", num_outputs: int = 1, **attributes: Any
    ) -> Value:
        """Adds a node.

        Args:
          kind: The operator.
          *operands: Values; numbers, which take the type of the first value; arrays, which keep theirs.
          dtype: The type of what it gives; that of the first operand if None.
          domain: The operator's domain.
          num_outputs: How many outputs the operator has.
          **attributes: The node's attributes.

        Returns:
          The first output.
        """
        return self.add_all(kind, *operands, dtype=dtype, domain=domain, kept=[True, *[False] * (num_outputs - 1)],
                            **attributes)[0]  # fmt: skip

    def add_all(
        self, kind: str, *operands: Any, dtype: Any = None, domain: str = "", kept: list[bool], **attributes: Any
    ) -> list[Value]:
        """As `add`; returns every output, of which those that are not to be kept are made only if they must be."""
        first = next((one.dtype for one in operands if isinstance(one, Value)), None)
        values = [one if isinstance(one, Value) or one is None else self._as_value(one, first) for one in operands]
        given = values[0].dtype if dtype is None else np.dtype(dtype)  # type: ignore[union-attr]
        is_optional = kind in ("LSTM", "GRU", "RNN")
        outputs = [Value(self, self._new_name(kind.lower()) if keep or not is_optional else "", given) for keep in kept]
        names = ["" if value is None else value.name for value in values]
        helper = onnx().helper
        results = [output.name for output in outputs]
        name = self._new_name(f"node_{kind.lower()}")  # runtimes make names of others from it
        self.nodes.append(helper.make_node(kind, names, results, name=name, domain=domain, **attributes))
        return outputs

    def name(self, value: Value, name: str) -> None:
        """Gives a value a name as an output of the graph."""
        self.nodes.append(onnx().helper.make_node("Identity", [value.name], [name], name=f"node_{name}"))

    def _as_value(self, operand: Any, dtype: Any) -> Value:
        is_plain = type(operand) in (int, float)  # NumPy's numbers have a type of their own
        return self.constant(operand, dtype if is_plain else None)

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _tensor(array: NDArray[Any], name: str) -> Any:
    if array.dtype == TEXT:
        texts = [text.encode() for text in array.ravel()]
        return onnx().helper.make_tensor(name, onnx_type(TEXT), array.shape, texts)
    return onnx().numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
