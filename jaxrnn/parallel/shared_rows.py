"""A model's call on a batch whose rows are shared among the devices of a mesh.

Each device calls the model on its own rows, so that whatever serves one device serves here, the compiled recurrence
too; the parameters go in as one vector, so that one all-reduce adds up all their gradients. That does not serve where
devices share weights, nor where dropout has to draw what one device would draw for the whole batch: there XLA's
partitioner deals out the call.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from jaxrnn.foundation.array_types import Array
from jaxrnn.parallel.devices import DATA_AXIS, data_size, gather_rows, model_size, share_rows
from jaxrnn.settings.config import Config


def can_call_on_shares(config: Config, mesh: Mesh | None) -> bool:
    """Whether each device calls the model by itself, rather than XLA's partitioner dealing out one call."""
    drops = config.model.dropout > 0 and (config.model.num_layers > 1 or config.task.task == "forecast")
    return model_size(mesh) == 1 and not drops and config.training.ensemble == 1


def call_on_shares(call: Callable[..., Any], model: nnx.Module, rows: Any, config: Config, mesh: Mesh | None) -> Any:
    """Returns ``call(model, *rows)``, whole on every device of a mesh, each of which computed some of the rows.

    Args:
      call: Computes of each row something of its own.
      model: What it is called with.
      rows: A tree of arrays whose first axis is that of the rows. Rows that fill them up are all zeros.
      config: The run's configuration.
      mesh: The devices; None for the default one.
    """
    if mesh is None:
        return call(model, *rows)
    if not can_call_on_shares(config, mesh):
        return gather_rows(call(model, *share_rows(rows, mesh)), mesh)
    graphdef, state = nnx.split(model)
    vector, unravel = ravel_pytree(state)
    number = jax.tree.leaves(rows)[0].shape[0]
    fill = -number % data_size(mesh)

    def filled(leaf: Array) -> Array:
        return jnp.pad(leaf, [(0, fill)] + [(0, 0)] * (leaf.ndim - 1))

    def call_on_some(vector: Array, rows: Any) -> Any:
        return call(nnx.merge(graphdef, unravel(vector)), *rows)

    shares = PartitionSpec(DATA_AXIS)
    run = jax.shard_map(call_on_some, mesh=mesh, in_specs=(PartitionSpec(), shares), out_specs=shares, check_vma=False)
    whole = gather_rows(run(vector, jax.tree.map(filled, rows)), mesh)
    return jax.tree.map(lambda leaf: leaf[:number], whole)
