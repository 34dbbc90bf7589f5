"""Trains a recurrent network on sequences of any lengths.

    python -m jaxrnn.train --cell=lstm
    python -m jaxrnn.train --task=classify --data=TRAIN.ts --test-data=TEST.ts --bidirectional
    python -m jaxrnn.train --task=forecast --data=many.csv --id-column=ID --time-column=T --target-columns=Y --horizon=7
    python -m jaxrnn.train --config=configs/tutorial.toml
    python -m jaxrnn.train --cell=gru --data=rows.parquet --hidden-size=64 --learning-rate=0.003
    python -m jaxrnn.train --data=prepared --cell=gru
    python -m jaxrnn.train --resume --run-dir=runs/lstm
    python -m jaxrnn.train --cell=gru --hidden-size=64 --dry-run
    python -m jaxrnn.train --cell=gru --hidden-size=64 --dry-run --target-devices=tpu:v5e:2x2
    python -m jaxrnn.train --cell=gru --hidden-size=64 --print-config > my.toml

Writes a run directory with the configuration, the figures of every epoch, checkpoints, curves.png and summary.json.

Precedence: defaults < recipe of the cell < recipe of the task < --config < flags.
"""

from jaxrnn.console import signals

if __name__ == "__main__":
    signals.end_at_once_on_signal()  # while the rest is imported

import dataclasses
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from jaxrnn.console import command_line, flags
from jaxrnn.settings.checking import require
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import TASKS
from jaxrnn.settings.toml_files import to_toml

if TYPE_CHECKING:
    from jaxrnn.runs.run_directory import RunDirectory

PROGRAM = "python -m jaxrnn.train"


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Trains a recurrent network on sequences and writes a run directory."""

    config: Annotated[Optional[str], tyro.conf.arg(metavar="FILE")] = None
    """TOML file with any of the keys below, or the name of a recipe."""
    run_dir: Annotated[Optional[str], tyro.conf.arg(metavar="DIR")] = None
    """Where to write; a new directory below runs/ if left out."""
    resume: bool = False
    """Go on with the run in --run-dir."""
    print_config: bool = False
    """Print the whole configuration as a TOML file that --config takes, and end."""
    dry_run: bool = False
    """Check the data, print what would be trained, how many updates and how much memory that takes, and end."""
    target_devices: Annotated[Optional[str], tyro.conf.arg(metavar="DEVICES")] = None
    """With --dry-run: compile for devices that are not here, such as tpu:v5e:2x2 or cuda:h100:8."""
    compilation_cache: bool = False
    """Keep compiled programs in ~/.cache/jaxrnn, so that later runs of the same sizes start sooner."""
    distributed: bool = False
    """One of several processes that train together, each started with the same flags; waits for the others."""
    coordinator_address: Annotated[Optional[str], tyro.conf.arg(metavar="HOST:PORT")] = None
    """With --distributed: HOST:PORT of process 0; what JAX detects if left out, as the two below."""
    num_processes: Optional[int] = None
    """With --distributed: how many processes there are."""
    process_id: Optional[int] = None
    """With --distributed: which one this is, from 0."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)

    def __post_init__(self) -> None:
        require(self.run_dir != "", "run_dir", self.run_dir, "the name of a directory")
        for key in ("coordinator_address", "num_processes", "process_id"):
            value = getattr(self, key)
            require(self.distributed or value is None, key, value, "--distributed beside it")
        require(
            self.target_devices is None or self.dry_run, "target_devices", self.target_devices, "--dry-run beside it"
        )
        address, number, process = self.coordinator_address, self.num_processes, self.process_id
        is_address = address is None or re.fullmatch(r".+:[0-9]{1,5}", address) is not None
        require(is_address, "coordinator_address", address, "HOST:PORT")
        require(number is None or number >= 1, "num_processes", number, "1 or more")
        is_one = process is None or 0 <= process < (number or 2**31)
        require(is_one, "process_id", process, f"0 to {number or 'the number of processes'} - 1")
        ensemble = self.settings.training.ensemble
        require(not self.distributed or ensemble == 1, "ensemble", ensemble, "1 with --distributed")
        require(not self.distributed or not self.dry_run, "dry_run", self.dry_run, "no --distributed beside it")


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Runs the command; returns its exit code."""
    begin = time.perf_counter()
    chosen: list[RunDirectory] = []  # once there is one

    def how_to_go_on() -> str:
        if not chosen or not chosen[0].config.is_file():  # nothing was written yet
            return ""
        return f"; go on with:\n  {PROGRAM} --resume --run-dir={shlex.quote(str(chosen[0].path))}"

    return command_line.run(lambda: _train(argv, begin, chosen), own_process=own_process, how_to_go_on=how_to_go_on)


def _train(argv: Sequence[str] | None, begin: float, chosen: "list[RunDirectory]") -> None:
    given = command_line.arguments(argv)
    if not flags.asks_for_help(given):
        flags.check_flags(TrainCommand, given)
    named = ("cell", "task", "config", "run-dir")
    cell, task, file, directory = (flags.value_of_flag(name, given) for name in named)
    resume = flags.has_switch("resume", given)
    # A file may be called "...toml": its run is not to be written to "..".
    of_task = task if task in TASKS and task != Config().task.task else None
    name = (Path(file).stem.strip(".") if file else "") or of_task or cell or Config().model.cell
    if resume:
        run_dir = _choose_directory(directory, name, resume=True)
        loaded = command_line.load_config(cell, file, task=task, base=run_dir.config)
    else:
        loaded = command_line.load_config(cell, file, task=task)
    command = command_line.parse(
        TrainCommand, given, program=PROGRAM, default=TrainCommand(settings=loaded.config), sources=loaded.sources
    )
    if command.print_config:
        sys.stdout.write(to_toml(command.settings))
        return
    if not resume:
        run_dir = _choose_directory(directory, name, resume=False)

    # JAX is imported from here on, so that --help need not wait for it.
    from jaxrnn.data.store.dataset import is_dataset

    if is_dataset(command.settings.data.data):
        # What a run has in its config.toml it cannot leave out.
        parts = () if resume else (command.settings.reader, command.settings.columns)
        command_line.refuse_reader_settings(given, "with prepared data, whose rows jaxrnn.prepare has read", *parts)
    if command.dry_run:
        from jaxrnn.commands.rehearsals import rehearsal

        rehearsal.rehearse(command.settings, command.target_devices)
        return
    chosen.append(run_dir)
    from jaxrnn.commands import train_run
    from jaxrnn.parallel import devices, hosts
    from jaxrnn.training import compilation

    if command.compilation_cache:
        compilation.keep_compilations()
    if command.distributed:
        devices.make_cpu_devices_of_process(command.settings.training.num_devices, command.num_processes)
        hosts.initialize(command.coordinator_address, command.num_processes, command.process_id)
    train_run.train(command.settings, run_dir, resume=resume, begin=begin)


def _choose_directory(directory: str | None, name: str, *, resume: bool) -> "RunDirectory":
    from jaxrnn.runs.run_directory import RunDirectory  # with all that reads a run's files: --help need not wait for it

    return RunDirectory.choose(directory, name=name, resume=resume)


if __name__ == "__main__":
    command_line.leave(main(own_process=True))
