"""Weak scaling on CPU cores: twice the rows on twice the cores, in one process of two devices and in two processes.

    python -m benchmarks.weak_scaling [--rounds=3] [--backend=auto] [--cores=2]

A step is loss, gradient and update of an LSTM over full rows, B 64 a core, T 100, D 32, H 128, shared as training
shares it. Against it stands one process with one device, held to one core. Every measurement is a process, or several,
of its own, in turn; each core computes one device. At the end: how long an all-reduce of gradients takes between the
processes. Linux only: processes are held to cores by `os.sched_setaffinity`.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROWS, STEPS, INPUT_SIZE, HIDDEN_SIZE = 64, 100, 32, 128
TIMED_STEPS = 40
PARAMETERS = (5_000, 83_000, 1_000_000, 10_000_000)


def work(number: int, process: int, port: int, devices: int, cores: list[int], backend: str) -> None:
    """Times steps in one process, and prints the seconds of one; its share of what `main` starts."""
    os.sched_setaffinity(0, cores)
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    import jaxrnn
    from jaxrnn.parallel import hosts
    from jaxrnn.parallel.devices import choose_mesh, make_cpu_devices, place_rows, replicate, rows_of_process
    from jaxrnn.parallel.shared_rows import call_on_shares
    from jaxrnn.settings.config import Config

    make_cpu_devices(devices)
    if number > 1:
        hosts.initialize(f"127.0.0.1:{port}", number, process)
    everywhere = number * devices
    rows = ROWS * everywhere
    gates = rows * STEPS * 4 * HIDDEN_SIZE
    mesh = choose_mesh(everywhere, batch_gates=gates, batch_rows=rows) if everywhere > 1 else None
    layer = jaxrnn.LSTM(INPUT_SIZE, HIDDEN_SIZE, rngs=nnx.Rngs(0))
    layer.backend = backend
    graphdef, params = nnx.split(layer)
    params = replicate(jax.tree.map(np.asarray, params), mesh)
    own = slice(0, rows) if mesh is None else rows_of_process(mesh, rows)
    drawn = np.random.default_rng(0).standard_normal((rows, STEPS, INPUT_SIZE), np.float32)[own]
    batch = jnp.asarray(drawn) if mesh is None else place_rows(drawn, mesh)

    def loss_of(params: Any, batch: Any) -> Any:
        model = nnx.merge(graphdef, params)
        last = call_on_shares(lambda model, rows: model(rows)[0][:, -1], model, (batch,), Config(), mesh)
        return jnp.mean(last**2)

    @jax.jit
    def step(params: Any, batch: Any) -> Any:
        gradient = jax.grad(loss_of)(params, batch)
        return jax.tree.map(lambda value, slope: value - 0.1 * slope, params, gradient)

    seconds = []
    for _ in range(TIMED_STEPS + 5):  # the first ones warm up
        begin = time.perf_counter()
        params = jax.block_until_ready(step(params, batch))
        seconds.append(time.perf_counter() - begin)
    if hosts.is_main():
        print(json.dumps(seconds[5:]))
    hosts.leave()


def reduce(number: int, process: int, port: int, core: int) -> None:
    """Times all-reduces of gradients between processes, and prints the seconds of each size."""
    os.sched_setaffinity(0, [core])
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from jaxrnn.parallel import hosts
    from jaxrnn.parallel.devices import DATA_AXIS, choose_mesh, make_cpu_devices

    make_cpu_devices(1)
    hosts.initialize(f"127.0.0.1:{port}", number, process)
    mesh = choose_mesh(number, batch_gates=2**30, batch_rows=number)
    found = []
    for size in PARAMETERS:
        run = jax.jit(
            jax.shard_map(
                lambda size=size: jax.lax.psum(jnp.full(size, jax.lax.axis_index(DATA_AXIS), jnp.float32), DATA_AXIS),
                mesh=mesh, in_specs=(), out_specs=PartitionSpec(), check_vma=False,
            )
        )  # fmt: skip
        seconds = []
        for _ in range(TIMED_STEPS + 5):
            begin = time.perf_counter()
            jax.block_until_ready(run())
            seconds.append(time.perf_counter() - begin)
        found.append(statistics.median(seconds[5:]))
    if hosts.is_main():
        print(json.dumps(found))
    hosts.leave()


def measure(processes: int, devices: int, backend: str) -> float:
    """Returns the rows a second of so many processes, each with so many devices and cores."""
    available = sorted(os.sched_getaffinity(0))
    shares = [[devices, available[i * devices : (i + 1) * devices], backend] for i in range(processes)]
    return ROWS * processes * devices / statistics.median(together("share", shares))


def together(what: str, shares: list[list[Any]]) -> list[float]:
    """Starts a process for each share; returns what the first one prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = []
    for i, share in enumerate(shares):
        given = json.dumps([len(shares), i, port, *share])
        command = [sys.executable, "-m", "benchmarks.weak_scaling", f"--{what}={given}"]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    ended = [process.communicate() for process in begun]
    for process, (_, err) in zip(begun, ended, strict=True):
        assert process.returncode == 0, err
    return json.loads(ended[0][0].strip().splitlines()[-1])  # JAX's collectives print a line before


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=("auto", "scan"), default="auto")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--reduce", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.reduce:
        reduce(*json.loads(arguments.reduce))
        return 0
    if arguments.share:
        work(*json.loads(arguments.share))
        return 0
    cores = arguments.cores
    assert len(os.sched_getaffinity(0)) >= cores, f"expected {cores} cores"
    cases = {"1 device": (1, 1), f"{cores} devices": (1, cores), f"{cores} processes": (cores, 1)}
    found: dict[str, list[float]] = {name: [] for name in cases}
    print(f"LSTM, B {ROWS} a core, T {STEPS}, D {INPUT_SIZE}, H {HIDDEN_SIZE}; backend {arguments.backend}; rows/s")
    print(f"round  {'  '.join(name.rjust(12) for name in cases)}  {'devices/1':>10}  {'processes/1':>11}")
    ratios: dict[str, list[float]] = {"devices": [], "processes": []}
    for number in range(arguments.rounds):
        for name, (processes, devices) in cases.items():
            found[name].append(measure(processes, devices, arguments.backend))
        one, shared, many = (values[-1] for values in found.values())
        ratios["devices"].append(shared / one)
        ratios["processes"].append(many / one)
        print(
            f"{number + 1:5}  {one:12.0f}  {shared:12.0f}  {many:12.0f}  {shared / one:10.2f}  {many / one:11.2f}",
            flush=True,
        )
    for name, values in ratios.items():
        print(f"{cores} {name}: {statistics.median(values):.2f} times (median; minimum {min(values):.2f})")
    times = together("reduce", [[core] for core in sorted(os.sched_getaffinity(0))[:cores]])
    for size, seconds in zip(PARAMETERS, times, strict=True):
        sent = 2 * (cores - 1) / cores * size * 4
        print(f"all-reduce of {size:10,} values: {1e3 * seconds:8.2f} ms, {sent / 2**20:6.2f} MiB sent by each")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
