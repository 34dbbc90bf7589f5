"""The module of docs/deploying.md computes in PyTorch what the models of sequences predict."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_models import make_model
from small_runs import call

from jaxrnn.interop.exporting import samples

torch = pytest.importorskip("torch")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
LENGTHS = np.array([8, 1, 5, 3, 2, 7, 4, 6])


@pytest.fixture(scope="module")
def module_class():
    """The class, as it stands on the page."""
    block = next(code for code in re.findall(r"```python torch\n(.*?)```", PAGE, re.DOTALL) if "class " in code)
    namespace: dict = {}
    exec(block[: block.index("\n\n\nsaid = ")], namespace)
    return namespace["SequenceModel"]


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "classify", "cell": "lstm", "num_layers": 2, "bidirectional": True},
        {"task": "classify", "cell": "rnn", "nonlinearity": "relu", "readout": "max", "bidirectional": True},
        {"task": "regress", "cell": "gru", "readout": "mean", "bias": False},
        {"task": "tag", "cell": "gru", "bidirectional": True},
        {"task": "next", "cell": "lstm", "proj_size": 2, "target_columns": "y0"},
    ],
    ids=lambda settings: settings["task"],
)
def test_torch_predicts_the_same(settings, module_class, tmp_path):
    model = make_model({"hidden_size": 4, **settings}, categories=(2, 3), targets=2)
    model.save(tmp_path / "run")
    out = tmp_path / "model.pt"
    assert call("export", f"--checkpoint={tmp_path / 'run'}", "--format=torch", f"--out={out}").code == 0
    built = module_class(torch.load(out, weights_only=True), json.loads(Path(f"{out}.json").read_text()))
    rows = samples.draw_rows(model, LENGTHS, np.random.default_rng(0))
    feeds = samples.feeds_of(model, rows, codes=True)
    with torch.no_grad():
        found = built(*(torch.tensor(feeds[name]) for name in ("inputs", "categories", "statics", "lengths")))
    expected = samples.predictions_of(model, rows)
    assert samples.greatest_difference(model, expected, found.numpy(), LENGTHS) < 1e-5


def test_the_weights_of_a_forecast_are_written_too(tmp_path):
    model = make_model({"task": "forecast", "horizon": 2, "hidden_size": 4}, categories=(2,))
    model.save(tmp_path / "run")
    out = tmp_path / "model.pt"
    assert call("export", f"--checkpoint={tmp_path / 'run'}", "--format=torch", f"--out={out}").code == 0
    weights = torch.load(out, weights_only=True)
    assert weights["linear.weight"].shape == (2, 4)
    assert json.loads(Path(f"{out}.json").read_text())["encoding"]["horizon"] == 2
