"""Calls random layers under random transformations, and checks every value and gradient; makes wrong requests too.

    python -m benchmarks.fuzz_layers --cases=1000 --seed=0
    python -m benchmarks.fuzz_layers --seed=0 --case=123        # one case of those, shown

A right call, of a layer of any cell and options, with any lengths, masks, segments, resets and carries, run eagerly or
under JAX's transformations, must return what a plain loop in float64 computes, and its derivatives. A wrong request
must be refused by this package before anything is computed. Ten cases share a program, which is compiled once; the last
of them is a wrong request. Case number N of a seed is always the same.

The cases run in processes of their own, of one or of two simulated devices: where one dies or is silent for too long,
the case has crashed, and another process goes on with the next. Exits with 1 if anything was wrong or crashed.
"""

import argparse
import importlib.metadata
import multiprocessing
import multiprocessing.connection
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.layer_programs import CASES_PER_PROGRAM, DEVICES, Wrong, draw_program

MAX_SHOWN = 10
MEMORY_BYTES = 24 << 30  # of a process
PROGRAMS_PER_PROCESS = 12  # then another one starts, with an empty memory
NUM_PROCESSES = 2
SECONDS_BETWEEN_REPORTS = 60.0

Check = Callable[[int, int, bool], str]


def set_flags(devices: int) -> None:
    """Lets XLA compile quickly, for so many devices; before JAX is imported. What XLA_FLAGS says already stays."""
    flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    version = importlib.metadata.version("jaxlib").split(".")
    if tuple(map(int, version[:2])) < (0, 11):  # later ones end the process at a flag that they do not know
        flags.append("--xla_cpu_use_fusion_emitters=false")
    count = "--xla_force_host_platform_device_count"
    given = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(count)]
    names = {flag.partition("=")[0] for flag in given}
    ours = [flag for flag in flags if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join([*ours, *given, f"{count}={devices}"])


def is_mistake(number: int, invalid: bool) -> bool:
    """Whether a case is a wrong request."""
    return invalid and number % CASES_PER_PROGRAM == CASES_PER_PROGRAM - 1


def devices_of(number: int) -> int:
    """Returns how many devices a case needs."""
    return 1 + (DEVICES - 1) * (number // CASES_PER_PROGRAM % 2)


def check_case(seed: int, number: int, invalid: bool) -> str:
    """Runs case `number` of a seed, and says what came of it: "right", or "refused" of a wrong request."""
    from benchmarks import layer_checks  # not before XLA's flags are set

    return layer_checks.check_refused(seed, number) if is_mistake(number, invalid) else layer_checks.check(seed, number)


def show_case(seed: int, number: int, invalid: bool) -> str:
    """Writes a case as Python."""
    program = draw_program(seed, number // CASES_PER_PROGRAM)
    what = "a wrong request" if is_mistake(number, invalid) else repr(program)
    return f"python -m benchmarks.fuzz_layers --seed={seed} --case={number}  # {what}"


def run_cases(connection: Any, check: Check, seed: int, numbers: Sequence[int], invalid: bool) -> None:
    """Runs some cases, and reports each: its number, what came of it, and what was wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        try:
            outcome, reason = check(seed, number, invalid), ""
        except Wrong as error:
            outcome, reason = "wrong", str(error)
        except BaseException:
            outcome, reason = "wrong", traceback.format_exc(limit=-6)
        connection.send((number, outcome, reason))


def stretches(num_cases: int) -> Iterator[list[int]]:
    """Deals out the cases to processes: what one of them runs has programs of as many devices."""
    programs = range(-(-num_cases // CASES_PER_PROGRAM))
    for first in range(0, len(programs), 2 * PROGRAMS_PER_PROCESS):
        for parity in range(2):
            mine = [p for p in programs[first : first + 2 * PROGRAMS_PER_PROCESS] if p % 2 == parity]
            numbers = [p * CASES_PER_PROGRAM + n for p in mine for n in range(CASES_PER_PROGRAM)]
            yield [number for number in numbers if number < num_cases]


def fuzz(
    seed: int,
    num_cases: int,
    *,
    invalid: bool = True,
    seconds: float | None = None,
    patience: float = 600.0,
    check: Check = check_case,
) -> tuple[Counter, list[tuple[int, str]]]:
    """Runs cases in processes of their own.

    Args:
      seed: Of the cases.
      num_cases: How many.
      invalid: Whether some of them are wrong requests.
      seconds: After how many of them no case is waited for any more; None for never.
      patience: How many seconds one case may take, the compilation of its program included.
      check: What runs a case, in a process of its own.

    Returns:
      How many cases had an outcome, and numbers and reasons of those that were wrong or crashed.
    """
    tally: Counter = Counter()
    failures: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    waiting = list(stretches(num_cases))[::-1]
    running: dict[Any, tuple[Any, list[int], float]] = {}
    begin = reported = time.monotonic()
    end = None if seconds is None else begin + seconds
    flags = os.environ.get("XLA_FLAGS")

    def start(numbers: list[int]) -> None:
        set_flags(devices_of(numbers[0]))
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run_cases, args=(theirs, check, seed, numbers, invalid))
        process.start()
        theirs.close()
        running[ours] = process, numbers, time.monotonic() + patience

    def stop(connection: Any) -> int | None:
        process = running.pop(connection)[0]
        process.kill()
        process.join()
        return process.exitcode

    while running or waiting:
        while waiting and len(running) < NUM_PROCESSES:
            start(waiting.pop())
        until = min(limit for _, _, limit in running.values())
        until = until if end is None else min(until, end)
        ready = multiprocessing.connection.wait(list(running), timeout=max(0.0, until - time.monotonic()))
        now = time.monotonic()
        if end is not None and now >= end:
            for connection in list(running):
                stop(connection)
            break
        silent = [connection for connection, (_, _, limit) in running.items() if now >= limit]
        for connection in ready or silent:
            process, numbers, _ = running[connection]
            try:
                if connection not in ready:
                    raise TimeoutError(f"no answer within {patience:g} s")
                number, outcome, reason = connection.recv()
            except (EOFError, OSError) as error:
                process.join(0 if isinstance(error, TimeoutError) else 60)
                code = process.exitcode
                stop(connection)
                if not numbers:
                    continue
                number, outcome = numbers[0], "crashed"
                reason = str(error) if isinstance(error, TimeoutError) else f"the process ended with {code}"
                if numbers[1:]:
                    waiting.append(numbers[1:])
            else:
                running[connection] = process, numbers[1:], now + patience
            tally[outcome] += 1
            if reason:
                failures.append((number, reason))
        if now >= reported + SECONDS_BETWEEN_REPORTS:
            print(f"{now - begin:.0f} s: {dict(tally)}", file=sys.stderr, flush=True)
            reported = now
    if flags is None:
        os.environ.pop("XLA_FLAGS", None)
    else:
        os.environ["XLA_FLAGS"] = flags
    return tally, failures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the fuzzer and prints the tally."""
    parser = argparse.ArgumentParser(description="Fuzz the layers.")
    parser.add_argument("--cases", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--seconds", type=float, default=None, help="after which no further case is run")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds that one case may take")
    parser.add_argument("--case", type=int, default=None, help="run this case of the seed alone, in this process")
    parser.add_argument(
        "--invalid", action=argparse.BooleanOptionalAction, default=True, help="whether there are wrong requests"
    )
    arguments = parser.parse_args(argv)
    seed, invalid = arguments.seed, arguments.invalid
    if arguments.case is not None:
        set_flags(devices_of(arguments.case))
        print(show_case(seed, arguments.case, invalid), flush=True)
        print(check_case(seed, arguments.case, invalid))
        return 0
    begin = time.perf_counter()
    limits = {"seconds": arguments.seconds, "patience": arguments.patience}
    tally, failures = fuzz(seed, arguments.cases, invalid=invalid, **limits)
    shown = {}  # the first case of each program, and every wrong request
    for number, reason in sorted(failures, reverse=True):
        shown[number // CASES_PER_PROGRAM, is_mistake(number, invalid)] = number, reason
    for number, reason in sorted(shown.values())[:MAX_SHOWN]:
        print(f"{show_case(seed, number, invalid)}\n{reason.rstrip()}\n")
    if failures:
        print(f"cases: {', '.join(str(number) for number, _ in sorted(failures))}")
    wrong, crashed = tally["wrong"], tally["crashed"]
    print(
        f"seed {seed}: {sum(tally.values()):,} cases, {wrong} wrong, {crashed} crashed, {tally['refused']} refused as"
        f" they must be, in {time.perf_counter() - begin:.0f} s"
    )
    return int(bool(wrong or crashed))


if __name__ == "__main__":
    sys.exit(main())
