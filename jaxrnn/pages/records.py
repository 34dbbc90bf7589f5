"""What the files of a run tell, whether it is finished, still going or damaged; JAX is not needed for it."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import FIGURE_NAMES, MAX_COUNT, Config
from jaxrnn.settings.toml_files import read_toml


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
    """

    name: str
    path: str
    config: dict[str, Any] | None
    epochs: list[dict[str, Any]]
    summary: dict[str, Any] | None
    environment: dict[str, Any] | None
    missing: list[str]

    @property
    def status(self) -> str:
        """How far the run is, in words."""
        if self.summary is not None:
            return f"finished: best epoch {self.summary.get('best_epoch')} of {self.summary.get('epochs_run')}"
        done = self.epochs[-1]["epoch"] if self.epochs else 0
        total = f" of at most {self.config['epochs']}" if self.config else ""
        return f"not finished: {done} epochs done{total}; it is still going, or was stopped"


def read_runs(paths: tuple[str, ...]) -> list[RunRecord]:
    """Reads what there is of some runs.

    Args:
      paths: Run directories; one that is named twice counts once.

    Raises:
      UserError: None is named, or one holds no run.
    """
    if not paths:
        raise UserError("runs: got none; expected at least one run directory, such as runs/lstm")
    distinct = list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]
    short = [Path(os.path.abspath(path)).name for path in distinct]
    names = [name if short.count(name) == 1 else path for name, path in zip(short, distinct, strict=True)]
    return [_read_run(path, name) for path, name in zip(distinct, names, strict=True)]


def _read_run(path: str, name: str) -> RunRecord:
    run_dir = RunDirectory(path)
    try:
        is_there = run_dir.path.is_dir()
        files = (run_dir.config, run_dir.metrics, run_dir.summary, run_dir.environment)
        holds_run = is_there and any(file.exists() for file in files)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; expected a run directory that this user may read") from error
    if not holds_run:
        reason = "holds no run" if is_there else "no such directory"
        raise UserError(f"{path}: {reason}; expected a run directory, as `python -m jaxrnn.train` writes it")
    missing: list[str] = []
    return RunRecord(
        name,
        path,
        _read_config(run_dir.config, missing),
        _read_epochs(run_dir.metrics, missing),
        _read_json(run_dir.summary, missing, {"test": dict, "validation": dict, "baselines": dict}),
        _read_json(run_dir.environment, missing, {"versions": dict, "data": dict}),
        missing,
    )


def _read_config(path: Path, missing: list[str]) -> dict[str, Any] | None:
    try:
        return Config().replace_flat(read_toml(path)).to_flat()
    except UserError as error:
        missing.append(f"The configuration: {error}")
        return None


def _read_json(path: Path, missing: list[str], expected: dict[str, type]) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"got {type(content).__name__}; expected an object")
        for key, kind in expected.items():
            if not isinstance(content.get(key), kind):
                raise ValueError(f"{key}: got {content.get(key)!r}; expected an object")
        for key in ("validation", "test"):
            if key in expected:
                content[key] = _as_figures(content[key])
        if "baselines" in expected:
            content["baselines"] = {name: _as_figures(figures) for name, figures in content["baselines"].items()}
    except FileNotFoundError:
        missing.append(f"{path.name}: the run has not written it yet.")
    except OSError as error:
        missing.append(f"{path.name}: {error.strerror}.")
    except (ValueError, OverflowError, RecursionError) as error:
        missing.append(f"{path.name} is damaged: {error}.")
    else:
        return content
    return None


def _as_figures(figures: Any) -> dict[str, float]:
    """Checks figures that were read, and puts NaN where JSON has null."""
    if not isinstance(figures, dict):
        raise ValueError(f"got {figures!r}; expected figures")
    read = {}
    for name in FIGURE_NAMES:
        value = figures.get(name)
        if value is not None and type(value) not in (int, float):
            raise ValueError(f"{name}: got {value!r}; expected a number")
        read[name] = math.nan if value is None else float(value)
    return read


def _read_epochs(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Reads the lines of metrics.jsonl up to the first that is none: the last may be cut off while a run goes on."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        missing.append("metrics.jsonl: no epoch is finished yet.")
        return []
    except OSError as error:
        missing.append(f"metrics.jsonl: {error.strerror}.")
        return []
    epochs: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            break
        try:
            epoch = json.loads(line)
            least = epochs[-1]["epoch"] + 1 if epochs else 1
            if type(epoch["epoch"]) is not int or not least <= epoch["epoch"] <= MAX_COUNT:
                raise ValueError("epochs do not rise")
            epochs.append(
                {"epoch": epoch["epoch"]} | {part: _as_figures(epoch[part]) for part in ("training", "validation")}
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            if number < len(lines):  # the last line has no end yet where the run is just writing it
                missing.append(f"metrics.jsonl is damaged from line {number} on; the curves end before it.")
            break
    return epochs
