"""The files of a run: config.toml, metrics.jsonl, environment.json, summary.json, curves.png, checkpoints/, .."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

from jaxrnn.config import Config
from jaxrnn.config_files import to_toml
from jaxrnn.errors import UserError

RUNS_DIR = Path("runs")
_PACKAGES = ("jaxrnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pyarrow")


class RunDirectory:
    """One run's directory; its files appear whole or not at all.

    Args:
      path: The directory; made by `create`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.jsonl"
        self.environment = self.path / "environment.json"
        self.summary = self.path / "summary.json"
        self.curves = self.path / "curves.png"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    def choose(cls, run_dir: str | None, *, name: str, resume: bool) -> "RunDirectory":
        """Finds the directory to write to: a new one, or on resuming that of the run to go on with.

        Args:
          run_dir: As the user named it; None for ``runs/NAME``, ``runs/NAME-2``, ...
          name: Of the recipe.
          resume: Whether a run goes on.

        Raises:
          UserError: The directory holds a run already, or on resuming none.
        """
        if run_dir is not None:
            chosen = cls(run_dir)
            _require_usable(run_dir)
            if resume and not chosen.config.is_file():
                raise UserError(f"--resume: {run_dir} holds no run; leave --resume out to start one there")
            if not resume and chosen.path.exists() and (not chosen.path.is_dir() or any(chosen.path.iterdir())):
                raise UserError(
                    f"--run-dir: {run_dir} is there already and is never overwritten; go on with it by --resume,"
                    " or name another directory"
                )
            return chosen
        number, last = 1, None
        while (candidate := RUNS_DIR / (name if number == 1 else f"{name}-{number}")).exists():
            number, last = number + 1, candidate
        if not resume:
            return cls(candidate)
        if last is None:
            raise UserError(f"--resume: there is no run {candidate}; name it with --run-dir")
        return cls(last)

    def create(self, config: Config) -> None:
        """Makes the directory and writes config.toml.

        Raises:
          UserError: It cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config, to_toml(config))
        except OSError as error:
            raise UserError(f"--run-dir: cannot write to {self.path}: {error.strerror}") from error

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Writes one of the run's JSON files."""
        write_atomically(path, to_json(content, indent=2) + "\n")

    def keep_metrics_until(self, epoch: int) -> None:
        """Drops the lines of epochs after `epoch`, and a line that was cut off."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["epoch"] <= epoch:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                break
        write_atomically(self.metrics, "".join(kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the epochs' figures; those that were not finite as NaN."""
        if not self.metrics.exists():
            return []
        epochs = [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        for epoch in epochs:
            for part, figures in epoch.items():
                if isinstance(figures, dict):
                    epoch[part] = {name: math.nan if value is None else value for name, value in figures.items()}
        return epochs

    def append_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Adds a line an epoch."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.writelines(to_json(epoch) + "\n" for epoch in epochs)


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


def to_json(content: Any, **options: Any) -> str:
    """Writes JSON that every reader takes: it has no word for NaN and infinity, so they become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(content), allow_nan=False, **options)


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old content or the new, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def hash_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe_environment(devices: list[str], data: dict[str, Any]) -> dict[str, Any]:
    """Returns what environment.json holds.

    Args:
      devices: JAX's, in words.
      data: Path, hash and size of the data file.
    """
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": devices,
        "data": data,
        "command": sys.argv,
    }
