"""Long rows: memory and time of a gradient with every state kept, and with those of every 128 steps.

    python -m benchmarks.long [--time=16384] [--batch=4] [--hidden-size=128] [--rounds=3]

Memory is what XLA plans for intermediate arrays (`memory_analysis`); what the process came to hold is beside it. The
loss reads the final state, as in learning the last value of a row.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence


def measure(num_steps: int, batch: int, hidden_size: int, remat_steps: int, rounds: int) -> None:
    """Prints one line: planned megabytes, the process's peak, seconds."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import jaxrnn

    layer = jaxrnn.LSTM(1, hidden_size, rngs=nnx.Rngs(0))
    layer.remat_steps = remat_steps or None
    graphdef, params = nnx.split(layer)
    inputs = jax.random.normal(jax.random.key(0), (batch, num_steps, 1))

    @jax.jit
    def gradient(params, inputs):
        def loss(params):
            _, state = nnx.merge(graphdef, params)(inputs)
            return jnp.sum(state.h**2)

        return jax.grad(loss)(params)

    compiled = gradient.lower(params, inputs).compile()
    planned = compiled.memory_analysis().temp_size_in_bytes / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, inputs))
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before
    print(planned, peak, statistics.median(seconds), min(seconds))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    sizes = arguments.time, arguments.batch, arguments.hidden_size
    print("remat_steps  planned MiB  more resident MiB  seconds: median (minimum)")
    for remat_steps in (0, 32, 128, 512):
        code = f"from benchmarks.long import measure; measure(*{sizes}, {remat_steps}, {arguments.rounds})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        planned, peak, median, least = map(float, done.stdout.split())
        print(f"{remat_steps:11}  {planned:11.1f}  {peak:17.1f}  {median:.2f} ({least:.2f})", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
