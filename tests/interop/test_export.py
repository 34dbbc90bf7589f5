"""The export command: from a run to a file that others run, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
from made_models import make_model
from small_runs import call, step_of, write_rows
from step_tables import ASKED, COLUMNS, write_steps

from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.interop.exporting.onnx_model import OnnxRunner
from jaxrnn.interop.exporting.stablehlo import StableHloRunner
from jaxrnn.interop.weight_files import read_state_dict

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that classifies tables of steps, one of three members that predicts next values, and one that forecasts."""
    folder = tmp_path_factory.mktemp("runs")
    steps, rows = write_steps(folder / "steps.csv", 60), write_rows(folder / "rows.csv")
    small = ["--config=smoke", "--cell=lstm", "--hidden-size=4", "--epochs=2", "--schedule=constant", "--batching=pad"]
    for name, flags in {
        "classify": [f"--data={steps}", *COLUMNS, *ASKED["classify"], "--bidirectional"],
        "three": [f"--data={rows}", "--ensemble=3"],
    }.items():
        done = call("train", *small, *flags, f"--run-dir={folder / name}")
        assert done.code == 0, done.err
    return folder


def table_of(path) -> dict[str, list[dict[str, str]]]:
    """Reads a table of steps by hand: the steps of each unit."""
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    units: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        step = dict(zip(header, line, strict=True))
        units.setdefault(step["unit"], []).append(step)
    return units


@pytest.mark.slow
def test_what_onnxruntime_makes_of_a_file_is_what_predict_prints(runs, tmp_path):
    out, table = tmp_path / "model.onnx", write_steps(tmp_path / "new.csv", 12, first=500, seed=3)
    done = call("export", f"--checkpoint={runs / 'classify'}", "--format=onnx", f"--out={out}")
    assert done.code == 0, done.err
    assert (
        "inputs: inputs float64 (batch, time, 2) of speed, load; categories text (batch, time, 1) of gear" in done.out
    )
    assert "outputs: probabilities float64 (batch, 2) of left, right; class text (batch)" in done.out
    difference = re.search(r"checked on 8 random sequences: it differs .* by (\S+) at most", done.out)[1]
    assert float(difference) < 1e-5
    units = table_of(table)
    most = max(map(len, units.values()))
    inputs, gears = np.zeros((len(units), most, 2)), np.full((len(units), most, 1), "", object)
    for row, unit in enumerate(units.values()):
        inputs[row, : len(unit)] = [[float(step["speed"]), float(step["load"])] for step in unit]
        gears[row, : len(unit)] = [[step["gear"]] for step in unit]
    found = OnnxRunner(out.read_bytes())(
        {
            "inputs": inputs,
            "categories": gears,
            "statics": np.array([[float(unit[0]["mass"])] for unit in units.values()]),
            "lengths": np.array(list(map(len, units.values()))),
        }
    )
    printed = call("predict", f"--checkpoint={runs / 'classify'}", "--probabilities", table).out.splitlines()
    assert printed[0] == "id,class,p_left,p_right"
    for line, told, (left, right) in zip(printed[1:], found["class"], found["probabilities"], strict=True):
        _, name, *probabilities = line.split(",")
        assert name == told
        np.testing.assert_allclose([left, right], list(map(float, probabilities)), rtol=0, atol=1e-6)


def test_codes_in_place_of_texts(runs, tmp_path):
    done = call(
        "export", f"--checkpoint={runs / 'classify'}", "--format=onnx", f"--out={tmp_path / 'm.onnx'}", "--codes"
    )
    assert done.code == 0, done.err
    assert "categories int64 (batch, time, 1) of gear" in done.out
    assert "class_code int64 (batch)" in done.out


def test_stablehlo_writes_what_it_takes_beside_it(runs, tmp_path):
    out = tmp_path / "model.stablehlo"
    done = call("export", f"--checkpoint={runs / 'three'}", "--format=stablehlo", f"--out={out}")
    assert done.code == 0, done.err
    said = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert [port["name"] for port in said["inputs"]] == ["values", "lengths"]
    values = np.array([[1.0, 3, 5, 7], [9, 7, 0, 0]])
    found = StableHloRunner(out.read_bytes())({"values": values, "lengths": np.array([4, 2])})["predicted"]
    expected = TrainedModel.load(runs / "three").predict([[1.0, 3, 5, 7], [9.0, 7]])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_member_of_an_ensemble(runs, tmp_path):
    out, model = tmp_path / "one.onnx", TrainedModel.load(runs / "three")
    assert call("export", f"--checkpoint={runs / 'three'}", "--format=onnx", f"--out={out}", "--member=1").code == 0
    found = OnnxRunner(out.read_bytes())({"values": np.array([[1.0, 3, 5]]), "lengths": np.array([3])})["predicted"]
    np.testing.assert_allclose(found, model.member(1).predict([[1.0, 3, 5]]), rtol=1e-5)
    assert abs(found - model.predict([[1.0, 3, 5]])) > 1e-4


def test_torch_takes_the_weights_of_any_task(runs, tmp_path):
    out = tmp_path / "model.npz"
    done = call("export", f"--checkpoint={runs / 'classify'}", "--format=torch", f"--out={out}")
    assert done.code == 0, done.err
    weights = read_state_dict(out)
    assert {"embeddings.0.weight", "linear.weight", "rnn.weight_hh_l0_reverse"} <= set(weights)
    said = json.loads((tmp_path / "model.npz.json").read_text())
    assert said["network"]["cell"] == "lstm"
    assert said["encoding"]["inputs"]["names"] == ["speed", "load"]
    layer = r"torch.nn.LSTM\(\d+, 4, bidirectional=True, batch_first=True\)"
    parts = rf"embeddings.0 = torch.nn.Embedding\(\d+, \d+\), rnn = {layer} and linear = torch.nn.Linear\(8, 2\)$"
    assert re.search(parts, done.out.strip())
    assert call("convert", runs / "classify", f"--out={tmp_path / 'same.npz'}").code == 0
    same = read_state_dict(tmp_path / "same.npz")
    assert all(np.array_equal(weights[name], same[name]) for name in weights)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=onnx", "--member=0"], "--member: got 0; expected none: .* holds one model"),
        (["--format=stablehlo", "--codes"], "--codes: is for --format=onnx"),
        (["--format=torch", "--codes"], "--codes: is for --format=onnx"),
        (["--format=onx"], "--format: got 'onx'"),
        (["--format=onnx", "--tolerance=0"], "tolerance"),
        (["--format=onnx", "--tolerance=1e-30"], "differs from the model's own predictions by .*nothing is written"),
        (["--format=torch", "--out=DIR/model.bin"], "expected a name that ends in"),
        (["--format=onnx", "--out=DIR/none/model.onnx"], "no such directory"),
        (["--format=onnx", "--checkpoint=DIR/nothing"], "no such directory; expected a run directory"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(runs, tmp_path, flags, message):
    given = [f"--checkpoint={runs / 'classify'}", f"--out={tmp_path / 'model.onnx'}", *flags]
    last = {flag.partition("=")[0]: flag.replace("DIR", str(tmp_path)) for flag in given}
    done = call("export", *last.values())
    assert done.code == 2
    assert re.search(message, done.err), done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["onnx", "stablehlo", "torch"])
def test_nothing_is_overwritten(runs, tmp_path, format):
    names = {"onnx": "a.onnx", "stablehlo": "a.stablehlo.json", "torch": "a.npz.json"}
    (tmp_path / names[format]).write_text("mine")
    out = tmp_path / names[format].removesuffix(".json")
    done = call("export", f"--checkpoint={runs / 'classify'}", f"--format={format}", f"--out={out}")
    assert done.code == 2
    assert f"{names[format]} is there already and is never overwritten" in done.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_damaged_checkpoint_is_named(runs, tmp_path):
    shutil.copytree(runs / "classify", tmp_path / "damaged")
    for step in (tmp_path / "damaged" / "checkpoints").iterdir():
        for path in step.rglob("*"):
            if path.is_file() and path.stat().st_size > 200:
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)
    step = step_of(tmp_path / "damaged", -1)
    done = call("export", f"--checkpoint={step}", "--format=onnx", f"--out={tmp_path / 'model.onnx'}")
    assert done.code == 2, done.err
    assert not (tmp_path / "model.onnx").exists()


def test_what_onnx_has_no_operator_for_is_refused_by_name(tmp_path):
    make_model({"hidden_size": 4, "proj_size": 2}).save(tmp_path / "projected")
    flags = [f"--checkpoint={tmp_path / 'projected'}", f"--out={tmp_path / 'model'}"]
    done = call("export", "--format=onnx", *flags)
    assert done.code == 2
    assert "got a model with proj_size = 2" in done.err
    assert call("export", "--format=stablehlo", *flags).code == 0


def test_without_onnxruntime_it_says_that_nothing_was_checked(runs, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "model.onnx"
    done = call("export", f"--checkpoint={runs / 'three'}", "--format=onnx", f"--out={out}")
    assert done.code == 0, done.err
    assert "not checked, since onnxruntime is missing: python -m pip install onnxruntime" in done.out
    assert out.exists()
