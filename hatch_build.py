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
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("jaxrnn", "nn", "kernels", "recurrence.cc")
# A library is named after the version of XLA's interface that it was built for: several Pythons may share a checkout,
# and each takes the newest that its own XLA knows.
LIBRARY = "jaxrnn/nn/kernels/librecurrence-{version}.so"
# Sums are contracted to fused multiply-adds; nothing else of floating point is loosened: NaN must stay NaN.
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", "-pthread"]


class KernelBuildHook(BuildHookInterface):
    """Compiles `SOURCE` into a library next to it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before a wheel is made, an editable one too."""
        del version
        library = _compile(Path(self.root)) if self.target_name == "wheel" else None
        if library is None:
            return
        build_data["artifacts"].append(str(library))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _compile(root: Path) -> Path | None:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    compiler = next((command for command in wanted if shutil.which(shlex.split(command)[0])), None)
    try:
        import jaxlib

        include = Path(jaxlib.__file__).parent / "include"
        header = (include / "xla" / "ffi" / "api" / "c_api.h").read_text(encoding="utf-8")
        version = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header)[0]
    except (ImportError, OSError, IndexError) as error:
        return _without(f"no header files of XLA: {error}")
    library = Path(LIBRARY.format(version=version))
    (root / library).unlink(missing_ok=True)  # never one of an older source
    if compiler is None:
        return _without("no C++ compiler: install one (on Debian: g++) and install the package again")
    command = [*shlex.split(compiler), *FLAGS, "-isystem", str(include)]
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        command += ["-mavx2", "-mfma"]  # the package looks for them before it loads the library
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    done = subprocess.run(
        [*command, str(SOURCE), "-o", str(unfinished)], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        (root / unfinished).unlink(missing_ok=True)
        return _without(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    (root / unfinished).replace(root / library)
    return library


def _without(reason: str) -> None:
    print(f"jaxrnn is installed without its compiled recurrence, which is slower on CPUs: {reason}", file=sys.stderr)
