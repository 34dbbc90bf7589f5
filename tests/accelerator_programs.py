"""Compiles for an accelerator that is not there, and prints, as JSON, what the tests want to know of each program.

python -m tests.accelerator_programs v5e layers
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.accelerators import ACCELERATORS, ENVIRONMENT, compile_training, exchanged, place

ROWS, STEPS, INPUTS, HIDDEN, PROJ = 4, 6, 3, 8, 5


def build_layers() -> dict[str, Any]:
    """Builds a layer of each kind, and of each option that changes the loop."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import jaxrnn
    from jaxrnn.nn.cells import Equation

    def minimal_gated(state: Any, input_gates: Any, hidden_gates: Any, scale: Any) -> Any:
        f = jax.nn.sigmoid(input_gates[:, :HIDDEN] + hidden_gates[:, :HIDDEN])
        new = jnp.tanh(scale[None] * input_gates[:, HIDDEN:] + f * hidden_gates[:, HIDDEN:])
        return (1 - f) * state + f * new

    equation = Equation(2, minimal_gated, lambda hidden, output: output, lambda hidden: {"scale": jnp.ones(hidden)})
    rngs = nnx.Rngs(0)
    return {
        "rnn_tanh": jaxrnn.RNN(INPUTS, HIDDEN, rngs=rngs),
        "rnn_relu": jaxrnn.RNN(INPUTS, HIDDEN, nonlinearity="relu", rngs=rngs),
        "lstm": jaxrnn.LSTM(INPUTS, HIDDEN, rngs=rngs),
        "gru": jaxrnn.GRU(INPUTS, HIDDEN, rngs=rngs),
        "equation": jaxrnn.RecurrentLayer(equation, INPUTS, HIDDEN, rngs=rngs),
        "stack": jaxrnn.LSTM(INPUTS, HIDDEN, num_layers=2, bidirectional=True, proj_size=PROJ, rngs=rngs),
        "chunks": jaxrnn.GRU(INPUTS, HIDDEN, remat_steps=2, rngs=rngs),
        "bfloat16": jaxrnn.LSTM(INPUTS, HIDDEN, compute_dtype=jnp.bfloat16, rngs=rngs),
    }


WITH_LENGTHS_AND_RESETS = {"rnn_relu", "gru", "equation", "stack", "chunks"}


def describe_layers(devices: Sequence[Any]) -> dict[str, Any]:
    """Compiles all layers' calls in one program, and their values and gradients in another."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import SingleDeviceSharding

    from jaxrnn.nn.engine import cpu_kernels

    split = {name: nnx.split(layer) for name, layer in nnx.eval_shape(build_layers).items()}
    states = {name: state for name, (_, state) in split.items()}
    inputs = jax.ShapeDtypeStruct((ROWS, STEPS, INPUTS), jnp.float32)
    lengths = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    resets = jax.ShapeDtypeStruct((ROWS, STEPS), jnp.bool_)

    def forward(states: Any, inputs: Any, lengths: Any, resets: Any) -> Any:
        found = {}
        for name, (graphdef, _) in split.items():
            options = {"lengths": lengths, "resets": resets} if name in WITH_LENGTHS_AND_RESETS else {}
            found[name] = nnx.merge(graphdef, states[name])(inputs, **options)
        return found

    def gradient(states: Any, inputs: Any, lengths: Any, resets: Any) -> Any:
        def loss(states: Any, inputs: Any) -> Any:
            leaves = jax.tree.leaves(forward(states, inputs, lengths, resets))
            return sum(jnp.sum(leaf**2) for leaf in leaves)

        return jax.value_and_grad(loss, argnums=(0, 1))(states, inputs)

    shapes = (states, inputs, lengths, resets)
    found = {}
    for name, program in {"forward": forward, "gradient": gradient}.items():
        text = jax.jit(program).lower(*place(shapes, SingleDeviceSharding(devices[0]))).compile().as_text()
        here = jax.jit(program).lower(*shapes).as_text()  # the same for this process's CPU
        found[name] = {
            "calls": calls_of(text),
            "loops": text.count(" while("),
            "calls on a CPU": sorted(set(re.findall(r"@(jaxrnn_\w+)", here))),
        }
    return {"programs": found, "kernels are built": cpu_kernels.is_built()}


def describe_training(devices: Sequence[Any]) -> dict[str, Any]:
    """Compiles the training program for one device and for all."""
    import jax

    jax.config.update("jax_num_cpu_devices", 2)  # the devices here are not those that it is for
    found = {}
    for number in (1, len(devices)):
        compiled, num_parameters = compile_training(devices[:number], hidden_size=HIDDEN)
        text = compiled.as_text()
        found[number] = {"calls": calls_of(text), "loops": text.count(" while("), "exchanged": exchanged(text)}
    return {"programs": found, "parameters": num_parameters}


def calls_of(text: str) -> list[str]:
    """Lists the names of all that a compiled program calls outside of itself."""
    return sorted(set(re.findall(r'custom_call_target="([^"]*)"', text)))


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    accelerator, what = sys.argv[1:]
    describe = {"layers": describe_layers, "training": describe_training}[what]
    print(json.dumps(describe(ACCELERATORS[accelerator].devices())))
