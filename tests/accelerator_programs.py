"""Compiles for an accelerator that is not there, and prints, as JSON, what the tests want to know of each program.

python -m tests.accelerator_programs v5e layers
"""

import contextlib
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerators import TARGETS, compile_training, layer_program
from jaxrnn.commands.rehearsals.target_rehearsal import place
from jaxrnn.parallel.program_text import exchanged, loops_of
from jaxrnn.parallel.targets import prepare_environment

ROWS, STEPS, INPUTS, HIDDEN, PROJ = 4, 24, 3, 8, 5


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
        "chunks": jaxrnn.GRU(INPUTS, HIDDEN, remat_steps=12, rngs=rngs),
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


def describe_kernels(devices: Sequence[Any]) -> dict[str, Any]:
    """Counts what a step of an LSTM executes: of a call, and of one whose gradient is taken."""
    from flax import nnx

    import jaxrnn
    from jaxrnn.nn.engine.forms import ACCELERATOR_STEPS_OF_A_TURN

    def layer() -> Any:
        return jaxrnn.LSTM(32, 128, rngs=nnx.Rngs(0))

    texts = (layer_program(layer, devices[0], gradient=wanted) for wanted in (False, True))
    turns = [loops_of(text)[0].operations.total() for text in texts]
    return {"forward": [turn / ACCELERATOR_STEPS_OF_A_TURN for turn in turns]}


def describe_run(devices: Sequence[Any]) -> dict[str, Any]:
    """Has the command compile a run for the target, and refuse a mesh that it does not have."""
    import tempfile

    from jaxrnn import train

    target = next(str(target) for target in TARGETS.values() if target.num_devices == len(devices))
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(printed):
        rows = [",".join(str(row + step) for step in range(30)) for row in range(400)]
        Path(directory, "rows.csv").write_text("\n".join(rows), encoding="utf-8")
        flags = [f"--data={directory}/rows.csv", "--dry-run", "--hidden-size=8", f"--target-devices={target}"]
        codes = [train.main(flags), train.main([*flags, "--mesh=data:2,model:3"])]
    return {"codes": codes, "printed": printed.getvalue()}


def calls_of(text: str) -> list[str]:
    """Lists the names of all that a compiled program calls outside of itself."""
    return sorted(set(re.findall(r'custom_call_target="([^"]*)"', text)))


if __name__ == "__main__":
    prepare_environment()
    accelerator, what = sys.argv[1:]
    describe = {
        "layers": describe_layers,
        "training": describe_training,
        "kernels": describe_kernels,
        "run": describe_run,
    }[what]
    print(json.dumps(describe(TARGETS[accelerator].devices())))
