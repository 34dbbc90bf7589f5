"""Builds what is compiled, the recurrence and the reader of plain text, while the package is installed.

Without a C++ compiler, or where the build fails, the package is installed without them: it runs the same recurrence in
JAX, and reads the same text in NumPy and Arrow.
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
READER_SOURCE = Path("jaxrnn", "data", "readers", "native", "plain_text.cc")
READER_LIBRARY = READER_SOURCE.with_name("libplaintext.so")
# Of x86-64 Linux; which of them a process loads, the package decides (jaxrnn/nn/engine/kernel_library.py). Elsewhere
# there is one library, for the machine's own baseline.
VARIANTS = {
    "": ["-mavx2", "-mfma"],
    "-avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


class KernelBuildHook(BuildHookInterface):
    """Compiles `SOURCE` and `READER_SOURCE` into libraries next to them."""

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
    """Compiles all libraries, at the same time; returns those that were made."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    compiler = next((command for command in wanted if shutil.which(shlex.split(command)[0])), None)
    version, include, fault = _find_header()
    recurrences = {variant: Path(LIBRARY.format(version=version, variant=variant)) for variant in VARIANTS}
    for library in (*recurrences.values(), READER_LIBRARY):
        (root / library).unlink(missing_ok=True)  # never one of an older source
    if fault:
        _say_missing(fault)
    if compiler is None:
        _say_missing("no C++ compiler: install one (on Debian: g++) and install the package again")
        return []
    command = [*shlex.split(compiler), *FLAGS]
    is_x86 = platform.system() == "Linux" and platform.machine() == "x86_64"
    wanted_from = {READER_LIBRARY: [*command, str(READER_SOURCE)]}
    for variant, flags in (VARIANTS if is_x86 else {"": []}).items():
        if not fault:
            wanted_from[recurrences[variant]] = [*command, *flags, "-isystem", str(include), str(SOURCE)]
    made = []
    with tempfile.TemporaryDirectory() as directory:
        running = {
            library: subprocess.Popen(
                [*arguments, "-o", str(Path(directory, library.name))],
                cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for library, arguments in wanted_from.items()
        }  # fmt: skip
        for library, process in running.items():
            _, error = process.communicate()
            if process.returncode:
                _say_missing(f"{shlex.join(map(str, process.args))} failed:\n{error[-2000:]}")  # type: ignore[arg-type]
                continue
            unfinished = (root / library).with_suffix(f".{os.getpid()}.tmp")
            shutil.copyfile(Path(directory, library.name), unfinished)
            unfinished.replace(root / library)
            made.append(library)
    return made


def _find_header() -> tuple[str, Path, str]:
    """Returns the version of XLA's interface, where its header files are, and why they are not to be had, if so."""
    try:
        import jaxlib

        include = Path(jaxlib.__file__).parent / "include"
        header = (include / "xla" / "ffi" / "api" / "c_api.h").read_text(encoding="utf-8")
        return re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header)[0], include, ""
    except (ImportError, OSError, IndexError) as error:
        return "", Path(), f"no header files of XLA: {error}"


def _say_missing(reason: str) -> None:
    print(f"jaxrnn is installed without some of its compiled code, and slower on CPUs: {reason}", file=sys.stderr)
