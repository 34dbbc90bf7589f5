"""This project's layers and runs on the accelerator that JAX finds, beside PyTorch's cuDNN where there is one.

    python -m benchmarks.gpu [--rounds=7] [--turns=1,5,20]

Of each layer: milliseconds of a forward and backward pass over one batch, ours and PyTorch's in turn, median and
minimum of the rounds, after compiling; `packed` gives PyTorch the same rows of unequal lengths as a PackedSequence.
`--turns` times ours alone, with so many steps a turn of the loop, forward and with the gradient. Of each task: seconds
of an epoch of a set that this file makes, all epochs of a run in compiled calls.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
from jaxrnn.nn.engine import forms, platforms

SIZES = {
    "B64 T100 D32 H128": (64, 100, 32, 128),
    "B64 T200 D128 H256": (64, 200, 128, 256),
    "B512 T200 D128 H256": (512, 200, 128, 256),
}
LAYERS = {"LSTM": jaxrnn.LSTM, "GRU": jaxrnn.GRU, "RNN": jaxrnn.RNN}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=lambda text: [int(part) for part in text.split(",")])
    given = parser.parse_args(argv)
    print(f"{jax.devices()[0].device_kind} ({jax.default_backend()}), jax {jax.__version__}")
    if given.turns:
        compare_turns(given.turns, given.rounds)
        return
    print("| layer | sizes | ours, ms | PyTorch padded, ms | packed, ms | padded / ours | packed / ours |")
    print("|---|---|---|---|---|---|---|")
    for name in LAYERS:
        for size in SIZES:
            compare(name, size, given.rounds)
    run_tasks()


def compare(name: str, size: str, rounds: int) -> None:
    """Times one layer of one size."""
    values, lengths = draw_rows(size)
    hidden = SIZES[size][3]
    peers: dict[str, Callable[[], Any]] = {"ours": ours(name, values, lengths, hidden)}
    middle, cells = time_in_turn(peers | torchs(name, values, lengths, hidden), rounds)
    cells += ["-"] * (3 - len(cells))
    ratios = [f"{middle[peer] / middle['ours']:.2f}" if peer in middle else "-" for peer in ("padded", "packed")]
    print(f"| {name} | {size} | {' | '.join(cells + ratios)} |", flush=True)


def compare_turns(turns: list[int], rounds: int) -> None:
    """Times our layers with so many steps a turn of the loop."""
    heads = [f"{kind}, {turn} a turn, ms" for kind in ("forward", "gradient") for turn in turns]
    print(f"| layer | sizes | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 2) + "|")
    for name in LAYERS:
        for size in SIZES:
            values, lengths = draw_rows(size)
            calls = {}
            for kind in ("forward", "gradient"):
                for turn in turns:
                    forms.ACCELERATOR_STEPS_OF_A_TURN = turn
                    jax.clear_caches()
                    platforms._traced.cache_clear()  # it keeps the loop by its shapes
                    calls[kind, turn] = ours(name, values, lengths, SIZES[size][3], gradient=kind == "gradient")
            print(f"| {name} | {size} | {' | '.join(time_in_turn(calls, rounds)[1])} |", flush=True)


def draw_rows(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws a batch and the lengths of its rows, a tenth to the whole."""
    batch, length, inputs, _ = SIZES[size]
    generator = np.random.default_rng(0)
    values = generator.normal(size=(batch, length, inputs)).astype(np.float32)
    return values, generator.integers(length // 10, length + 1, batch)


def time_in_turn(calls: dict[Any, Callable[[], Any]], rounds: int) -> tuple[dict[Any, float], list[str]]:
    """Returns each call's median of the rounds in milliseconds, and with its least as text."""
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(5):
                call()
            seconds[name].append((time.perf_counter() - begin) / 5 * 1e3)
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    return middle, [f"{middle[name]:.2f} ({min(found):.2f})" for name, found in seconds.items()]


def ours(name: str, values: np.ndarray, lengths: np.ndarray, hidden: int, gradient: bool = True) -> Callable[[], Any]:
    """Returns a call of our layer, compiled: of its gradient, or forward alone."""
    layer = LAYERS[name](values.shape[2], hidden, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(layer)

    def loss(params: Any, values: Any, lengths: Any) -> Any:
        outputs, _ = nnx.merge(graphdef, params)(values, lengths=lengths)
        return (outputs**2).sum()

    on_device = params, jnp.asarray(values), jnp.asarray(lengths)
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1)) if gradient else loss).lower(*on_device).compile()
    return lambda: jax.block_until_ready(compiled(*on_device))


def torchs(name: str, values: np.ndarray, lengths: np.ndarray, hidden: int) -> dict[str, Callable[[], Any]]:
    """Returns calls of PyTorch's layer's gradient, of padded and of packed rows; nothing where it has no GPU."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    layer = getattr(torch.nn, name)(values.shape[2], hidden, batch_first=True).cuda()
    inputs = torch.tensor(values, device="cuda", requires_grad=True)
    counts = torch.tensor(lengths)
    mask = (torch.arange(values.shape[1])[None] < counts[:, None]).cuda()[..., None]

    def padded() -> None:
        layer.zero_grad()
        inputs.grad = None
        (layer(inputs)[0] * mask).pow(2).sum().backward()
        torch.cuda.synchronize()

    def packed() -> None:
        layer.zero_grad()
        inputs.grad = None
        rows = torch.nn.utils.rnn.pack_padded_sequence(inputs, counts, batch_first=True, enforce_sorted=False)
        layer(rows)[0].data.pow(2).sum().backward()
        torch.cuda.synchronize()

    return {"padded": padded, "packed": packed}


def run_tasks() -> None:
    """Times an epoch of each task's recipe on a set of waves of 20 to 200 steps."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 200, 2000)
    speeds = generator.uniform(0.1, 1, 2000)
    waves = [np.sin(np.arange(n) * s) + generator.normal(0, 0.1, n) for n, s in zip(lengths, speeds, strict=True)]
    labelled = jaxrnn.read(waves, labels=["fast" if speed > 0.5 else "slow" for speed in speeds])
    print("| task | epochs | seconds with compiling | seconds of as many again | figure |")
    print("|---|---|---|---|---|")
    for task, rows, settings in (
        ("classify", labelled, {}),
        ("forecast", waves, {"horizon": 12}),
    ):
        found = []
        for seed in (0, 1):
            begin = time.perf_counter()
            model = jaxrnn.fit(rows, task=task, epochs=10, seed=seed, progress=False, **settings)
            found.append(time.perf_counter() - begin)
        figures = model.evaluate(rows)
        name = "accuracy" if task == "classify" else "mase"
        print(f"| {task} | 10 | {found[0]:.2f} | {found[1]:.2f} | {name} {figures[name]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
