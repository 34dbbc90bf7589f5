"""Compiled programs kept on disk from one run of the tests to the next: a program that has not changed is read back.

JAX's own persistent cache, whose keys hold the program, XLA's flags and jaxlib's version; what has changed compiles. A
directory of its own for each kind of machine, since programs hold instructions of a processor.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "JAXRNN_KEPT_PROGRAMS"
DAYS_KEPT = 14
# What JAX calls a program, and `write_whole` a part of one.
_PROGRAM = re.compile(r".+-[0-9a-f]{64}(-cache|\.\d+\.\d+)")


def directory_of_tests(default: Callable[[], Path | None]) -> Path | None:
    """Says where the tests keep their programs.

    Args:
      default: Gives the directory where the variable says nothing; None for nowhere.

    Returns:
      The directory that JAXRNN_KEPT_PROGRAMS names, or `default`'s; None where the variable is empty.
    """
    given = os.environ.get(VARIABLE)
    return default() if given is None else Path(given).absolute() if given else None


def drop_old(directory: Path) -> None:
    """Removes programs, whole and in part, that no test has read or written for a while; nothing else."""
    oldest = time.time() - DAYS_KEPT * 24 * 3600
    for path in directory.iterdir():
        if _PROGRAM.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another run of the tests removes the same
                status = path.stat()
                if max(status.st_atime, status.st_mtime) < oldest:
                    path.unlink()


def write_whole() -> bool:
    """Lets JAX put a program into its place when it is all written: other processes read there, and some are killed.

    Returns:
      Whether this version of JAX could be told so.
    """
    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:
        return False

    def put(cache: LRUCache, key: str, value: bytes) -> None:
        # One that is there could not be read: JAX asks for that first.
        part = cache.path / f"{key}.{os.getpid()}.{threading.get_ident()}"
        part.write_bytes(value)
        os.replace(part, cache.path / f"{key}-cache")

    LRUCache.put = put
    return True


def variables_of_child(own: Path) -> dict[str, str]:
    """Gives the variables of a child process that `forked` makes, which keeps its programs with the tests' own.

    Args:
      own: Where it keeps them if the tests keep none.
    """
    return _variables(_kept_by_all or own)


def _variables(directory: Path) -> dict[str, str]:
    return {"JAX_COMPILATION_CACHE_DIR": str(directory), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@contextlib.contextmanager
def lent_to_children(own: Path) -> Iterator[dict[str, str]]:
    """Gives the variables of child processes that know nothing of this module, as users start them.

    What they write is not written whole: it goes to a directory of theirs, and to the others when they have ended well.

    Args:
      own: Their directory; there is none yet.
    """
    own = own.absolute()
    own.mkdir()
    shared = _kept_by_all or own
    known = [path.name for path in shared.iterdir() if _PROGRAM.fullmatch(path.name)]
    if shared != own:
        for name in known:
            with contextlib.suppress(OSError):  # another run of the tests removes it, or this is another file system
                os.link(shared / name, own / name)
    yield _variables(own)
    if shared != own:
        for name in {path.name for path in own.iterdir() if _PROGRAM.fullmatch(path.name)}.difference(known):
            with contextlib.suppress(OSError):
                os.link(own / name, shared / name)


_kept_by_all: Path | None = None


def kept_by_all() -> Path | None:
    """Returns where the tests keep all their programs; None where they do not."""
    return _kept_by_all


def keep_all(directory: Path) -> None:
    """Lets this process and its forked children keep their programs in a directory, for good."""
    global _kept_by_all
    if write_whole():
        _kept_by_all = directory
        keep_in(directory)


def keep_in(directory: Path) -> dict[str, object]:
    """Lets this process keep its programs in a directory.

    Returns:
      JAX's settings before, for `jax.config.update`.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    compilation_cache.reset_cache()
    for name, value in settings.items():
        jax.config.update(name, value)
    return before


@contextlib.contextmanager
def kept_in(directory: Path) -> Iterator[None]:
    """Keeps programs in a directory while it is entered."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = keep_in(directory)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def kept_programs(directory: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps programs in a directory while it is entered, where they are not kept anyway.

    For files of tests whose runs compile the same few.
    """
    import jax

    return contextlib.nullcontext() if jax.config.jax_compilation_cache_dir else kept_in(directory)
