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
# What a variant's name says, what the processor has to have for it, and how many floats a vector of it holds; the best
# is first. ``JAXRNN_INSTRUCTIONS=avx2`` in the environment keeps a process from better ones, ``=avx512`` from others.
_VARIANTS = {
    "-avx512": ({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, 16),
    "": ({"avx2", "fma"}, 8),
}
CHOICE = "JAXRNN_INSTRUCTIONS"
_CHOICES = {"avx2": "", "avx512": "-avx512"}


class Library(NamedTuple):
    """A compiled library.

    Attributes:
      path: Where it lies.
      lanes: How many floats a vector of it holds: rows of what is kept are filled up to whole vectors.
    """

    path: Path
    lanes: int


class Loaded(NamedTuple):
    """What serves this process.

    Attributes:
      handlers: By their names, what XLA calls.
      lanes: How many floats a vector of the library holds.
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
    library = ctypes.CDLL(str(best.path))
    handlers = {name: getattr(library, name) for name in ("JaxrnnForward2", "JaxrnnBackward2")}
    for other in others:
        with contextlib.suppress(OSError, AttributeError):
            narrow = ctypes.CDLL(str(other.path))
            given = [ctypes.cast(getattr(narrow, name), ctypes.c_void_p) for name in handlers]
            library.JaxrnnUseNarrow(*given, ctypes.c_int64(other.lanes))
            return Loaded(handlers, best.lanes, other.lanes)
    return Loaded(handlers, best.lanes)


def find_libraries() -> list[Library]:
    """Lists the libraries that XLA and the processor here can run, the best one first, each in its newest version.

    One for a later version of XLA's interface would end the process. They are named after that version and after the
    instructions they need (hatch_build.py); XLA's own version stands in its header.
    """
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if not header.is_file():
        return []
    known = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header.read_text(encoding="utf-8"))
    found = []
    for variant, lanes in _usable_variants():
        built = {}
        for path in LIBRARIES.glob("librecurrence-*.so"):
            match = re.fullmatch(rf"librecurrence-(\d+){variant}\.so", path.name)
            if match and known and int(match[1]) <= int(known[0]):
                built[int(match[1])] = path
        if built:
            found.append(Library(built[max(built)], lanes))
    return found


def _usable_variants() -> list[tuple[str, int]]:
    """Lists variants whose instructions the processor has, the best one first.

    Elsewhere than on x86-64 Linux there is one, for the machine's own baseline.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return [("", 8)]
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    wanted = os.environ.get(CHOICE, "")
    found = [(variant, lanes) for variant, (needed, lanes) in _VARIANTS.items() if needed <= flags]
    return [entry for entry in found if entry[0] == _CHOICES.get(wanted)] or found
