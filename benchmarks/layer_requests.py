"""Requests to layers that could be served."""

import dataclasses
import random
from typing import Any

import jax

from benchmarks import layer_calls
from benchmarks.layer_data import draw_data
from benchmarks.layer_programs import KINDS, Program

LAYERS = [kind for kind in KINDS if kind != "closure"]  # whose layer holds all of its parameters


@dataclasses.dataclass
class Request:
    """What is asked of a layer.

    Attributes:
      program: What the layer was built from.
      layer: The layer.
      method: The name of the method.
      inputs: The first argument.
      state: The second one.
      options: Those by name.
    """

    program: Program
    layer: Any
    method: str
    inputs: Any
    state: Any
    options: dict[str, Any]

    def run(self, mode: str) -> Any:
        def call(inputs: Any) -> Any:
            return getattr(self.layer, self.method)(inputs, self.state, **self.options)

        def loss(inputs: Any) -> Any:
            return sum(leaf.sum() for leaf in jax.tree.leaves(call(inputs)))

        if mode == "eager" or not hasattr(self.inputs, "dtype"):
            return call(self.inputs)
        return jax.jit(call if mode == "jit" else jax.grad(loss))(self.inputs)


def draw_request(rng: random.Random) -> Request:
    """Draws a request that could be served."""
    kind, batch, hidden = rng.choice(LAYERS), rng.choice((None, 1, 3)), rng.choice((2, 4, 5))
    program = Program(
        kind=kind,
        batch=batch,
        time=rng.choice((1, 4)),
        input_size=rng.choice((1, 3)),
        hidden_size=hidden,
        num_layers=rng.choice((1, 2)),
        bidirectional=rng.random() < 0.3,
        proj_size=1 if kind in ("lstm", "own") and rng.random() < 0.2 else 0,
        bias=rng.random() < 0.8,
        backend=rng.choice(("auto", "auto", "scan")),
        reset_state="full",
    )
    data = draw_data(0, rng.randrange(1000), program)
    given, _, _, _ = layer_calls.as_arrays(program, data)
    built = layer_calls.build(program)
    state = jax.tree.unflatten(built.state, given["state"])
    layer, method = (
        built.with_params(given["params"]),
        rng.choice(("__call__", "__call__", "all_states", "final_state")),
    )
    return Request(program, layer, method, data.given["inputs"], state if rng.random() < 0.5 else None, {})
