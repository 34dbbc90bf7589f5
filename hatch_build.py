"""Builds the compiled recurrence of jaxrnn/nn/kernels while the package is installed, if there is a C++ compiler.

Without one, or where the build fails, the package is installed without it and runs the same recurrence in JAX.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("jaxrnn", "nn", "kernels", "recurrence.cc")
# A library is named after the version of XLA's interface that it was built for: several Pythons may share a checkout,
# and each takes the newest that its own XLA knows. Then comes what a processor has to have beside AVX2.
LIBRARY = "jaxrnn/nn/kernels/librecurrence-{version}{variant}.so"
# Two libraries may serve one process: of what they name alike, the loader must take none for the other's (hidden). Sums
# are contracted to fused multiply-adds; nothing else of floating point is loosened: NaN must stay NaN.
FLAGS = [
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-pthread",
]
# Of x86-64 Linux; which of them a process loads, the package decides (jaxrnn/nn/engine/kernel_library.py). Elsewhere
# there is one library, for the machine's own baseline.
VARIANTS = {
    "": ["-mavx2", "-mfma"],
    "-avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


class KernelBuildHook(BuildHookInterface):
    """Compiles `SOURCE` into a library next to it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before a wheel is made, an editable one too."""
        del version
        libraries = _compile(Path(self.root)) if self.target_name == "wheel" else []
        if not libraries:
            return
        build_data["artifacts"] += map(str, libraries)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _compile(root: Path) -> list[Path]:
    """Compiles every variant, at the same time; returns those that were made."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    compiler = next((command for command in wanted if shutil.which(shlex.split(command)[0])), None)
    try:
        import jaxlib

        include = Path(jaxlib.__file__).parent / "include"
        header = (include / "xla" / "ffi" / "api" / "c_api.h").read_text(encoding="utf-8")
        version = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header)[0]
    except (ImportError, OSError, IndexError) as error:
        return _without(f"no header files of XLA: {error}")
    libraries = {variant: Path(LIBRARY.format(version=version, variant=variant)) for variant in VARIANTS}
    for library in libraries.values():
        (root / library).unlink(missing_ok=True)  # never one of an older source
    if compiler is None:
        return _without("no C++ compiler: install one (on Debian: g++) and install the package again")
    command = [*shlex.split(compiler), *FLAGS, "-isystem", str(include)]
    is_x86 = platform.system() == "Linux" and platform.machine() == "x86_64"
    variants = VARIANTS if is_x86 else {"": []}
    with tempfile.TemporaryDirectory() as directory:
        running = {
            variant: subprocess.Popen(
                [*command, *flags, str(SOURCE), "-o", str(Path(directory, f"library{variant}.so"))],
                cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for variant, flags in variants.items()
        }  # fmt: skip
        made = []
        for variant, process in running.items():
            _, error = process.communicate()
            if process.returncode:
                tried = f"{shlex.join(map(str, process.args))} failed:\n{error[-2000:]}"  # type: ignore[arg-type]
                print(f"jaxrnn: one of the libraries of its compiled recurrence is missing: {tried}", file=sys.stderr)
                continue
            unfinished = (root / libraries[variant]).with_suffix(f".{os.getpid()}.tmp")
            shutil.copyfile(Path(directory, f"library{variant}.so"), unfinished)
            unfinished.replace(root / libraries[variant])
            made.append(libraries[variant])
    return made or _without("no library could be built")


def _without(reason: str) -> list[Path]:
    print(f"jaxrnn is installed without its compiled recurrence, which is slower on CPUs: {reason}", file=sys.stderr)
    return []
