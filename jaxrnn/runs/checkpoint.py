"""Checkpoints: Orbax behind one small class. It takes pytrees and plain metadata, and knows no model.

A step holds one array for every leaf, by the leaf's path in its tree, and a JSON object. Arrays that Orbax would
restore silently wrong - a flipped bit, another type, another shape - are refused: every step carries the SHA-256 of its
files, and every array is compared with what is expected of it.
"""

import errno
import functools
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxrnn.foundation.quiet import late_tasks_quiet, root_logger_kept
from jaxrnn.parallel import hosts
from jaxrnn.runs.step_files import (
    MANIFEST_NAME,
    CheckpointError,
    DamagedCheckpointError,
    disk_complaint,
    finished_steps,
    is_whole,
    step_numbers,
    verify_files,
    wait_for_manifest,
    write_manifest,
)
from jaxrnn.runs.stored_arrays import as_stored_type, check_arrays, check_format, read_shapes, reading, storable

FORMAT_VERSION = 1
BYTES_BESIDE_ARRAYS = 128 * 1024  # a dozen small files


def _without_parents(path: Path) -> Path:
    """Returns an absolute path without "..", which TensorStore takes for no path; a link may be followed for that."""
    return path.resolve() if ".." in path.parts else path.absolute()


class Checkpointer:
    """The steps below one directory.

    Use it as a context manager: leaving it waits for what is still being written.

    Args:
      directory: Where the steps are, one directory each.
      keep: How many of the latest steps to keep.
      read_only: True leaves the directory as it is.
      warn: Called with what the user should know of steps that are not whole.

    Raises:
      CheckpointError: `read_only`, and there is no such directory; or it cannot be made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 2,
        read_only: bool = False,
        warn: Callable[[str], None] = lambda text: None,
    ):
        self.directory = _without_parents(Path(directory))
        self._warn = warn
        self._verified: set[int] = set()
        if read_only and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory}: no checkpoints here")
        if not read_only:
            hosts.from_main(self._make_directory)
        self._keep = keep
        self._read_only = read_only

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished_steps()
        except OSError as error:
            raise CheckpointError(f"{self.directory}: cannot be written: {error.strerror or error}") from error

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
                lightweight_initialize=True,  # it would read a file of every step, damaged ones and pipes too
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
        return [step for step in step_numbers(self.directory) if is_whole(self._step_dir(step))]

    def is_finished(self, step: int) -> bool:
        """Whether the writing of a step came to its end, though it may have been damaged since."""
        return step in finished_steps(self.directory)

    def newest_good(self, *, below: float = math.inf) -> int | None:
        """Finds the newest step that is whole, and warns of newer ones whose files are not what was written.

        Those are set aside, unless this is `read_only`: a run that goes on will come to their numbers again.

        Args:
          below: Only steps with a lower number.

        Returns:
          The step; None if there is none.

        Raises:
          CheckpointError: There are steps, and all of them are damaged.
        """
        newest = hosts.from_main(lambda: self._newest_good(below))
        if newest is not None:
            self._verified.add(newest)
        return newest

    def _newest_good(self, below: float) -> int | None:
        damaged: dict[int, DamagedCheckpointError] = {}
        newest = finished_steps(self.directory, below)
        for step in newest:
            try:
                if self._read_only:  # by a run that goes on meanwhile
                    wait_for_manifest(self._step_dir(step))
                self._verify(step)
            except DamagedCheckpointError as error:
                if finished_steps(self.directory, below) != newest:  # that run has removed it
                    return self._newest_good(below)
                damaged[step] = error
                continue
            for other, complaint in damaged.items():
                aside = "" if self._read_only else f"; it is kept as {self._set_aside(other).name}"
                self._warn(f"warning: {complaint}; going back to step {step}{aside}")
            return step
        for complaint in damaged.values():  # of the newest step
            raise CheckpointError(f"{complaint}; {self.directory} holds no whole checkpoint to go back to")
        return None

    @root_logger_kept()
    @late_tasks_quiet()
    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Writes a step; afterwards it is whole or not there.

        Args:
          step: A number above those saved before.
          tree: A pytree of arrays; typed random keys are fine.
          metadata: A JSON object.

        Raises:
          CheckpointError: The step exists, or cannot be written.
        """
        arrays = {name: storable(leaf) for name, leaf in named_leaves(tree).items()}
        content = {"format_version": FORMAT_VERSION, **metadata}
        hosts.from_main(lambda: self._require_space(step, sum(array.nbytes for array in arrays.values())))
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
                hosts.from_main(lambda: write_manifest(self._step_dir(step)))
                self._verified.discard(step)
        except Exception as error:
            reason = disk_complaint(error)
            if reason is None:
                raise
            raise CheckpointError(f"{self._step_dir(step)}: cannot write the checkpoint: {reason}") from error
        if not saved:
            raise CheckpointError(f"{self._step_dir(step)}: step {step} exists already; it is never overwritten")

    @root_logger_kept()
    def read_metadata(self, step: int) -> dict[str, Any]:
        """Returns the JSON object of a step.

        Raises:
          CheckpointError: It is damaged, or written by another version.
        """
        self._require_whole(step)
        with reading(self._step_dir(step)):
            args = self._ocp.args.Composite(metadata=self._ocp.args.JsonRestore())
            content = self._manager.restore(step, args=args)["metadata"]
        return check_format(content, self._step_dir(step), FORMAT_VERSION)

    @root_logger_kept()
    def restore(self, step: int, template: Any) -> Any:
        """Reads arrays back.

        Args:
          step: One of `steps()`.
          template: A pytree of arrays or of `jax.ShapeDtypeStruct`, of the structure to return; it may be a part of
            what was saved.

        Returns:
          The tree, where the template's shapes say; without a word of that on the default device.

        Raises:
          CheckpointError: A file is damaged; an array is missing or has another shape or type; names it.
        """
        self._require_whole(step)
        wanted = named_leaves(template)
        stored = self.stored_arrays(step)
        check_arrays(stored, wanted, self._step_dir(step))
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        structs = {
            name: found.update(sharding=getattr(wanted.get(name), "sharding", None) or place)
            for name, found in stored.items()
        }
        with reading(self._step_dir(step)):
            args = self._ocp.args.Composite(arrays=self._ocp.args.StandardRestore(structs))
            restored = self._manager.restore(step, args=args)["arrays"]
        leaves = [as_stored_type(restored[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    @root_logger_kept()
    def stored_arrays(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the names of a step's arrays, with their shapes and types; keys are listed as their data."""
        with reading(self._step_dir(step)):
            return read_shapes(self._step_dir(step) / "arrays")

    def _step_dir(self, step: int) -> Path:
        return self.directory / str(step)

    def _require_space(self, step: int, num_bytes: int) -> None:
        # Orbax finds out as well, but says it in a hundred lines, from several threads.
        free, needed = shutil.disk_usage(self.directory).free, num_bytes + BYTES_BESIDE_ARRAYS
        if free < needed:
            raise CheckpointError(
                f"{self._step_dir(step)}: cannot write the checkpoint: {os.strerror(errno.ENOSPC)}: got"
                f" {free / 2**20:.2f} MiB, expected {needed / 2**20:.2f}; make room, then go on with --resume"
            )

    def _verify(self, step: int) -> None:
        if step not in self._verified:
            verify_files(self._step_dir(step))
            self._verified.add(step)

    def _require_whole(self, step: int) -> None:
        try:
            self._verify(step)
        except DamagedCheckpointError as error:
            try:
                older = self._newest_good(step)
            except CheckpointError:
                older = None
            offer = "no older step is whole" if older is None else f"the next older step is {self._step_dir(older)}"
            raise DamagedCheckpointError(f"{error}; {offer}") from error

    def _set_aside(self, step: int) -> Path:
        target = self.directory / f"damaged-{step}"
        if target.exists():
            shutil.rmtree(target)
        return self._step_dir(step).rename(target)

    def _remove_unfinished_steps(self) -> None:
        # Killed before its manifest was written, a step is committed for Orbax: it would refuse to write that step
        # anew, and count it among the latest ones that it keeps.
        finished = finished_steps(self.directory)
        for step in step_numbers(self.directory):
            manifest = self._step_dir(step) / MANIFEST_NAME
            if not manifest.is_file():
                if step in finished:
                    self._warn(
                        f"warning: {manifest}: is missing: the process was killed just then, or somebody has removed"
                        f" it; step {step} is of no use without it and is removed"
                    )
                shutil.rmtree(self._step_dir(step))


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


@root_logger_kept()
def import_orbax() -> Any:
    """Imports Orbax, which takes half a second."""
    import orbax.checkpoint as ocp

    return ocp
