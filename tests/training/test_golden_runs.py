"""Short runs of every kind end in the very bits that they ended in before."""

import json
import os
import subprocess
import sys

import golden_runs
import pytest
from kept_programs import lent_to_children


@pytest.mark.slow
def test_runs_end_as_before(tmp_path):
    """In a process of its own: two simulated devices, and XLA's own flags where it compares bits."""
    with lent_to_children(tmp_path / "programs") as of_programs:
        done = subprocess.run(
            [sys.executable, golden_runs.__file__], capture_output=True, text=True, timeout=900, check=False,
            env=os.environ | {"PYTHONPATH": str(golden_runs.HERE.parent)} | of_programs,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_differences_are_seen():
    golden = json.loads(golden_runs.GOLDEN.read_text(encoding="utf-8"))
    hashes = {case: {"params": "0" * 64} for case in golden["figures"]}
    golden["hashes"][golden_runs.machine()] = hashes
    found = {case: {"params": "0" * 64, "figures": figures} for case, figures in golden["figures"].items()}
    assert golden_runs.differences(found, golden) == []
    found["pad, auto"]["params"] = "1" * 64
    found["pack, scan"]["figures"] = golden["figures"]["pack, scan"] | {
        "test": dict.fromkeys(golden["figures"]["pack, scan"]["test"], 5.0)
    }
    del found["tbptt, auto"]
    listed = golden_runs.differences(found, golden)
    for what in ("pad, auto: params", "pack, scan: test mae", "tbptt, auto"):
        assert any(what in line for line in listed), listed
