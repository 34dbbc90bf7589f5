"""What type checkers see of the package, and what importing its layers brings along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINERS_PACKAGES = ["grain", "matplotlib", "optax", "orbax", "pyarrow", "rich", "tensorboardX", "tyro"]
DOORS = ["LSTM", "GRU", "RNN", "RecurrentLayer", "LSTMCell", "Equation", "LSTMState", "load_torch_state_dict"]


@pytest.mark.slow
def test_a_users_file_passes_mypy_and_its_mistakes_do_not(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    options = ["--config-file=", "--strict", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(repository / "tests" / "typing" / "user_file.py")],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_says_that_the_package_is_typed(repository: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    files = {file.distribution_path for file in wheel.WheelBuilder(str(repository)).recurse_included_files()}
    assert {"jaxrnn/py.typed", "jaxrnn/nn/layers.py"} <= files


@pytest.mark.slow
def test_importing_the_layers_imports_none_of_the_trainers_packages() -> None:
    # Flax imports some of them itself: those that are there before are not ours.
    code = f"""
import json, sys
import flax.nnx
before = set(sys.modules)
import jaxrnn
for name in {DOORS}:
    getattr(jaxrnn, name)
layer = jaxrnn.LSTM(2, 3, rngs=flax.nnx.Rngs(0))
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
print(json.dumps(sorted(name for name in sys.modules if name.startswith("jaxrnn."))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packages, own = map(json.loads, done.stdout.splitlines())
    assert "jaxrnn" in packages
    assert not set(packages) & set(TRAINERS_PACKAGES)
    assert not [name for name in own if name.split(".")[1] not in ("nn", "foundation", "interop")]
