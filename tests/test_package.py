"""The files that are given away: they install, and run, where there is neither this repository nor a compiler."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from kept_programs import lent_to_children

from jaxrnn.nn.engine import kernel_library

COMPILERS = ("c++", "g++", "clang++")
TRAIN = ["--task=classify", "--data=gestures.csv", "--id-column=gesture", "--time-column=moment", "--label-column=kind"]
# What a user would do with it, in a process that sees the wheel's files and none of the repository's.
PROGRAM = """
import pathlib
import numpy as np, onnxruntime
import jaxrnn
from jaxrnn.nn.engine import cpu_kernels
assert pathlib.Path(jaxrnn.__file__).is_relative_to(pathlib.Path("installed").resolve()), jaxrnn.__file__
assert cpu_kernels.is_built()
session = onnxruntime.InferenceSession("model.onnx")
model = jaxrnn.load("run")
way = np.cumsum(np.ones((1, 15, 2)), axis=1)
names = {given.name: given for given in session.get_inputs()}
inputs = {name: np.array([15], given.type[7:-1]) if name == "lengths" else way for name, given in names.items()}
found = dict(zip([given.name for given in session.get_outputs()], session.run(None, inputs)))
expected = model.predict_proba([way[0]])
assert any(np.shape(values) == expected.shape and np.allclose(values, expected, atol=1e-5) for values in found.values())
print("the same")
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CXX")}
    done = subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_wheel_needs_no_compiler_and_no_repository(tmp_path):
    for package in ("build", "hatchling"):
        pytest.importorskip(package)
    pytest.importorskip("onnxruntime")
    if not kernel_library.find_libraries():
        pytest.skip("there is no compiler here, or no processor that the recurrence is compiled for")
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", str(REPOSITORY), str(clone), cwd=tmp_path)
    # The last -O counts. Optimised is what pip builds, by the same hook, wherever the package is installed.
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec {next(filter(shutil.which, COMPILERS))} "$@" -O0\n')
    compiler.chmod(0o755)
    # The wheel is built from the unpacked source distribution, so that this one has all that it takes.
    build = (sys.executable, "-m", "build", "--no-isolation", f"--outdir={tmp_path / 'dist'}")
    run(*build, cwd=clone, CXX=str(compiler))
    (wheel,), (source,) = (list((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    names = zipfile.ZipFile(wheel).namelist()
    libraries = [name for name in names if name.endswith(".so")]
    assert len(libraries) == 3
    assert "jaxrnn/data/readers/native/libplaintext.so" in libraries
    assert any("avx512" in name for name in libraries)
    assert {"jaxrnn/py.typed", "jaxrnn/configs/lstm.toml"} <= set(names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)
    with tarfile.open(source) as held:
        parts = {name.partition("/")[2] for name in held.getnames()}
    assert {"hatch_build.py", "ball.csv", "jaxrnn/nn/kernels/recurrence.cc", "tests/test_package.py"} <= parts
    assert "jaxrnn/data/readers/native/plain_text.cc" in parts
    assert not any(name.endswith(".so") for name in parts)

    place = tmp_path / "place"
    (place / "installed").mkdir(parents=True)
    zipfile.ZipFile(wheel).extractall(place / "installed")
    (place / "gestures.csv").write_bytes((REPOSITORY / "examples" / "data" / "gestures.csv").read_bytes())
    with lent_to_children(tmp_path / "programs") as of_programs:
        given = {"PYTHONPATH": "installed", "PATH": str(place), **of_programs}  # no compiler is found there
        run(sys.executable, "-m", "jaxrnn.train", *TRAIN, "--epochs=3", "--run-dir=run", cwd=place, **given)
        predict = ["--checkpoint=run", "gestures.csv"]
        assert run(sys.executable, "-m", "jaxrnn.predict", *predict, cwd=place, **given).startswith("id,class")
        export = ["--checkpoint=run", "--format=onnx", "--out=model.onnx"]
        run(sys.executable, "-m", "jaxrnn.export", *export, cwd=place, **given)
        assert run(sys.executable, "-c", PROGRAM, cwd=place, **given) == "the same\n"
