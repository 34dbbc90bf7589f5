"""One process at a time in a run directory, and files that are there whole or not at all."""

import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import REPOSITORY
from small_runs import call, content_of, write_rows

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import write_atomically
from jaxrnn.runs import run_directory
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_lock import LOCK_NAME, RunLock
from jaxrnn.runs.step_files import write_manifest
from jaxrnn.settings.config import Config
from jaxrnn.settings.toml_files import to_toml

HOLDER = """
import sys, time
from pathlib import Path
from jaxrnn.runs.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a directory."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


class TestLock:
    def test_another_process_is_refused_and_the_holder_named(self, holder, tmp_path):
        with pytest.raises(UserError, match=rf"is in use by process {holder.pid} on .*; wait until it is done"):
            RunLock(tmp_path).__enter__()

    def test_a_killed_holder_leaves_a_file_and_no_lock(self, holder, tmp_path):
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
        assert (tmp_path / LOCK_NAME).exists()
        with RunLock(tmp_path):
            assert f"process {os.getpid()} on " in (tmp_path / LOCK_NAME).read_text()
        assert not (tmp_path / LOCK_NAME).exists()

    def test_the_second_of_one_process_is_refused_too(self, tmp_path):
        with RunLock(tmp_path), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            RunLock(tmp_path).__enter__()
        with RunLock(tmp_path):
            pass

    def test_a_file_that_its_holder_has_removed_is_no_lock(self, tmp_path):
        with RunLock(tmp_path):
            (tmp_path / LOCK_NAME).unlink()
            second = RunLock(tmp_path).__enter__()  # on a file of its own
        try:  # which the first one has not taken away
            with pytest.raises(UserError, match="in use"):
                RunLock(tmp_path).__enter__()
        finally:
            second.__exit__()
        assert not list(tmp_path.iterdir())

    def test_a_file_that_is_removed_before_it_is_locked_is_no_lock(self, tmp_path, monkeypatch):
        flock, path, locked = fcntl.flock, tmp_path / LOCK_NAME, []

        def remove_first(file, operation):
            if not locked:
                path.unlink()
            locked.append(os.fstat(file).st_ino)
            flock(file, operation)

        monkeypatch.setattr("jaxrnn.runs.run_lock.fcntl.flock", remove_first)
        with RunLock(tmp_path):
            assert len(locked) == 2
            assert path.stat().st_ino == locked[1]
            with pytest.raises(UserError, match="in use"):
                RunLock(tmp_path).__enter__()

    def test_at_any_moment_one_of_many_holds_it(self, tmp_path):
        held, most = [], []
        lock = threading.Lock()

        def try_often():
            for _ in range(200):
                try:
                    with RunLock(tmp_path):
                        with lock:
                            held.append(1)
                            most.append(len(held))
                        with lock:
                            held.pop()
                except UserError:
                    pass

        threads = [threading.Thread(target=try_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most
        assert max(most) == 1
        assert not list(tmp_path.iterdir())

    def test_file_system_without_locks_is_warned_of(self, tmp_path, monkeypatch, capsys):
        def refuse(file, operation):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("jaxrnn.runs.run_lock.fcntl.flock", refuse)
        with RunLock(tmp_path):
            pass
        assert "this file system has no locks" in capsys.readouterr().err


class TestCommand:
    @pytest.mark.parametrize("more", [[], ["--resume"]])
    def test_a_directory_in_use_is_refused_and_left_alone(self, holder, tmp_path, more):
        rows = write_rows(tmp_path.parent / f"{tmp_path.name}.csv")
        if more:
            (tmp_path / "config.toml").write_text(to_toml(Config().replace_flat({"data": str(rows)})))
        before = content_of(tmp_path)
        done = call("train", "--config=smoke", f"--data={rows}", f"--run-dir={tmp_path}", *more)
        assert done.code == 2
        assert f"{tmp_path} is in use by process {holder.pid}" in done.err
        assert content_of(tmp_path) == before

    def test_two_runs_that_choose_a_name_get_two(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        runs = [RunDirectory.choose(None, name="lstm", resume=False) for _ in range(2)]
        assert runs[0].path == runs[1].path, "both see that it is free"
        for run in runs:
            run.claim()
        assert [run.path.name for run in runs] == ["lstm", "lstm-2"]
        assert [run.config.parent.name for run in runs] == ["lstm", "lstm-2"]

    def test_a_run_begun_meanwhile_is_not_overwritten(self, tmp_path):
        run = RunDirectory.choose(str(tmp_path), name="lstm", resume=False)
        run.claim()
        run.require_empty()
        (tmp_path / "config.toml").write_text("")
        with pytest.raises(UserError, match="another process has begun a run in"):
            run.require_empty()

    def test_what_a_process_leaves_that_was_killed_before_it_began_is_no_run(self, tmp_path):
        for name in (LOCK_NAME, ".config.toml.123.tmp"):
            (tmp_path / name).write_text("")
        run = RunDirectory.choose(str(tmp_path), name="lstm", resume=False)
        run.remove_leftovers()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
        (tmp_path / "mine").write_text("")
        with pytest.raises(UserError, match="is there already"):
            RunDirectory.choose(str(tmp_path), name="lstm", resume=False)


class TestWritingAtomically:
    def test_old_or_new_whatever_fails(self, tmp_path, monkeypatch):
        path = tmp_path / "summary.json"
        write_atomically(path, "old")
        for name in ("fsync", "replace"):
            owner = Path if name == "replace" else os

            def fail(*arguments):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fail)
                with pytest.raises(OSError, match=re.escape(str(path))) as caught:
                    write_atomically(path, "new")
            assert caught.value.errno == errno.ENOSPC
            assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
            assert path.read_text() == "old"

    @pytest.mark.parametrize("written", ["a file", "the manifest of a step"])
    def test_the_file_is_on_the_disk_before_its_name_and_the_directory_after(self, tmp_path, monkeypatch, written):
        done = []
        fsync, replace, rename = os.fsync, Path.replace, Path.rename

        def note_sync(file):
            number = file if isinstance(file, int) else file.fileno()
            done.append("directory" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
            fsync(number)

        def note_replace(path, target):
            done.append("replace")
            return replace(path, target)

        monkeypatch.setattr(run_directory.os, "fsync", note_sync)

        def note_rename(path, target):
            done.append("replace")
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", note_replace)
        monkeypatch.setattr(Path, "rename", note_rename)
        if written == "a file":
            write_atomically(tmp_path / "config.toml", "a = 1\n")
        else:
            write_manifest(tmp_path)
        assert done == ["file", "replace", "directory"]

    def test_metrics_are_on_the_disk_before_a_checkpoint_of_them(self, tmp_path, monkeypatch):
        run = RunDirectory(tmp_path)
        run.append_metrics([{"epoch": 1}])
        synced = []
        monkeypatch.setattr(run_directory.os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
        run.sync_metrics()
        assert synced == [run.metrics.stat().st_ino]
