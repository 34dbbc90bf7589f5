"""Recurrent layers as ONNX's own operators RNN, LSTM and GRU, with PyTorch's weights in ONNX's order of gates.

    PyTorch   LSTM  i f g o    GRU  r z n
    ONNX      LSTM  i o f c    GRU  z r h   (linear_before_reset = 1 is PyTorch's equation)

Source: https://onnx.ai/onnx/operators, RNN-14, LSTM-14, GRU-14.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.interop.exporting.onnx_graph import Graph, Value

_GATES = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


class RecurrentLayers:
    """Stacked layers, in one direction or both.

    What runtimes do past the end of a row differs, so outputs there are set to 0, and rows without any step end in 0.

    Args:
      graph: The graph that nodes are added to.
      weights: Arrays by PyTorch's names, below "rnn.".
      cell: "rnn", "lstm" or "gru".
      nonlinearity: Activation of a plain RNN.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Any], *, cell: str, nonlinearity: str):
        self.graph = graph
        self.weights = weights
        self.cell = cell
        self.suffixes = ["", "_reverse"] if "rnn.weight_ih_l0_reverse" in weights else [""]
        self.num_layers = sum(name.startswith("rnn.weight_ih_l") for name in weights) // len(self.suffixes)
        self.hidden_size = int(weights["rnn.weight_hh_l0"].shape[1])
        self.options: dict[str, Any] = {"hidden_size": self.hidden_size}
        if len(self.suffixes) == 2:
            self.options["direction"] = "bidirectional"
        if cell == "gru":
            self.options["linear_before_reset"] = 1
        if cell == "rnn":
            self.options["activations"] = [nonlinearity.capitalize()] * len(self.suffixes)

    def __call__(self, steps: Value, lengths: Value, is_valid: Value, *, final: bool) -> tuple[Any, Any]:
        """Adds the layers.

        Args:
          steps: (batch, time, features) float32, 0 at padding.
          lengths: (batch,) int64.
          is_valid: (batch, time, 1).
          final: Whether the last state is wanted, else the outputs.

        Returns:
          ``(outputs, last state)``, (batch, time, features) and (batch, features), of which the other is None.
        """
        graph, width = self.graph, len(self.suffixes) * self.hidden_size
        time_major = graph.add("Transpose", steps, perm=[1, 0, 2])
        valid = graph.add("Transpose", is_valid, perm=[1, 0, 2])
        # A row must have a step to read; what it gives of none is set to 0 below.
        counts = graph.cast(graph.add("Max", lengths, np.int64(1)), np.int32)
        for layer in range(self.num_layers):
            is_last = layer == self.num_layers - 1
            kept = [not (is_last and final), is_last and final, *([False] if self.cell == "lstm" else [])]
            outputs, state, *_ = graph.add_all(
                self.cell.upper(), time_major, *self._arrays(layer), counts, kept=kept, **self.options
            )
            if is_last and final:
                flat = graph.add("Reshape", graph.add("Transpose", state, perm=[1, 0, 2]), np.array([0, width]))
                has_any = graph.add("Unsqueeze", lengths, np.array([1])) > np.int64(0)
                return None, graph.add("Where", has_any, flat, np.float32(0), dtype=np.float32)
            outputs = graph.add("Transpose", outputs, perm=[0, 2, 1, 3])  # time, batch, directions, hidden
            flat = graph.add("Reshape", outputs, np.array([0, 0, width]))
            time_major = graph.add("Where", valid, flat, np.float32(0), dtype=np.float32)
        return graph.add("Transpose", time_major, perm=[1, 0, 2]), None

    def _arrays(self, layer: int) -> tuple[Any, Any, Any]:
        """Returns the operator's W, R and B; B is None without biases."""
        names = [[f"rnn.{kind}_l{layer}{suffix}" for suffix in self.suffixes] for kind in
                 ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
        held = [[self._reorder(self.weights[name]) for name in group] for group in names if group[0] in self.weights]
        both = None if len(held) == 2 else np.concatenate([np.stack(held[2]), np.stack(held[3])], axis=1)
        return np.stack(held[0]), np.stack(held[1]), both

    def _reorder(self, array: NDArray[Any]) -> NDArray[Any]:
        gates = np.split(np.asarray(array, np.float32), len(_GATES[self.cell]))
        return np.concatenate([gates[place] for place in _GATES[self.cell]])
