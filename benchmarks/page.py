"""Measures the first table of benchmarks/README.md: what was wanted and what came out, of several runs of all of it.

    python -m benchmarks.page [--runs=3] [--vowels=DIR] [--forecasters=PYTHON] [--only=NAME,..] [--out=page.json]

Each row is a ratio that one of the other benchmarks prints, run as a process of its own, all rows one after the other
and then all of them again. Prints a table in Markdown: the median of the runs' figures, the least and the largest;
below it the machine, the versions and the date. Needs the [torch] and [bench] extras; --vowels is the directory of
JapaneseVowels_TRAIN.ts, unless aeon is installed; --forecasters is the interpreter of an environment that has darts and
neuralforecast, which want older packages than the rest. A command that fails is left out, and said; so is a peer that
is not installed. --out keeps what has been measured, and goes on with it: a run that was broken off costs nothing, and
only figures of the same machine and versions go into one file (versions of --forecasters are not looked at).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
STEP_PEERS = ("torch-padded", "torch-packed", "nnx", "keras", "equinox")
PACKAGES = ("jax", "flax", "torch", "keras", "equinox", "pandas", "numpy")


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      workload: What is timed.
      peer: Against what.
      wanted: The ratio that was wanted.
    """

    workload: str
    peer: str
    wanted: float


class Job(NamedTuple):
    """One command.

    Attributes:
      command: The module below benchmarks/ and its flags.
      read: Takes the ratios from what it printed, and from the JSON that it wrote, by rows.
    """

    command: tuple[str, ...]
    read: Callable[[str, dict | None], dict[Row, float]]


def _tutorial(process: Row | None, epoch: Row | None) -> Callable[[str, dict | None], dict[Row, float]]:
    def read(printed: str, _: dict | None) -> dict[Row, float]:
        found = _figures(r"whole process: ([\d.]+) times faster .*; an epoch: ([\d.]+) times", printed)
        return {row: value for row, value in zip((process, epoch), found, strict=True) if row is not None}

    return read


def _figures(pattern: str, printed: str) -> tuple[float, ...]:
    found = re.search(pattern, printed)
    if found is None:
        raise ValueError(f"no line has {pattern!r}")
    return tuple(map(float, found.groups()))


def _compared(_: str, written: dict | None) -> dict[Row, float]:
    """Of a step the best peer counts; of an epoch both of PyTorch's ways."""
    rows = {}
    for result in written["results"] if written else ():
        medians = {
            peer: statistics.median(ratios)
            for peer, ratios in result["ratios"].items()
            if "jaxrnn" not in peer and "marked" not in result["notes"].get(peer, {})
        }
        workload = result["workload"]
        if workload in EPOCHS:
            for peer, wanted in zip(("torch-padded", "torch-packed"), EPOCHS[workload], strict=True):
                if peer in medians:
                    rows[Row(f"ragged epoch, {workload}", peer.replace("torch-", "PyTorch "), wanted)] = medians[peer]
        elif medians:
            rows[Row(f"a step, {workload}", "the best of all peers", STEPS[workload])] = min(medians.values())
    return rows


def _inference(printed: str, _: dict | None) -> dict[Row, float]:
    rows = {}
    for what, wanted in {"whole batch": (1.5, 2.5, 2.5), "one step of one stream": (1.0, 1.0, 1.0)}.items():
        for cell, least in zip(("lstm", "gru", "tanh"), wanted, strict=True):
            (rows[Row(f"inference, {what}: {cell}", "PyTorch", least)],) = _figures(
                rf"{cell}, {what} .*ms +([\d.]+) \(", printed
            )
    return rows


def _forecasts(printed: str, _: dict | None) -> dict[Row, float]:
    table = [[cell.strip() for cell in line.split("|")[1:]] for line in printed.splitlines()]
    rates = {cells[0]: float(cells[9].replace(",", "")) for cells in table if len(cells) > 9 and cells[9][:1].isdigit()}
    if len(rates) < len(FORECASTERS):
        raise ValueError(f"not all of {', '.join(FORECASTERS)} trained")
    ours = rates.pop("jaxrnn")
    return {Row("origins of forecasts trained a second", peer, 1): ours / rate for peer, rate in rates.items()}


FORECASTERS = ("jaxrnn", "neuralforecast-lstm", "darts-rnn")
STEPS = {"lstm-T100-H128": 2.0, "gru-T100-H128": 2.5, "tanh-T100-H128": 2.5,
         "lstm-T200-H256": 1.5, "gru-T200-H256": 1.6, "tanh-T200-H256": 2.0}  # fmt: skip
EPOCHS = {"uniform-T100-H128": (3.5, 5.0), "uniform-T200-H256": (2.8, 6.0), "lognormal-T500-H128": (6.0, 8.0)}
SCRIPT, SCRIPTS = "its PyTorch script", "64 runs of the script"
JOBS = {
    "tutorial": Job(
        ("tutorial", "--rounds=1", "--torch-epochs=8"),
        _tutorial(Row("the tutorial's run, whole process", SCRIPT, 40), Row("an epoch of it: tanh", SCRIPT, 60)),
    ),
    "lstm": Job(
        ("tutorial", "--cell=lstm", "--epochs=1000", "--rounds=1", "--torch-epochs=4"),
        _tutorial(None, Row("an epoch of it: LSTM", SCRIPT, 25)),
    ),
    "gru": Job(
        ("tutorial", "--cell=gru", "--epochs=1000", "--rounds=1", "--torch-epochs=4"),
        _tutorial(None, Row("an epoch of it: GRU", SCRIPT, 25)),
    ),
    "seeds": Job(
        ("tutorial", "--members=64", "--epochs=600", "--rounds=1", "--torch-epochs=4"),
        _tutorial(
            Row("64 seeds, 600 epochs, whole process", SCRIPTS, 150), Row("an epoch of 64 seeds", SCRIPTS, 150)
        ),
    ),
    "steps": Job(
        ("compare", "--workload=steps", f"--peers={','.join(STEP_PEERS)}", "--rounds=3", "--out={out}"), _compared
    ),
    "epochs": Job(
        ("compare", "--workload=epochs", "--peers=torch-padded,torch-packed", "--rounds=3", "--out={out}"), _compared
    ),
    "inference": Job(("inference", "--rounds=3"), _inference),
    "reading": Job(
        ("reading", "--rounds=2"),
        lambda printed, _: {
            Row("reading 10 million rows", "csv.reader and float", 20): _figures(
                r"median +ratio ([\d.]+)", printed
            )[0]
        },
    ),
    "long tables": Job(
        ("long_tables", "--rounds=3"),
        lambda printed, _: {
            Row("a long table of 10 million rows", "pandas", 3): _figures(r"time over ours: ([\d.]+)", printed)[0]
        },
    ),
    "classify": Job(
        ("real_data", "--only=epochs", "--copies=100", "--cell=lstm", "--rounds=2", "--data={vowels}"),
        lambda printed, _: {
            Row("an epoch of JapaneseVowels' sizes x 100, bidirectional LSTM", "PyTorch packed", 8): _figures(
                r"PyTorch, packed .* of jaxrnn's time ([\d.]+)", printed
            )[0]
        },
    ),
    "forecasts": Job(
        ("forecasting", "--data=panel", f"--methods={','.join(FORECASTERS)}", "--seconds-limit=60",
         "--python={forecasters}", "--results={out}.results"),
        _forecasts,
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--vowels", type=Path)
    parser.add_argument("--forecasters", type=Path)
    parser.add_argument("--only", help=f"some of: {', '.join(JOBS)}")
    parser.add_argument("--out", type=Path, default=Path("page.json"))
    arguments = parser.parse_args(argv)
    names = [name for name in JOBS if name != "forecasts" or arguments.forecasters]
    names = arguments.only.split(",") if arguments.only else names
    if unknown := set(names) - JOBS.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    here = {"machine": machine(), "versions": versions()}
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {**here, "runs": []}
    if {name: kept[name] for name in here} != here:
        parser.error(f"--out: {arguments.out} is of {kept['machine']}; {kept['versions']}")
    kept["date"] = time.strftime("%Y-%m-%d")
    places = {
        "vowels": arguments.vowels.resolve() if arguments.vowels else "",
        "forecasters": arguments.forecasters.absolute() if arguments.forecasters else "",
    }
    for number in range(arguments.runs):
        if len(kept["runs"]) == number:
            kept["runs"].append({})
        for name in names:
            rows = [] if name in kept["runs"][number] else measure(name, places)
            if rows:
                kept["runs"][number][name] = rows
                beside = arguments.out.with_suffix(".new")
                beside.write_text(json.dumps(kept, indent=1) + "\n")
                beside.replace(arguments.out)
    print("\n".join(table(kept)))
    return 0


def measure(name: str, places: Mapping[str, Any]) -> list[list]:
    """Runs one command, with what was given of other places; returns its rows and their ratios, none if it failed."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "written.json"
        module, *flags = [part.format(out=out, **places) for part in JOBS[name].command]
        flags = [flag for flag in flags if not flag.endswith("=")]
        command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
        paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        written = json.loads(out.read_text()) if out.exists() else None
    seconds = time.perf_counter() - begin
    if done.returncode:
        print(f"{name}: left out, {(done.stderr.strip() or '?').splitlines()[-1]}", file=sys.stderr, flush=True)
        return []
    try:
        rows = [[list(row), ratio] for row, ratio in JOBS[name].read(done.stdout, written).items()]
    except ValueError as error:
        print(f"{name}: left out, {error} in\n{done.stdout}", file=sys.stderr, flush=True)
        return []
    told = ", ".join(f"{row[0]} {ratio:.2f}" for row, ratio in rows)
    print(f"{name}, {seconds:.0f} s: {told}", file=sys.stderr, flush=True)
    return rows


def table(kept: dict) -> list[str]:
    """Returns the lines of the table in Markdown, and what was measured on what."""
    found: dict[Row, list[float]] = {}
    for run in kept["runs"]:
        for rows in run.values():
            for row, ratio in rows:
                found.setdefault(Row(*row), []).append(ratio)
    lines = ["| workload | against | wanted | median of runs | least, largest | runs |", "|---|---|---|---|---|---|"]
    for row, ratios in found.items():
        measured = f"{statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} | {len(ratios)}"
        lines.append(f"| {row.workload} | {row.peer} | {row.wanted:g} | {measured} |")
    return [*lines, "", f"{len(kept['runs'])} runs, {kept['date']}; {kept['machine']}; {kept['versions']}"]


def machine() -> str:
    """Says what processor this is, how many cores, and which vector instructions."""
    try:
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    name = re.search(r"model name\s*: (.*)", information)
    vectors = next((flag for flag in ("avx512f", "avx2") if f" {flag} " in information), "neither AVX2 nor AVX-512")
    return f"{name.group(1) if name else platform.machine()}, {os.cpu_count()} cores, {vectors}"


def versions() -> str:
    """Says which Python and packages."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


if __name__ == "__main__":
    raise SystemExit(main())
