"""Runs what is compiled under sanitizers: the recurrence on shapes from 0 and 1 to odd sizes, the reader on odd texts.

    python -m benchmarks.sanitize                        # address and undefined, then thread: about a minute
    python -m benchmarks.sanitize --tools=valgrind       # reads of what was never written, too; needs valgrind
    python -m benchmarks.sanitize --tools=baseline       # address, undefined: vectors of 4 floats, as without AVX2
    python -m benchmarks.sanitize --tools=arm            # emulated; Debian: g++-aarch64-linux-gnu, qemu-user

Builds `sanitize_driver.cc`, which calls the handlers of jaxrnn/nn/kernels as XLA does, with each tool's flags, and runs
it: forward and backward, all cells, masks, resets, targets, models and threads, calls from several threads at once,
buffers of wrong shapes, and memory that runs out at every single allocation. `sanitize_reader.cc` calls the reader of
plain text as Python does, on texts near those that it takes. Exits with 1 where a tool reports anything or a call does
something else than it must, and with 2 where a tool is not to be had.
"""

import argparse
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax

DRIVER = Path(__file__).with_name("sanitize_driver.cc")
READER_DRIVER = Path(__file__).with_name("sanitize_reader.cc")
TEXTS_A_CASE = 100  # they take so much less time
KERNELS = Path(__file__).parents[1] / "jaxrnn" / "nn" / "kernels"
# As the library is built (hatch_build.py), but not optimised: every access of the source is there to be looked at, and
# under a sanitizer the optimiser takes four times as long as all the rest.
FLAGS = ["-std=c++17", "-g", "-O0", "-fno-omit-frame-pointer", "-ffp-contract=fast", "-fno-math-errno", "-pthread"]
FLAGS += ["-D_GLIBCXX_ASSERTIONS"]
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
    "valgrind": [],
    "baseline": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-mno-avx2"],
    "arm": ["-O2"],
}
ARM_COMPILER, ARM = "aarch64-linux-gnu-g++", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
# The driver has an allocator of its own, which valgrind is not to replace.
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=99", "--soname-synonyms=somalloc=nouserintercepts"]
OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_init_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
SLOWER = {"address": 1, "thread": 2, "valgrind": 4, "baseline": 1, "arm": 1}  # about: cases are fewer by as much


def find_compiler() -> list[str] | None:
    """Returns the C++ compiler's command, or None where there is none."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((shlex.split(command) for command in wanted if shutil.which(shlex.split(command)[0])), None)


def build_command(tool: str, source: Path, program: Path) -> list[str]:
    """Returns the command that builds a program for a tool.

    Args:
      tool: One of `SANITIZERS`.
      source: The C++ file.
      program: What it becomes.
    """
    compiler = [ARM_COMPILER] if tool == "arm" else find_compiler()
    assert compiler is not None
    vectors = ["-mavx2", "-mfma"] if platform.machine() == "x86_64" and tool != "arm" else []
    paths = ["-isystem", jax.ffi.include_dir(), "-I", str(KERNELS)]
    return [*compiler, *FLAGS, *vectors, *SANITIZERS[tool], *paths, str(source), "-o", str(program)]


def missing_for(tool: str) -> str | None:
    """Says what a tool lacks on this machine; None if nothing."""
    if find_compiler() is None:
        return "no C++ compiler"
    if tool == "arm" and not (shutil.which(ARM_COMPILER) and shutil.which(ARM[0])):
        return f"{ARM_COMPILER} or {ARM[0]} is not installed"
    if tool == "valgrind" and not shutil.which("valgrind"):
        return "valgrind is not installed"
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "empty.cc"), Path(directory, "empty")
        source.write_text("int main() { return 0; }\n", encoding="utf-8")
        built = subprocess.run(build_command(tool, source, program), capture_output=True, text=True, check=False)
        if built.returncode:
            return f"the compiler has no such sanitizer: {built.stderr.strip()[-500:]}"
        ran = subprocess.run(run_command(tool, program), capture_output=True, text=True, check=False)
        return f"an empty program fails: {ran.stderr.strip()[-500:]}" if ran.returncode else None


def run_command(tool: str, program: Path, *arguments: str) -> list[str]:
    """Returns the command that runs a program under a tool."""
    return [*{"valgrind": VALGRIND, "arm": ARM}.get(tool, []), str(program), *arguments]


def sanitize(tool: str, num_cases: int, seed: int, driver: Path = DRIVER) -> subprocess.CompletedProcess[str]:
    """Builds a driver for a tool and runs it; its output ends in a report where the tool found something.

    Args:
      tool: One of `SANITIZERS`.
      num_cases: How many recurrences, or texts, are drawn.
      seed: What they are drawn from.
      driver: `DRIVER` or `READER_DRIVER`.

    Raises:
      RuntimeError: The driver does not compile.
    """
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "driver")
        built = subprocess.run(build_command(tool, driver, program), capture_output=True, text=True, check=False)
        if built.returncode:
            raise RuntimeError(f"{driver} does not compile:\n{built.stderr[-4000:]}")
        command = run_command(tool, program, str(num_cases), str(seed))
        return subprocess.run(command, env=os.environ | OPTIONS, capture_output=True, text=True, check=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs every tool and prints what it reported."""
    parser = argparse.ArgumentParser(description="Run what is compiled under sanitizers.")
    parser.add_argument("--tools", default="address,thread", help=f"of {', '.join(SANITIZERS)}")
    parser.add_argument("--cases", type=int, default=400, help="how many; of slower tools fewer")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    arguments = parser.parse_args(argv)
    tools = arguments.tools.split(",")
    if not set(tools) <= set(SANITIZERS):
        parser.error(f"--tools: got {arguments.tools}, expected some of {', '.join(SANITIZERS)}")
    for tool in tools:
        if (reason := missing_for(tool)) is not None:
            print(f"{tool}: {reason}", file=sys.stderr)
            return 2
    num_failed = 0
    for tool, driver in itertools.product(tools, (DRIVER, READER_DRIVER)):
        begin = time.perf_counter()
        num_cases = max(1, arguments.cases // SLOWER[tool]) * (TEXTS_A_CASE if driver == READER_DRIVER else 1)
        done = sanitize(tool, num_cases, arguments.seed, driver)
        failed = done.returncode != 0 or bool(done.stderr.strip())
        num_failed += failed
        print(f"{tool}: {', '.join(done.stdout.splitlines())}; {time.perf_counter() - begin:.0f} s")
        print(f"{tool}: {f'exit {done.returncode}: {done.stderr[-8000:]}' if failed else '0 reports'}", flush=True)
    return int(bool(num_failed))


if __name__ == "__main__":
    sys.exit(main())
