"""A run up to its first update: the data checked, the program compiled, what it would do printed, nothing written."""

from typing import Any

import jax
import numpy as np

from jaxrnn.commands.runner import print_banner
from jaxrnn.console.tables import table
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.data.split import count_shared_rows
from jaxrnn.parallel.device_memory import planned_bytes, readable, tree_bytes
from jaxrnn.parallel.devices import num_cores
from jaxrnn.settings.config import Config
from jaxrnn.training.fitting import PreparedData, build_trainer, compile_epochs, prepare_data


def rehearse(config: Config) -> None:
    """Prints what `runner.train` would do.

    Args:
      config: The whole configuration.

    Raises:
      UserError: Bad data, or devices that cannot share it.
    """
    rows = load_rows(config.data.data, config.reader, min_length=2)
    with naming(config.data.data):
        data = prepare_data(config, rows)
    trainer = build_trainer(config, data)
    params = jax.eval_shape(lambda: trainer.init(trainer.seeds())).params
    print_banner(config, rows, data, params, count_shared_rows(rows, data.split))
    print(batches_table(data))
    epochs = config.training.epochs
    print(
        f"updates: {data.steps_per_epoch:,} an epoch, {data.steps_per_epoch * epochs:,} in {epochs:,} epochs"
        + (f"; fewer where training stops early, patience {config.training.patience}" * (config.training.patience > 0))
    )
    print(describe_memory(compile_epochs(trainer, data), params))
    print("nothing was trained and nothing written")


def batches_table(data: PreparedData) -> str:
    """Lays out the batches of an epoch: a line for every padded length."""
    lines, computed, padded = [], 0, 0
    for part, num_rows, steps in zip(data.training, data.num_rows, data.lengths, strict=True):
        num_batches = -(-num_rows // data.batch_rows)
        all_steps = num_batches * data.batch_rows * steps
        padding = all_steps - _real_steps(part)
        lines.append(_line(str(steps), num_rows, data.batch_rows, num_batches, all_steps, padding))
        computed, padded = computed + all_steps, padded + padding
    if len(lines) > 1:
        batches = sum(-(-num_rows // data.batch_rows) for num_rows in data.num_rows)
        lines.append(_line("all", sum(data.num_rows), data.batch_rows, batches, computed, padded))
    rows = "packed rows" if data.batching == "pack" else "rows"
    return table([f"batching {data.batching}, steps", rows, f"{rows} a batch", "batches", "padded share"], lines)


def _line(name: str, num_rows: int, batch_rows: int, num_batches: int, all_steps: int, padding: int) -> list[str]:
    return [name, f"{num_rows:,}", f"{batch_rows:,}", f"{num_batches:,}", f"{padding / max(all_steps, 1):.1%}"]


def _real_steps(part: Any) -> int:
    """Steps that are not padding; the last value of a row is a target only."""
    if hasattr(part, "segment_ids"):
        return int(np.count_nonzero(np.asarray(part.segment_ids)))
    return int(np.maximum(np.asarray(part.lengths) - 1, 0).sum())


def describe_memory(compiled: Any, params: Any) -> str:
    """Says how much memory of a device the epochs need, as XLA has planned it, and what it does not know of."""
    planned = planned_bytes(compiled)
    if planned is None:  # some backends do not tell
        return "memory: this backend's compiler does not tell what it has planned"
    given, temporary, made = planned
    # The compiled recurrence packs a layer's weights for both directions, and adds up a gradient of them a core.
    packed = (2 + num_cores()) * tree_bytes(params)
    own = f", the compiled recurrence up to {readable(packed)}" if "jaxrnn_forward" in compiled.as_text() else ""
    return (
        f"memory of a device, as XLA has planned the compiled epochs: {readable(sum(planned))}:"
        f" {readable(given)} of data, parameters and optimiser state, {readable(temporary)} of temporaries,"
        f" {readable(made)} of results; beside it the process holds Python, JAX and the rows{own}"
    )
