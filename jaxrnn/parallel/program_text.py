"""What a compiled program executes, read off its text: loops, their operations, what devices send each other."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

# What XLA writes down as an operation, and no device executes.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
_EXCHANGES = r" = (.*) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-done)?\("


class Loop(NamedTuple):
    """A loop of a program.

    Attributes:
      name: Where it comes from, as JAX names it, such as ``jit(run_epochs)/while/body/while``.
      operations: What one turn executes, by kind; on a GPU each is a kernel to launch. Loops within it count as one.
      is_innermost: Whether it has no loop within.
      exchanged: What devices send each other in one turn, with the loops within it: kinds, and how many numbers.
      differentiates: Whether something in it, or in the loops within, is differentiated.
    """

    name: str
    operations: Counter[str]
    is_innermost: bool
    exchanged: list[tuple[str, int]]
    differentiates: bool


def loops_of(text: str) -> list[Loop]:
    """Lists the loops of a compiled program in the order in which they begin, each before those within it."""
    computations = _computations(text)
    return list(_loops_within("ENTRY", computations, set()))


def _loops_within(name: str, computations: dict[str, list[str]], seen: set[str]) -> Iterator[Loop]:
    for line in computations[name]:
        kind = kind_of(line)
        if kind == "while":
            body = _called(line, "body")
            if body in seen:
                continue
            seen.add(body)
            within = list(_loops_within(body, computations, seen))
            found = re.search(r'op_name="([^"]*)"', line)
            content = "\n".join(_lines_within(body, computations))
            sent, differentiates = exchanged(content), "jvp(" in content
            yield Loop(found[1] if found else "", _count(body, computations), not within, sent, differentiates)
            yield from within
        elif kind in ("call", "conditional"):
            for inner in re.findall(r"(?:to_apply|true_computation|false_computation)=%([^\s,]+)", line):
                yield from _loops_within(inner, computations, seen)


def _computations(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"(ENTRY )?%(\S+) \(.*\{$", line):
            current = found["ENTRY" if match[1] else match[2]] = []
        elif " = " in line:
            current.append(line)
    return found


def _called(line: str, how: str) -> str:
    match = re.search(rf"{how}=%([^\s,]+)", line)
    assert match, line
    return match[1]


def _count(name: str, computations: dict[str, list[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in computations[name]:
        kind = kind_of(line)
        if kind == "call":  # a part of the program kept apart
            found += _count(_called(line, "to_apply"), computations)
        elif kind not in _FREE and not kind.endswith("-done"):  # the other half of an operation that has begun
            found[kind] += 1
    return found


def _lines_within(name: str, computations: dict[str, list[str]]) -> Iterator[str]:
    for line in computations[name]:
        yield line
        if (kind := kind_of(line)) in ("while", "call"):
            yield from _lines_within(_called(line, "body" if kind == "while" else "to_apply"), computations)


def kind_of(line: str) -> str:
    """Returns the kind of an operation: the word behind the type of its result.

    Example:
      >>> kind_of("%dot.3 = f32[64,512]{1,0} dot(%a, %b), lhs_contracting_dims={1}")
      'dot'
    """
    rest = line.partition(" = ")[2]
    depth = 0
    for place, letter in enumerate(rest):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == " " and depth == 0:
            return rest[place + 1 :].partition("(")[0]
    return ""


def exchanged(text: str) -> list[tuple[str, int]]:
    """Lists what the devices of a compiled program send each other: the kind, and how many numbers come of it."""
    # What begins and ends apart says at its end what came of it; its beginning may name what it was given, too.
    found = [match for line in text.splitlines() if (match := re.search(_EXCHANGES, line))]
    return [(match[2], sum(map(_size, re.findall(r"\w+\[([\d,]*)\]", match[1])))) for match in found]


def _size(shape: str) -> int:
    size = 1
    for number in filter(None, shape.split(",")):
        size *= int(number)
    return size
