"""What the files of a run tell, whether it is finished, still going or damaged; JAX is not needed for it."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import shorten
from jaxrnn.runs.metrics_file import read_metrics
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_files import MissingRunFileError, read_config, read_environment, read_summary


@dataclasses.dataclass
class RunRecord:
    """One run as its directory shows it.

    Attributes:
      name: A short name, different from those of the other runs on a page.
      path: As the user gave it.
      config: Every key and its value; None without a readable config.toml.
      epochs: Whole lines of metrics.jsonl, with NaN for figures that were not finite.
      summary: summary.json; None while there is none.
      environment: environment.json; None while there is none.
      missing: Sentences about what could not be read.
      is_run: False of a path that holds no run, which stands on the page of others.
    """

    name: str
    path: str
    config: dict[str, Any] | None
    epochs: list[dict[str, Any]]
    summary: dict[str, Any] | None
    environment: dict[str, Any] | None
    missing: list[str]
    is_run: bool = True

    @property
    def status(self) -> str:
        """How far the run is, in words."""
        if not self.is_run:
            return "not shown, for the reason below"
        if self.summary is not None:
            best, last = (shorten(str(self.summary.get(key)), 60) for key in ("best_epoch", "epochs_run"))
            return f"finished: best epoch {best} of {last}"
        done = self.epochs[-1]["epoch"] if self.epochs else 0
        total = f" of at most {self.config['epochs']}" if self.config else ""
        return f"not finished: {done} epochs done{total}; it is still going, or was stopped"


def read_runs(paths: tuple[str, ...]) -> list[RunRecord]:
    """Reads what there is of some runs.

    Args:
      paths: Run directories; one that is named twice counts once.

    Returns:
      A record a run; where others are, one that holds no run has a record that says so.

    Raises:
      UserError: None is named, or none holds a run; of several that do not the first is named.
    """
    if not paths:
        raise UserError("runs: got none; expected at least one run directory, such as runs/lstm")
    distinct = list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]
    short = [Path(os.path.abspath(path)).name for path in distinct]
    names = [name if short.count(name) == 1 else path for name, path in zip(short, distinct, strict=True)]
    records, complaints = [], []
    for path, name in zip(distinct, names, strict=True):
        try:
            records.append(_read_run(path, name))
        except UserError as error:
            complaints.append(error)
            records.append(
                RunRecord(shorten(name, 60), shorten(path), None, [], None, None, [str(error)], is_run=False)
            )
    if len(complaints) == len(records):
        raise complaints[0]
    return records


def _read_run(path: str, name: str) -> RunRecord:
    run_dir = RunDirectory(path)
    try:
        is_there = run_dir.path.is_dir()
        files = (run_dir.config, run_dir.metrics, run_dir.summary, run_dir.environment)
        holds_run = is_there and any(file.exists() for file in files)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shorten(path)}: {reason}; expected a run directory that this user may read") from error
    if not holds_run:
        reason = "holds no run" if is_there else "no such directory"
        text = f"{shorten(path)}: {reason}; expected a run directory, as `python -m jaxrnn.train` writes it"
        raise UserError(text)
    missing: list[str] = []
    return RunRecord(
        name,
        path,
        _read_config(run_dir.config, missing),
        _read_epochs(run_dir.metrics, missing),
        _read_json(read_summary, run_dir.summary, missing),
        _read_json(read_environment, run_dir.environment, missing),
        missing,
    )


def _read_config(path: Path, missing: list[str]) -> dict[str, Any] | None:
    try:
        return read_config(path)
    except UserError as error:
        missing.append(f"The configuration: {error}")
        return None


def _read_json(read: Callable[[Path], dict[str, Any]], path: Path, missing: list[str]) -> dict[str, Any] | None:
    try:
        return read(path)
    except MissingRunFileError:
        missing.append(f"{path.name}: the run has not written it yet.")
    except UserError as error:
        missing.append(str(error))
    return None


def _read_epochs(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Reads all readable lines of metrics.jsonl: the last may be cut off while a run goes on."""
    try:
        metrics = read_metrics(path)
    except MissingRunFileError:
        missing.append("metrics.jsonl: no epoch is finished yet.")
        return []
    except UserError as error:
        missing.append(str(error))
        return []
    missing += metrics.complaints()
    return [line.content for line in metrics.lines]
