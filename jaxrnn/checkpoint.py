"""Checkpoints: Orbax behind one small class. It takes pytrees and plain metadata, and knows no model.

A step holds one array for every leaf, by the leaf's path in its tree, and a JSON object. Arrays that Orbax would
restore silently wrong - a flipped bit, another type, another shape - are refused: every step carries the SHA-256 of its
files, and every array is compared with what is expected of it.
"""

import functools
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrnn.errors import UserError
from jaxrnn.quiet import root_logger_kept

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.sha256.json"


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of another model."""


class Checkpointer:
    """The steps below one directory.

    Use it as a context manager: leaving it waits for what is still being written.

    Args:
      directory: Where the steps are, one directory each.
      keep: How many of the latest steps to keep.
      read_only: True leaves the directory as it is.

    Raises:
      CheckpointError: `read_only`, and there is no such directory; or it cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2, read_only: bool = False):
        self.directory = Path(directory).absolute()
        if read_only and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory}: no checkpoints here")
        if not read_only:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                _remove_unfinished_steps(self.directory)
            except OSError as error:
                raise CheckpointError(f"{self.directory}: cannot be written: {error.strerror}") from error
        self._keep = keep
        self._read_only = read_only

    @functools.cached_property
    def _ocp(self) -> Any:
        return import_orbax()

    @functools.cached_property
    def _manager(self) -> Any:  # made when it is first needed: a new run has nothing to restore
        ocp = self._ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy

        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                read_only=self._read_only,
                create=not self._read_only,
                preservation_policy=preservation_policy.LatestN(self._keep),
                enable_async_checkpointing=False,
                save_root_metadata=False,
                cleanup_tmp_directories=not self._read_only,
                atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
            ),
            item_handlers={
                "arrays": ocp.StandardCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @root_logger_kept()
    def close(self) -> None:
        """Waits for what is being written, and lets go."""
        if "_manager" in self.__dict__:
            self._manager.close()

    @root_logger_kept()
    def steps(self) -> list[int]:
        """Returns the steps that are whole, oldest first."""
        if not any(path.joinpath(MANIFEST_NAME).is_file() for path in self.directory.iterdir()):
            return []
        return sorted(step for step in self._manager.all_steps() if (self._step_dir(step) / MANIFEST_NAME).is_file())

    @root_logger_kept()
    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Writes a step; afterwards it is whole or not there.

        Args:
          step: A number above those saved before.
          tree: A pytree of arrays; typed random keys are fine.
          metadata: A JSON object.

        Raises:
          CheckpointError: The step exists, or cannot be written.
        """
        arrays = {name: _storable(leaf) for name, leaf in named_leaves(tree).items()}
        content = {"format_version": FORMAT_VERSION, **metadata}
        try:
            saved = self._manager.save(
                step,
                args=self._ocp.args.Composite(
                    arrays=self._ocp.args.StandardSave(arrays),
                    metadata=self._ocp.args.JsonSave(content),
                ),
            )
            self._manager.wait_until_finished()
            if saved:
                _write_manifest(self._step_dir(step))
        except OSError as error:
            raise CheckpointError(f"{self._step_dir(step)}: cannot write the checkpoint: {error}") from error
        if not saved:
            raise CheckpointError(f"{self._step_dir(step)}: step {step} exists already; it is never overwritten")

    @root_logger_kept()
    def read_metadata(self, step: int) -> dict[str, Any]:
        """Returns the JSON object of a step.

        Raises:
          CheckpointError: It is damaged, or written by another version.
        """
        verify_files(self._step_dir(step))
        restored = self._manager.restore(step, args=self._ocp.args.Composite(metadata=self._ocp.args.JsonRestore()))
        content = restored["metadata"]
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{self._step_dir(step)}: got checkpoint format {version}; this version reads {FORMAT_VERSION};"
                f" use the jaxrnn version that wrote it ({content.get('versions', {}).get('jaxrnn', 'unknown')})"
            )
        return content

    @root_logger_kept()
    def restore(self, step: int, template: Any) -> Any:
        """Reads arrays back.

        Args:
          step: One of `steps()`.
          template: A pytree of arrays or of `jax.ShapeDtypeStruct`, of the structure to return; it may be a part of
            what was saved.

        Returns:
          The tree, on the default device.

        Raises:
          CheckpointError: A file is damaged; an array is missing or has another shape or type; names it.
        """
        directory = self._step_dir(step)
        verify_files(directory)
        wanted = named_leaves(template)
        item = self._manager.item_metadata(step)["arrays"]
        stored = dict(item.items())
        for name, leaf in wanted.items():
            if name not in stored:
                raise CheckpointError(f"{directory}: has no array {name}; it has {', '.join(sorted(stored))}")
            expected = _storable_struct(leaf)
            found = stored[name]
            if tuple(found.shape) != expected.shape or np.dtype(found.dtype) != expected.dtype:
                raise CheckpointError(
                    f"{directory}: array {name}: got {np.dtype(found.dtype)} of shape {tuple(found.shape)};"
                    f" expected {expected.dtype} of shape {expected.shape}"
                )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        structs = {
            name: jax.ShapeDtypeStruct(tuple(found.shape), found.dtype, sharding=device)
            for name, found in stored.items()
        }
        restored = self._manager.restore(
            step, args=self._ocp.args.Composite(arrays=self._ocp.args.StandardRestore(structs))
        )["arrays"]
        leaves = [_as_stored_type(restored[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def _step_dir(self, step: int) -> Path:
        return self.directory / str(step)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, such as ``params/rnn/weight_ih_l0``."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {}
    for path, leaf in flat:
        # The last entry of a path into an nnx.State only says that the variable holds a value.
        parts = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        named["/".join(part for part in parts if part != "value")] = leaf
    if len(named) != len(flat):
        raise ValueError("two leaves have the same path")
    return named


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(leaf: Any) -> Any:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _storable_struct(leaf: Any) -> Any:
    return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf


def _as_stored_type(array: Any, leaf: Any) -> Any:
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)


def _write_manifest(directory: Path) -> None:
    digests = {str(path.relative_to(directory)): _sha256(path) for path in _files(directory)}
    unfinished = directory / f".{MANIFEST_NAME}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(directory / MANIFEST_NAME)


def _remove_unfinished_steps(directory: Path) -> None:
    # Killed before its manifest was written, a step is committed for Orbax: it would refuse to write that step anew,
    # and count it among the latest ones that it keeps.
    for path in directory.iterdir():
        if path.name.isascii() and path.name.isdigit() and not (path / MANIFEST_NAME).is_file():
            shutil.rmtree(path)


def verify_files(directory: Path) -> None:
    """Compares the files of a step with its manifest.

    Raises:
      CheckpointError: Names the first file that is missing or not what was written.
    """
    try:
        digests = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        if not isinstance(digests, dict) or not digests:
            raise ValueError("no digests")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory / MANIFEST_NAME}: missing or damaged; the checkpoint is not whole"
        ) from error
    for name, digest in digests.items():
        path = directory / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{directory / MANIFEST_NAME}: names a file outside of the step: {name}")
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing; restore another step of {directory.parent}")
        if _sha256(path) != digest:
            raise CheckpointError(f"{path}: is not what was written (SHA-256 differs); restore another step of "
                                  f"{directory.parent}")  # fmt: skip


@root_logger_kept()
def import_orbax() -> Any:
    """Imports Orbax, which takes half a second."""
    import orbax.checkpoint as ocp

    return ocp
