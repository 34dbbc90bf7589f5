"""A checkpoint written on some devices, processes or axes goes on on others, and is evaluated and predicts on one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from processes import REPOSITORY, train_together
from small_runs import arrays_of, call, write_rows
from test_distributed import assert_ended, flags_of, losses

# Processes, devices of each, flags.
TOPOLOGIES = {
    "1 device": (1, 1, ["--devices=1"]),
    "2 devices": (1, 2, ["--devices=2"]),
    "4 devices": (1, 4, ["--devices=4"]),
    "2 processes": (2, 1, ["--devices=2"]),
    "4 processes": (4, 1, ["--devices=4"]),
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

run_dir = Path(sys.argv[1])
saved = Config().replace_flat(read_toml(run_dir / "config.toml")).replace_flat({"devices": 0, "mesh": ""})
rows = load_rows(saved.data.data, saved.reader, min_length=2)
with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
    step = checkpointer.newest_good()
    stored = checkpointer.restore(step, checkpointer.stored_arrays(step))
    for devices in json.loads(sys.argv[2]):
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
        print("restored")
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("topology")
    write_rows(directory / "rows.csv")
    (directory / "few.csv").write_text("1,2,3\n5,3\n")
    return directory


@pytest.fixture(scope="module")
def whole(directory):
    """A run on one device from the beginning to the end."""
    assert_ended(train_together(1, directory, *lstm_flags(directory, directory / "whole", EPOCHS), "--devices=1"))
    return directory / "whole"


def lstm_flags(directory, run_dir, epochs: int) -> list[str]:
    return [*flags_of(directory, run_dir, epochs), "--cell=lstm", "--num-layers=2", "--monitor=mae"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "goes_on"), list(zip(TOPOLOGIES, [*TOPOLOGIES][3:] + [*TOPOLOGIES][:3], strict=True))
)
def test_a_run_goes_on_on_other_devices_and_processes(written, goes_on, directory, whole):
    begun = directory / f"from {written}"
    number, devices, more = TOPOLOGIES[written]
    assert_ended(train_together(number, directory, *lstm_flags(directory, begun, STOP), *more, devices=devices))
    saved = arrays_of(begun)
    assert saved["params/rnn/weight_hh_l0"][1] == (32, 8), "PyTorch's layout, whatever the mesh"
    assert losses(begun) == pytest.approx(losses(whole)[: 2 * STOP], rel=1e-4)
    for step in ("best", "latest"):  # here, where there is one device
        shown = call("eval", f"--checkpoint={begun / step}", "--json")
        assert shown.code == 0, shown.err
        if step == "best":
            summary = json.loads((begun / "summary.json").read_text())
            assert json.loads(shown.out)["metrics"] == pytest.approx(summary["test"], rel=1e-6)
    predicted = call("predict", f"--checkpoint={begun}", directory / "few.csv")
    assert predicted.code == 0, predicted.err
    assert np.isfinite([float(line) for line in predicted.out.split()]).all()
    assert len(predicted.out.split()) == 2
    place = [*TOPOLOGIES].index(written)
    meshes = [MESHES[place % len(MESHES)], MESHES[(place + 4) % len(MESHES)]]
    restored = subprocess.run(
        [sys.executable, "-c", RESTORE, str(begun), json.dumps(meshes)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout == "restored\n" * len(meshes)
    # For real on another one; over all of them each is gone on from, and gone on to.
    number, devices, more = TOPOLOGIES[goes_on]
    flags = ["--resume", f"--run-dir={begun}", f"--epochs={EPOCHS}", *unset(more)]
    ended = train_together(number, directory, *flags, devices=devices)
    assert_ended(ended)
    assert f"going on after epoch {STOP}" in ended[0].err
    assert losses(begun) == pytest.approx(losses(whole), rel=1e-4)


def unset(flags: list[str]) -> list[str]:
    """Adds to flags of devices those that take back what config.toml says of the others."""
    return [*flags, "--mesh=" if flags[0].startswith("--devices") else "--devices=0"]
