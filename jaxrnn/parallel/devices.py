"""Which devices share the work, and where arrays lie on them: one CPU device per core, or all accelerators.

They share each batch where a step is large enough to gain, or the members of an ensemble among them; devices along a
second axis share the layers' weights. With several processes the mesh spans the devices of all of them.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.messages import say
from jaxrnn.nn.shared_units import MODEL_AXIS
from jaxrnn.parallel import hosts
from jaxrnn.settings.config import MeshSizes

DATA_AXIS = "data"
MEMBER_AXIS = "members"
# Gates that a batch computes: rows * steps * gates * hidden units. Adding up gradients over devices takes some tenths
# of a millisecond whatever their size. On two cores a batch of 150,000 (GRU, 32 rows, 50 steps, H = 32) is as fast on
# one of them, one of 400,000 (tanh, 128 rows, 50 steps, H = 64) 1.4 times faster on both, one of 800,000 (LSTM, 64
# rows, 50 steps, H = 64) 1.6 times.
MIN_BATCH_GATES = 2**18


def choose_mesh(
    limit: int,
    *,
    batch_gates: int,
    batch_rows: int,
    members: int = 1,
    threaded: bool = False,
    sizes: MeshSizes | None = None,
) -> Mesh | None:
    """Chooses the devices that share the members of an ensemble, or each batch and the weights.

    On CPU it makes one device per core if JAX has not made its devices yet. Of several processes all take part.

    Args:
      limit: Devices to use, as many as `sizes` says if it is given; 0 for all, where a step is large enough to gain.
      batch_gates: Rows of a batch * steps * gates * hidden units.
      batch_rows: Rows of a batch; more devices are not used unless asked for.
      members: Models trained together. Where they can be dealt out evenly, to whatever number of devices, they are:
        that costs nothing, however small a step is.
      threaded: Whether a step on a CPU uses all its cores by itself, so that there is nothing to gain from devices.
      sizes: Sizes of the axes; None for one axis.

    Returns:
      A mesh with one axis, `MEMBER_AXIS` or `DATA_AXIS`, or with `DATA_AXIS` and `MODEL_AXIS`; or None to use the
      default device.

    Raises:
      UserError: There are fewer devices than `limit`, or processes cannot share them evenly.
    """
    flag = f"--mesh: got {sizes}, {limit} devices" if sizes else f"--devices: got {limit}"
    is_large = members * batch_gates >= MIN_BATCH_GATES
    if hosts.is_distributed():
        devices = _devices_of_all_processes(limit, flag, only_one=not is_large)
        return _data_mesh(devices, sizes)
    if limit == 1 or (not limit and members == 1 and not is_large):
        return None
    if threaded and not limit and members == 1 and jax.default_backend() == "cpu":
        return None
    number = limit or num_cores()
    late = not make_cpu_devices(number)
    devices = jax.local_devices()
    if limit > len(devices):
        hint = "; JAX had made its devices before" if late and devices[0].platform == "cpu" else ""
        raise UserError(f"{flag}; expected at most {len(devices)}, what JAX has here{hint}")
    dealt = _largest_divisor(members, limit or len(devices))
    if sizes is None and dealt > 1 and (not limit or dealt == limit):
        return _mesh(devices[:dealt], (dealt,), (MEMBER_AXIS,))
    if not limit and not is_large:
        return None
    if not limit and late and devices[0].platform == "cpu" and len(devices) < number:
        say(
            f"training runs on {len(devices)} of {number} CPU cores: JAX had made its devices before; to use all,"
            f' call jax.config.update("jax_num_cpu_devices", {number}) before anything else of JAX'
        )
    number = limit or min(batch_rows, len(devices))
    return _data_mesh(devices[:number], sizes) if number > 1 else None


def _devices_of_all_processes(limit: int, flag: str, *, only_one: bool) -> list[Any]:
    """Returns as many devices of every process: each has to take part in what the others wait for."""
    by_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    processes, fewest = len(by_process), min(map(len, by_process.values()))
    if limit % processes or limit > processes * fewest:
        raise UserError(
            f"{flag}; expected a multiple of {processes}, the processes, and at most {processes * fewest}, what"
            " JAX has in them"
        )
    is_cpu = jax.default_backend() == "cpu"
    each = limit // processes or (1 if only_one and is_cpu else fewest)
    return [device for process in sorted(by_process) for device in by_process[process][:each]]


def arrange_devices(devices: list[Any], *, members: int, sizes: MeshSizes | None) -> Mesh:
    """Arranges devices, all of them, as `choose_mesh` would where a step is large enough to gain.

    Args:
      devices: Of this machine or of another one.
      members: Models trained together, which are dealt out where they can be evenly.
      sizes: Sizes of the axes; None for one axis.
    """
    if sizes is None and members > 1 and members % len(devices) == 0:
        return _mesh(devices, (len(devices),), (MEMBER_AXIS,))
    return _data_mesh(devices, sizes)


def _data_mesh(devices: list[Any], sizes: MeshSizes | None) -> Mesh:
    if sizes is None or sizes.model == 1:
        return _mesh(devices, (len(devices),), (DATA_AXIS,))
    return _mesh(devices, (sizes.data, sizes.model), (DATA_AXIS, MODEL_AXIS))


def _mesh(devices: list[Any], shape: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    return jax.make_mesh(shape, names, devices=devices, axis_types=(AxisType.Auto,) * len(names))


def _largest_divisor(number: int, limit: int) -> int:
    return max(n for n in range(1, limit + 1) if number % n == 0)


def num_cores() -> int:
    """Returns how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def data_size(mesh: Mesh | None) -> int:
    """Returns how many devices, or groups that share weights, share the rows of a batch."""
    return 1 if mesh is None else mesh.shape.get(DATA_AXIS, 1)


def model_size(mesh: Mesh | None) -> int:
    """Returns how many devices share the weights."""
    return 1 if mesh is None else mesh.shape.get(MODEL_AXIS, 1)


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Puts arrays on every device of a mesh, or on the default device; every process of the mesh has them all."""
    if mesh is None:
        return jax.device_put(tree, None)
    return jax.tree.map(lambda leaf: put(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def replicated(shapes: Any, mesh: Mesh | None) -> Any:
    """Returns the shapes of what `replicate` makes, with the places of the arrays."""
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def members_sharding(mesh: Mesh | None) -> NamedSharding | None:
    """Returns the sharding that deals out the leading axis on a mesh of members, and replicates on another."""
    if mesh is None:
        return None
    return NamedSharding(mesh, PartitionSpec(*[axis for axis in mesh.axis_names if axis == MEMBER_AXIS]))


def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Puts an array, of which every process has the whole, on the devices of a mesh; it stays if it is there."""
    if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def rows_of_process(mesh: Mesh | None, num_rows: int) -> slice:
    """Returns which rows of a batch this process is to give to `place_rows`.

    Args:
      mesh: With `DATA_AXIS`, or None for the default device.
      num_rows: Rows of the batch; it counts as filled up to a multiple of `data_size(mesh)`.
    """
    if mesh is None:
        return slice(0, num_rows)
    num_rows += -num_rows % data_size(mesh)
    places = NamedSharding(mesh, PartitionSpec(DATA_AXIS)).addressable_devices_indices_map((num_rows,))
    parts = [index[0].indices(num_rows) for index in places.values() if index is not None]
    return slice(min(part[0] for part in parts), max(part[1] for part in parts))


def place_rows(tree: Any, mesh: Mesh | None, *, axis: int = 0) -> Any:
    """Makes the arrays of a batch, shared by row among the devices of a mesh, from each process's own rows.

    Args:
      tree: NumPy arrays: the rows `rows_of_process` of the batch's.
      mesh: With `DATA_AXIS`, or with `MEMBER_AXIS` for rows that are members' own; None for the default device.
      axis: That of the rows, or of the members.
    """
    if mesh is None:
        return jax.device_put(tree, None)
    sharding = _dealt_out(mesh, axis)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def share_of_rows(shapes: Any, mesh: Mesh | None, *, axis: int = 0) -> Any:
    """Returns the shapes of what `place_rows` makes, with the places of the arrays."""
    if mesh is None:
        return shapes
    sharding = _dealt_out(mesh, axis)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def _dealt_out(mesh: Mesh, axis: int) -> NamedSharding:
    name = MEMBER_AXIS if MEMBER_AXIS in mesh.axis_names else DATA_AXIS
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, name))


def to_host(tree: Any) -> Any:
    """Returns arrays as NumPy's, and random keys as this process's own; all processes take part."""

    def whole(leaf: Any) -> Any:
        if leaf.is_fully_replicated:
            return leaf
        return jax.jit(lambda x: x, out_shardings=NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.asarray(whole(jax.random.key_data(leaf)))))
        return np.asarray(whole(leaf))

    return jax.tree.map(fetch, tree)


def gather_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Asks, inside a jitted function, that every device of a mesh hold arrays whole."""
    return _constrain(tree, mesh, PartitionSpec())


def share_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Asks, inside a jitted function, that the rows of arrays be shared among the devices of a mesh.

    Where they cannot be shared evenly, XLA fills them up on the last devices with rows that count nowhere.
    """
    return _constrain(tree, mesh, PartitionSpec(DATA_AXIS))


def _constrain(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), tree)


def make_cpu_devices_of_process(wanted: int, num_processes: int | None) -> None:
    """Makes the CPU devices of one of several processes: its share of those asked for, or one per core."""
    make_cpu_devices(max(1, wanted // num_processes) if wanted and num_processes else num_cores())


def make_cpu_devices(number: int) -> bool:
    """Makes CPU devices; returns False if that is no longer possible, or somebody else has set their number."""
    chosen = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if chosen >= 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return True
    try:
        jax.config.update("jax_num_cpu_devices", number)
    except RuntimeError:  # JAX has made its devices
        return False
    return True
