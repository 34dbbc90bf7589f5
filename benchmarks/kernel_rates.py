"""What one core makes of the compiled recurrence, beside what it does on nothing but multiplying and adding.

    python -m benchmarks.kernel_rates [--instructions=avx2]

Builds `kernel_rates.cc` as the library is built, for the best instructions that this processor has, or for AVX2, and
runs it: 32 full rows, the best of twelve calls in processor time, packing of the weights included. 1.00 is the rate of
multiply-adds that wait for nothing; what is below it, sigmoids, tanhs and memory cost.
"""

import argparse
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sanitize import KERNELS, find_compiler
from hatch_build import FLAGS, VARIANTS
from jaxrnn.nn.engine import kernel_library

SOURCE = Path(__file__).with_suffix(".cc")


def compile_command(compiler: Sequence[str], variant: str) -> list[str]:
    """The command that builds the program, less its output's name."""
    flags = [flag for flag in FLAGS if flag not in ("-fPIC", "-shared")]
    return [*compiler, *flags, *VARIANTS[variant], f"-I{KERNELS}", str(SOURCE)]


def main(argv: Sequence[str] | None = None) -> int:
    """Builds and runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", choices=["avx2"])
    arguments = parser.parse_args(argv)
    compiler, found = find_compiler(), kernel_library.find_libraries()
    if compiler is None or not found:
        raise SystemExit("there is no C++ compiler here, or no processor that the recurrence is compiled for")
    variant = "-avx512" if "avx512" in found[0].name and arguments.instructions is None else ""
    command = compile_command(compiler, variant)
    print(shlex.join(command), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "rates")
        subprocess.run([*command, "-o", str(program)], check=True)
        return subprocess.run([program], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
