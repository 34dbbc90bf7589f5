"""Runs a page's blocks of commands with bash, the package's own commands in this process.

Starting a process that imports JAX takes longer than most of what the pages do. So bash finds another ``python`` first:
it hands ``python -m jaxrnn.COMMAND``, its directory and what it reads to this process, and writes what comes back.
"""

import contextlib
import importlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = """#!{python} -IS
import os, sys

module = sys.argv[2] if sys.argv[1:2] == ["-m"] else ""
if module not in {modules}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
from multiprocessing.connection import Client

with Client({address!r}) as connection:
    connection.send((module, sys.argv[3:], os.getcwd(), sys.stdin.buffer.read()))
    code, written = connection.recv()
try:
    for is_error, text in written:
        stream = sys.stderr if is_error else sys.stdout
        stream.write(text)
        stream.flush()
except BrokenPipeError:  # as behind head
    os._exit(code)
sys.exit(code)
"""
COMMANDS = ("train", "eval", "predict", "prepare", "export", "convert", "report", "data.ball")
MODULES = [f"jaxrnn.{name}" for name in COMMANDS]


class Asked(NamedTuple):
    """A command that bash wants run."""

    module: str
    arguments: list[str]
    directory: str
    stdin: bytes


class Written(io.TextIOBase):
    """Keeps what is written to a stream, among what is written to others."""

    def __init__(self, kept: list[tuple[bool, str]], is_error: bool):
        self._kept, self._is_error = kept, is_error

    def write(self, text: str) -> int:
        self._kept.append((self._is_error, text))
        return len(text)


def run_shell(code: str, *, with_stderr: bool = False) -> str:
    """Runs a block of commands, which have to succeed; returns what they write to stdout, or to stderr too."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)}
    done = _run_asked(code, environment, with_stderr)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def _run_bash(code: str, environment: dict[str, str], with_stderr: bool) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-e", "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE, text=True, env=environment, check=False,
    )  # fmt: skip


def _run_asked(code: str, environment: dict[str, str], with_stderr: bool) -> subprocess.CompletedProcess:
    """Bash runs in a thread; the commands it asks for in the main one, where alone handlers of signals can be set."""
    done = []
    with tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/commands"
        python = Path(directory, "python")
        python.write_text(PYTHON.format(python=sys.executable, modules=MODULES, address=address), encoding="utf-8")
        python.chmod(0o755)
        environment = environment | {"PATH": f"{directory}{os.pathsep}{environment['PATH']}"}

        def run() -> None:
            try:
                done.append(_run_bash(code, environment, with_stderr))
            finally:
                with Client(address) as connection:
                    connection.send(None)

        with Listener(address) as listener:
            bash = threading.Thread(target=run)
            bash.start()
            while True:
                with listener.accept() as connection:
                    asked = connection.recv()
                    if asked is None:
                        break
                    connection.send(_answer(Asked(*asked)))
            bash.join()
    return done[0]


def _answer(asked: Asked) -> tuple[int, list[tuple[bool, str]]]:
    """Runs a command; returns its exit code and, in order, what it wrote, and whether that went to stderr."""
    command = importlib.import_module(asked.module).main
    written: list[tuple[bool, str]] = []
    with (
        contextlib.chdir(asked.directory),
        contextlib.redirect_stdout(Written(written, is_error=False)),
        contextlib.redirect_stderr(Written(written, is_error=True)),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(asked.stdin)))
        code = command(asked.arguments)
    return code, written
