"""Reads inputs that nobody would write, and checks what comes of each.

    python -m benchmarks.fuzz_reader --inputs=100000 --seed=0
    python -m benchmarks.fuzz_reader --seed=0 --only=1234        # one input of those, shown
    python -m benchmarks.fuzz_reader --engine=atheris --inputs=100000

Every input must be read exactly as Python's float reads its fields, row for row, or be refused with one message of the
documented form that names the line of the first fault; never a traceback, a hang, or the end of the process. The
inputs are read in a process of its own: where it dies or is silent for too long, the input is noted and another process
goes on with the next. Input number N of a seed is always the same. Exits with 1 if anything failed.
"""

import argparse
import multiprocessing
import multiprocessing.connection
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.fuzz_inputs import Input, check, draw_input

MAX_SHOWN = 5
MEMORY_BYTES = 4 << 30  # of the process that reads: an input that wants more has failed


def draw(seed: int, number: int) -> Input:
    """Draws input `number` of a seed."""
    return draw_input(random.Random(f"{seed}:{number}"))


def read_inputs(connection: Any, seed: int, first: int, last: int) -> None:
    """Reads inputs and reports each: its number, its kind, what came of it, and what was wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, last):
        drawn = draw(seed, number)
        try:
            outcome, reason = check(drawn), ""
        except BaseException:
            outcome, reason = "FAILED", traceback.format_exc()
        connection.send((number, drawn.kind, outcome, reason))


def fuzz(seed: int, num_inputs: int, seconds_an_input: float) -> tuple[Counter, list[tuple[int, str]]]:
    """Reads inputs in a process of its own.

    Returns:
      How many inputs of a kind had an outcome, and numbers and reasons of those that failed.
    """
    tally: Counter = Counter()
    failures: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    following = 0
    while following < num_inputs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=read_inputs, args=(theirs, seed, following, num_inputs))
        process.start()
        theirs.close()
        patience = seconds_an_input + 30  # the first one waits for imports
        while following < num_inputs:
            try:
                if not ours.poll(patience):
                    raise TimeoutError(f"no answer within {seconds_an_input:g} s")
                number, kind, outcome, reason = ours.recv()
            except (TimeoutError, EOFError) as error:
                process.kill()
                process.join()
                reason = str(error) or f"the process ended with {process.exitcode}"
                tally[draw(seed, following).kind, "FAILED"] += 1
                failures.append((following, reason))
                following += 1
                break
            patience = seconds_an_input
            tally[kind, outcome] += 1
            if reason:
                failures.append((number, reason))
            following = number + 1
        ours.close()
        process.join()
    return tally, failures


def fuzz_by_coverage(num_inputs: int, seed: int) -> None:
    """Lets atheris choose the bytes of text, by which lines of the reader they reach; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["jaxrnn.data"], enable_loader_override=False):
        import importlib

        for name in ("exact_parser", "short_integers", "text_reader", "sources", "columnar_sizes", "columnar_reader"):
            importlib.reload(sys.modules[f"jaxrnn.data.readers.{name}"])

    def test_one(data: bytes) -> None:
        options = {"delimiter": ",", "header": False, "blank_lines": "error", "min_length": 1, "max_row_length": 1000}
        check(Input(data[1:], "text", text=data[1:], options=options, block=1 + data[0] if data else 1))

    atheris.Setup([sys.argv[0], f"-runs={num_inputs}", f"-seed={seed + 1}"], test_one)
    atheris.Fuzz()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the fuzzer and prints the tally."""
    parser = argparse.ArgumentParser(description="Fuzz the reader.")
    parser.add_argument("--inputs", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--seconds", type=float, default=10.0, help="that one input may take")
    parser.add_argument("--only", type=int, default=None, help="show this input of the seed, and read it alone")
    parser.add_argument("--engine", choices=("mutation", "atheris"), default="mutation", help="what makes the inputs")
    arguments = parser.parse_args(argv)
    if arguments.engine == "atheris":
        fuzz_by_coverage(arguments.inputs, arguments.seed)
        return 0
    if arguments.only is not None:
        drawn = draw(arguments.seed, arguments.only)
        print(drawn)
        print(check(drawn))
        return 0
    begin = time.perf_counter()
    tally, failures = fuzz(arguments.seed, arguments.inputs, arguments.seconds)
    print(f"{'kind':13}{'accepted':>10}{'refused':>10}{'FAILED':>10}")
    for kind in sorted({kind for kind, _ in tally}):
        print(f"{kind:13}" + "".join(f"{tally[kind, outcome]:10,}" for outcome in ("accepted", "refused", "FAILED")))
    print(f"{sum(tally.values()):,} inputs of seed {arguments.seed} in {time.perf_counter() - begin:.0f} s")
    for number, reason in failures[:MAX_SHOWN]:
        print(f"input {number}: {reason}")
    print(f"{len(failures)} failed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
