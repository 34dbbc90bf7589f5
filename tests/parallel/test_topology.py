"""A checkpoint written on some devices, processes or axes goes on on others, and is evaluated and predicts on one."""

import json
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from processes import environment_of, train_each, train_together, wait
from small_runs import arrays_of, call, write_rows
from test_distributed import assert_ended, flags_of, losses

# Processes, devices of each, flags.
TOPOLOGIES = {
    "1 device": (1, 1, ["--devices=1"]),
    "2 devices": (1, 2, ["--devices=2"]),
    "4 devices": (1, 4, ["--devices=4"]),
    "2 processes": (2, 1, ["--devices=2"]),
    "2 by 2": (1, 4, ["--mesh=data:2,model:2"]),
    "2 by 2 in 2 processes": (2, 2, ["--mesh=data:2,model:2"]),
    "1 by 2 in 2 processes": (2, 1, ["--mesh=data:1,model:2"]),
}
EPOCHS, STOP = 6, 3
pytestmark = pytest.mark.usefixtures("programs_kept")

# Restores a run's state on meshes that four devices can make, and compares every array with what is stored. Each run
# is restored on two of them: what is stored has one layout, whatever mesh wrote it.
MESHES = [{"devices": 1}, {"devices": 2}, {"devices": 3}, {"devices": 4}]
MESHES += [{"mesh": mesh} for mesh in ("data:2,model:2", "data:1,model:2", "data:1,model:4")]
RESTORE = """
import json, sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from pathlib import Path
from jaxrnn.runs.checkpoint import Checkpointer, named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.settings.toml_files import read_toml
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.parallel.devices import to_host
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position
from jaxrnn.parallel.state_sharding import state_shardings

def restore(run_dir, meshes):
    saved = Config().replace_flat(read_toml(run_dir / "config.toml")).replace_flat({"devices": 0, "mesh": ""})
    rows = load_rows(saved.data.data, saved.reader, min_length=2)
    with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
        step = checkpointer.newest_good()
        stored = checkpointer.restore(step, checkpointer.stored_arrays(step))
        for devices in meshes:
            config = saved.replace_flat(devices)
            data = MemorySource(config, rows)
            trainer = build_trainer(config, data)
            state = restore_position(trainer, checkpointer)[0].state
            if data.plan.mesh is not None:
                for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(state_shardings(state, data.plan.mesh))):
                    assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
            for name, leaf in named_leaves(to_host(state._asdict())).items():
                if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    leaf = jax.random.key_data(leaf)
                np.testing.assert_array_equal(leaf, stored[name], err_msg=name)
            print("restored", flush=True)

for run_dir, meshes in json.loads(sys.argv[1]).items():
    restore(Path(run_dir), meshes)
"""


def train_all(directory: Path, flags: dict[str, list[str]], more: list[list[str]] | None = None) -> dict[str, str]:
    """Trains on topologies: all that need one process in the same one. Returns what each run said."""
    alone = [topology for topology in flags if TOPOLOGIES[topology][0] == 1]
    runs = [*[[*flags[topology], *TOPOLOGIES[topology][2]] for topology in alone], *(more or [])]
    said = dict(zip(alone, train_each(runs, directory, devices=4), strict=False))
    for topology in flags.keys() - said.keys():
        number, devices, own = TOPOLOGIES[topology]
        ended = train_together(number, directory, *flags[topology], *own, devices=devices)
        assert_ended(ended)
        said[topology] = ended[0].err
    return said


def lstm_flags(directory: Path, run_dir: Path, epochs: int) -> list[str]:
    return [*flags_of(directory, run_dir, epochs), "--cell=lstm", "--num-layers=2", "--monitor=mae"]


@pytest.mark.slow
def test_runs_go_on_on_other_devices_and_processes(tmp_path):
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "few.csv").write_text("1,2,3\n5,3\n")
    whole, begun = tmp_path / "whole", {written: tmp_path / f"from {written}" for written in TOPOLOGIES}
    flags = {written: lstm_flags(tmp_path, run_dir, STOP) for written, run_dir in begun.items()}
    train_all(tmp_path, flags, [[*lstm_flags(tmp_path, whole, EPOCHS), "--devices=1"]])
    for written, run_dir in begun.items():
        saved = arrays_of(run_dir)
        assert saved["params/rnn/weight_hh_l0"][1] == (32, 8), f"PyTorch's layout, whatever the mesh: {written}"
        assert losses(run_dir) == pytest.approx(losses(whole)[: 2 * STOP], rel=1e-4), written
        assert_evaluated_and_predicting(run_dir, tmp_path / "few.csv")

    meshes = {str(run_dir): [MESHES[place % len(MESHES)], MESHES[(place + 4) % len(MESHES)]]
              for place, run_dir in enumerate(begun.values())}  # fmt: skip
    restored = wait([Forked(RESTORE, json.dumps(meshes), cwd=tmp_path, environment=environment_of(tmp_path))])[0]
    assert restored.code == 0, restored.err
    assert restored.out == "restored\n" * 2 * len(begun)

    # For real on another one; over all of them each is gone on from, and gone on to.
    others = dict(zip(TOPOLOGIES, [*TOPOLOGIES][3:] + [*TOPOLOGIES][:3], strict=True))
    flags = {others[written]: ["--resume", f"--run-dir={run_dir}", f"--epochs={EPOCHS}", unset(others[written])]
             for written, run_dir in begun.items()}  # fmt: skip
    said = train_all(tmp_path, flags)
    for written, run_dir in begun.items():
        assert f"going on after epoch {STOP}" in said[others[written]], written
        assert losses(run_dir) == pytest.approx(losses(whole), rel=1e-4), written


def assert_evaluated_and_predicting(run_dir: Path, few: Path) -> None:
    """Here, where there is one device."""
    for step in ("best", "latest"):
        shown = call("eval", f"--checkpoint={run_dir / step}", "--json")
        assert shown.code == 0, shown.err
        if step == "best":
            summary = json.loads((run_dir / "summary.json").read_text())
            assert json.loads(shown.out)["metrics"] == pytest.approx(summary["test"], rel=1e-6)
    predicted = call("predict", f"--checkpoint={run_dir}", few)
    assert predicted.code == 0, predicted.err
    assert np.isfinite([float(line) for line in predicted.out.split()]).all()
    assert len(predicted.out.split()) == 2


def unset(topology: str) -> str:
    """Gives the flag that takes back what config.toml says of other devices."""
    return "--mesh=" if TOPOLOGIES[topology][2][0].startswith("--devices") else "--devices=0"
