"""What a run began with, as its files and its checkpoints have it: a run that goes on may not become another one."""

from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import shorten
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_files import MissingRunFileError, RunFileError, read_environment
from jaxrnn.runs.step_files import finished_steps


def read_origin(run_dir: RunDirectory) -> dict[str, Any]:
    """Returns the ``data`` and the ``versions`` that a run began with; without environment.json its checkpoint's.

    Returns:
      Both; an empty dict where the run was interrupted before anything was computed.

    Raises:
      CheckpointError: There is no readable environment.json, and the checkpoint is damaged.
      RunFileError: There is neither a readable environment.json nor a checkpoint that names the data.
    """
    try:
        return read_environment(run_dir.environment)
    except RunFileError as error:
        complaint = error
    steps = run_dir.checkpoints
    if not (steps.is_dir() and finished_steps(steps)):
        if isinstance(complaint, MissingRunFileError):
            return {}
        raise complaint
    with Checkpointer(steps, read_only=True) as checkpointer:
        step = checkpointer.newest_good()
        metadata = {} if step is None else checkpointer.read_metadata(step)
    data, found = metadata.get("data"), metadata.get("versions")
    if not (isinstance(data, dict) and all(isinstance(data.get(key), str) for key in ("path", "sha256"))):
        raise complaint
    say(f"warning: {complaint}; the checkpoint of step {step} says which data the run began with")
    return {"data": data, "versions": found if isinstance(found, dict) else {}}


def read_recurrence(run_dir: RunDirectory) -> str | None:
    """Returns the form of the recurrence that a run was computed with; None where that is not known."""
    try:
        return read_environment(run_dir.environment).get("recurrence")
    except RunFileError:  # said by `check_same_data`
        return None


def check_same_data(description: dict[str, Any], run_dir: RunDirectory) -> None:
    """Refuses other data than a run began with, and warns of other versions.

    Args:
      description: Path, hash and size of the data.
      run_dir: The run's directory.

    Raises:
      UserError: It is other data, or what the run began with is not known.
    """
    origin = read_origin(run_dir)
    if not origin:  # interrupted before anything was computed
        return
    before = origin["data"]
    if before["sha256"] != description["sha256"]:
        raise other_data(description["path"], description["sha256"], before)
    given, now_given = _hashes_of_parts(before), _hashes_of_parts(description)
    for part in sorted(given.keys() | now_given.keys()):
        sha256, now = given.get(part), now_given.get(part)
        if sha256 is None or now is None:  # then other sequences of the data would train
            began = "without one" if sha256 is None else "with one"
            got = "a file" if sha256 is None else "none"
            raise UserError(
                f"--resume: --{part}-data: got {got}; expected the parts that the run has, which began {began};"
                " start a new run without --resume"
            )
        if now != sha256:
            raise UserError(
                f"--resume: --{part}-data: got other data than the run began with (SHA-256 {now[:12]}..); expected"
                f" {shorten(sha256)[:12]}..; give the file that it began with"
            )
    installed = versions()
    others = {name: old for name, old in origin["versions"].items() if installed.get(name) != old}
    if others:
        listed = ", ".join(f"{name} {old} then, {installed.get(name)} now" for name, old in others.items())
        say(
            f"warning: the run began with other versions: {shorten(listed, 400)}: its numbers may differ in the last"
            " bits"
        )


def _hashes_of_parts(data: dict[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of the files of parts that a description of data names."""
    given = data.get("given")
    files = given if isinstance(given, dict) else {}
    return {str(part): str(file.get("sha256")) for part, file in files.items() if isinstance(file, dict)}


def other_data(path: str, sha256: str, before: dict[str, Any]) -> UserError:
    """Makes the error about data that a run did not begin with.

    Args:
      path: The file.
      sha256: Its hash.
      before: The data that the run began with.
    """
    return UserError(
        f"--resume: {path}: got other data than the run began with (SHA-256 {sha256[:12]}..); expected that of"
        f" {shorten(before['path'])}, {before.get('rows')} rows with {before['sha256'][:12]}..; give the file by"
        " --data, or start a new run without --resume"
    )
