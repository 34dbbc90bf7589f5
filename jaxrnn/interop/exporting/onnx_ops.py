"""The operations of exported programs as nodes of an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrnn.interop.exporting import onnx_layers
from jaxrnn.interop.exporting.array_ops import Member
from jaxrnn.interop.exporting.onnx_graph import Graph, Value


class OnnxOps:
    """As `ArrayOps`, on values of an ONNX graph.

    Args:
      graph: The graph that nodes are added to.
      cell: "rnn", "lstm" or "gru".
      nonlinearity: Activation of a plain RNN.
    """

    def __init__(self, graph: Graph, *, cell: str, nonlinearity: str):
        self.graph = graph
        self.cell = cell
        self.nonlinearity = nonlinearity

    def cast(self, x: Value, dtype: Any) -> Value:
        return self.graph.cast(x, dtype)

    def size(self, x: Value, axis: int) -> Value:
        """Returns the length of an axis, int64 (1,)."""
        shape = self.graph.add("Shape", x, dtype=np.int64)
        return self.graph.add("Gather", shape, np.array([axis]), dtype=np.int64, axis=0)

    def positions(self, x: Value) -> Value:
        time = self.graph.add("Squeeze", self.size(x, 1), np.array([0]), dtype=np.int64)
        numbers = self.graph.add("Range", np.array(0), time, np.array(1), dtype=np.int64)
        return self.unsqueeze(numbers, 0)

    def expand_like(self, x: Any, like: Value) -> Value:
        value = x if isinstance(x, Value) else self.graph.constant(x)
        return self.graph.add("Expand", value, self.graph.add("Shape", like, dtype=np.int64))

    def unsqueeze(self, x: Value, axis: int) -> Value:
        return self.graph.add("Unsqueeze", x, np.array([axis]))

    def squeeze(self, x: Value, axis: int) -> Value:
        return self.graph.add("Squeeze", x, np.array([axis]))

    def reshape(self, x: Value, sizes: Sequence[int]) -> Value:
        return self.graph.add("Reshape", x, np.array([0, *sizes]))

    def concat(self, parts: Sequence[Value], axis: int = -1) -> Value:
        return parts[0] if len(parts) == 1 else self.graph.add("Concat", *parts, axis=axis)

    def columns(self, x: Value, start: int, stop: int) -> Value:
        return self.graph.add("Slice", x, np.array([start]), np.array([stop]), np.array([-1]))

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        dtype = x.dtype if isinstance(x, Value) else y.dtype
        return self.graph.add("Where", condition, x, y, dtype=dtype)

    def is_nan(self, x: Value) -> Value:
        return ~self.graph.add("Equal", x, x, dtype=np.bool_)  # IsNaN has no float64 in older runtimes

    def maximum(self, x: Value, y: Any) -> Value:
        return self.graph.add("Max", x, y)

    def minimum(self, x: Value, y: Any) -> Value:
        return self.graph.add("Min", x, y)

    def log(self, x: Value) -> Value:
        return self.graph.add("Log", x)

    def exp(self, x: Value) -> Value:
        return self.graph.add("Exp", x)

    def sin(self, x: Value) -> Value:
        return self.graph.add("Sin", x)

    def cos(self, x: Value) -> Value:
        return self.sin(x + np.pi / 2)  # Cos has no float64 in older runtimes

    def floor_divide(self, x: Value, by: int) -> Value:
        return self.graph.add("Div", x - self.modulo(x, by), np.int64(by))  # Div alone rounds towards 0

    def modulo(self, x: Value, by: int) -> Value:
        return self.graph.add("Mod", x, np.int64(by))

    def cumsum(self, x: Value) -> Value:
        return self.graph.add("CumSum", x, np.int64(1))

    def sum(self, x: Value, axis: int) -> Value:
        return self.graph.add("ReduceSum", x, np.array([axis]), keepdims=0)

    def max(self, x: Value, axis: int) -> Value:
        return self.graph.add("ReduceMax", x, axes=[axis], keepdims=0)

    def softmax(self, x: Value) -> Value:
        return self.graph.add("Softmax", x, axis=-1)

    def sort(self, x: Value) -> Value:
        number = self.size(x, -1)
        return self.graph.add("TopK", x, number, num_outputs=2, axis=-1, largest=0, sorted=1)

    def argmax(self, x: Value) -> Value:
        """Returns the first of the greatest entries of the last axis."""
        return self.graph.add("ArgMax", x, dtype=np.int64, axis=-1, keepdims=0)

    def lookup(self, table: Any, codes: Value) -> Value:
        return self.graph.add("Gather", table, codes, dtype=np.asarray(table).dtype, axis=0)

    def pick_steps(self, x: Value, places: Any) -> Value:
        return self.graph.add("Gather", x, places[0] if isinstance(places, np.ndarray) else self.squeeze(places, 0),
                              axis=1)  # fmt: skip

    def pick_each(self, x: Value, places: Value) -> Value:
        return self.graph.add("GatherElements", x, places, axis=1)

    def pick_one(self, x: Value, places: Value) -> Value:
        return self.graph.add("GatherND", x, self.unsqueeze(places, 1), batch_dims=1)

    def put_each(self, x: Value, places: Value, values: Value) -> Value:
        return self.graph.add("ScatterElements", x, places, values, axis=1)

    def repeat_steps(self, x: Value, like: Value) -> Value:
        one = np.array([1])
        shape = self.concat([self.graph.constant(one), self.size(like, 1), self.graph.constant(one)], axis=0)
        return self.graph.add("Expand", self.unsqueeze(x, 1), shape)

    def linear(self, x: Value, member: Member) -> Value:
        weight, bias = member.weights["linear.weight"], member.weights["linear.bias"]
        return self.graph.add("MatMul", x, np.ascontiguousarray(weight.T)) + bias

    def outputs(self, steps: Value, lengths: Value, member: Member) -> Value:
        return self._layers(steps, lengths, member)[0]

    def last_state(self, steps: Value, lengths: Value, member: Member) -> Value:
        return self._layers(steps, lengths, member, final=True)[1]

    def _layers(self, steps: Value, lengths: Value, member: Member, *, final: bool = False) -> tuple[Any, Any]:
        place = self.positions(steps)
        is_valid = self.unsqueeze(place < self.unsqueeze(lengths, 1), 2)
        own = {name: array for name, array in member.weights.items() if name.startswith("rnn.")}
        layers = onnx_layers.RecurrentLayers(self.graph, own, cell=self.cell, nonlinearity=self.nonlinearity)
        return layers(self.where(is_valid, steps, np.float32(0)), lengths, is_valid, final=final)
