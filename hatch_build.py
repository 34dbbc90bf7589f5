"""Builds the compiled recurrence of jaxrnn/kernels while the package is installed, if there is a C++ compiler.

Without one, or where the build fails, the package is installed without it and runs the same recurrence in JAX.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("jaxrnn", "kernels", "recurrence.cc")
LIBRARY = Path("jaxrnn", "kernels", "librecurrence.so")
# Sums are contracted to fused multiply-adds; nothing else of floating point is loosened: NaN must stay NaN.
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", "-pthread"]


class KernelBuildHook(BuildHookInterface):
    """Compiles `SOURCE` into `LIBRARY`, next to it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before a wheel is made, an editable one too."""
        del version
        if self.target_name != "wheel" or not _compile(Path(self.root)):
            return
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _compile(root: Path) -> bool:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    compiler = next((command for command in wanted if shutil.which(shlex.split(command)[0])), None)
    (root / LIBRARY).unlink(missing_ok=True)  # never one of an older source
    if compiler is None:
        return _without("no C++ compiler: install one (on Debian: g++) and install the package again")
    try:
        import jaxlib
    except ImportError as error:
        return _without(f"no header files of XLA: {error}")
    command = [*shlex.split(compiler), *FLAGS, "-isystem", str(Path(jaxlib.__file__).parent / "include")]
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        command += ["-mavx2", "-mfma"]  # the package looks for them before it loads the library
    unfinished = LIBRARY.with_suffix(f".{os.getpid()}.tmp")
    done = subprocess.run(
        [*command, str(SOURCE), "-o", str(unfinished)], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        (root / unfinished).unlink(missing_ok=True)
        return _without(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    (root / unfinished).replace(root / LIBRARY)
    return True


def _without(reason: str) -> bool:
    print(f"jaxrnn is installed without its compiled recurrence, which is slower on CPUs: {reason}", file=sys.stderr)
    return False
