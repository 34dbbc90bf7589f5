"""This project against its peers: a training step of a recurrent layer, and whole epochs of ragged rows, in turn.

    python -m benchmarks.compare [--workload=steps|epochs|all|NAME,..] [--peers=NAME,..] [--rounds=5] [--busy]

Needs the [bench] and [torch] extras. Prints a table of ratios - the peer's time divided by this project's, forward and
backward - and writes them as JSON and as a picture beside --out. With --busy another process takes a core for half of
the time, ten milliseconds each time, as neighbours on a shared machine do.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BATCH = 64
EPOCH_ROWS = 4096
SAMPLED_BATCHES = 6  # an epoch's time is that of so many of its batches, scaled up
DEFAULT_PEERS = "jaxrnn-scan,torch-padded,torch-packed,nnx,keras,equinox,memax"


class Workload(NamedTuple):
    """What is timed.

    Attributes:
      kind: "lstm", "gru" or "tanh".
      time: The longest row.
      input_size: Features of a step.
      hidden_size: Hidden units.
      lengths: None for one batch of full rows; else how an epoch's lengths are drawn.
    """

    kind: str
    time: int
    input_size: int
    hidden_size: int
    lengths: str | None = None


STEPS = {f"{kind}-{name}": Workload(kind, *sizes) for name, sizes in
         {"T100-H128": (100, 32, 128), "T200-H256": (200, 128, 256)}.items()
         for kind in ("lstm", "gru", "tanh")}  # fmt: skip
EPOCHS = {
    "uniform-T100-H128": Workload("lstm", 100, 32, 128, "uniform"),
    "uniform-T200-H256": Workload("lstm", 200, 128, 256, "uniform"),
    "lognormal-T500-H128": Workload("lstm", 500, 16, 128, "lognormal"),
}


def draw_lengths(workload: Workload) -> np.ndarray:
    """Draws the lengths of an epoch's rows; lognormal ones have a mean of a fifth of the longest."""
    generator = np.random.default_rng(0)
    longest = workload.time
    if workload.lengths == "uniform":
        return generator.integers(longest // 10, longest + 1, EPOCH_ROWS)
    drawn = generator.lognormal(0.0, 0.7, EPOCH_ROWS)
    scaled = np.clip(np.rint(drawn * 0.2 * longest / drawn.mean()), 1, longest).astype(int)
    return np.clip(np.rint(scaled * 0.2 * longest / scaled.mean()), 1, longest).astype(int)


def seconds_of(run: Callable[[], Any]) -> float:
    """Times one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def settle() -> None:
    """Waits until the threads of whoever ran before sleep: PyTorch's keep turning for a fifth of a second."""
    time.sleep(0.3)


@contextlib.contextmanager
def busy_neighbour(wanted: bool) -> Iterator[None]:
    """Keeps a core busy for half of the time, where it is wanted."""
    spin = """
import time
while True:
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    time.sleep(0.01)
"""
    neighbour = subprocess.Popen([sys.executable, "-c", spin]) if wanted else None
    try:
        yield
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


def matmul_rate(rows: int, depth: int, columns: int) -> float:
    """Returns the machine's rate in GFLOP/s on a matmul in JAX, all cores."""
    import jax
    import jax.numpy as jnp

    a, b = jnp.ones((rows, depth)), jnp.ones((depth, columns))
    multiply = jax.jit(lambda a, b: a @ b)
    multiply(a, b).block_until_ready()
    best = min(seconds_of(lambda: multiply(a, b).block_until_ready()) for _ in range(20))
    return 2e-9 * rows * depth * columns / best


def describe_bound(workload: Workload) -> dict[str, float]:
    """Returns the operations of a step, and how long they take at the rate of one matmul over all its steps."""
    gates = {"lstm": 4, "gru": 3, "tanh": 1}[workload.kind] * workload.hidden_size
    depth = workload.input_size + workload.hidden_size
    gflop = 2e-9 * 3 * BATCH * workload.time * depth * gates  # forward, and twice as much backward
    rate = matmul_rate(BATCH * workload.time, depth, gates)
    return {"GFLOP": gflop, "matmul GFLOP/s": rate, "bound ms": 1e3 * gflop / rate}


def prepare(name: str, workload: Workload, peers: list[str], mesh: Any) -> tuple[dict[str, Callable[[], Any]], dict]:
    """Builds every contestant, checks that losses agree, and returns what is to be timed."""
    from benchmarks.peers import OTHER_EQUATION, PEERS, CannotDo, Job, build_jaxrnn, build_jaxrnn_packed, draw_weights

    sizes = workload.kind, workload.input_size, workload.hidden_size
    job = Job(*sizes, draw_weights(*sizes), mesh)
    generator = np.random.default_rng(1)
    lengths = np.full(BATCH, workload.time) if workload.lengths is None else draw_lengths(workload)
    draw = lambda rows, time: generator.standard_normal((rows, time, workload.input_size), np.float32)  # noqa: E731
    notes: dict[str, Any] = {}
    batches = [lengths[i : i + BATCH] for i in range(0, len(lengths), BATCH)]
    scale = len(batches) / min(SAMPLED_BATCHES, len(batches))
    padded = [(draw(BATCH, workload.time), part) for part in batches[:SAMPLED_BATCHES]]
    contestants: dict[str, Callable[[], Any]] = {}
    ours = build_jaxrnn(job)
    expected = ours(*padded[0])
    for peer in peers:
        try:
            begin = time.perf_counter()
            step = PEERS[peer](job)
            found = step(*padded[0])
            notes[peer] = {"first call s": time.perf_counter() - begin}
        except (CannotDo, ImportError) as error:
            notes[peer] = {"cannot": str(error)}
            continue
        if peer in OTHER_EQUATION:
            notes[peer]["marked"] = "another equation"
        elif not abs(found - expected) <= 1e-4 * abs(expected):
            notes[peer]["marked"] = f"another loss: {found:.6g}, expected {expected:.6g}"
        trimmed = peer.startswith("torch") and peer != "torch-compile"  # no shape is compiled
        parts = [(x[:, : n.max()], n) if trimmed else (x, n) for x, n in padded]
        parts = [(np.ascontiguousarray(x), n) for x, n in parts]
        contestants[peer] = lambda step=step, parts=parts: [step(*part) for part in parts]
    contestants["jaxrnn"] = lambda: [ours(*part) for part in padded]
    factors = dict.fromkeys(contestants, scale)
    if workload.lengths is not None:
        from jaxrnn.data.packing import number_segments, place_sequences

        placed = place_sequences(lengths, workload.time)
        ids = number_segments(placed, lengths, workload.time)
        packed_step = build_jaxrnn_packed(job)
        packed = [(draw(BATCH, workload.time), ids[i : i + BATCH]) for i in range(0, len(ids) - BATCH + 1, BATCH)]
        picked = [packed[i] for i in np.linspace(0, len(packed) - 1, SAMPLED_BATCHES).astype(int)]
        packed_step(*picked[0])
        contestants["jaxrnn-packed"] = lambda: [packed_step(*part) for part in picked]
        factors["jaxrnn-packed"] = len(ids) / BATCH / SAMPLED_BATCHES
        notes["jaxrnn-packed"] = {
            "packed rows": len(ids),
            "ideal over padded": float(len(lengths) * workload.time / lengths.sum()),
        }
    else:
        notes["jaxrnn"] = describe_bound(workload)
    notes["factors"] = factors
    return contestants, notes


def measure(name: str, workload: Workload, peers: list[str], rounds: int, mesh: Any) -> dict[str, Any]:
    """Times one workload, everybody in turn."""
    contestants, notes = prepare(name, workload, peers, mesh)
    factors = notes.pop("factors")
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {peer: [] for peer in contestants}
    repeat = 4 if workload.lengths is None else 1
    for _ in range(rounds):
        for peer, run in contestants.items():
            settle()
            seconds[peer].append(factors[peer] * min(seconds_of(run) for _ in range(repeat)))
    best = "jaxrnn-packed" if "jaxrnn-packed" in seconds else "jaxrnn"
    return {
        "workload": name,
        "milliseconds": {peer: [1e3 * s for s in found] for peer, found in seconds.items()},
        "ratios": {
            peer: [theirs / own for theirs, own in zip(found, seconds[best], strict=True)]
            for peer, found in seconds.items()
        },
        "against": best,
        "notes": notes,
    }


def print_table(result: dict[str, Any]) -> None:
    """Prints one workload's times and ratios."""
    print(f"\n{result['workload']}  (ratios: time / that of {result['against']})")
    for peer, found in result["milliseconds"].items():
        ratios = result["ratios"][peer]
        note = result["notes"].get(peer, {})
        marks = "; ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k}: {v}" for k, v in note.items())
        print(
            f"  {peer:14} {statistics.median(found):10.1f} ms (min {min(found):.1f})"
            f"   {statistics.median(ratios):5.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})   {marks}",
            flush=True,
        )
    for peer, note in result["notes"].items():
        if "cannot" in note:
            print(f"  {peer:14} cannot: {note['cannot']}")


def draw_picture(results: list[dict[str, Any]], path: Path) -> None:
    """Draws the median ratios of all workloads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 1.1 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    labels, values, colours = [], [], []
    for result in reversed(results):
        for number, (peer, ratios) in enumerate(result["ratios"].items()):
            labels.append(f"{result['workload']}: {peer}")
            values.append(statistics.median(ratios))
            colours.append(f"C{number}")
    axes.barh(range(len(values)), values, color=colours)
    axes.set_yticks(range(len(values)), labels, fontsize=6)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("time divided by that of jaxrnn")
    FigureCanvasAgg(figure).print_png(str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="all")
    parser.add_argument("--peers", default=DEFAULT_PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--out", default="benchmarks/compare.json")
    arguments = parser.parse_args(argv)
    groups = {"steps": STEPS, "epochs": EPOCHS, "all": STEPS | EPOCHS}
    everything = STEPS | EPOCHS
    chosen = groups.get(arguments.workload) or {name: everything[name] for name in arguments.workload.split(",")}

    from jaxrnn.parallel.devices import choose_mesh

    mesh = choose_mesh(0, batch_gates=2**30, batch_rows=BATCH)
    rate, devices = matmul_rate(1024, 1024, 1024), 1 if mesh is None else mesh.devices.size
    print(f"matmul: {rate:.0f} GFLOP/s; {devices} devices share a batch of the peers in JAX")
    results = []
    with busy_neighbour(arguments.busy):
        for name, workload in chosen.items():
            results.append(measure(name, workload, arguments.peers.split(","), arguments.rounds, mesh))
            print_table(results[-1])
    out = Path(arguments.out)
    out.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "results": results}, indent=1) + "\n")
    draw_picture(results, out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
