"""A run's own program, compiled for devices that are not there: whether it fits, and what an update executes."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxrnn.console.tables import table
from jaxrnn.foundation.errors import UserError
from jaxrnn.nn.engine.forms import ACCELERATOR_STEPS_OF_A_TURN
from jaxrnn.parallel.device_memory import planned_bytes, readable, tree_bytes
from jaxrnn.parallel.devices import arrange_devices
from jaxrnn.parallel.program_text import Loop, loops_of
from jaxrnn.parallel.targets import Target
from jaxrnn.runs.checkpoint import named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.plan import GATES_OF_CELL

_UNITS = (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6))
# How the loops of training are called: over the steps of a batch, there and back, and those of validation.
_KINDS = (("transpose(", "a step back"), ("jvp(", "a step forward"), ("", "a step in validation"))


def for_this_machine(config: Config) -> Config:
    """Returns a configuration whose data is arranged here, where the target's devices are not."""
    return config.replace_flat({"devices": 1, "mesh": ""})


def aim(source: Any, config: Config, devices: Sequence[Any]) -> None:
    """Makes a source compile for other devices than this machine's.

    Args:
      source: That of a run on one device here.
      config: The run's, with its own mesh.
      devices: Those to compile for.

    Raises:
      UserError: They cannot share the work as the configuration says.
    """
    settings = config.training
    sizes = settings.mesh_sizes
    if settings.devices not in (0, len(devices)):
        raise UserError(f"--devices: got {settings.devices}; expected {len(devices)}, the target's, or none")
    if sizes is not None and sizes.data * sizes.model != len(devices):
        raise UserError(f"--mesh: got {sizes}; expected sizes whose product is {len(devices)}, the target's devices")
    is_held = isinstance(source, MemorySource)
    alone = len(devices) == 1 and is_held
    mesh = None if alone else arrange_devices(list(devices), members=settings.ensemble, sizes=sizes)
    source.plan = source.plan._replace(mesh=mesh)
    if is_held:
        sharding = SingleDeviceSharding(devices[0]) if mesh is None else NamedSharding(mesh, PartitionSpec())
        source.training, source.validation = place((source.training, source.validation), sharding)


def place(tree: Any, sharding: Any) -> Any:
    """Returns the shapes of a tree of arrays with a sharding."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def rehearse_for(target: Target, source: Any, config: Config) -> None:
    """Compiles a run's program for other devices, and prints what it takes and executes.

    Args:
      target: The devices.
      source: That of the run, arranged for one device here.
      config: The run's configuration.

    Raises:
      UserError: The compiler is not installed, or a device has less memory than the program needs.
    """
    aim(source, config, target.devices())
    trainer = build_trainer(config, source)
    compiled = source.trace(trainer)()
    shapes = trainer.state_shapes()
    mesh, number = source.plan.mesh, target.num_devices
    name = f"{number:,} device{'s' * (number > 1)} of {readable(target.device_bytes)}"
    axes = "" if mesh is None else f" ({_axes(mesh)})"
    print(f"target: {target}, {name}{axes}; compiled by {target.compiler()}, nothing is run")
    held = tree_bytes(shapes) if source.keeps_copy else 0
    needed = sum(planned_bytes(compiled) or ()) + held
    loops = loops_of(compiled.as_text())
    print(_table_of_loops(loops))
    print(_sent(loops))
    flops, moved = work_of_update(config, source, shapes.params)
    print(
        f"work of an update, all devices together: {_operations(flops)} of matrix products; at least {readable(moved)}"
        " read and written"
    )
    share = needed / target.device_bytes
    print(f"memory of a device, as the compiler has planned it: {readable(needed)}, {share:.2%} of what it has")
    if needed > target.device_bytes:
        raise UserError(
            f"--target-devices: got {target}; the program needs {readable(needed)} on each device, which has"
            f" {readable(target.device_bytes)}; use a smaller --batch-size, shorter rows, --remat-steps, or a --mesh"
            " with a model axis"
        )


def work_of_update(config: Config, source: Any, params: Any) -> tuple[int, int]:
    """Counts what an update has to compute and to move, whatever the compiler makes of it.

    Args:
      config: The run's configuration.
      source: Where its batches come from.
      params: Shapes of the parameters.

    Returns:
      ``(flops, bytes)``: operations of the matrix products of recurrent layers and head, there and back, of a batch of
      the longest rows, the head at every step; and the bytes of that batch, of what the recurrence keeps for its
      gradient (written, and read again), and of parameters, gradient and optimiser state (read and written).
    """
    plan, model = source.plan, config.model
    sizes = {name: leaf.size for name, leaf in named_leaves(params).items()}  # of all members together
    multiplied = sum(size for name, size in sizes.items() if "/weight_" in name or name.endswith("linear/kernel"))
    steps = plan.batch_rows * max(plan.lengths)
    directions = 1 + config.task.bidirectional
    kept = model.num_layers * directions * (GATES_OF_CELL[model.cell] + 2) * model.hidden_size
    flops = 6 * steps * multiplied  # a multiplication and an addition; forward, and twice back
    numbers = steps * (plan.sizes.read or 1) + 2 * steps * kept * config.training.ensemble
    return flops, 4 * numbers + 6 * tree_bytes(params)


def _axes(mesh: Mesh) -> str:
    return ", ".join(f"{name} {size}" for name, size in mesh.shape.items())


def _table_of_loops(loops: Sequence[Loop]) -> str:
    lines = []
    for loop in loops:
        if loop.is_innermost and loop.name.endswith("/while") and loop.name.count("/while") > 1:
            kind = next(words for mark, words in _KINDS if mark in loop.name)
            others = {name: count for name, count in loop.operations.items() if name != "fusion"}
            listed = ", ".join(f"{name} {count}" for name, count in sorted(others.items())) or "-"
            number = loop.operations.total()
            each = f"{number / ACCELERATOR_STEPS_OF_A_TURN:.1f}"
            lines.append([kind, each, str(number), str(loop.operations["fusion"]), listed])
    if not lines:
        return "operations of a step: no loop is left, rows so short are computed step by step"
    turn = f"a turn of {ACCELERATOR_STEPS_OF_A_TURN}"
    return table(["operations", "a step", turn, "fusions among them", "others"], lines)


def _sent(loops: Sequence[Loop]) -> str:
    # Around what is differentiated are the loops over epochs and, within it, over batches.
    around = [loop for loop in loops if loop.differentiates and "jvp(" not in loop.name]
    sent = around[-1].exchanged if around else []
    listed = ", ".join(f"{kind} of {size:,} number{'s' * (size != 1)}" for kind, size in sent)
    return f"devices send each other in an update: {listed or 'nothing'}"


def _operations(number: float) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if number >= size), ("FLOP", 1))
    return f"{number / size:,.3g} {unit}"
