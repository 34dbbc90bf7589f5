"""One run that is killed again and again: recipes, moments, the phase that was hit, and the comparison at the end."""

import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrnn.runs.checkpoint import MANIFEST_NAME, Checkpointer

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_KILLS = 6  # of one run
PATIENCE_SECONDS = 120.0  # for a process to end that was asked to, on a machine that is busy
RUN_SECONDS = 600.0  # for a whole run, there too
POLL_SECONDS = 0.0005
SMALL = ["--config=smoke", "--hidden-size=4", "--batch-size=40", "--checkpoint-seconds=0", "--compilation-cache"]
RECIPES = {
    "tutorial": ["--config=tutorial", "--hidden-size=4", "--patience=600", "--epochs=2500", "--split-block=150",
                 "--checkpoint-seconds=0", "--compilation-cache"],
    "lstm": [*SMALL, "--cell=lstm", "--num-layers=2", "--dropout=0.3", "--epochs=1500"],
    "bucket": [*SMALL, "--cell=gru", "--batching=bucket", "--target=every", "--epochs=1200"],
    "pack": [*SMALL, "--cell=lstm", "--batching=pack", "--schedule=constant", "--clip-norm=1", "--epochs=1200"],
    "ensemble": [*SMALL, "--ensemble=3", "--patience=40", "--schedule=constant", "--epochs=2000"],
    "tbptt": [*SMALL, "--cell=gru", "--tbptt=4", "--target=every", "--optimizer=rmsprop", "--epochs=1200"],
    "early-stop": [*SMALL, "--patience=60", "--learning-rate=0.003", "--schedule=constant", "--epochs=3000"],
    "shared": [*SMALL, "--devices=2", "--nonlinearity=relu", "--optimizer=sgd", "--momentum=0.9", "--epochs=1200"],
    "stream": [*SMALL, "--cell=gru", "--batching=bucket", "--batch-size=400", "--epochs=10"],
    "classify": [*SMALL, "--task=classify", "--id-column=unit", "--time-column=day", "--input-columns=x,y",
                 "--label-column=side", "--bidirectional", "--schedule=constant", "--epochs=1500"],
    "prepared-classify": [*SMALL, "--task=classify", "--batching=bucket", "--batch-size=400", "--epochs=8"],
    "prepared-ensemble": [*SMALL, "--task=classify", "--batching=pack", "--batch-size=400", "--ensemble=2",
                          "--epochs=8"],
    # Trained twice: killed in either training.
    "prepared-forecast": [*SMALL[1:], "--task=forecast", "--batching=bucket", "--batch-size=400", "--epochs=6"],
}  # fmt: skip
COLUMNS = ["--task=classify", "--id-column=unit", "--time-column=day", "--input-columns=x,y", "--category-columns=gear",
           "--label-column=side"]  # fmt: skip
SERIES_COLUMNS = ["--task=forecast", "--id-column=unit", "--time-column=day", "--target-columns=x", "--input-columns=y",
                  "--horizon=4"]  # fmt: skip
SEQUENCES = {"classify"}  # a table of steps of two features
# From prepared data, an epoch of several pieces: saved in the middle of epochs too.
STREAMED = {"stream", "prepared-classify", "prepared-ensemble", "prepared-forecast"}
SIGNALS = {
    "KILL": [signal.SIGKILL],
    "INT": [signal.SIGINT],
    "TERM": [signal.SIGTERM],
    "INT INT": [signal.SIGINT, signal.SIGINT],
    "TERM KILL": [signal.SIGTERM, signal.SIGKILL],
}
WEIGHTS = [10, 3, 3, 2, 2]


class Kill(NamedTuple):
    """A process that was ended: in which phase, by what, and how long after the last signal it was gone."""

    phase: str
    signals: str
    seconds: float


class Report(NamedTuple):
    """What came of one run."""

    kills: list[Kill]
    problems: list[str]


def is_unfinished(step: Path) -> bool:
    """Whether a directory is a step that is still being written, or was when its process ended."""
    return not (step / MANIFEST_NAME).is_file()


class Watched:
    """A training process, what it has said, and what it has put on disk."""

    def __init__(self, arguments: list[str], run_dir: Path, environment: dict[str, str]):
        self.run_dir, self.stderr = run_dir, run_dir.with_name(f"{run_dir.name}.stderr")
        self.metrics_before = self.metrics_size()
        self.begin = time.monotonic()
        with self.stderr.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jaxrnn.train", *arguments, f"--run-dir={run_dir}"],
                cwd=run_dir.parent, env=environment, stdout=subprocess.DEVNULL, stderr=file,
            )  # fmt: skip

    def said(self) -> str:
        return self.stderr.read_text(encoding="utf-8", errors="replace")

    def metrics_size(self) -> int:
        path = self.run_dir / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def steps(self) -> list[Path]:
        try:
            return list((self.run_dir / "checkpoints").iterdir())
        except FileNotFoundError:
            return []

    def has_jax(self) -> bool:
        try:
            return "jaxlib" in Path(f"/proc/{self.process.pid}/maps").read_text()
        except OSError:
            return False

    def has_happened(self, trigger: str) -> bool:
        """Whether what a kill waits for is there."""
        if trigger == "jax":
            return self.has_jax()
        if trigger == "banner":
            return "run directory:" in self.said()
        if trigger == "training":
            return "run directory:" in self.said() and self.metrics_size() > self.metrics_before
        if trigger == "saving":
            return any(is_unfinished(step) for step in self.steps())
        if trigger == "last epoch":
            return re.search(r"^epoch .*\n(?!epoch)\Z", self.said(), re.MULTILINE) is not None and self.is_over()
        return (self.run_dir / trigger).exists()

    def is_over(self) -> bool:
        """Whether its last epoch is saved, as far as the number of lines tells."""
        found = re.search(r"epoch +(\d+)/(\d+) [^\n]*\n\Z", self.said())
        return found is not None and found[1] == found[2]

    def saved_epoch(self) -> int:
        """The epoch of its latest checkpoint that is whole; -1 without one."""
        steps = [step for step in self.steps() if step.name.isdigit() and not is_unfinished(step)]
        return epoch_of(max(steps, key=lambda step: int(step.name))) if steps else -1

    def phase(self, last_epoch: int, *, knew_jax: bool) -> str:
        """What it was doing when it ended, by what it left behind."""
        said = self.said()
        if any(is_unfinished(step) for step in self.steps()) and "run directory:" in said:
            return "saving"
        if "run directory:" not in said:
            if not knew_jax:
                return "starting Python"
            return "opening the run" if "jax " in said or "devices:" in said else "importing JAX, reading"
        if self.saved_epoch() == last_epoch:
            if (self.run_dir / "summary.json").exists():
                return "printing the figures"
            return "drawing, writing summary" if (self.run_dir / "curves.png").exists() else "final evaluation"
        return "compiling" if self.metrics_size() <= self.metrics_before else "training, validation"


class Bench:
    """Recipes on a small file of rows, each with its unbroken run.

    Args:
      directory: Where the rows, the unbroken runs and the compiled programs are kept.
      twice: Whether the unbroken run is made twice and compared with itself; its time is then that without compiling.
    """

    def __init__(self, directory: Path, *, twice: bool = True):
        self.directory, self.twice = directory, twice
        self.environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(directory / "cache")}
        self.rows = self._write_rows("rows.csv", 150, 16)
        self._seconds: dict[str, float] = {}

    def _write_rows(self, name: str, number: int, longest: int) -> Path:
        generator = np.random.default_rng(0)
        path = self.directory / name
        path.write_text("".join(
            ",".join(map(str, start + generator.integers(1, 5) * np.arange(generator.integers(3, longest)))) + "\n"
            for start in range(number)
        ))  # fmt: skip
        return path

    @functools.cached_property
    def prepared(self) -> Path:
        """A prepared data set of rows of numbers, made when first asked for."""
        return self._prepare("prepared", self._write_rows("many.csv", 20_000, 200))

    @functools.cached_property
    def prepared_units(self) -> Path:
        """A prepared data set of sequences of two features and a category, made when first asked for."""
        return self._prepare("prepared-units", self._write_units("many-units.csv", 5_000, 200), *COLUMNS)

    @functools.cached_property
    def prepared_series(self) -> Path:
        """A prepared data set of series to forecast, made when first asked for."""
        return self._prepare("prepared-series", self._write_units("many-series.csv", 5_000, 200), *SERIES_COLUMNS)

    def _prepare(self, name: str, source: Path, *flags: str) -> Path:
        target = self.directory / name
        command = [sys.executable, "-m", "jaxrnn.prepare", str(source), *flags, f"--out={target}"]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)
        return target

    @functools.cached_property
    def units(self) -> Path:
        """A table of sequences of two features, made when first asked for."""
        return self._write_units("units.csv", 120, 9)

    def _write_units(self, name: str, number: int, longest: int) -> Path:
        generator, path = np.random.default_rng(0), self.directory / name
        lines = ["unit,day,x,y,gear,side"]
        for unit in range(number):
            for day, (x, y) in enumerate(generator.normal(size=(int(generator.integers(2, longest)), 2))):
                gear = ("low", "mid", "high")[(unit + day) % 3]
                lines.append(f"{unit},{day},{x + unit % 2},{y},{gear},{('left', 'right')[unit % 2]}")
        path.write_text("\n".join(lines) + "\n")
        return path

    def arguments(self, name: str) -> list[str]:
        if name in SEQUENCES:
            return [*RECIPES[name], f"--data={self.units}"]
        if name not in STREAMED:
            return [*RECIPES[name], f"--data={self.rows}"]
        of_name = {"stream": "prepared", "prepared-forecast": "prepared_series"}
        return [*RECIPES[name], f"--data={getattr(self, of_name.get(name, 'prepared_units'))}"]

    def unbroken(self, name: str) -> Path:
        """Returns the directory of a recipe's unbroken run, made when first asked for."""
        run_dir = self.directory / f"unbroken-{name}"
        for attempt in ("compile", "measure") if self.twice else ("measure",):
            if name in self._seconds:
                break
            target = run_dir if attempt == "measure" else run_dir.with_name(f"{run_dir.name}-first")
            begin = time.monotonic()
            watched = Watched(self.arguments(name), target, self.environment)
            if watched.process.wait(RUN_SECONDS):
                raise RuntimeError(f"{name}: the unbroken run failed:\n{watched.said()}")
            if attempt == "measure":
                self._seconds[name] = time.monotonic() - begin
                problems = differences(target, run_dir.with_name(f"{run_dir.name}-first")) if self.twice else []
                if problems:
                    raise RuntimeError(f"{name}: two unbroken runs differ: {problems}")
        return run_dir

    def run_with_kills(self, name: str, run_dir: Path, draw: random.Random, *, num_kills: int | None = None) -> Report:
        """Starts a run, kills it so many times, or some, resumes it each time, and compares it in the end."""
        unbroken = self.unbroken(name)
        last_epoch = json.loads((unbroken / "summary.json").read_text())["epochs_run"]
        last_epoch = max(last_epoch) if isinstance(last_epoch, list) else last_epoch
        kills: list[Kill] = []
        problems: list[str] = []
        num_kills = draw.randint(2, MAX_KILLS) if num_kills is None else num_kills
        while True:
            resume = (run_dir / "config.toml").exists()
            arguments = ["--resume", "--compilation-cache"] if resume else self.arguments(name)
            watched = Watched(arguments, run_dir, self.environment)
            if len(kills) == num_kills:
                code = watched.process.wait(RUN_SECONDS)
                if code:
                    problems.append(f"the last resume ended with {code}: {watched.said()[-500:]}")
                break
            kill, problem = self._kill(watched, name, last_epoch, draw, resumed=resume)
            problems += [problem] if problem else []
            if kill is None:
                break
            kills.append(kill)
            if problem:
                break
        return Report(kills, problems or differences(run_dir, unbroken))

    def _kill(
        self, watched: Watched, name: str, last_epoch: int, draw: random.Random, *, resumed: bool
    ) -> tuple[Kill | None, str]:
        process = watched.process
        trigger = draw.choice(
            ["time", "jax", "banner", "training", "saving", "saving", "last epoch", "curves.png", "summary.json"]
        )
        if trigger == "time":
            time.sleep(draw.uniform(0, self._seconds[name]))
        else:
            while process.poll() is None and not watched.has_happened(trigger):
                time.sleep(POLL_SECONDS)
            time.sleep(draw.choice([0.0, draw.uniform(0, 0.03), draw.uniform(0, 0.5), draw.uniform(0, 2)]))
        (kind,) = draw.choices(list(SIGNALS), WEIGHTS)
        knew_jax = watched.has_jax()
        if process.poll() is None:
            for position, number in enumerate(SIGNALS[kind]):
                if position:
                    time.sleep(draw.uniform(0, 0.1))
                sent = time.monotonic()
                process.send_signal(number)
        else:
            sent = time.monotonic()
        try:
            code = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, f"still there {PATIENCE_SECONDS:.0f} seconds after {kind}"
        seconds = time.monotonic() - sent
        if code == 0:  # it was faster
            return None, ""
        phase = watched.phase(last_epoch, knew_jax=knew_jax)
        kill = Kill(f"{'resumed: ' if resumed else ''}{phase}", kind, seconds)
        return kill, self._complaint(watched, code, kind, knew_jax=knew_jax)

    def _complaint(self, watched: Watched, code: int, kind: str, *, knew_jax: bool) -> str:
        """Says what is wrong with how a process ended, if anything."""
        said, allowed = watched.said(), {-number for number in SIGNALS[kind]}
        allowed |= {128 + number for number in SIGNALS[kind] if number != signal.SIGKILL}
        if code not in allowed:
            return f"{kind}: ended with {code}: {said[-500:]}"
        if "Traceback" in said or "Exception ignored" in said:
            return f"{kind}: {said[-2000:]}"
        is_asked = len(SIGNALS[kind]) == 1 and code > 0 and (watched.run_dir / "config.toml").exists()
        if is_asked and knew_jax and f"jaxrnn.train --resume --run-dir={watched.run_dir}" not in said:
            return f"{kind}: does not say how to go on: {said[-500:]}"
        return ""


def epoch_of(step: Path) -> int:
    """Reads a step's epoch from its metadata, as Orbax lays it out."""
    return json.loads((step / "metadata" / "metadata").read_text())["epoch"]


def differences(run_dir: Path, unbroken: Path) -> list[str]:
    """Says in what a finished run is not the unbroken one."""
    found = []
    if (run_dir / "metrics.jsonl").read_bytes() != (unbroken / "metrics.jsonl").read_bytes():
        found.append("metrics.jsonl differs")
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run_dir, unbroken)]
    for key in sorted((summaries[0].keys() | summaries[1].keys()) - {"seconds", "compilations"}):
        if summaries[0].get(key) != summaries[1].get(key):
            found.append(f"summary.json: {key} differs")
    arrays = [read_arrays(path) for path in (run_dir, unbroken)]
    for name in sorted(arrays[0].keys() | arrays[1].keys()):
        if arrays[0].get(name) != arrays[1].get(name):
            found.append(f"checkpoint: {name} differs")
    left = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if "tmp" in path.name]
    return found + ([f"left behind: {', '.join(left)}"] if left else [])


def read_arrays(run_dir: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Returns every array of a run's last step: parameters, optimiser, random keys, counters."""
    with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
        step = checkpointer.steps()[-1]
        arrays = checkpointer.restore(step, checkpointer.stored_arrays(step))
    named = {name: np.asarray(array) for name, array in arrays.items()}
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in named.items()}
