"""This project's layers and runs on the accelerator that JAX finds, beside PyTorch's cuDNN where there is one.

    python -m benchmarks.gpu [--rounds=7]

Of each layer: milliseconds of a forward and backward pass over one batch, ours and PyTorch's in turn, median and
minimum of the rounds, after compiling; `packed` gives PyTorch the same rows of unequal lengths as a PackedSequence. Of
each task: seconds of an epoch of a set that this file makes, all epochs of a run in compiled calls.
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

SIZES = {
    "B64 T100 D32 H128": (64, 100, 32, 128),
    "B64 T200 D128 H256": (64, 200, 128, 256),
    "B512 T200 D128 H256": (512, 200, 128, 256),
}
LAYERS = {"LSTM": jaxrnn.LSTM, "GRU": jaxrnn.GRU, "RNN": jaxrnn.RNN}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(argv)
    print(f"{jax.devices()[0].device_kind} ({jax.default_backend()}), jax {jax.__version__}")
    print("| layer | sizes | ours, ms | PyTorch padded, ms | packed, ms | padded / ours | packed / ours |")
    print("|---|---|---|---|---|---|---|")
    for name in LAYERS:
        for size in SIZES:
            compare(name, size, given.rounds)
    run_tasks()


def compare(name: str, size: str, rounds: int) -> None:
    """Times one layer of one size."""
    batch, length, inputs, hidden = SIZES[size]
    generator = np.random.default_rng(0)
    values = generator.normal(size=(batch, length, inputs)).astype(np.float32)
    lengths = generator.integers(length // 10, length + 1, batch)
    peers: dict[str, Callable[[], Any]] = {"ours": ours(name, values, lengths, hidden)}
    peers |= torchs(name, values, lengths, hidden)
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for run in peers.values():
        run()
    for _ in range(rounds):
        for peer, run in peers.items():
            begin = time.perf_counter()
            for _ in range(5):
                run()
            seconds[peer].append((time.perf_counter() - begin) / 5)
    middle = {peer: statistics.median(found) * 1e3 for peer, found in seconds.items()}
    cells = [f"{middle[peer]:.2f} ({min(seconds[peer]) * 1e3:.2f})" if peer in middle else "-"
             for peer in ("ours", "padded", "packed")]  # fmt: skip
    ratios = [f"{middle[peer] / middle['ours']:.2f}" if peer in middle else "-" for peer in ("padded", "packed")]
    print(f"| {name} | {size} | {' | '.join(cells + ratios)} |", flush=True)


def ours(name: str, values: np.ndarray, lengths: np.ndarray, hidden: int) -> Callable[[], Any]:
    """Returns a call of our layer's gradient."""
    layer = LAYERS[name](values.shape[2], hidden, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(layer)

    @jax.jit
    def grads(params: Any, values: Any, lengths: Any) -> Any:
        def loss(params: Any, values: Any) -> Any:
            outputs, _ = nnx.merge(graphdef, params)(values, lengths=lengths)
            return (outputs**2).sum()

        return jax.grad(loss, argnums=(0, 1))(params, values)

    on_device = jnp.asarray(values), jnp.asarray(lengths)
    return lambda: jax.block_until_ready(grads(params, *on_device))


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
