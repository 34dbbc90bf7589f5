"""Calls the compiled recurrence with right and wrong buffers, and checks what comes of each call.

    python -m benchmarks.fuzz_native --cases=1000 --seed=0
    python -m benchmarks.fuzz_native --seed=0 --only=123        # one case of those, shown

A call with right buffers must return what a plain loop in float64 computes, forward and backward. A call with a wrong
one must end in an error that says so: an axis too long or too short, one too many or missing, a buffer that is absent
or has no part in the call, two that changed places, another dtype, attributes that are missing or out of range, sizes
that no index holds. The calls are made in processes of their own: where one dies or is silent for too long, the case is
noted and another process goes on with the next. Case number N of a seed is always the same. Exits with 1 if anything
failed.
"""

import argparse
import dataclasses
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

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.native_calls import (
    KINDS,
    Arrays,
    Case,
    are_right,
    call_both,
    difference_of,
    draw_arguments,
    expected_of,
)
from jaxrnn.nn.engine import cpu_kernels

TOLERANCE = 2e-5  # of float32 sums, by the largest value of an array
MAX_SHOWN = 5
MEMORY_BYTES = 16 << 30  # of a process
NUM_PROCESSES = 2
SIZES = {
    "steps": (0, 1, 1, 2, 3, 5, 9, 20),
    "batch": (0, 1, 1, 2, 3, 6, 7, 12, 13, 25, 70),
    "inputs": (0, 1, 1, 2, 3, 7, 8, 9, 17, 33),
    "units": (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64),
}
MODELS: tuple[tuple[int, ...], ...] = ((), (), (), (1,), (2,), (3,), (2, 2), (0,))
DTYPES = (jnp.float16, jnp.bfloat16, np.int32, np.uint32, np.int8, np.uint8, np.bool_, np.float32)


class Failed(AssertionError):
    """What a call did is not what it must do."""


@dataclasses.dataclass
class Call:
    """One call: its arguments, its results' shapes, and its attributes, all of which may be wrong."""

    name: str
    arguments: Arrays
    results: dict[str, tuple[int, ...]]
    attributes: Arrays

    def run(self) -> list[np.ndarray]:
        structs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in self.results.values()]
        found = jax.ffi.ffi_call(self.name, structs)(*self.arguments.values(), **self.attributes)
        return [np.asarray(array) for array in found]


def draw_case(rng: random.Random) -> Case:
    """Draws a recurrence."""
    case = Case(
        kind=rng.choice(KINDS),
        sizes=tuple(rng.choice(choices) for choices in SIZES.values()),  # type: ignore[arg-type]
        models=rng.choice(MODELS),
        targets=rng.choice((0, 0, 1, 2, 3, 254)),
        reverse=rng.random() < 0.5,
        masked=rng.choice(("no", "tails", "gaps")),
        reset=rng.random() < 0.5,
        bias=rng.random() < 0.7,
        keep=rng.random() < 0.8,
        with_outputs=rng.random() < 0.8,
        with_inputs=rng.random() < 0.8,
    )
    return dataclasses.replace(case, targets=min(case.targets, 3)) if case.sizes[1] > 9 else case


def check_right(case: Case, seed: int) -> str:
    """Compares both calls with the loop."""
    given = draw_arguments(case, seed)
    for found, wanted in zip(call_both(case, *given), expected_of(case, *given), strict=True):
        if found is not None and wanted is not None:
            difference, name = difference_of(found, wanted)
            if difference > TOLERANCE:
                raise Failed(f"{name} differs by {difference:.2g}")
    return "computed"


def spoil_shape(rng: random.Random, shape: tuple[int, ...], case: Case) -> tuple[int, ...]:
    """Returns another shape, or, by chance, the same."""
    num_steps, batch, num_inputs, hidden = case.sizes
    kind, axis = rng.randrange(8), rng.randrange(len(shape)) if shape else 0
    if kind == 0:
        return shape[:axis] + tuple(size + rng.choice((1, 1, 8)) for size in shape[axis : axis + 1]) + shape[axis + 1 :]
    if kind == 1:
        return shape[:axis] + tuple(max(0, size - 1) for size in shape[axis : axis + 1]) + shape[axis + 1 :]
    if kind == 2:
        return shape[:axis] + shape[axis + 1 :]
    if kind == 3:
        return (*shape[:axis], rng.choice((1, 1, 2, 0)), *shape[axis:])
    if kind == 4:
        return tuple(rng.sample(shape, len(shape)))
    if kind == 5:
        return (*case.models, 0) if rng.random() < 0.7 else (0,)
    if kind == 6:  # what another buffer of the call has, or has in another call
        padded = hidden + -hidden % 8
        own = ((batch, hidden), (num_steps, batch, hidden), (num_steps, batch, padded), (num_steps, batch, 4 * padded))
        own += ((batch, num_steps, hidden), (batch, num_steps, num_inputs))
        own += ((num_steps, batch), (1, batch, hidden), (0, batch, hidden), (hidden,), (num_steps, batch, num_inputs))
        return case.models + rng.choice(own)
    return shape[:axis] + tuple(rng.choice((2**31, 2**40)) for _ in shape[axis : axis + 1]) + shape[axis + 1 :]


def draw_call(rng: random.Random, case: Case, seed: int) -> Call:
    """Draws a call with right buffers."""
    arguments, cotangents = draw_arguments(case, seed)
    attributes = {"cell": np.int64(KINDS.index(case.kind)), "reverse": case.reverse}
    if rng.random() < 0.5:
        return Call("jaxrnn_forward2", arguments, case.forward_results(), attributes)
    kept = dataclasses.replace(case, keep=True).forward_results()
    zeros = {name: np.zeros(kept[name], np.float32) for name in ("outputs", "cells", "gates")}
    return Call("jaxrnn_backward2", arguments | zeros | cotangents, case.backward_results(), attributes)


def check_wrong(rng: random.Random, case: Case, seed: int) -> str:
    """Spoils a call, and makes it; returns what was spoilt."""
    call = draw_call(rng, case, seed)
    spoilt = rng.choices(("shape", "swap", "dtype", "attribute", "count", "values"), (60, 10, 10, 10, 5, 5))[0]
    is_right = False
    if spoilt == "shape":
        for _ in range(rng.choice((1, 1, 1, 2))):
            name = rng.choice([*call.arguments, *call.results])
            if name in call.results:
                call.results[name] = _small(spoil_shape(rng, call.results[name], case))
            else:
                array = call.arguments[name]
                call.arguments[name] = np.zeros(_small(spoil_shape(rng, array.shape, case)), array.dtype)
        shapes = {name: array.shape for name, array in call.arguments.items()} | call.results
        is_right = are_right(case.kind, shapes)
    elif spoilt == "swap":
        first, second = rng.sample(list(call.arguments), 2)
        one, other = call.arguments[first], call.arguments[second]
        call.arguments |= {first: other, second: one}
        shapes = {name: array.shape for name, array in call.arguments.items()} | call.results
        is_right = one.dtype == other.dtype and are_right(case.kind, shapes)
    elif spoilt == "dtype":
        name = rng.choice(list(call.arguments))
        before = call.arguments[name]
        call.arguments[name] = jnp.zeros(before.shape, rng.choice(DTYPES))
        is_right = call.arguments[name].dtype == before.dtype
    elif spoilt == "attribute":
        numbers = (-1, 4, 255, 2**31, 2**32, 2**32 + 2, -(2**63))
        wrong = rng.choice(
            [{"cell": np.int64(number)} for number in numbers]
            + [{"cell": np.int32(5)}, {"cell": 2.0}, {"cell": "lstm"}, {"reverse": np.int64(0)}, {}]
        )
        call.attributes = call.attributes | wrong if wrong else {"reverse": False}
    elif spoilt == "count":
        name = rng.choice(list(call.arguments))
        kept = {key: array for key, array in call.arguments.items() if key != name}
        call.arguments = kept if rng.random() < 0.5 else call.arguments | {"more": call.arguments[name]}
    else:  # of the right shapes; what they hold is anyone's guess
        for name, array in call.arguments.items():
            if array.dtype == np.uint8:
                call.arguments[name] = np.full_like(array, rng.choice((255, 254, 128)))
            elif array.dtype == np.float32:
                call.arguments[name] = np.full_like(array, rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45)))
        is_right = True
    if all(0 in shape for shape in call.results.values()):
        return "no call"  # XLA leaves it out
    try:
        call.run()
    except Exception as error:
        if is_right:
            raise Failed(f"{spoilt}: a right call is refused: {error}; {_describe(call)}") from error
        if "INVALID_ARGUMENT" not in str(error):
            raise Failed(f"{spoilt}: refused as {type(error)}: {error}; {_describe(call)}") from error
        return f"refused ({spoilt})"
    if not is_right:
        raise Failed(f"{spoilt}: a wrong call is accepted: {_describe(call)}")
    return "accepted"


def _small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Makes an array of huge axes an empty one, of one huge axis at most: of two, XLA itself ends the process.

    Of an axis that a 32-bit number just counts, XLA takes minutes to compile a program, whatever it calls.
    """
    shape = tuple(2**20 if 2**20 < size < 2**31 else size for size in shape)
    if not shape or max(shape) < 2**31:
        return shape
    first = shape.index(max(shape))
    shape = tuple(size if i == first else min(size, 2**20) for i, size in enumerate(shape))
    return shape if 0 in shape else (*shape[:-1], 0) if first < len(shape) - 1 else (0, *shape[1:])


def _describe(call: Call) -> str:
    arguments = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in call.arguments.items())
    return f"{call.name}({arguments}) -> {call.results}, {call.attributes}"


def check(seed: int, number: int) -> str:
    """Makes the calls of case `number` of a seed, and says what came of them."""
    rng = random.Random(f"{seed}:{number}")
    case = draw_case(rng)
    return check_right(case, number) if number % 2 else check_wrong(rng, case, number)


def make_calls(connection: Any, seed: int, numbers: range) -> None:
    """Makes the calls of some cases, and reports each: its number, what came of it, and what was wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not cpu_kernels.is_built():
        raise RuntimeError("the compiled recurrence is not built: install the package with a C++ compiler at hand")
    for number in numbers:
        try:
            outcome, reason = check(seed, number), ""
        except BaseException:
            outcome, reason = "FAILED", traceback.format_exc()
        connection.send((number, outcome, reason))


def fuzz(seed: int, num_cases: int, seconds_a_case: float) -> tuple[Counter, list[tuple[int, str]]]:
    """Makes the calls in processes of their own.

    Returns:
      How many cases had an outcome, and numbers and reasons of those that failed.
    """
    tally: Counter = Counter()
    failures: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    running: dict[Any, tuple[Any, range]] = {}

    def start(numbers: range) -> None:
        if numbers:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=make_calls, args=(theirs, seed, numbers))
            process.start()
            theirs.close()
            running[ours] = process, numbers

    for share in range(NUM_PROCESSES):
        # Each its own stretch of numbers: right and wrong ones alternate.
        start(range(share * num_cases // NUM_PROCESSES, (share + 1) * num_cases // NUM_PROCESSES))
    while running:
        ready = multiprocessing.connection.wait(list(running), timeout=seconds_a_case + 30)
        for connection in ready or list(running):
            process, numbers = running.pop(connection)
            try:
                if not ready:
                    raise TimeoutError(f"no answer within {seconds_a_case:g} s")
                number, outcome, reason = connection.recv()
            except (EOFError, OSError, TimeoutError) as error:
                process.kill() if isinstance(error, TimeoutError) else None
                process.join()
                if process.exitcode == 0 and not numbers:
                    continue
                number, outcome = numbers[0], "FAILED"
                reason = str(error) if isinstance(error, TimeoutError) else f"the process ended: {process.exitcode}"
                start(numbers[1:])
            else:
                running[connection] = process, numbers[1:]
            tally[outcome] += 1
            if reason:
                failures.append((number, reason))
    return tally, failures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the fuzzer and prints the tally."""
    parser = argparse.ArgumentParser(description="Fuzz the compiled recurrence.")
    parser.add_argument("--cases", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--seconds", type=float, default=60.0, help="that one case may take")
    parser.add_argument("--only", type=int, default=None, help="show this case of the seed, and make its calls alone")
    arguments = parser.parse_args(argv)
    if arguments.only is not None:
        assert cpu_kernels.is_built()
        print(draw_case(random.Random(f"{arguments.seed}:{arguments.only}")), flush=True)
        print(check(arguments.seed, arguments.only))
        return 0
    begin = time.perf_counter()
    tally, failures = fuzz(arguments.seed, arguments.cases, arguments.seconds)
    for outcome, count in sorted(tally.items()):
        print(f"{outcome:22}{count:7,}")
    print(f"{sum(tally.values()):,} cases of seed {arguments.seed} in {time.perf_counter() - begin:.0f} s")
    for number, reason in sorted(failures)[:MAX_SHOWN]:
        print(f"case {number} ({draw_case(random.Random(f'{arguments.seed}:{number}'))}): {reason}")
    print(f"{len(failures)} failed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
