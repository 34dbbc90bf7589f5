"""Which of the compiled libraries a process loads: what XLA's interface and the processor allow."""

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

import jax

LIBRARIES = Path(__file__).parent.parent / "kernels"
# What a variant's name says, what the processor has to have for it, and how many floats a vector of it holds; the best
# is first. ``JAXRNN_INSTRUCTIONS=avx2`` in the environment keeps a process from better ones.
_VARIANTS = {
    "-avx512": ({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, 16),
    "": ({"avx2", "fma"}, 8),
}
CHOICE = "JAXRNN_INSTRUCTIONS"


class Library(NamedTuple):
    """A compiled library.

    Attributes:
      path: Where it lies.
      lanes: How many floats a vector of it holds: rows of what is kept are filled up to whole vectors.
    """

    path: Path
    lanes: int


def find_library() -> Library | None:
    """Finds the newest library that XLA here can call; one for a later version of its interface would end the process.

    They are named after that version and after the instructions they need (hatch_build.py); XLA's own version stands in
    its header.
    """
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if not header.is_file():
        return None
    known = re.findall(r"#define XLA_FFI_API_MINOR (\d+)", header.read_text(encoding="utf-8"))
    for variant, lanes in _usable_variants():
        built = {}
        for path in LIBRARIES.glob("librecurrence-*.so"):
            match = re.fullmatch(rf"librecurrence-(\d+){variant}\.so", path.name)
            if match and known and int(match[1]) <= int(known[0]):
                built[int(match[1])] = path
        if built:
            return Library(built[max(built)], lanes)
    return None


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
    return [entry for entry in found if wanted != "avx2" or not entry[0]]
