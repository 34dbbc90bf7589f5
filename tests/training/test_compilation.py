"""Compiled programs kept from run to run, where nobody else can put any."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrnn.foundation.errors import UserError
from jaxrnn.training import compilation

REPOSITORY = Path(__file__).resolve().parents[2]


def train(home: Path, run: Path, *flags: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HOME": str(home), "XDG_CACHE_HOME": ""}
    command = [sys.executable, "-m", "jaxrnn.train", "--config=smoke", "--epochs=2", f"--run-dir={run}", *flags]
    return subprocess.run(
        [*command, f"--data={REPOSITORY / 'ball.csv'}"],
        cwd=home, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.real_flags  # it compares seconds of compiling
def test_a_second_run_reads_what_the_first_compiled_and_trains_the_same(tmp_path):
    for number in (1, 2):
        done = train(tmp_path, tmp_path / str(number), "--compilation-cache")
        assert done.returncode == 0, done.stderr
    cache = tmp_path / ".cache" / "jaxrnn"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert any(cache.iterdir())
    first, second = ((tmp_path / n / "metrics.jsonl").read_text() for n in "12")
    assert first == second
    seconds = [json.loads((tmp_path / n / "summary.json").read_text())["seconds"]["compile"] for n in "12"]
    assert seconds[1] < seconds[0]
    assert train(tmp_path, tmp_path / "3").returncode == 0


def test_a_directory_of_somebody_elses_or_a_link_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "jaxrnn").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"--compilation-cache: .* expected a directory of this user's own"):
        compilation.keep_compilations()
    (tmp_path / "jaxrnn").unlink()
    (tmp_path / "jaxrnn").write_text("a file")
    with pytest.raises(UserError, match="--compilation-cache"):
        compilation.keep_compilations()
