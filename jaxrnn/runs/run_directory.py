"""The files of a run: config.toml, metrics.jsonl, environment.json, summary.json, curves.png, checkpoints/, .."""

import os
import platform
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import naming, to_json, write_atomically
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.runs.metrics_file import read_metrics
from jaxrnn.runs.run_files import (
    MissingRunFileError,
    RunFileError,
    is_whole_png,
    read_environment,
    read_summary,
    require_file_or_nothing,
    require_whole_config,
    set_aside,
)
from jaxrnn.runs.run_lock import LOCK_NAME
from jaxrnn.settings.config import Config
from jaxrnn.settings.toml_files import to_toml

RUNS_DIR = Path("runs")


class RunDirectory:
    """One run's directory; its files appear whole or not at all.

    Args:
      path: The directory; made by `create`.

    Attributes:
      is_written: Whether this process writes it; of several that train one model only one does, and what would write
        does nothing in the others.
    """

    is_written = True

    def __init__(self, path: str | Path):
        self._name = ""  # of one below RUNS_DIR whose number is still to be settled
        self.move(Path(path))

    def move(self, path: str | Path) -> None:
        """Takes another directory for this one: several processes learn from one which it has made."""
        path = Path(path)
        self.path = path
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.jsonl"
        self.environment = self.path / "environment.json"
        self.summary = self.path / "summary.json"
        self.curves = self.path / "curves.png"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.selection = self.path / "selection"  # where a run that trains twice trains first

    @classmethod
    def choose(cls, run_dir: str | None, *, name: str, resume: bool) -> "RunDirectory":
        """Finds the directory to write to: a new one, or on resuming that of the run to go on with.

        Args:
          run_dir: As the user named it; None for ``runs/NAME``, ``runs/NAME-2``, ...
          name: The recipe's name.
          resume: Whether a run goes on.

        Raises:
          UserError: The directory holds a run already, or on resuming none.
        """
        if run_dir is not None:
            chosen = cls(run_dir)
            _require_usable(run_dir)
            if resume and not chosen.config.is_file() and chosen.checkpoints.is_dir():
                raise UserError(
                    f"{chosen.config}: found no such file beside checkpoints; expected that of the run; put back a"
                    " copy; jaxrnn.predict and jaxrnn.eval take the run without it, and a new one may begin elsewhere"
                )
            if resume and not chosen.config.is_file():
                raise UserError(f"--resume: {run_dir} holds no run; leave --resume out to start one there")
            if resume:
                chosen.require_files()
            if not resume and chosen.path.exists() and not chosen.is_empty():
                raise UserError(
                    f"--run-dir: {run_dir} is there already and is never overwritten; go on with it by --resume,"
                    " or name another directory"
                )
            return chosen
        if resume:
            found = [run for run in map(cls, _numbered(name)) if run.config.is_file()]
            if not found:
                raise UserError(f"--resume: there is no run {RUNS_DIR / name}; name it with --run-dir")
            found[-1].require_files()
            return found[-1]
        chosen = cls(_numbered(name)[-1])
        chosen._name = name
        return chosen

    def claim(self) -> None:
        """Makes the directory of a new run; where the name was free to choose, one that no other process makes.

        Raises:
          UserError: It cannot be made.
        """
        try:
            while True:
                try:
                    return self.path.mkdir(parents=True, exist_ok=not self._name)
                except FileExistsError:
                    if not self._name:
                        raise
                    self.move(_numbered(self._name)[-1])
        except OSError as error:
            raise UserError(f"--run-dir: cannot write to {self.path}: {error.strerror}") from error

    def require_empty(self) -> None:
        """Complains if another process has begun a run here, since `choose`."""
        if not self.is_empty():
            raise UserError(f"--run-dir: another process has begun a run in {self.path}; name another directory")

    def is_empty(self) -> bool:
        """Whether it is a directory that holds at most what a process leaves that is killed before it has begun."""
        return self.path.is_dir() and all(_is_leftover(path) for path in self.path.iterdir())

    def remove_leftovers(self) -> None:
        """Removes files that a killed process had not finished; for the holder of the lock."""
        if not self.is_written:
            return
        for path in self.path.iterdir():
            if _is_leftover(path) and path.name != LOCK_NAME:
                path.unlink()

    def require_files(self) -> None:
        """Refuses a directory, or something else, in the place of a file that a run writes, and a cut config.toml.

        Raises:
          RunFileError: Names the first.
        """
        for path in (self.config, self.metrics, self.environment, self.summary, self.curves):
            require_file_or_nothing(path)
        require_whole_config(self.config, self._known_keys)

    def _known_keys(self) -> Collection[str] | None:
        """Returns the keys of the configuration in the run's newest whole checkpoint; None where there is none."""
        from jaxrnn.runs.checkpoint import Checkpointer  # and JAX with it: only where a key is missing

        if not self.checkpoints.is_dir():
            return None
        with Checkpointer(self.checkpoints, read_only=True) as checkpointer:
            step = checkpointer.newest_good()
            config = None if step is None else checkpointer.read_metadata(step).get("config")
        return config if isinstance(config, dict) else None

    def is_reported(self, epoch: int) -> bool:
        """Whether the run was evaluated after `epoch`, its last one, and everything written.

        Says what of a reported run is damaged, or missing, and cannot be written anew.
        """
        try:
            is_reported = read_summary(self.summary).get("epochs_run") == epoch
        except MissingRunFileError:
            return False
        except RunFileError as error:
            kept = set_aside(self.summary).name
            say(f"warning: {error}; it is written anew, and kept as {kept}")
            return False
        if is_reported and not is_whole_png(self.curves):
            say(f"warning: {self.curves}: found no whole picture; expected the curves of the run; they are drawn anew")
            return False
        if is_reported:
            try:
                complaints = read_metrics(self.metrics).complaints(epoch)
            except RunFileError as error:
                complaints = [str(error)]
            for complaint in complaints:
                say(f"warning: {complaint}")
        return is_reported

    def create(self, config: Config, environment: dict[str, Any] | None = None) -> None:
        """Makes the directory and writes config.toml, with which it is a run, and environment.json.

        Raises:
          UserError: It cannot be written.
        """
        if not self.is_written:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config, to_toml(config))
        except OSError as error:
            raise UserError(f"--run-dir: cannot write to {self.path}: {error.strerror}") from error
        if environment is not None:
            try:
                read_environment(self.environment)
            except MissingRunFileError:
                pass
            except RunFileError:  # said when the run was opened
                set_aside(self.environment)
            self.write_json(self.environment, environment)

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Writes one of the run's JSON files."""
        if not self.is_written:
            return
        write_atomically(path, to_json(content, indent=2) + "\n")

    def keep_metrics_until(self, epoch: int) -> None:
        """Drops the lines of epochs after `epoch`, and a last line that was cut off.

        Says which other lines are damaged or missing, and keeps the file beside as it was if any is damaged.
        """
        if not self.is_written:
            return
        try:
            metrics = read_metrics(self.metrics)
        except MissingRunFileError as error:
            if epoch > 0:
                say(f"warning: {error}; the run goes on without the figures of epochs 1 to {epoch}")
            return
        for complaint in metrics.complaints(epoch):
            say(f"warning: {complaint}")
        if metrics.damaged:
            say(f"warning: {self.metrics}: what it held is kept as {set_aside(self.metrics).name}")
        kept = [line.text + "\n" for line in metrics.lines if line.epoch <= epoch]
        write_atomically(self.metrics, "".join(kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the epochs' figures as far as they are readable; those that were not finite as NaN."""
        try:
            return [line.content for line in read_metrics(self.metrics).lines]
        except MissingRunFileError:
            return []

    def append_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Adds a line an epoch."""
        if not self.is_written:
            return
        with naming(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.writelines(to_json(epoch) + "\n" for epoch in epochs)

    def sync_metrics(self) -> None:
        """Waits until the lines are on the disk; no checkpoint is to outlive those of its epochs."""
        if not self.is_written:
            return
        if self.metrics.exists():
            with naming(self.metrics), self.metrics.open("rb") as file:
                os.fsync(file.fileno())


def _require_usable(path: str) -> None:
    try:
        path.encode()
        Path(path).lstat()
    except UnicodeEncodeError as error:
        raise UserError(f"--run-dir: got {path!r}; expected a name in UTF-8") from error
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"--run-dir: {path}: {error.strerror}; name another directory") from error


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK_NAME or re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def _numbered(name: str) -> list[Path]:
    """Returns ``runs/NAME``, ``runs/NAME-2``, ... as far as they are there, and the next one, which is not."""
    found = [RUNS_DIR / name]
    while found[-1].exists():
        found.append(RUNS_DIR / f"{name}-{len(found) + 1}")
    return found


def describe_environment(devices: list[str], recurrence: str, data: dict[str, Any]) -> dict[str, Any]:
    """Returns what environment.json holds.

    Args:
      devices: JAX's, in words.
      recurrence: Which one runs, in words.
      data: Path, hash and size of the data file.
    """
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": devices,
        "recurrence": recurrence,
        "data": data,
        "command": sys.argv,
    }
