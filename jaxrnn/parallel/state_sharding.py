"""Where a run's state lies on a mesh: weights shared along its model axis, members dealt out, the rest whole.

Of G gates of H units a weight has G * H rows, gate by gate; a device holds as many of them, and of the optimiser's
state, as every other. Inside a step the rows are dealt out anew, so that all gates of a unit are on one device
(`jaxrnn.nn.recurrent_layer`); what is stored keeps PyTorch's layout.
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn.parallel.devices import MODEL_AXIS, members_sharding, model_size, put

# By the beginning of the parameter's name: the optimiser's state has the same names.
_SPECS = {
    "weight_ih_l": PartitionSpec(MODEL_AXIS),
    "weight_hh_l": PartitionSpec(MODEL_AXIS),
    "bias_ih_l": PartitionSpec(MODEL_AXIS),
    "bias_hh_l": PartitionSpec(MODEL_AXIS),
    "weight_hr_l": PartitionSpec(None, MODEL_AXIS),
}


def _sharding_of(path: tuple[Any, ...], mesh: Mesh) -> NamedSharding:
    names = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
    name = next((name for name in reversed(names) if name != "value"), "")
    spec = next((spec for beginning, spec in _SPECS.items() if name.startswith(beginning)), PartitionSpec())
    return NamedSharding(mesh, spec)


def state_shardings(tree: Any, mesh: Mesh | None) -> Any:
    """Returns where each array of a state, or of a part of it, lies: None for the default device.

    Args:
      tree: Arrays or shapes, by their parameters' names.
      mesh: The devices; None for the default one.
    """
    if model_size(mesh) == 1:
        return jax.tree.map(lambda leaf: members_sharding(mesh), tree)
    assert mesh is not None
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _sharding_of(path, mesh), tree)


def with_shardings(shapes: Any, mesh: Mesh | None) -> Any:
    """Returns the shapes of a state with the places of its arrays."""

    def placed(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    # None is no leaf of a tree of shardings, so it cannot be mapped together with the shapes.
    if mesh is None:
        return jax.tree.map(lambda leaf: placed(leaf, None), shapes)
    return jax.tree.map(placed, shapes, state_shardings(shapes, mesh))


def place_state(state: Any, mesh: Mesh | None) -> Any:
    """Puts a state where it belongs; what is there already stays."""
    if mesh is None:
        return jax.device_put(state, None)
    return jax.tree.map(put, state, state_shardings(state, mesh))


def constrain_state(state: Any, mesh: Mesh | None) -> Any:
    """Asks, inside a jitted function, that a state, or a part of it, lie where it belongs."""
    if mesh is None:
        return state
    return jax.tree.map(jax.lax.with_sharding_constraint, state, state_shardings(state, mesh))
