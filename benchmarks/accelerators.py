"""What programs for a TPU v5e and an NVIDIA H100 hold, compiled on a machine that has neither.

    pip install -e '.[tpu]'                                                      # for the v5e
    pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION    # for the H100; VERSION: that of jax
    python -m benchmarks.accelerators

Their compilers run on any CPU. Printed is, for those that are installed, what one turn of a layer's loop executes: on a
GPU every operation is a kernel, whose launch takes microseconds whatever it computes. Then what the devices exchange in
the training program. Nothing is run, so nothing here is a time.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jaxrnn.commands.rehearsals.target_rehearsal import place
from jaxrnn.nn.engine.forms import ACCELERATOR_STEPS_OF_A_TURN
from jaxrnn.parallel.program_text import exchanged, loops_of
from jaxrnn.parallel.targets import Target, prepare_environment

STEPS, ROWS, INPUTS, HIDDEN = 100, 64, 32, 128
TARGETS = {"v5e": Target.parse("tpu:v5e:2x2"), "h100": Target.parse("cuda:h100:8")}


def layer_program(layer: Callable[[], Any], device: Any, *, gradient: bool) -> str:
    """Compiles a layer's call, or that and the gradient of all it is given; returns the program's text."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import SingleDeviceSharding

    graphdef, state = nnx.split(nnx.eval_shape(layer))
    inputs = jax.ShapeDtypeStruct((ROWS, STEPS, INPUTS), jnp.float32)

    def call(state: Any, inputs: Any) -> Any:
        return nnx.merge(graphdef, state)(inputs)

    def loss(state: Any, inputs: Any) -> Any:
        return jnp.sum(call(state, inputs)[0] ** 2)

    program = jax.value_and_grad(loss, argnums=(0, 1)) if gradient else call
    shapes = place((state, inputs), SingleDeviceSharding(device))
    return jax.jit(program).lower(*shapes).compile().as_text()


def compile_training(devices: Sequence[Any], *, hidden_size: int = HIDDEN, rows: int = 20 * ROWS) -> tuple[Any, int]:
    """Compiles the training program of an LSTM, from the command's own parts; returns it and its parameters' number."""
    import jax
    import numpy as np

    from jaxrnn.commands.rehearsals.target_rehearsal import aim, for_this_machine
    from jaxrnn.data.ragged import Ragged
    from jaxrnn.parallel.device_memory import tree_bytes
    from jaxrnn.settings.config import Config
    from jaxrnn.training.fit import build_trainer
    from jaxrnn.training.memory_source import MemorySource

    config = Config().replace_flat({"cell": "lstm", "hidden_size": hidden_size, "batch_size": ROWS, "batching": "pad"})
    lengths = 3 + np.arange(rows) % 18
    data = Ragged.from_rows([np.arange(length) + row for row, length in enumerate(lengths)])
    source = MemorySource(for_this_machine(config), data)
    aim(source, config, devices)
    trainer = build_trainer(config, source)
    params = jax.eval_shape(lambda: trainer.init(trainer.seeds())).params
    return source.trace(trainer)(), tree_bytes(params) // 4


def print_steps(name: str, device: Any) -> None:
    """Prints, for a layer of each kind, what a step executes in its loops."""
    from flax import nnx

    import jaxrnn

    kinds: dict[str, Any] = {"RNN": jaxrnn.RNN, "GRU": jaxrnn.GRU, "LSTM": jaxrnn.LSTM}
    for kind, cls in kinds.items():

        def layer(cls: Any = cls) -> Any:
            return cls(INPUTS, HIDDEN, rngs=nnx.Rngs(0))

        call, gradient = (layer_program(layer, device, gradient=wanted) for wanted in (False, True))
        loops = [loop.operations for text in (call, gradient) for loop in loops_of(text)]
        print(f"{name:6} {kind:6}" + "".join(f"{loop.total():8} ({loop['fusion']:2})" for loop in loops))


def print_training(name: str, devices: Sequence[Any]) -> None:
    """Prints what the devices exchange in the training program."""
    compiled, num_parameters = compile_training(devices)
    sent = ", ".join(f"{kind} of {size:,}" for kind, size in exchanged(compiled.as_text())) or "nothing"
    print(f"{name:6} training an LSTM of {num_parameters:,} parameters on {len(devices)}: {sent}")


def main(argv: Sequence[str] | None = None) -> int:
    """Compiles and prints."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    import jax

    prepare_environment()
    found = {name: target for name, target in TARGETS.items() if is_installed(target)}
    versions = "".join(f", {target.compiler()}" for target in found.values())
    print(f"jax {jax.__version__}{versions}; T {STEPS}, B {ROWS}, D {INPUTS}, H {HIDDEN}, float32")
    for name, target in TARGETS.items():
        if name not in found:
            print(f"{name}: {target.package} is not installed")
    turn = f"a turn of {ACCELERATOR_STEPS_OF_A_TURN} steps"
    print(f"operations of {turn} (fusions among them): of a call; of its gradient, forward and back")
    for name, target in found.items():
        print_steps(name, target.devices()[0])
    for name, target in found.items():
        for number in (1, target.num_devices):
            print_training(name, target.devices()[:number])
    return 0


def is_installed(target: Target) -> bool:
    """Whether a target's compiler is here."""
    return importlib.util.find_spec(target.package.replace("-", "_")) is not None


if __name__ == "__main__":
    sys.exit(main())
