"""Inference against PyTorch: a whole batch, and one step of one stream, in turn.

    python -m benchmarks.inference [--rounds=5]

Forward only, the same weights, outputs checked equal to 1e-5 first. Ratios are PyTorch's time divided by this
project's. Needs the [torch] extra.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
from benchmarks.compare import settle
from benchmarks.peers import Job, draw_weights, new_layer, torch_layer
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel.devices import choose_mesh, replicate, share_rows

BATCH, TIME, INPUT, HIDDEN = 64, 100, 32, 128


def median_seconds(run: Callable[[], Any], seconds: float = 0.5) -> float:
    """Times calls for about so many seconds; returns the median of a call."""
    found = []
    settle()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def contestants(kind: str, mesh: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Builds both jobs of one kind of layer, ours and PyTorch's, and checks that outputs agree."""
    import torch

    weights = draw_weights(kind, INPUT, HIDDEN)
    layer = new_layer(kind, INPUT, HIDDEN)
    jaxrnn.load_torch_state_dict(layer, weights)
    peer = torch_layer(Job(kind, INPUT, HIDDEN, weights, None)).eval()
    graphdef, params = nnx.split(layer)
    shared_params = replicate(params, mesh)
    inputs = np.random.default_rng(0).standard_normal((BATCH, TIME, INPUT), np.float32)
    tensor = torch.from_numpy(inputs)

    whole = jax.jit(lambda p, x: nnx.merge(graphdef, p)(share_rows(x, mesh))[0])
    step = jax.jit(lambda p, x, state: nnx.merge(graphdef, p).step(x, state))
    one, one_tensor = jnp.asarray(inputs[:1, 0]), tensor[:1, :1]
    start = layer.initial_state(1)

    @torch.inference_mode()
    def torch_whole() -> Any:
        return peer(tensor)[0]

    @torch.inference_mode()
    def torch_step(state: Any = None) -> Any:
        return peer(one_tensor, state)

    np.testing.assert_allclose(whole(shared_params, inputs), torch_whole().numpy(), rtol=1e-4, atol=1e-5)
    _, torch_state = torch_step()
    output, state = step(params, one, start)
    np.testing.assert_allclose(output, torch_step()[0][:, 0].numpy(), rtol=1e-4, atol=1e-5)
    return {
        "whole batch": (lambda: jax.block_until_ready(whole(shared_params, inputs)), torch_whole),
        "one step of one stream": (
            lambda: jax.block_until_ready(step(params, one, state)),
            lambda: torch_step(torch_state),
        ),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    mesh = choose_mesh(0, batch_gates=2**30, batch_rows=BATCH, threaded=cpu_kernels.is_built())
    print(f"{'':30} {'jaxrnn':>10} {'PyTorch':>10}   ratio: median (minimum, maximum)")
    for kind in ("lstm", "gru", "tanh"):
        for name, (ours, theirs) in contestants(kind, mesh).items():
            times = [(median_seconds(ours), median_seconds(theirs)) for _ in range(arguments.rounds)]
            ratios = [b / a for a, b in times]
            own, other = (statistics.median(column) for column in zip(*times, strict=True))
            print(
                f"{kind + ', ' + name:30} {own * 1e3:7.3f} ms {other * 1e3:7.3f} ms   {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f}, {max(ratios):.2f})",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
