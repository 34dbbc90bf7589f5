"""Which of the compiled libraries a process loads: what XLA's interface and the processor allow."""

import contextlib
import ctypes
import os
import platform
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

LIBRARIES = Path(__file__).parent.parent / "kernels"
# What a variant's name says, and what the processor has to have for it; the best is first. ``JAXRNN_INSTRUCTIONS=avx2``
# in the environment keeps a process from better ones, ``=avx512`` from others.
_VARIANTS = {
    "-avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"},
    "": {"avx2", "fma"},
}
CHOICE = "JAXRNN_INSTRUCTIONS"
_CHOICES = {"avx2": "", "avx512": "-avx512"}


class Loaded(NamedTuple):
    """What serves this process.

    Attributes:
      handlers: By their names, what XLA calls.
      lanes: How many floats a vector of the library holds: rows of what is kept are filled up to whole vectors.
      narrow: How many those of another one hold, which takes the calls whose units fit into one of them; 0 where none
        does.
    """

    handlers: dict[str, Any]
    lanes: int
    narrow: int = 0

    def lanes_for(self, hidden: int) -> int:
        """Returns how many floats a vector holds in the calls of so many units."""
        return self.narrow if hidden <= self.narrow else self.lanes


def load_libraries() -> Loaded | None:
    """Loads the best library, and beside it one of shorter vectors, which take less time where few units fill them.

    Raises:
      OSError: The best one does not load.
      AttributeError: It is not one.
    """
    found = find_libraries()
    if not found:
        return None
    best, *others = found
    library = ctypes.CDLL(str(best))
    handlers = {name: getattr(library, name) for name in ("JaxrnnForward2", "JaxrnnBackward2")}
    lanes = _lanes_of(library)
    for other in others:
        with contextlib.suppress(OSError, AttributeError):
            narrow = ctypes.CDLL(str(other))
            given = [ctypes.cast(getattr(narrow, name), ctypes.c_void_p) for name in handlers]
            if (fewer := _lanes_of(narrow)) < lanes:
                library.JaxrnnUseNarrow(*given, ctypes.c_int64(fewer))
                return Loaded(handlers, lanes, fewer)
    return Loaded(handlers, lanes)


def _lanes_of(library: ctypes.CDLL) -> int:
    # It knows best: a compiler may be told to build for other instructions than a variant's (CXX="g++ -march=native").
    library.JaxrnnLanes.restype = ctypes.c_int64
    return library.JaxrnnLanes()


def find_libraries() -> list[Path]:
    """Lists the libraries that XLA and the processor here can run, the best one first, each in its newest version.

    One for a later version of XLA's interface would end the process. They are named after that version and after the
    instructions they need (hatch_build.py); XLA's own version stands in its header.
    """
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if not header.is_file():
        return []
    known = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header.read_text(encoding="utf-8"))
    found = []
    for variant in _usable_variants():
        built = {}
        for path in LIBRARIES.glob("librecurrence-*.so"):
            match = re.fullmatch(rf"librecurrence-(\d+){variant}\.so", path.name)
            if match and known and int(match[1]) <= int(known[0]):
                built[int(match[1])] = path
        if built:
            found.append(built[max(built)])
    return found


def _usable_variants() -> list[str]:
    """Lists variants whose instructions the processor has, the best one first.

    Elsewhere than on x86-64 Linux there is one, for the machine's own baseline.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return [""]
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    wanted = os.environ.get(CHOICE, "")
    found = [variant for variant, needed in _VARIANTS.items() if needed <= flags]
    return [variant for variant in found if variant == _CHOICES.get(wanted)] or found
