"""SIGINT and SIGTERM at any moment: soon gone, with the right exit code and no traceback, and nothing lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import REPOSITORY
from small_runs import write_rows

from jaxrnn.console import command_line, signals
from jaxrnn.foundation.errors import InterruptedRun

HANDLED = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = "; go on with: COMMAND"
# Of a machine that is busy with other tests; what is waited for lasts a minute or more.
AT_ONCE_SECONDS, SOON_SECONDS = 5.0, 8.0

PROGRAM = """
import hashlib, pathlib, sys, time
from jaxrnn.console import command_line, signals
from jaxrnn.foundation.errors import InterruptedRun

def compute(seconds):
    # As a compiler does: without the interpreter's lock, and without a look at signals. 1 second or more a million.
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(1_000_000 * seconds))

def body():
{body}

sys.exit(command_line.leave(command_line.run(body, own_process=True, how_to_go_on=lambda: "{last_words}")))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a command with a body of its own, and waits until it says that it is there."""
    started = []

    def start(body: str) -> subprocess.Popen:
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=indented, last_words=LAST_WORDS)],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen, *numbers: int, within: float, pause: float = 0.3) -> str:
    """Sends signals, the second a while after the first; returns what the process said in the end."""
    for position, number in enumerate(numbers):
        if position:
            time.sleep(pause)
        process.send_signal(number)
    begin = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - begin < within
    assert process.returncode == 128 + numbers[-1], err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    return err


@pytest.mark.parametrize("number", [pytest.param(HANDLED[0], marks=pytest.mark.slow), HANDLED[1]])
class TestOfAProcess:
    def test_the_main_thread_in_python(self, start, number):
        process = start("print('there', flush=True)\nwhile True: time.sleep(0.01)")
        name = signal.Signals(number).name
        assert end(process, number, within=AT_ONCE_SECONDS) == f"interrupted by {name}{LAST_WORDS}\n"

    def test_the_main_thread_where_no_handler_runs(self, start, number):
        process = start("print('there', flush=True)\ncompute(60)")
        name = signal.Signals(number).name
        assert end(process, number, within=SOON_SECONDS) == f"interrupted by {name}{LAST_WORDS}\n"

    def test_code_that_swallows_exceptions(self, start, number):
        body = "print('there', flush=True)\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"
        assert end(start(body), number, within=AT_ONCE_SECONDS).endswith(f"{LAST_WORDS}\n")

    def test_what_is_not_saved_yet_is_saved(self, start, number, tmp_path):
        body = """
with signals.NoteSignal() as noted:
    noted.unsaved = True
    print('there', flush=True)
    while noted.received is None: time.sleep(0.01)
    time.sleep(2 * signals.GRACE_SECONDS)
    pathlib.Path("saved").write_text("")
raise InterruptedRun("interrupted after epoch 7", signal_number=noted.received)
"""
        err = end(start(body), number, within=SOON_SECONDS)
        assert err == f"interrupted after epoch 7{LAST_WORDS}\n"
        assert (tmp_path / "saved").exists()

    def test_where_nothing_is_unsaved_nothing_is_waited_for(self, start, number, tmp_path):
        body = """
with signals.NoteSignal() as noted:
    print('there', flush=True)
    compute(60)
"""
        assert end(start(body), number, within=SOON_SECONDS).endswith(f"{LAST_WORDS}\n")

    @pytest.mark.parametrize("wait", ["time.sleep(60)", "compute(60)"])
    def test_the_second_signal_ends_it_at_once_saved_or_not(self, start, number, wait):
        body = f"""
with signals.NoteSignal() as noted:
    noted.unsaved = True
    print('there', flush=True)
    while True: {wait}
"""
        assert end(start(body), number, number, within=AT_ONCE_SECONDS) == ""

    def test_the_second_may_be_the_other_one(self, start, number):
        body = "with signals.NoteSignal() as noted:\n    noted.unsaved = True\n    print('there', flush=True)\n"
        body += "    while True: time.sleep(60)"
        other = next(other for other in HANDLED if other != number)
        end(start(body), number, other, within=AT_ONCE_SECONDS)


class TestOfACaller:
    @pytest.mark.parametrize("own_process", [False, True])
    def test_previous_handlers_and_the_wakeup_pipe_come_back(self, own_process):
        before = [signal.getsignal(number) for number in HANDLED]
        read, write = os.pipe()
        os.set_blocking(write, False)
        previous = signal.set_wakeup_fd(write)
        seen = []
        try:
            code = command_line.run(
                lambda: seen.extend(signal.getsignal(number) for number in HANDLED), own_process=own_process
            )
            assert code == 0
            assert not set(seen) & set(before), "while it runs they are its own"
            assert [signal.getsignal(number) for number in HANDLED] == before
        finally:
            assert signal.set_wakeup_fd(previous) == write
            os.close(read)
            os.close(write)

    @pytest.mark.parametrize("own_process", [False, True])
    def test_nothing_is_installed_outside_the_main_thread(self, own_process):
        before = [signal.getsignal(number) for number in HANDLED]
        seen = []

        def look():
            seen.extend(signal.getsignal(number) for number in HANDLED)
            with signals.NoteSignal():
                seen.extend(signal.getsignal(number) for number in HANDLED)

        codes = []
        thread = threading.Thread(target=lambda: codes.append(command_line.run(look, own_process=own_process)))
        thread.start()
        thread.join()
        assert codes == [0]
        assert seen == before * 2
        assert [signal.getsignal(number) for number in HANDLED] == before

    @pytest.mark.parametrize("number", HANDLED)
    def test_a_signal_is_an_exception_that_no_one_takes_for_an_error(self, number, capsys):
        before = [signal.getsignal(number) for number in HANDLED]

        def body():
            try:
                os.kill(os.getpid(), number)
                time.sleep(60)
            except Exception:
                pytest.fail("it was swallowed")

        assert command_line.run(body, how_to_go_on=lambda: LAST_WORDS) == 128 + number
        assert capsys.readouterr().err == f"interrupted by {signal.Signals(number).name}{LAST_WORDS}\n"
        assert [signal.getsignal(number) for number in HANDLED] == before

    def test_it_names_the_signal(self):
        with pytest.raises(InterruptedRun, match="interrupted by SIGTERM") as caught, signals.RaiseOnSignal():
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.signal_number == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("number", HANDLED)
def test_prediction_that_waits_for_its_input(trained_run, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxrnn.predict", f"--checkpoint={trained_run}", "-"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(4)
    assert end(process, number, within=SOON_SECONDS) == f"interrupted by {signal.Signals(number).name}\n"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.0])
def test_training_that_starts(tmp_path, seconds):
    """Python, imports, the compiler: there is nothing to save, and nothing is said but that."""
    rows = write_rows(tmp_path / "rows.csv")
    arguments = ["--cell=lstm", "--num-layers=3", f"--data={rows}", f"--run-dir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxrnn.train", *arguments],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - begin < SOON_SECONDS
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM), err
    assert "Traceback" not in err
    if (tmp_path / "run" / "config.toml").exists():
        assert f"python -m jaxrnn.train --resume --run-dir={tmp_path / 'run'}" in err


@pytest.mark.parametrize("number", signals.HANDLED)
def test_a_signal_behind_the_end_changes_no_exit_code(number):
    code = (
        "import atexit, os, signal\n"
        "from jaxrnn.console import command_line\n"
        f"atexit.register(lambda: (os.kill(os.getpid(), {int(number)}), os._exit(9)))\n"
        "command_line.leave(command_line.run(lambda: print('done'), own_process=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_second_signal_noted_ends_the_process_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with signals.NoteSignal() as noted:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (noted.received, ended) == (signal.SIGTERM, [])
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [128 + signal.SIGINT]
