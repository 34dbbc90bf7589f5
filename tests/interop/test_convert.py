"""PyTorch's weights to a checkpoint and back, through the command."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxrnn import convert
from jaxrnn.data.ragged import Ragged
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.weight_files import read_state_dict, write_state_dict

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "tutorial_rnn.json").read_text())
WEIGHTS = {name: np.array(values, np.float32) for name, values in GOLDEN["weights"].items()}
CASES = Ragged.from_rows([case["positions"] for case in GOLDEN["cases"]])


def weights_of(gates: int, hidden: int = 4, *, layers: int = 1, proj: int = 0, bias: bool = True, **extra):
    generator = np.random.default_rng(0)
    shapes = {}
    for layer in range(layers):
        shapes[f"net.weight_ih_l{layer}"] = (gates * hidden, 1 if layer == 0 else proj or hidden)
        shapes[f"net.weight_hh_l{layer}"] = (gates * hidden, proj or hidden)
        if bias:
            shapes |= {f"net.bias_{kind}_l{layer}": (gates * hidden,) for kind in ("ih", "hh")}
        if proj:
            shapes[f"net.weight_hr_l{layer}"] = (proj, hidden)
    shapes |= {"out.weight": (1, proj or hidden), "out.bias": (1,)} | extra
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".pt.gz"])
def test_the_tutorials_weights_predict_what_it_published(suffix, tmp_path, capsys):
    source = tmp_path / f"model{suffix}"
    if suffix.startswith(".pt"):
        torch = pytest.importorskip("torch")
        opened = gzip.open if suffix.endswith(".gz") else open
        source = tmp_path / "model.pt"  # the tutorial's own files are gzipped and named so
        with opened(source, "wb") as file:
            torch.save({name: torch.from_numpy(array) for name, array in WEIGHTS.items()}, file)
    else:
        write_state_dict(source, WEIGHTS)
    assert convert.main([str(source), f"--out={tmp_path / 'run'}", "--scale=50"]) == 0
    assert "cell rnn, hidden_size 8" in capsys.readouterr().out
    predicted = TrainedModel.load(tmp_path / "run").predict(CASES)[:, 0]
    np.testing.assert_allclose(predicted, GOLDEN["published"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("gates", "options", "cell"),
    [
        (1, {}, "rnn"),
        (4, {"layers": 2}, "lstm"),
        (4, {"proj": 2, "layers": 2}, "lstm"),
        (3, {"bias": False}, "gru"),
    ],
    ids=["rnn", "lstm", "lstm-proj", "gru-without-bias"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_there_and_back_is_bitwise_the_same(gates, options, cell, suffix, tmp_path):
    weights = weights_of(gates, **options)
    write_state_dict(tmp_path / f"in{suffix}", weights)
    assert convert.main([str(tmp_path / f"in{suffix}"), f"--out={tmp_path / 'run'}"]) == 0
    model = TrainedModel.load(tmp_path / "run").config.model
    assert (model.cell, model.num_layers, model.proj_size) == (cell, options.get("layers", 1), options.get("proj", 0))
    assert convert.main([str(tmp_path / "run"), f"--out={tmp_path / f'out{suffix}'}"]) == 0
    back = read_state_dict(tmp_path / f"out{suffix}")
    renamed = {name.replace("net.", "rnn.").replace("out.", "linear."): array for name, array in weights.items()}
    assert sorted(back) == sorted(renamed)
    for name, array in renamed.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_torch_takes_the_file_back_strictly(tmp_path):
    torch = pytest.importorskip("torch")
    write_state_dict(tmp_path / "in.npz", weights_of(4, layers=2))
    assert convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'run'}"]) == 0
    assert convert.main([str(tmp_path / "run"), f"--out={tmp_path / 'out.pt'}"]) == 0
    module = torch.nn.ModuleDict(
        {"rnn": torch.nn.LSTM(1, 4, num_layers=2, batch_first=True), "linear": torch.nn.Linear(4, 1)}
    )
    module.load_state_dict(torch.load(tmp_path / "out.pt", weights_only=True), strict=True)
    rows = Ragged.from_rows([[0.5, -1.0, 2.0]])
    with torch.no_grad():
        outputs, _ = module["rnn"](torch.tensor([[[0.5], [-1.0], [2.0]]]))
        expected = module["linear"](outputs[:, -1]).item()
    np.testing.assert_allclose(TrainedModel.load(tmp_path / "run").predict(rows)[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": (3, 3)}, "got keys a; expected the weights of one"),
        (weights_of(4) | weights_of(3) | {"second.weight_ih_l0": np.ones((4, 1))}, "recurrent layers net., second."),
        (weights_of(4, **{"net.weight_ih_l0_reverse": (16, 1)}), "got a bidirectional layer"),
        (weights_of(2), "weight_ih_l0 has 8 rows for 4 hidden units"),
        (weights_of(4, **{"net.weight_ih_l0": (16, 3)}), "got input_size 3; expected 1"),
        (weights_of(4, **{"out.weight": (2, 4)}), r"expected a Linear's weight \(1, 4\)"),
        (weights_of(4, **{"norm.scale": (4,)}), "unexpected keys: norm.scale"),
        (weights_of(4, **{"net.bias_hh_l0": (15,)}), r"rnn.bias_hh_l0: got shape \(15,\); expected \(16,\)"),
    ],
    ids=["no-layer", "two-layers", "bidirectional", "gates", "features", "head", "unexpected", "misshapen"],
)
def test_other_weights_are_refused(weights, message, tmp_path, capsys):
    arrays = {name: np.zeros(v, np.float32) if isinstance(v, tuple) else v for name, v in weights.items()}
    write_state_dict(tmp_path / "in.npz", arrays)
    assert convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists(), "nothing is written"


def test_a_pickle_is_never_run(tmp_path, capsys):
    pytest.importorskip("torch")
    import pickle

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trapped",))

    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap()))
    assert convert.main([str(tmp_path / "model.pt"), f"--out={tmp_path / 'run'}"]) == 2
    assert "weights_only=True" in capsys.readouterr().err
    np.savez(tmp_path / "objects.npz", a=np.array([Trap()], dtype=object))
    assert convert.main([str(tmp_path / "objects.npz"), f"--out={tmp_path / 'run'}"]) == 2
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("name", ["missing.pt", "damaged.safetensors", "damaged.npz"])
def test_files_that_cannot_be_read_are_named(name, tmp_path, capsys):
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really" if name.endswith("npz") else b"\xff" * 40)
    assert convert.main([str(tmp_path / name), f"--out={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert "Traceback" not in error


def test_nothing_is_overwritten(tmp_path, capsys):
    write_state_dict(tmp_path / "in.npz", WEIGHTS)
    for _ in range(2):
        code = convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'run'}", "--scale=50"])
    assert code == 2
    assert "never overwritten" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "run"), f"--out={tmp_path / 'in.npz'}"]) == 2


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected a name that ends in"):
        write_state_dict(tmp_path / "model.bin", WEIGHTS)


@pytest.mark.parametrize(
    ("weights", "flags", "message"),
    [
        (WEIGHTS, ["--scale=0"], r"--offset, --scale: got 0.0, 0.0; expected finite numbers, --scale not 0"),
        (WEIGHTS, ["--offset=nan"], "--offset, --scale: got nan"),
        (weights_of(4), ["--nonlinearity=relu"], "--nonlinearity: got relu; expected none: .* holds a lstm"),
        (WEIGHTS | {"linear.bias": np.array([np.nan], np.float32)}, [], "linear.bias: got NaN or infinite numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(weights, flags, message, tmp_path, capsys):
    write_state_dict(tmp_path / "in.npz", weights)
    assert convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'run'}", *flags]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_the_way_back_takes_no_settings_and_files_become_no_files(tmp_path, capsys):
    write_state_dict(tmp_path / "in.npz", WEIGHTS)
    assert convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'other.npz'}"]) == 2
    assert "expected a directory" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "in.npz"), f"--out={tmp_path / 'run'}"]) == 0
    assert "nonlinearity: tanh, torch.nn.RNN's default" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "run"), f"--out={tmp_path / 'out.npz'}", "--scale=3"]) == 2
    assert "--scale: is for files of weights" in capsys.readouterr().err


def test_what_is_printed_rebuilds_the_layer(tmp_path, capsys):
    """The constructor that the way back prints takes the weights, and computes the same."""
    torch = pytest.importorskip("torch")
    cases = [
        (1, {"bias": False}, ["--nonlinearity=relu"]),
        (4, {"proj": 2, "layers": 2, "bias": False}, []),
        (3, {}, []),
    ]
    for number, (gates, options, flags) in enumerate(cases):
        source, run, out = (tmp_path / f"{number}{end}" for end in (".npz", "", ".pt"))
        write_state_dict(source, weights_of(gates, **options))
        assert convert.main([str(source), f"--out={run}", *flags]) == 0
        capsys.readouterr()
        assert convert.main([str(run), f"--out={out}"]) == 0
        layer, head = re.search(
            r"rnn = torch.nn.(.*\)) and linear = torch.nn.(.*?\)),", capsys.readouterr().out
        ).groups()
        built = [eval(f"nn.{call}", {"nn": torch.nn}) for call in (layer, head)]
        module = torch.nn.ModuleDict(dict(zip(("rnn", "linear"), built, strict=True)))
        module.load_state_dict(torch.load(out, weights_only=True), strict=True)
        with torch.no_grad():
            outputs, _ = module["rnn"](torch.tensor([[[0.5], [-1.0], [2.0]]]))
            expected = module["linear"](outputs[:, -1]).item()
        predicted = TrainedModel.load(run).predict(Ragged.from_rows([[0.5, -1.0, 2.0]]))[0, 0]
        np.testing.assert_allclose(predicted, expected, rtol=1e-5)
