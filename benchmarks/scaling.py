"""How time and memory grow: a step's time with T, B and H, its memory with T, an epoch's time with the rows.

    python -m benchmarks.scaling [--rounds=3] [--out=benchmarks/scaling.json] [--only=time,batch,hidden,memory,rows]

A step is loss and gradient of an LSTM over full rows, beside PyTorch's padded one; one size changes, the others stay at
T 100, B 64, D 32, H 128. An epoch is that of training an LSTM of 32 units on rows of ball positions. Needs the [torch]
extra. Writes the figures as JSON and draws them beside it.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import seconds_of, settle

SIZES = {"time": 100, "batch": 64, "hidden": 128}
RANGES = {
    "time": (25, 50, 100, 200, 400, 800),
    "batch": (4, 16, 64, 256, 1024),
    "hidden": (8, 16, 32, 64, 128, 256, 512),
}
INPUT_SIZE = 32
MEMORY_STEPS = (256, 1024, 4096, 16384, 65536)
EPOCH_ROWS = (1_000, 3_000, 10_000, 30_000, 100_000)
NAMES = {"time": "steps T", "batch": "rows B", "hidden": "hidden units H"}


def time_steps(varied: str, rounds: int) -> list[dict[str, Any]]:
    """Times a step with one size varied: this project and PyTorch in turn."""
    from benchmarks.peers import Job, build_jaxrnn, build_torch_padded, draw_weights
    from jaxrnn.parallel.devices import choose_mesh

    generator = np.random.default_rng(0)
    found = []
    for value in RANGES[varied]:
        sizes = SIZES | {varied: value}
        gates = sizes["batch"] * sizes["time"] * 4 * sizes["hidden"]
        mesh = choose_mesh(0, batch_gates=gates, batch_rows=sizes["batch"])
        job = Job("lstm", INPUT_SIZE, sizes["hidden"], draw_weights("lstm", INPUT_SIZE, sizes["hidden"]), mesh)
        x = generator.standard_normal((sizes["batch"], sizes["time"], INPUT_SIZE), np.float32)
        lengths = np.full(sizes["batch"], sizes["time"])
        steps: dict[str, Callable[..., float]] = {"jaxrnn": build_jaxrnn(job), "torch-padded": build_torch_padded(job)}
        losses = [step(x, lengths) for step in steps.values()]
        assert abs(losses[0] - losses[1]) <= 1e-4 * abs(losses[1]), losses
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                settle()
                seconds[name].append(min(seconds_of(functools.partial(step, x, lengths)) for _ in range(3)))
        line = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
        ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
        found.append({varied: value, **line, "ratio": statistics.median(ratios)})
        print(f"{NAMES[varied]:14} {value:6}: {line['jaxrnn']:9.2f} ms, PyTorch {line['torch-padded']:9.2f} ms,"
              f" ratio {found[-1]['ratio']:.2f}", flush=True)  # fmt: skip
    return found


def plan_memory() -> list[dict[str, Any]]:
    """Asks XLA what it plans for the gradient of an LSTM, H 128, B 4, that reads the final state."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import jaxrnn

    layer = jaxrnn.LSTM(1, SIZES["hidden"], rngs=nnx.Rngs(0))

    def planned(num_steps: int, remat_steps: int) -> float:
        layer.remat_steps = remat_steps or None
        graphdef, params = nnx.split(layer)

        def loss(params: Any, inputs: Any) -> Any:
            return jnp.sum(nnx.merge(graphdef, params)(inputs)[1].h ** 2)

        inputs = jax.ShapeDtypeStruct((4, num_steps, 1), jnp.float32)
        compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes / 2**20

    found = []
    for num_steps in MEMORY_STEPS:
        root = round(num_steps**0.5)
        found.append({"time": num_steps, "all kept": planned(num_steps, 0), "root": planned(num_steps, root)})
        print(f"memory, T {num_steps:6}: {found[-1]['all kept']:8.1f} MiB, remat_steps = {root}:"
              f" {found[-1]['root']:6.1f} MiB", flush=True)  # fmt: skip
    return found


def time_epochs(rounds: int) -> list[dict[str, Any]]:
    """Times epochs of training on rows of ball positions."""
    import jax

    from jaxrnn.data.ball import generate
    from jaxrnn.data.ragged import Ragged
    from jaxrnn.settings.config import Config
    from jaxrnn.training.fit import build_trainer
    from jaxrnn.training.memory_source import MemorySource

    found = []
    for num_rows in EPOCH_ROWS:
        config = Config().replace_flat({"cell": "lstm", "split": "random"})
        source = MemorySource(config, Ragged.from_rows(generate(num_rows, seed=0)))
        trainer = build_trainer(config, source)
        state = trainer.initial_state()
        times = []
        for _ in range(rounds + 1):  # the first one compiles
            begin = time.perf_counter()
            state, _ = source.run_epochs(trainer, state, 2)
            jax.block_until_ready(state.params)
            times.append((time.perf_counter() - begin) / 2)
        seconds = statistics.median(times[1:])
        found.append({"rows": num_rows, "seconds": seconds})
        print(f"epoch, {num_rows:7} rows: {1e3 * seconds:8.1f} ms, {num_rows / seconds:10.3g} rows/s", flush=True)
    return found


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws what was measured, a panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 3.6), layout="constrained")
    for axes, (name, found) in zip(np.ravel(figure.subplots(1, len(results))), results.items(), strict=True):
        x_name, *series = (key for key in found[0] if key != "ratio")
        for key in series:
            axes.loglog([line[x_name] for line in found], [line[key] for line in found], "o-", label=key)
        ticks = [line[x_name] for line in found]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel({**NAMES, "rows": "rows of the file"}[x_name])
        axes.set_ylabel({"memory": "MiB planned", "rows": "seconds an epoch"}.get(name, "ms a step"))
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its figures, writes and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="time,batch,hidden,memory,rows")
    parser.add_argument("--out", default="benchmarks/scaling.json")
    arguments = parser.parse_args(argv)
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        varied: lambda varied=varied: time_steps(varied, arguments.rounds) for varied in RANGES
    }
    measures |= {"memory": plan_memory, "rows": lambda: time_epochs(arguments.rounds)}
    results = {name: measures[name]() for name in arguments.only.split(",")}
    out = Path(arguments.out)
    out.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "results": results}, indent=1) + "\n")
    draw(results, out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
