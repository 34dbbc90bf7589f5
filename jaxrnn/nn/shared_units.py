"""The hidden units of a layer dealt out to the devices along a mesh's model axis.

In PyTorch's layout a weight's rows are gate after gate, so a device's share of them would be some gates of all units,
and every step would send gates about. Here the rows are dealt out anew, once a batch: of M devices each gets all gates
of H / M units. Gates and cell states are then computed where they are needed; a step sends the hidden vector alone::

    rows (gate, device, unit)  ->  (device, gate, unit)
"""

import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn.foundation.array_types import Array, State
from jaxrnn.nn.engine.loops import Pointwise, Weights

MODEL_AXIS = "model"


def deal_rows(weights: Weights, num_gates: int, mesh: Mesh) -> Weights:
    """Returns weights whose rows are in the order of the devices.

    Args:
      weights: In PyTorch's layout, of G * H rows; H a multiple of the axis's size.
      num_gates: G.
      mesh: With `MODEL_AXIS`.
    """
    devices = mesh.shape[MODEL_AXIS]
    sharding = NamedSharding(mesh, PartitionSpec(MODEL_AXIS))

    def deal(rows: Array | None) -> Array | None:
        if rows is None:
            return None
        dealt = rows.reshape(num_gates, devices, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)
        return jax.lax.with_sharding_constraint(dealt, sharding)

    with_rows: Any = {name: deal(getattr(weights, name)) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return weights._replace(**with_rows)


@functools.lru_cache
def dealt(pointwise: Pointwise, mesh: Mesh) -> Pointwise:
    """Returns an equation that computes what `pointwise` does, of gates whose weights come from `deal_rows`.

    Args:
      pointwise: Elementwise over the units, without parameters of its own.
      mesh: With `MODEL_AXIS`.
    """
    devices = mesh.shape[MODEL_AXIS]
    places = NamedSharding(mesh, PartitionSpec(PartitionSpec.UNCONSTRAINED, MODEL_AXIS))

    def split(array: Array) -> Array:
        return array.reshape(array.shape[0], devices, -1)

    def join(array: Array) -> Array:
        return jax.lax.with_sharding_constraint(array.reshape(array.shape[0], -1), places)

    def compute(state: State, input_gates: Array, hidden_gates: Array) -> State:
        arguments: Any = jax.tree.map(split, (state, input_gates, hidden_gates))
        return jax.tree.map(join, jax.vmap(pointwise, in_axes=1, out_axes=1)(*arguments))

    return compute
