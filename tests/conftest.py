"""What every test runs under: quick compilation, the highest matmul precision, and no more memory than it needs.

Nothing here imports JAX, or jaxrnn, before `pytest_configure` has set XLA's flags.
"""

import contextlib
import ctypes
import functools
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kept_programs import directory_of_tests, drop_old, keep_all, kept_programs
from quick_flags import set_quick_flags

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

REPOSITORY = Path(__file__).resolve().parent.parent
# Bytes that compiled programs and what comes with them may add before they are dropped, behind a file and behind a
# test. What tests import takes 0.8 to 1.1 GiB, a GPU's libraries more.
MEMORY_OF_PROGRAMS, MOST_OF_PROGRAMS = 1 << 29, 3 << 28

# The modules that compute with arrays: --check-annotations holds what they are given against what they state.
_CHECKED_MODULES = (
    "nn.engine.recurrence",
    "nn.engine.loops",
    "nn.engine.forms",
    "nn.engine.masks",
    "nn.engine.closed",
    "nn.checks",
    "nn.parameters",
    "nn.equations",
    "nn.cells",
    "nn.layer_options",
    "nn.cell_stack",
    "nn.layers",
    "nn.recurrent_layer",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop-only", action="store_true", help="leave the compiled recurrence out, as if it were not built"
    )
    parser.addoption("--real-flags", action="store_true", help="compile as for users, not quickly (quick_flags.py)")
    parser.addoption(
        "--check-annotations",
        action="store_true",
        help="check types and shapes that annotations state, in the modules that compute with arrays; a sixth slower",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--real-flags"):
        set_quick_flags()
    # PyTorch's threads wait for one another longer than computing takes at the tests' sizes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Where an operation stands is of use to a profiler alone, and takes a fifteenth of the time, of children too.
    os.environ.setdefault("JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS", "false")
    import jax

    # GPUs and TPUs multiply float32 matrices in a shorter format unless told otherwise; processes that tests start too.
    jax.config.update("jax_default_matmul_precision", "highest")
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    if config.getoption("--check-annotations"):
        from jaxtyping import install_import_hook

        checked = [f"jaxrnn.{name}" for name in _CHECKED_MODULES] + ["jaxrnn.interop.torch"]
        install_import_hook(checked, "beartype.beartype")
    if config.getoption("--loop-only"):
        from jaxrnn.nn.engine import cpu_kernels  # not before the hook above

        cpu_kernels.is_built = functools.cache(lambda: False)
    _keep_programs(config)


def _keep_programs(config: pytest.Config) -> None:
    import jax

    if jax.config.jax_compilation_cache_dir:  # whoever tells JAX where to keep them is not overruled
        return
    from jaxrnn.training.compilation import machine_name  # not before the hook above

    with contextlib.suppress(OSError):  # nobody may write there: nothing is kept
        cache = getattr(config, "cache", None)
        kept = directory_of_tests(lambda: cache.mkdir("programs") if cache else None)
        if kept is None:
            return
        kept = kept / machine_name()
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            if not hasattr(config, "workerinput"):
                drop_old(kept)
            keep_all(kept)


def pytest_report_header(config: pytest.Config) -> str:
    whose = "real" if config.getoption("--real-flags") else "quick, see tests/quick_flags.py; --real-flags: none"
    return f"XLA_FLAGS: {os.environ.get('XLA_FLAGS', '') or 'none'} ({whose})"


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is there by now stays to the end. Tracing makes so many objects that looking at all of the others again and
    # again takes a twentieth of the tests' time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--real-flags"):
        return
    skipped = pytest.mark.skip(reason="depends on how XLA optimises: run with --real-flags")
    for item in items:
        if item.get_closest_marker("real_flags"):
            item.add_marker(skipped)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back():
    """Drops compiled programs behind a file of tests that left this process large: no later file uses many of them."""
    yield
    _give_back_memory(MEMORY_OF_PROGRAMS)


def pytest_runtest_teardown() -> None:
    _give_back_memory(MOST_OF_PROGRAMS)  # of a file whose tests compile many programs each


_held = 1 << 30  # when programs were last dropped


def _give_back_memory(most: int) -> None:
    """Drops this process's compiled programs if it holds so many bytes more than when they were last dropped."""
    global _held
    if _resident_bytes() > _held + most:
        import jax

        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # of glibc: what is free goes back to the system
            ctypes.CDLL(None).malloc_trim(0)
        _held = max(1 << 30, _resident_bytes())


def _resident_bytes() -> int:
    """Gives 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def x64():
    """Lets a test compute in float64; skipped where the device has none."""
    import jax

    if jax.default_backend() == "tpu":
        pytest.skip("TPUs have no float64")
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets calls through that the annotations forbid, as they go through without the tests' type checker."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


def run_command(*arguments: str, cwd: Path, stdin: str | None = None, timeout: float = 300):
    """Runs ``python -m ARGUMENTS`` as a user would, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=environment,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def command(tmp_path: Path):
    """Runs a command in an empty directory: ``command("jaxrnn.train", "--cell=rnn")``."""

    def run(*arguments: str, cwd: Path = tmp_path, stdin: str | None = None, timeout: float = 300):
        return run_command(*arguments, cwd=cwd, stdin=stdin, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of ``--config=smoke``, trained once for all tests, those of xdist's other processes too."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "smoke"
    place.mkdir(exist_ok=True)
    run_dir, said = place / "run", place / "stderr.txt"  # written when the run is done
    with (place / "lock").open("w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            flags = ["--config=smoke", f"--data={REPOSITORY / 'ball.csv'}", f"--run-dir={run_dir}"]
            done = run_command("jaxrnn.train", *flags, cwd=place)
            assert done.returncode == 0, done.stderr
            said.write_text(done.stderr, encoding="utf-8")
    return run_dir


@pytest.fixture(scope="session")
def small_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `small_runs.write_rows`."""
    import small_runs  # it imports jaxrnn: not before the hook above

    return small_runs.write_rows(tmp_path_factory.mktemp("rows") / "rows.csv")


@pytest.fixture(scope="module")
def programs_kept(tmp_path_factory: pytest.TempPathFactory):
    """Keeps the compiled programs of a file's runs."""
    with kept_programs(tmp_path_factory.mktemp("programs")):
        yield
