"""Short runs of every kind, and the SHA-256 of what they leave: what a change of the trainer must not change.

    python tests/golden_runs.py            compares with tests/golden/runs.json and lists what differs
    python tests/golden_runs.py --write    writes the hashes of this machine there

The last bits depend on the processor and on XLA's version, so hashes are kept for each of them. Figures, rounded, are
kept once and compared everywhere.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from quick_flags import set_quick_flags

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden" / "runs.json"
COMMON = ["--hidden-size=8", "--batch-size=16", "--epochs=3", "--checkpoint-seconds=0", "--learning-rate=0.01"]
# Two devices are simulated in all of them; --devices=1 leaves the work to one.
CASES = {
    "pad": ["--cell=lstm", "--batching=pad"],
    "bucket": ["--cell=gru", "--batching=bucket"],
    "pack": ["--cell=rnn", "--batching=pack", "--target=every"],
    "tbptt": ["--cell=lstm", "--tbptt=3", "--target=every"],
    "ensemble": ["--cell=gru", "--batching=pad", "--ensemble=2"],
    "dropout": ["--cell=lstm", "--batching=bucket", "--num-layers=2", "--dropout=0.5", "--optimizer=adamw"],
    "two devices": ["--cell=lstm", "--batching=bucket", "--devices=2"],
    "prepared, pad": ["--cell=lstm", "--batching=pad", "--data=prepared"],
    "prepared, bucket": ["--cell=gru", "--batching=bucket", "--data=prepared"],
    "prepared, pack": ["--cell=rnn", "--batching=pack", "--target=every", "--data=prepared"],
    "prepared, tbptt": ["--cell=gru", "--tbptt=3", "--target=every", "--data=prepared"],
}
LOOPED = ("pad", "pack", "tbptt", "prepared, bucket")  # with JAX's loop too


def machine() -> str:
    """Names what the last bits depend on: XLA, the processor, and the number of its cores."""
    try:
        lines = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
        processor = "\n".join(sorted(line for line in lines if line.startswith(("model name", "flags", "Features"))))
    except OSError:
        processor = platform.processor()
    digest = hashlib.sha256(processor.encode()).hexdigest()[:8]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"jaxlib {metadata.version('jaxlib')}, {platform.machine()} {digest}, {cores} cores"


def measure_all() -> dict[str, dict[str, Any]]:
    """Runs all cases in a temporary directory; returns the hashes and the figures of each."""
    from small_runs import write_rows

    from jaxrnn import prepare

    before, found = Path.cwd(), {}
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            write_rows(Path("rows.csv"))
            _call(prepare.main, ["rows.csv", "--out=prepared"])
            for case, flags in CASES.items():
                for backend in ("auto", "scan") if case in LOOPED else ("auto",):
                    given = {
                        "--data": "--data=rows.csv",
                        "--devices": "--devices=1",
                        "--backend": f"--backend={backend}",
                    }
                    given |= {flag.partition("=")[0]: flag for flag in [*COMMON, *flags]}
                    found[f"{case}, {backend}"] = _measure([*given.values()], Path(f"{len(found)}"))
        finally:
            os.chdir(before)
    return found


def _call(command: Any, arguments: list[str]) -> None:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = command(arguments)
    assert code == 0, told.getvalue()


def _measure(flags: list[str], run_dir: Path) -> dict[str, Any]:
    from small_runs import arrays_of

    from jaxrnn import train

    _call(train.main, [*flags, f"--run-dir={run_dir}"])
    arrays = arrays_of(run_dir)
    groups = {}
    for group in ("params", "best_params", "opt_state"):
        chosen = {name: value for name, value in arrays.items() if name.startswith(f"{group}/")}
        assert chosen, f"no arrays of {group}: {sorted(arrays)}"
        groups[group] = _sha256(repr(sorted(chosen.items())).encode())
    metrics = (run_dir / "metrics.jsonl").read_bytes()
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    timeless = {key: value for key, value in summary.items() if key not in ("seconds", "compilations")}
    return {
        **groups,
        "metrics": _sha256(metrics),
        "summary": _sha256(json.dumps(timeless, sort_keys=True).encode()),
        "figures": {part: {name: float(f"{value:.4g}") for name, value in summary[part].items()}
                    for part in ("validation", "test")},
    }  # fmt: skip


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def differences(found: dict[str, dict[str, Any]], golden: dict[str, Any], *, tolerance: float = 2e-3) -> list[str]:
    """Lists what is not as it was: hashes where this machine has some, figures everywhere."""
    hashes, complaints = golden["hashes"].get(machine(), {}), []
    if found.keys() != golden["figures"].keys():
        complaints.append(f"cases: {sorted(found.keys() ^ golden['figures'].keys())}")
    for case, one in found.items():
        for group, expected in hashes.get(case, {}).items():
            if one[group] != expected:
                complaints.append(f"{case}: {group}: {one[group][:12]}.. was {expected[:12]}..")
        for part, figures in golden["figures"].get(case, {}).items():
            for name, expected in figures.items():
                got = one["figures"][part][name]
                if abs(got - expected) > tolerance * max(abs(expected), 1e-2):
                    complaints.append(f"{case}: {part} {name}: {got} was {expected}")
    return complaints


def main() -> int:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"figures": {}, "hashes": {}}
    # As users compile, where last bits are compared; rounded figures are the same however programs are compiled.
    os.environ["XLA_FLAGS"] = ""
    if "--write" not in sys.argv and machine() not in golden["hashes"]:
        set_quick_flags()
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    found = measure_all()
    if "--write" in sys.argv:
        golden["figures"] = {case: one["figures"] for case, one in found.items()}
        golden["hashes"][machine()] = {
            case: {group: value for group, value in one.items() if group != "figures"} for case, one in found.items()
        }
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
        return 0
    complaints = differences(found, golden)
    known = "hashes and figures" if machine() in golden["hashes"] else f"figures; no hashes are kept of {machine()}"
    print("\n".join([*complaints, f"{len(found)} runs, {len(complaints)} differences; compared: {known}"]))
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
