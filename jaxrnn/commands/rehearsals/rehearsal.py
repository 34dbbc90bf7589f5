"""A run up to its first update: the data checked, the program compiled, what it would do printed, nothing written."""

from typing import Any

from jaxrnn.commands.banner import print_banner
from jaxrnn.commands.rehearsals.target_rehearsal import for_this_machine, rehearse_for
from jaxrnn.commands.training_data import open_training_data
from jaxrnn.console.tables import table
from jaxrnn.parallel.device_memory import planned_bytes, readable, tree_bytes
from jaxrnn.parallel.devices import num_cores
from jaxrnn.parallel.targets import Target, prepare_environment
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.plan import Plan


def rehearse(config: Config, target_devices: str | None = None) -> None:
    """Prints what `train_run.train` would do.

    Args:
      config: The whole configuration.
      target_devices: Devices to compile for, as `jaxrnn.parallel.targets.Target.parse` takes them; None for this
        machine's.

    Raises:
      UserError: Bad data, or devices that cannot share it, or have too little memory.
    """
    target = None if target_devices is None else Target.parse(target_devices)
    if target is not None:
        target.compiler()
        prepare_environment()
    data = open_training_data(config if target is None else for_this_machine(config))
    data.arrange()
    asked = data.config.replace_flat({"devices": config.training.devices, "mesh": config.training.mesh})
    config, plan = data.config, data.source.plan
    trainer = build_trainer(config, data.source)
    shapes = trainer.state_shapes()
    print_banner(data, shapes.params)
    print(batches_table(plan))
    epochs = config.training.epochs
    print(
        f"updates: {plan.steps_per_epoch:,} an epoch, {plan.steps_per_epoch * epochs:,} in {epochs:,} epochs"
        + (f"; fewer where training stops early, patience {config.training.patience}" * (config.training.patience > 0))
    )
    if target is not None:
        rehearse_for(target, data.source, asked)
    else:
        held = tree_bytes(shapes) if data.source.keeps_copy else 0
        print(describe_memory(data.source.trace(trainer)(), shapes.params, held))
    print("nothing was trained and nothing written")


def batches_table(plan: Plan) -> str:
    """Lays out the batches of an epoch: a line for every padded length."""
    lines, computed, padded = [], 0, 0
    parts = zip(plan.lengths, plan.num_rows, plan.batches_of_part, plan.real_steps, strict=True)
    for steps, num_rows, num_batches, real_steps in parts:
        all_steps = num_batches * plan.batch_rows * steps
        padding = all_steps - real_steps
        lines.append(_line(str(steps), num_rows, plan.batch_rows, num_batches, all_steps, padding))
        computed, padded = computed + all_steps, padded + padding
    if len(lines) > 1:
        lines.append(_line("all", sum(plan.num_rows), plan.batch_rows, plan.num_batches, computed, padded))
    rows = "packed rows" if plan.batching == "pack" else "rows"
    return table([f"batching {plan.batching}, steps", rows, f"{rows} a batch", "batches", "padded share"], lines)


def _line(name: str, num_rows: int, batch_rows: int, num_batches: int, all_steps: int, padding: int) -> list[str]:
    return [name, f"{num_rows:,}", f"{batch_rows:,}", f"{num_batches:,}", f"{padding / max(all_steps, 1):.1%}"]


def describe_memory(compiled: Any, params: Any, held: int = 0) -> str:
    """Says how much memory of a device training needs, as XLA has planned it, and what it does not know of.

    Args:
      compiled: The program that trains.
      params: Shapes of the parameters.
      held: Bytes of a state that is held beside the program's arguments.
    """
    planned = planned_bytes(compiled)
    if planned is None:  # some backends do not tell
        return "memory: this backend's compiler does not tell what it has planned"
    given, temporary, made = planned
    # The compiled recurrence packs a layer's weights for both directions, and adds up a gradient of them a core.
    packed = (2 + num_cores()) * tree_bytes(params)
    own = f", the compiled recurrence up to {readable(packed)}" if "jaxrnn_forward2" in compiled.as_text() else ""
    before = f", {readable(held)} of the state that an epoch goes back to" if held else ""
    return (
        f"memory of a device, as XLA has planned the compiled epochs: {readable(sum(planned) + held)}:"
        f" {readable(given)} of data, parameters and optimiser state, {readable(temporary)} of temporaries,"
        f" {readable(made)} of results{before}; beside it the process holds Python, JAX and the rows{own}"
    )
