"""Compiled programs kept from run to run, where nobody else can put any."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
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


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "jaxrnn").mkdir()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(UserError, match=r"--compilation-cache: .* expected a directory of this user's own"):
        compilation.keep_compilations()
    assert not list((tmp_path / "jaxrnn").iterdir())


def test_each_kind_of_machine_has_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        here = compilation.keep_compilations()
        assert here == compilation.keep_compilations() == tmp_path / "jaxrnn" / compilation.machine_name()
        assert stat.S_IMODE(here.stat().st_mode) == 0o700
        read_text = Path.read_text
        for old, new in (("flags\t\t: ", "flags\t\t: avx9999 "), ("model name\t: ", "model name\t: Another ")):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "read_text", lambda path, old=old, new=new, **more: read_text(
                    path, **more).replace(old, new) + f"{new}\n")  # fmt: skip
                assert compilation.keep_compilations() != here
        monkeypatch.setattr(compilation, "versions", lambda: {"jaxlib": "0.0.1"})
        assert compilation.keep_compilations() != here
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_a_program_of_one_call_is_compiled_whatever_options_this_xla_has(monkeypatch):
    """Options go from one version of XLA to the next, and an unknown one is an error there."""
    program = jax.jit(lambda x: jax.random.uniform(jax.random.key(x)))
    expected = float(program(3))
    with compilation.CompilationCounter() as counter:
        assert float(compilation.compile_for_one_call(program.lower(3))(3)) == expected
    assert counter.count == 1  # no option that is refused is tried with the versions that are supported
    for options in ({"xla_no_such_option": 1}, None):
        monkeypatch.setattr(compilation, "_haste", lambda options=options: options)
        assert float(compilation.compile_for_one_call(program.lower(3))(3)) == expected


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for CPUs")
def test_an_option_that_is_known_and_wrong_is_an_error(monkeypatch):
    monkeypatch.setattr(compilation, "_FEW_PASSES", {"xla_backend_optimization_level": "high"})
    with pytest.raises(jax.errors.JaxRuntimeError):
        compilation.compile_for_one_call(jax.jit(lambda x: x + 1).lower(3))
