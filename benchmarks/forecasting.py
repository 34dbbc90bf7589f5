"""Forecasters of panels of series, each by its own documentation's settings, on the same steps held out.

    python -m benchmarks.forecasting --data=m1 --results=DIR [--only=peers|jaxrnn] [--methods=NAME,..] [--seeds=0,1,2]
    python -m benchmarks.forecasting --data=panel [--small] --python=peers/bin/python --seconds-limit=900
    python -m benchmarks.forecasting --method=neuralforecast-lstm --data=air           one method here: a line of JSON

Panels: ``m1``, the 181 yearly series of the M1 competition (aeon's file, six steps held out); ``air``, the two monthly
series of neuralforecast (twelve); ``panel``, 2,000 monthly series of 50 to 2,000 steps drawn from a seed (twelve), with
``--small`` 200 of 50 to 300. No setting was chosen by the steps held out.

Every method runs in a process of its own, in turn; ``--python`` names the interpreter of the environment that has the
peers. What has been measured stays in DIR, a file each method and seed, and is not measured again until it is deleted,
so that a broken run goes on where it was; a method that failed is tried again. Training stops at ``--seconds-limit``
and is used as it then is; a process that takes twice the limit and ten minutes is ended. Prints a table in Markdown.

Origins: the steps from which a forecast was trained, counted as often as they were trained. This project trains every
step of every series in an epoch. A window of neuralforecast and of ``BlockRNNModel`` trains one origin; a window of
GluonTS's DeepAR and of ``RNNModel`` trains one at every step that its loss reads.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecasting_peers import classical, darts_models, gluon, neural, trained
from benchmarks.forecasting_peers.measures import CannotDo, Forecasts, measure
from benchmarks.forecasting_peers.panels import PANELS, Panel, open_panel

REPOSITORY = Path(__file__).resolve().parents[1]
ENSEMBLE = 8
GRACE_SECONDS = 600
Run = Callable[[Panel, int, float], Forecasts]


@dataclasses.dataclass(frozen=True)
class Method:
    """A forecaster.

    Attributes:
      title: For the table.
      run: Takes the panel, a seed and the seconds after which training stops.
      seeded: Whether another seed gives another forecast.
    """

    title: str
    run: Run
    seeded: bool = True


def _neural(model: str) -> Method:
    return Method(f"neuralforecast {model}", lambda panel, seed, limit: neural.run_neural(model, panel, seed, limit))


def _darts(model: str) -> Method:
    return Method(f"darts {model}, LSTM", lambda panel, seed, limit: darts_models.run_darts(model, panel, seed, limit))


def _classical(model: str) -> Method:
    return Method(f"statsforecast {model}", lambda panel, *_: classical.run_classical(model, panel), seeded=False)


OURS = {
    "jaxrnn": Method("jaxrnn", lambda panel, seed, _: trained.run_jaxrnn(panel, seed, 1)),
    "jaxrnn-ensemble": Method(
        f"jaxrnn, `--ensemble={ENSEMBLE}`", lambda panel, seed, _: trained.run_jaxrnn(panel, seed, ENSEMBLE)
    ),
}
PEERS = {
    "naive": _classical("Naive"),
    "drift": _classical("RandomWalkWithDrift"),
    "seasonal-naive": _classical("SeasonalNaive"),
    "auto-ets": _classical("AutoETS"),
    "auto-theta": _classical("AutoTheta"),
    "neuralforecast-lstm": _neural("LSTM"),
    "neuralforecast-gru": _neural("GRU"),
    "neuralforecast-deepar": _neural("DeepAR"),
    "neuralforecast-nhits": _neural("NHITS"),
    "darts-rnn": _darts("RNNModel"),
    "darts-block-rnn": _darts("BlockRNNModel"),
    "gluonts-deepar": Method("GluonTS DeepAR", gluon.run_gluon),
}
METHODS = OURS | PEERS


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=PANELS, required=True)
    parser.add_argument("--small", action="store_true", help="with --data=panel: 200 series of 50 to 300 steps")
    parser.add_argument("--m1", type=Path, help="m1_yearly_dataset.tsf, where aeon is not installed")
    parser.add_argument("--method", choices=sorted(METHODS), help="run this one here and print a line of JSON")
    parser.add_argument("--seed", type=int, default=0, help="of --method")
    parser.add_argument("--only", choices=["peers", "jaxrnn"])
    parser.add_argument("--methods", help="names apart by commas")
    parser.add_argument("--seeds", default="0", help="numbers apart by commas")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "jaxrnn-forecasting")
    parser.add_argument("--seconds-limit", type=float, default=1_800, help="after which a method stops training")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the peers' environment")
    given = parser.parse_args(argv)
    if given.small and given.data != "panel":
        parser.error("--small is of --data=panel")
    given.results = given.results.resolve()
    if given.method:
        print(json.dumps(run_here(given)))
        return
    names = given.methods.split(",") if given.methods else {"peers": PEERS, "jaxrnn": OURS}.get(given.only, METHODS)
    unknown = set(names) - set(METHODS)
    if unknown:
        parser.error(f"--methods: {', '.join(sorted(unknown))}; expected some of {', '.join(METHODS)}")
    seeds = [int(seed) for seed in given.seeds.split(",")]
    results = {name: list(run_all(name, seeds, given)) for name in names}
    print(table(results))


def run_here(given: argparse.Namespace) -> dict[str, Any]:
    """Runs one method in this process, in a directory that goes away, and returns its figures."""
    panel = open_panel(given.data, given.results, given.m1, small=given.small)
    found: dict[str, Any] = {"method": given.method, "data": panel.name, "digest": panel.digest, "seed": given.seed}
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        try:
            forecasts = METHODS[given.method].run(panel, given.seed, given.seconds_limit)
            found |= measure(panel, forecasts)
        except CannotDo as error:
            return found | {"cannot": str(error)}
    versions = {name: importlib.metadata.version(name) for name in ("numpy", *forecasts.packages)}
    return found | {
        "train_seconds": forecasts.train_seconds,
        "predict_seconds": forecasts.predict_seconds,
        "origins": forecasts.origins,
        "remarks": list(forecasts.remarks),
        "versions": versions | {"python": platform.python_version()},
    }


def run_all(name: str, seeds: list[int], given: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Runs a method for every seed, each in a process of its own, or reads what was measured before."""
    panel = f"{given.data}-small" if given.small else given.data
    for seed in seeds if METHODS[name].seeded else seeds[:1]:
        path = given.results / f"{panel}-{name}-{seed}.json"
        if path.exists():
            yield json.loads(path.read_text())
            continue
        print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
        with contextlib.suppress(ImportError):  # then the method's own environment has to have the panel's package
            open_panel(given.data, given.results, given.m1, small=given.small)
        result = run_apart(name, seed, given)
        if result.get("failed"):
            yield result
            continue
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)
        yield result


def run_apart(name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Runs one method in a process of its own; what the libraries say goes into a file beside the results."""
    given.results.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable if name in OURS else given.python, "-m", "benchmarks.forecasting", f"--method={name}",
        f"--data={given.data}", f"--seed={seed}", f"--results={given.results}",
        f"--seconds-limit={given.seconds_limit}", *(["--small"] if given.small else []),
        *([f"--m1={given.m1.resolve()}"] if given.m1 else []),
    ]  # fmt: skip
    about = {"method": name, "seed": seed, "date": f"{datetime.date.today()}", "load": os.getloadavg()[0],
             "threads": os.environ.get("OMP_NUM_THREADS")}  # fmt: skip
    begin = time.perf_counter()
    patience = 2 * given.seconds_limit + GRACE_SECONDS
    log = given.results / f"{given.data}{'-small' if given.small else ''}-{name}-{seed}.log"
    with log.open("w") as errors:
        done = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            output, _ = done.communicate(timeout=patience)
        except BaseException as error:  # an interruption too: nothing is left running
            os.killpg(done.pid, signal.SIGKILL)
            done.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return about | {"cannot": f"cut: no forecast after {patience:.0f} s"}
            raise
    seconds = time.perf_counter() - begin
    lines = [line for line in output.splitlines() if line.startswith('{"method"')]
    if done.returncode or not lines:
        said = [line for line in log.read_text().splitlines() if line.strip()] or ["nothing"]
        return about | {"cannot": f"exit {done.returncode}: {said[-1].strip()[:200]}", "failed": True}
    return about | json.loads(lines[-1]) | {"process_seconds": seconds}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the results in Markdown: the mean over seeds, and for MASE the least and the most."""
    lines = [
        "| method | MASE | MASE, all series | sMAPE | in the 80% band | training s | prediction s | whole process s "
        "| origins trained | a second | remarks |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(f"| {METHODS[name].title} | {' | '.join(_cells(found))} |" for name, found in results.items()),
    ]
    everything = [result for found in results.values() for result in found]
    panels = sorted({f"{result['data']} ({result['digest']})" for result in everything if "data" in result})
    versions: dict[str, str] = {}
    for result in everything:
        versions |= result.get("versions", {})
    dates = sorted({result.get("date", "") for result in everything})
    loads = [result["load"] for result in everything if "load" in result]
    load = f"; load before a method {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    threads = sorted({result["threads"] for result in everything if result.get("threads")})
    load += f"; OMP_NUM_THREADS={'/'.join(threads)}" if threads else ""
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    lines += ["", f"{', '.join(panels)}; {dates[0]} to {dates[-1]}; {_machine()}{load}.", named + "."]
    return "\n".join(lines)


def _cells(found: list[dict[str, Any]]) -> list[str]:
    able = [result for result in found if "cannot" not in result]
    if not able:
        return ["-"] * 9 + [f"cannot: {found[0]['cannot']}"]

    def mean(key: str, form: str) -> str:
        values = [result[key] for result in able if result.get(key) is not None]
        return form.format(np.mean(values)) if values else "-"

    mase = mean("mase", "{:.3f}")
    if len(able) > 1:
        each = [result["mase"] for result in able]
        mase += f" ({min(each):.3f} to {max(each):.3f})"
    rates = [result["origins"] / result["train_seconds"] for result in able if result["origins"]]
    some = able[0]
    remarks = [] if some["series"] == some["all_series"] else [f"{some['series']} of {some['all_series']} series"]
    remarks += list(dict.fromkeys(remark for result in able for remark in result["remarks"]))
    remarks += [f"seed {result['seed']}: cannot: {result['cannot']}" for result in found if "cannot" in result]
    return [
        mase,
        mean("mase_all", "{:.3f}"),
        mean("smape", "{:.2f}"),
        mean("coverage", "{:.1%}"),
        mean("train_seconds", "{:.1f}"),
        mean("predict_seconds", "{:.2f}"),
        mean("process_seconds", "{:.1f}"),
        mean("origins", "{:,.0f}"),
        f"{np.mean(rates):,.0f}" if rates else "-",
        "; ".join(remarks),
    ]


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return f"{os.cpu_count()} cores of {cpu}"


if __name__ == "__main__":
    main()
