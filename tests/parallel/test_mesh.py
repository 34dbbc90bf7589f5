"""Weights shared along the model axis of a mesh: the same numbers, fewer bytes a device, and what is refused."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked
from processes import environment_of, wait

from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.config import Config, MeshSizes

REPOSITORY = Path(__file__).resolve().parents[2]

# Trains for some epochs on one device and on meshes; compares all figures. Settings and their meshes are given in turn.
PROGRAM = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from jaxrnn.runs.checkpoint import named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.data.ragged import Ragged
from jaxrnn.parallel.devices import to_host
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.parallel.state_sharding import place_state

def read(settings):
    values = dict(pair.split("=") for pair in settings.split())
    return {key: int(value) if value.isdigit() else float(value) if value[0] == "0" else value
            for key, value in values.items()}

generator = np.random.default_rng(0)
rows = Ragged.from_rows([start / 50 + generator.integers(1, 5) * np.arange(generator.integers(3, 12))
                         for start in range(160)])

def compare(values, meshes):
    results = {}
    for mesh in ("", *meshes):
        config = Config().replace_flat({"hidden_size": 16, "epochs": 25, "batch_size": 50, "devices": 0 if mesh else 1,
                                        "backend": "scan", "mesh": mesh, **values})
        data = MemorySource(config, rows)
        trainer = build_trainer(config, data)
        state = place_state(trainer.initial_state(), data.plan.mesh)
        whole, held = 0, 0
        for name, leaf in named_leaves({"params": state.params, "opt": state.opt_state}).items():
            if "weight" in name or "bias_" in name:
                whole += leaf.nbytes
                held += leaf.addressable_shards[0].data.nbytes
        assert held * (1 if not mesh else int(mesh[-1])) == whole, (mesh, held, whole)
        state, history = data.run_epochs(trainer, state, np.int32(25))
        for name, leaf in named_leaves(state.params).items():
            if "weight_hh" in name and mesh:
                assert leaf.addressable_shards[0].data.nbytes * int(mesh[-1]) == leaf.nbytes, "after training as before"
        figures = to_host((history.training, history.validation))
        results[mesh] = [figure[:25] for part in figures for figure in part.values()]
    for mesh, figures in results.items():
        for one, shared in zip(results[""], figures, strict=True):
            np.testing.assert_allclose(shared, one, rtol=2e-3, atol=1e-4, err_msg=mesh)
for settings, meshes in zip(sys.argv[1::2], sys.argv[2::2]):
    compare(read(settings), meshes.split())
    print("the same:", settings, flush=True)
"""


WIDE, DEEP = "data:2,model:2", "data:1,model:4"
SETTINGS = {
    "cell=rnn nonlinearity=relu clip_norm=1": f"{WIDE} {DEEP}",
    "cell=lstm num_layers=2 dropout=0.3 target=every batching=pack": WIDE,
    "cell=lstm proj_size=8 tbptt=4 target=every": DEEP,
    "cell=gru remat_steps=3": WIDE,
}


@pytest.mark.slow
def test_meshes_train_what_one_device_trains_with_fewer_bytes_each(tmp_path):
    asked = itertools.chain(*SETTINGS.items())
    (done,) = wait([Forked(PROGRAM, *asked, cwd=tmp_path, environment=environment_of(tmp_path))])
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines() == [f"the same: {settings}" for settings in SETTINGS]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("data:4,model:2", (4, 2)),
        ("model:2,data:4", (4, 2)),
        ("model:8", (1, 8)),
        ("data:3", (3, 1)),
        ("data:4, model:2", (4, 2)),
    ],
)
def test_a_mesh_is_read(text, sizes):
    assert MeshSizes.parse(text) == sizes
    assert MeshSizes.parse(str(MeshSizes.parse(text))) == sizes


@pytest.mark.parametrize("text", ["data", "data:0", "data:-1", "data:2,data:2", "rows:2", "data:2,", "2,2", "data:2:2"])
def test_what_is_no_mesh_is_refused(text):
    with pytest.raises(UserError, match=r"^mesh: got .*; expected data:N,model:M, both 1 or more$"):
        Config().replace_flat({"mesh": text})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"devices": 4}, "devices = 4 in all, or no number of devices"),
        ({"ensemble": 2}, "none with ensemble = 2"),
        ({"hidden_size": 9}, "a model axis that divides hidden_size = 9"),
        ({"proj_size": 5, "cell": "lstm"}, "a model axis that divides proj_size = 5"),
    ],
)
def test_what_does_not_fit_a_mesh(settings, expected):
    with pytest.raises(UserError, match=f"^mesh: got 'data:1,model:2'; expected {expected}$"):
        Config().replace_flat({"mesh": "data:1,model:2", **settings})
    assert Config().replace_flat({"mesh": "data:2,model:2", "devices": 4}).training.num_devices == 4


@pytest.mark.slow
def test_more_devices_than_there_are(tmp_path):
    code = "import jax, sys; jax.devices(); from jaxrnn import train; sys.exit(train.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--mesh=data:1,model:2", f"--data={REPOSITORY / 'ball.csv'}", "--run-dir=run"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: --mesh: got data:1,model:2, 2 devices; expected at most 1, what JAX has here" in done.stderr
    assert not (tmp_path / "run").exists()
