"""Child processes that begin with everything imported: forked from a process that did nothing but import it.

A process that starts from nothing takes two processor seconds for Python, JAX, the package and what a run imports late.
A forked one is a process like any other (devices, signals, exit code, what it prints), but for two things: nothing is
imported at its own moment, and all of them share Python's hash seed. What is about either starts Python itself.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import NoReturn

import kept_programs

REPOSITORY = Path(__file__).resolve().parent.parent
# What a run imports, some of it only when it comes to it.
IMPORTED = ("jaxrnn.console.command_line", "jaxrnn.train", "jaxrnn.training.fit", "jaxrnn.commands.train_run",
            "jaxrnn.data.store.dataset", "orbax.checkpoint", "sklearn.metrics", "matplotlib.figure",
            "matplotlib.backends.backend_agg", "multiprocessing.util")  # fmt: skip
LONGEST_REQUEST = 1 << 20


class Forked:
    """A running program, with what the tests use of `subprocess.Popen`."""

    def __init__(self, program: str, *arguments: str, cwd: Path, environment: dict[str, str]):
        self.stdout, self.stderr = (tempfile.TemporaryFile("a+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        self.returncode: int | None = None
        self._status, theirs = socket.socketpair()
        request = {"program": program, "argv": ["-c", *arguments], "cwd": str(cwd), "environment": environment}
        files = [theirs.fileno(), self.stdout.fileno(), self.stderr.fileno()]
        socket.send_fds(_parent(), [json.dumps(request).encode()], files)
        theirs.close()
        self.pid = int(self._line())

    def _line(self) -> str:
        found = b""
        while not found.endswith(b"\n"):
            if not (more := self._status.recv(1)):
                raise RuntimeError("the process that imports what the others need has ended")
            found += more
        return found.decode()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked program", timeout or 0)
            self.returncode = int(self._line())
            self._status.close()
            for stream in (self.stdout, self.stderr):
                stream.seek(0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _parent() -> socket.socket:
    """Starts the process that the others are forked from; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    return ours


def main() -> None:
    """Imports, and forks on request; in a forked process it returns when the program has ended."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = ""  # as for python -c
    for name in IMPORTED:
        importlib.import_module(name)
    kept_programs.write_whole()
    gc.collect()
    gc.freeze()  # what is never looked at again is never copied
    gc.set_threshold(10_000, 20, 50)  # as in conftest.py: tracing makes many objects
    # What a request becomes is waited for by its own watcher, and nobody waits for that one.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, (*files,), _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        _watch(child, files[0])
    os.close(files[0])
    _become(json.loads(message), *files[1:])


def _watch(child: int, status: int) -> NoReturn:
    os.write(status, f"{child}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{code}\n".encode())
    os._exit(0)


def _become(request: dict, *files: int) -> None:
    """Runs a program as ``python -c`` does."""
    import jax

    for place, file in enumerate(files, 1):
        os.dup2(file, place)
        os.close(file)
    os.chdir(request["cwd"])
    for name, value in request["environment"].items():
        # JAX reads its own when it is imported.
        if name.startswith("JAX_") and os.environ.get(name) != value:
            before = getattr(jax.config, name.lower())
            jax.config.update(name.lower(), value if before is None else type(before)(value))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(request["program"], "<string>", "exec"), module.__dict__)


if __name__ == "__main__":
    main()
