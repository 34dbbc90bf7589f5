"""A checkpoint's metadata may have been written by anybody: what is not a run's is refused, in one line."""

import json
import shutil

import pytest
from small_runs import call

from jaxrnn.runs.step_files import MANIFEST_NAME, write_manifest

GOOD = {"offset": 1.0, "scale": 2.0}
CHANGES = {
    "normaliser with more keys": {"normalizer": GOOD | {"__class__": "os.system"}},
    "normaliser with words for numbers": {"normalizer": GOOD | {"offset": "1"}},
    "normaliser with booleans for numbers": {"normalizer": GOOD | {"scale": True}},
    "no scale to divide by": {"normalizer": GOOD | {"scale": 0.0}},
    "not finite": {"normalizer": GOOD | {"offset": float("inf")}},
    "a list": {"normalizer": [1, 2]},
    "no configuration": {"config": None},
    "configuration of another shape": {"config": [["cell"]]},
    "data without a path": {"data": {"sha256": "0"}},
    "path that is none": {"data": {"sha256": "0", "path": 7}},
    "path of a million characters": {"data": {"sha256": "0", "path": "x" * 10**6, "rows": 1, "values": 1}},
    "data without its size": {"data": {"sha256": "0", "path": "x"}},
    "a number beyond any float": {"normalizer": {"offset": 0, "scale": 10**400}},
    "an epoch that is none": {"epoch": "x" * 10**6},
    "a key of a million characters": {"config": {"x" * 10**6: 1}},
    "no object": [],
    "odd versions of another format": {"format_version": 99, "versions": ["x"]},
    "unknown setting": {"config": {"cell": "lstm", "import": "os"}},
    "setting out of its range": {"config": {"hidden_size": -1}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_not_a_runs_is_refused(what, trained_run, small_rows, tmp_path):
    steps = trained_run / "checkpoints"
    newest = max(int(path.name) for path in steps.iterdir() if path.name.isdigit())
    step = tmp_path / "run" / "checkpoints" / str(newest)
    shutil.copytree(steps / str(newest), step)
    path = step / "metadata" / "metadata"
    change = CHANGES[what]
    path.write_text(json.dumps(json.loads(path.read_text()) | change if isinstance(change, dict) else change))
    (step / MANIFEST_NAME).unlink()
    write_manifest(step)  # whoever wrote the metadata wrote the sums too
    done = call("predict", f"--checkpoint={tmp_path / 'run'}", small_rows)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert len(done.err) < 3000
    assert str(step) in done.err
    assert done.out == ""
