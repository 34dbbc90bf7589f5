"""What a device cannot hold is refused before it is made; what was seen too late is an error of one line."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from small_runs import call

from jaxrnn.console import command_line
from jaxrnn.foundation.errors import UserError
from jaxrnn.parallel import device_memory


@pytest.mark.parametrize(
    ("flag", "limit"),
    [("--hidden-size=46000", 5_000_000_000), ("--num-layers=3", 5_000)],
)  # fmt: skip
def test_models_beyond_the_memory_are_refused_before_anything_is_made(flag, limit, small_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "device_bytes", lambda device: limit)
    for more in ([], ["--dry-run"]):
        done = call("train", "--config=smoke", f"--data={small_rows}", f"--run-dir={tmp_path / 'run'}", flag, *more)
        assert done.code == 2
        assert done.err.startswith("error: hidden_size = ")
        assert "optimiser state: got " in done.err
        assert "; expected at most " in done.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [1_000_000, 2_147_483_647])
def test_sizes_that_no_array_can_have_are_refused(size, small_rows, tmp_path):
    done = call("train", "--config=smoke", f"--data={small_rows}", f"--run-dir={tmp_path}", f"--hidden-size={size}")
    assert done.code == 2
    assert done.err.startswith(f"error: hidden_size = {size}, num_layers = 1: weight_hh_l0: got {size * size} elements")


@pytest.mark.slow
def test_the_plan_of_the_compiled_epochs_is_held_against_the_memory(small_rows, tmp_path, monkeypatch):
    flags = ["--config=smoke", f"--data={small_rows}", "--hidden-size=4"]
    monkeypatch.setattr(device_memory, "device_bytes", lambda device: 2_000)  # the model fits, its epochs do not
    done = call("train", *flags, f"--run-dir={tmp_path / 'run'}")
    assert done.code == 2
    assert "error: training, as XLA has planned it: got " in done.err
    assert "use a smaller --batch-size" in done.err
    monkeypatch.setattr(device_memory, "device_bytes", lambda device: None)
    assert call("train", *flags, f"--run-dir={tmp_path / 'other'}", "--epochs=1").code == 0


def test_a_cpu_has_the_memory_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("a CPU's")
    monkeypatch.setattr(device_memory, "_CONTAINER_LIMITS", ())
    machine = device_memory.device_bytes()
    assert 2**28 < machine < 2**50
    for content, expected in (("max\n", machine), (f"{2**62}\n", machine), ("1048576\n", 1048576)):
        limit = tmp_path / "limit"
        limit.write_text(content)
        monkeypatch.setattr(device_memory, "_CONTAINER_LIMITS", (tmp_path / "missing", limit))
        assert device_memory.device_bytes() == expected
    shapes = {"a": jax.ShapeDtypeStruct((3, 5), np.float32), "b": jax.ShapeDtypeStruct((), np.int16)}
    assert device_memory.tree_bytes(shapes) == 62
    with pytest.raises(UserError, match=r"it: got 2.1 MB; expected at most 1.0 MB, the memory of this machine; do"):
        device_memory.require_memory(2_100_000, "it", "do")


class Accelerator(NamedTuple):
    """What is asked of a device."""

    stats: Any
    process_index: int = 0
    platform: str = "tpu"

    def memory_stats(self):
        if isinstance(self.stats, Exception):
            raise self.stats
        return self.stats


def test_accelerators_share_what_they_are_asked_to_hold():
    one = Accelerator({"bytes_limit": 1_000})
    device_memory.require_memory(1_000, "it", "do", devices=[one])
    with pytest.raises(UserError, match=r"it: got 1.5 kB; expected at most 1.0 kB, the memory of a device; do"):
        device_memory.require_memory(1_500, "it", "do", devices=[one])
    another_process = Accelerator(jax.errors.JaxRuntimeError("only for addressable devices"), process_index=1)
    device_memory.require_memory(1_500, "it", "do", devices=[another_process, one])
    with pytest.raises(UserError, match=r"it: got 2.5 kB; expected at most 2.0 kB, the memory of 2 devices; do"):
        device_memory.require_memory(2_500, "it", "do", devices=[another_process, one])


@pytest.mark.parametrize("stats", [None, {}, jax.errors.JaxRuntimeError("only for addressable devices")])
def test_a_device_whose_memory_is_not_known_may_hold_anything(stats):
    device_memory.require_memory(10**18, "it", "do", devices=[Accelerator(stats)])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: x"),
                                   RuntimeError("INTERNAL: Out of memory allocating 7 bytes.\nmore")])  # fmt: skip
def test_running_out_of_memory_is_no_bug(error, capsys):
    def body():
        raise error

    assert command_line.run(body) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory: ")
    assert said.count("\n") == 1


def test_another_error_of_the_runtime_is_one():
    def body():
        raise RuntimeError("INTERNAL: something else")

    with pytest.raises(RuntimeError, match="something else"):
        command_line.run(body)
