"""Which devices share the work: one CPU device per core, or all accelerators.

They share each batch where a step is large enough to gain, or the members of an ensemble among them.
"""

import os
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.errors import UserError
from jaxrnn.reporting import say

DATA_AXIS = "data"
MEMBER_AXIS = "members"
# Gates that a batch computes: rows * steps * gates * hidden units. Adding up gradients over devices takes some tenths
# of a millisecond whatever their size. On two cores a batch of 150,000 (GRU, 32 rows, 50 steps, H = 32) is as fast on
# one of them, one of 400,000 (tanh, 128 rows, 50 steps, H = 64) 1.4 times faster on both, one of 800,000 (LSTM, 64
# rows, 50 steps, H = 64) 1.6 times.
MIN_BATCH_GATES = 2**18


def choose_mesh(
    limit: int, *, batch_gates: int, batch_rows: int, members: int = 1, threaded: bool = False
) -> Mesh | None:
    """Chooses the devices that share the members of an ensemble, or each batch.

    On CPU it makes one device per core if JAX has not made its devices yet.

    Args:
      limit: Devices to use; 0 for all, where a step is large enough to gain.
      batch_gates: Rows of a batch * steps * gates * hidden units.
      batch_rows: Rows of a batch; each device gets as many.
      members: Models trained together. Where they can be dealt out evenly, to whatever number of devices, they are:
        that costs nothing, however small a step is.
      threaded: Whether a step on a CPU uses all its cores by itself, so that there is nothing to gain from devices.

    Returns:
      A mesh with one axis, `MEMBER_AXIS` or `DATA_AXIS`, or None to use the default device.

    Raises:
      UserError: There are fewer devices than `limit`, or they cannot share a batch evenly.
    """
    is_large = members * batch_gates >= MIN_BATCH_GATES
    if limit == 1 or (not limit and members == 1 and not is_large):
        return None
    if threaded and not limit and members == 1 and jax.default_backend() == "cpu":
        return None
    wanted = limit or num_cores()
    late = not _make_cpu_devices(wanted)
    devices = jax.local_devices()
    if limit > len(devices):
        hint = "; JAX had made its devices before" if late and devices[0].platform == "cpu" else ""
        raise UserError(f"--devices: got {limit}; expected at most {len(devices)}, what JAX has here{hint}")
    dealt = _largest_divisor(members, limit or len(devices))
    if dealt > 1 and (not limit or dealt == limit):
        return jax.make_mesh((dealt,), (MEMBER_AXIS,), devices=devices[:dealt], axis_types=(AxisType.Auto,))
    if not limit and not is_large:
        return None
    if limit and batch_rows % limit:
        raise UserError(f"--devices: got {limit}; expected a divisor of {batch_rows}, the rows of a batch")
    if not limit and late and devices[0].platform == "cpu" and len(devices) < wanted:
        say(
            f"training runs on {len(devices)} of {wanted} CPU cores: JAX had made its devices before; to use all,"
            f' call jax.config.update("jax_num_cpu_devices", {wanted}) before anything else of JAX'
        )
    number = limit or _largest_divisor(batch_rows, len(devices))
    if number == 1:
        return None
    return jax.make_mesh((number,), (DATA_AXIS,), devices=devices[:number], axis_types=(AxisType.Auto,))


def _largest_divisor(number: int, limit: int) -> int:
    return max(n for n in range(1, limit + 1) if number % n == 0)


def num_cores() -> int:
    """Returns how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Puts arrays on every device of a mesh, or on the default device."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def deal_members(tree: Any, mesh: Mesh | None) -> Any:
    """Deals out the leading axis of arrays to the devices of a mesh of members; on another mesh replicates them."""
    return jax.device_put(tree, members_sharding(mesh))


def members_sharding(mesh: Mesh | None) -> NamedSharding | None:
    """Returns where `deal_members` puts arrays; None for the default device."""
    if mesh is None:
        return None
    return NamedSharding(mesh, PartitionSpec(*[axis for axis in mesh.axis_names if axis == MEMBER_AXIS]))


def gather_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Asks, inside a jitted function, that every device of a mesh hold arrays whole."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), tree)


def share_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Asks, inside a jitted function, that the rows of arrays be shared among the devices of a mesh."""
    if mesh is None:
        return tree
    number = mesh.devices.size
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return jax.tree.map(
        lambda leaf: leaf if leaf.shape[0] % number else jax.lax.with_sharding_constraint(leaf, sharding), tree
    )


def _make_cpu_devices(number: int) -> bool:
    """Makes CPU devices; returns False if that is no longer possible, or somebody else has set their number."""
    chosen = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if chosen >= 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return True
    try:
        jax.config.update("jax_num_cpu_devices", number)
    except RuntimeError:  # JAX has made its devices
        return False
    return True
