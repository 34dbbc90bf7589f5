"""Programs that are kept from one run of the tests to the next."""

import os
import time

import jax
import jax.numpy as jnp
import kept_programs
import numpy as np
import pytest


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """An empty one, in which programs are kept while a test runs."""
    from jax.experimental.compilation_cache import compilation_cache

    before = kept_programs.keep_in(tmp_path / "kept")
    yield tmp_path / "kept"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_a_program_is_written_whole_and_read_back(directory):
    assert kept_programs.write_whole()  # else JAX has moved what it replaces, and children keep none with the others

    def compute():
        return np.asarray(jax.jit(lambda x: 7 * x + 11)(jnp.arange(13)))

    first = compute()
    [path] = [path for path in directory.iterdir() if "lambda" in path.name]
    assert path.name.endswith("-cache")
    assert all(path.name.endswith("-cache") for path in directory.iterdir())  # no part of one is left
    written, jax_keeps = path.stat().st_mtime_ns, path.read_bytes()
    jax.clear_caches()
    np.testing.assert_array_equal(compute(), first)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (written, jax_keeps)


def test_a_damaged_program_is_compiled_again(directory):
    function = jax.jit(lambda x: 5 * x + 3)
    first = np.asarray(function(jnp.arange(17)))
    for path in directory.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        np.testing.assert_array_equal(np.asarray(function(jnp.arange(17))), first)


def test_what_no_test_has_used_for_long_goes(tmp_path):
    (tmp_path / "machine").mkdir()
    old, used, new = (tmp_path / "machine" / name for name in ("old-cache", "used-cache", "new-cache"))
    long_ago = time.time() - (kept_programs.DAYS_KEPT + 1) * 24 * 3600
    for path, read in ((old, long_ago), (used, time.time()), (new, time.time())):
        path.write_bytes(b"")
        os.utime(path, (read, long_ago if path != new else time.time()))
    kept_programs.drop_old(tmp_path)
    assert sorted((tmp_path / "machine").iterdir()) == [new, used]


def test_the_variable_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv(kept_programs.VARIABLE, str(tmp_path))
    assert kept_programs.directory_of_tests(None) == tmp_path
    monkeypatch.setenv(kept_programs.VARIABLE, "")
    assert kept_programs.directory_of_tests(tmp_path) is None
    monkeypatch.delenv(kept_programs.VARIABLE)
    assert kept_programs.directory_of_tests(tmp_path) == tmp_path
