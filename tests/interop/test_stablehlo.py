"""Models as StableHLO: run where this package cannot be imported, they predict what the models do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from made_models import draw_settings, make_model

from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.exporting import checking, samples
from jaxrnn.interop.exporting.signature import signature_of
from jaxrnn.interop.exporting.stablehlo import StableHloRunner, to_stablehlo

LENGTHS = np.array([1, 2, 3, 4, 5, 6, 7, 8])
MODELS = {
    "next": ({"cell": "lstm", "proj_size": 2}, {}),
    "next-of-several": ({"cell": "gru", "target_columns": "y0"}, {"targets": 2}),
    "classify": (
        {"task": "classify", "cell": "lstm", "bidirectional": True, "readout": "max", "ensemble": 2, "missing": "mask"},
        {"categories": (2, 3)},
    ),
    "regress": ({"task": "regress", "cell": "gru", "readout": "mean", "num_layers": 2}, {"statics": 2}),
    "tag": ({"task": "tag", "cell": "rnn", "bidirectional": True}, {}),
    "forecast": (
        {"task": "forecast", "cell": "gru", "loss": "pinball", "horizon": 3, "season": 7, "calendar": "week,dayofyear",
         "missing": "mask"},
        {"known": 1, "targets": 2},
    ),
    "forecast-log": (
        {"task": "forecast", "cell": "rnn", "loss": "mse", "horizon": 2, "season": 1, "transform": "log",
         "scaling": "global"},
        {"inputs": 0, "categories": ()},
    ),
}  # fmt: skip
PROGRAM = """
import pathlib, sys
sys.modules["jaxrnn"] = None  # whoever imports it fails
import jax, jax.export, numpy as np
jax.config.update("jax_enable_x64", True)
for file in sorted(pathlib.Path(".").glob("*.stablehlo")):
    with np.load(file.with_suffix(".npz")) as arrays:
        feeds = dict(arrays)
    found = jax.export.deserialize(file.read_bytes()).call(feeds)
    np.savez(file.with_suffix(".found.npz"), **found)
assert not [name for name in sys.modules if name.startswith("jaxrnn.")]
try:
    import jaxrnn
except ImportError:
    print("done")
"""


def model_of(name: str):
    settings, columns = MODELS[name]
    return make_model({"hidden_size": 4, **settings}, **columns)


def test_the_package_that_writes_programs_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(UserError, match="pip install flatbuffers"):
        to_stablehlo(model_of("next"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Path:
    """Exports every model, and runs all of them in one process that cannot import the package."""
    folder = tmp_path_factory.mktemp("programs")
    for name in MODELS:
        model = model_of(name)
        rows = samples.draw_rows(model, LENGTHS, np.random.default_rng(0))
        feeds = samples.feeds_of(model, rows, codes=True)
        feeds = checking.spoil_padding(feeds, signature_of(model, has_texts=False))
        (folder / f"{name}.stablehlo").write_bytes(to_stablehlo(model))
        np.savez(folder / f"{name}.npz", **feeds)
        np.save(folder / f"{name}.expected.npy", samples.predictions_of(model, rows))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_process_without_the_package_predicts_the_same(name, outcomes):
    model, expected = model_of(name), np.load(outcomes / f"{name}.expected.npy")
    with np.load(outcomes / f"{name}.found.npz") as found:
        given = signature_of(model, has_texts=False)
        assert sorted(found.files) == sorted(port.name for port in given.outputs)
        first = found[given.outputs[0].name]
        assert samples.greatest_difference(model, expected, first, LENGTHS) < 1e-5
        if "class_code" in found.files:
            np.testing.assert_array_equal(found["class_code"], first.argmax(axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["next", "forecast"])
def test_one_file_serves_all_platforms_and_sizes(name, outcomes):
    exported = jax.export.deserialize(bytearray((outcomes / f"{name}.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    shapes = " ".join(str(aval.shape) for aval in exported.in_avals)
    assert "batch" in shapes
    assert "time" in shapes
    assert "jaxrnn_" not in exported.mlir_module(), "no call of the compiled recurrence"


@pytest.mark.parametrize("lengths", [[3], [9, 1]])
def test_any_batch_and_time(lengths):
    model = model_of("classify")
    run = StableHloRunner(to_stablehlo(model))
    checking.check(model, run, codes=True, tolerance=1e-5, lengths=np.array(lengths))


def test_it_says_what_it_takes_in_types_of_json():
    said = json.loads(json.dumps(signature_of(model_of("forecast"), has_texts=False).to_json()))
    ports = {port["name"]: port for port in said["inputs"]}
    assert ports["categories"]["kind"] == "int64"
    assert ports["times"]["dims"] == ["batch", "time_ahead"]


def test_an_ensemble_of_bfloat16():
    model = make_model({"hidden_size": 4, "cell": "lstm", "compute_dtype": "bfloat16", "ensemble": 2})
    run = StableHloRunner(to_stablehlo(model))
    checking.check(model, run, codes=True, tolerance=1e-5, lengths=LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(100, 120))
def test_random_models_agree(number):
    settings, columns = draw_settings(np.random.default_rng(number))
    model = make_model(settings, seed=number, **columns)
    checking.check(model, StableHloRunner(to_stablehlo(model)), codes=True, tolerance=1e-5, seed=number)
