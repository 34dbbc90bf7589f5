"""Programs that are kept from one run of the tests to the next."""

import contextlib
import os
import time
from pathlib import Path

import jax
import kept_programs
import numpy as np
import pytest


@pytest.fixture
def directory(tmp_path):
    """An empty one, in which programs are kept while a test runs."""
    with kept_programs.kept_in(tmp_path / "kept"):
        yield tmp_path / "kept"


@pytest.fixture
def hits():
    """The programs that JAX has read back while a test runs."""
    found = []

    def listen(event: str, **details: object) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def test_a_program_is_read_back(directory, hits):
    def compute():
        return np.asarray(jax.jit(lambda x: 7 * x + 11)(np.arange(13)))

    first = compute()
    assert not hits
    jax.clear_caches()
    np.testing.assert_array_equal(compute(), first)
    assert len(hits) == 1


def test_a_program_is_there_when_it_is_all_written(directory, monkeypatch):
    assert kept_programs.write_whole()  # else JAX has moved what it replaces, and children keep none with the others

    def killed(path: Path, other: Path) -> None:
        assert Path(path).read_bytes()
        raise OSError("as if the process ended here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.warns(UserWarning, match="as if the process ended here"):
            jax.jit(lambda x: 9 * x + 2)(np.arange(19))
    assert [path.name.endswith("-cache") for path in directory.iterdir()] == [False]


def test_a_damaged_program_is_compiled_and_kept_again(directory, hits):
    def compute():
        return np.asarray(jax.jit(lambda x: 5 * x + 3)(np.arange(17)))

    first = compute()
    [path] = directory.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        np.testing.assert_array_equal(compute(), first)
    assert not hits
    jax.clear_caches()
    np.testing.assert_array_equal(compute(), first)
    assert len(hits) == 1


@pytest.mark.parametrize("ends_well", [True, False])
def test_children_are_lent_programs_and_give_back_what_is_new(tmp_path, monkeypatch, ends_well):
    shared, own = tmp_path / "shared", tmp_path / "own"
    monkeypatch.setattr(kept_programs, "_kept_by_all", shared)
    shared.mkdir()
    known, new = (f"jit_{letter}-{'0123456789abcdef' * 4}-cache" for letter in "ab")
    (shared / known).write_bytes(b"known")
    with contextlib.suppress(KeyboardInterrupt), kept_programs.lent_to_children(own) as variables:
        assert variables["JAX_COMPILATION_CACHE_DIR"] == str(own)
        assert (own / known).read_bytes() == b"known"
        (own / new).write_bytes(b"new")
        (own / "notes").write_bytes(b"")
        if not ends_well:
            raise KeyboardInterrupt
    assert {path.name for path in shared.iterdir()} == ({known, new} if ends_well else {known})


def test_programs_that_no_test_has_used_for_long_go(tmp_path):
    digest = "0123456789abcdef" * 4
    old, used, part, other = (
        tmp_path / name for name in (f"jit_a-{digest}-cache", f"jit_b-{digest}-cache", f"jit_c-{digest}.17.4", "notes")
    )
    long_ago = time.time() - (kept_programs.DAYS_KEPT + 1) * 24 * 3600
    for path in (old, used, part, other):
        path.write_bytes(b"")
        os.utime(path, (time.time() if path == used else long_ago, long_ago))
    kept_programs.drop_old(tmp_path)
    assert sorted(tmp_path.iterdir()) == [used, other]


def test_the_variable_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv(kept_programs.VARIABLE, str(tmp_path))
    assert kept_programs.directory_of_tests(lambda: None) == tmp_path
    monkeypatch.setenv(kept_programs.VARIABLE, "")
    assert kept_programs.directory_of_tests(lambda: tmp_path) is None
    monkeypatch.delenv(kept_programs.VARIABLE)
    assert kept_programs.directory_of_tests(lambda: tmp_path) == tmp_path
