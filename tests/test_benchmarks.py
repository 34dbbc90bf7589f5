"""That what is under benchmarks/ still starts: no other test notices when the package changes under it."""

import importlib
import subprocess
import sys

import jax
import pytest

from benchmarks import kernel_rates, sanitize
from hatch_build import VARIANTS

pytestmark = pytest.mark.slow
COMMANDS = sorted(
    path.stem
    for path in kernel_rates.SOURCE.parent.glob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_how_it_is_used(name, monkeypatch, capsys):
    try:
        module = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("jaxrnn", "benchmarks"):
            raise
        pytest.skip(f"{error.name} is not installed")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="one machine is enough")
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_rates_of_the_kernels_compile(variant):
    """They call what the kernels hide from everybody else."""
    if (compiler := sanitize.find_compiler()) is None:
        pytest.skip("there is no C++ compiler here")
    command = [*kernel_rates.compile_command(compiler, variant), "-fsyntax-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
