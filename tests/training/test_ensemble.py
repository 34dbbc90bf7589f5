"""Ensembles: every member is what it would be alone, and what is said of all of them is what they are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_flags import flags_of_child
from small_runs import call

from jaxrnn.data import ball
from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DivergedError
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import Config
from jaxrnn.training import train_state
from jaxrnn.training.fit import Fit, build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position
from jaxrnn.training.train_state import Position

REPOSITORY = Path(__file__).resolve().parents[2]
MEMBERS, SEED = 3, 5
BASE = {
    "cell": "rnn",
    "hidden_size": 6,
    "optimizer": "adam",
    "batch_size": 16,
    "batching": "pad",
    "epochs": 30,
    "seed": SEED,
    "split_seed": 0,
    "devices": 1,
}
CASES = {
    # The three stop after different epochs: found by trying.
    "early-stop": {"patience": 2, "optimizer": "sgd", "learning_rate": 0.3, "schedule": "constant"},
    "dropout-and-buckets": {"cell": "gru", "num_layers": 2, "dropout": 0.3, "batching": "bucket", "num_buckets": 3,
                            "epochs": 4},
    "windows": {"target": "every", "tbptt": 4, "epochs": 4},
}  # fmt: skip
ROWS = Ragged.from_rows(ball.generate(150, seed=5))


def start(**changes):
    config = Config().replace_flat(BASE | changes)
    data = MemorySource(config, ROWS)
    trainer = build_trainer(config, data)
    return trainer, data, trainer.initial_state()


def run(trainer, data, state, num_epochs):
    before = int(np.max(state.epoch))
    state, history = data.run_epochs(trainer, state, num_epochs)
    return state, train_state.history_lines(history, before, np.asarray(state.epoch))


def raw(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


@pytest.mark.parametrize(
    "case", ["early-stop", *(pytest.param(case, marks=pytest.mark.slow) for case in list(CASES)[1:])]
)
def test_every_member_is_trained_as_it_is_alone(case):
    changes = CASES[case]
    trainer, data, state = start(ensemble=MEMBERS, **changes)
    state, lines = run(trainer, data, state, trainer.config.training.epochs)
    alone, alone_lines = [], []
    for member in range(MEMBERS):
        one_trainer, one_data, one = start(**changes | {"seed": SEED + member})
        one, one_lines = run(one_trainer, one_data, one, one_trainer.config.training.epochs)
        alone.append(one)
        alone_lines.append(one_lines)

    stops = [int(one.epoch) for one in alone]
    if case == "early-stop":
        assert len(set(stops)) == MEMBERS, "the members must stop at different epochs to prove something"
    assert state.epoch.tolist() == stops
    assert state.best_epoch.tolist() == [int(one.best_epoch) for one in alone]
    for member, one in enumerate(alone):
        for (path, ours), theirs in zip(
            jax.tree_util.tree_leaves_with_path(state.best_params), jax.tree.leaves(one.best_params), strict=True
        ):
            np.testing.assert_allclose(
                ours[member], theirs, rtol=2e-3, atol=2e-4, err_msg=f"{member} {jax.tree_util.keystr(path)}"
            )
    # The lines tell the mean over those that ran the epoch, its standard deviation, and how many they were.
    for number, line in enumerate(lines):
        values = [lines[number]["validation"]["mae"] for lines in alone_lines if number < len(lines)]
        assert line["members"] == len(values)
        assert line["validation"]["mae"] == pytest.approx(np.mean(values), rel=1e-3)
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        assert line["validation_std"]["mae"] == pytest.approx(spread, rel=2e-2, abs=1e-3)


@pytest.mark.slow
def test_members_that_have_stopped_stand_still_whatever_a_call_runs():
    trainer, data, state = start(ensemble=MEMBERS, **CASES["early-stop"])
    at_once, lines = run(trainer, data, state, 30)
    state, one_by_one = trainer.initial_state(), []
    while (np.asarray(state.status) == train_state.RUNNING).any():
        state, more = run(trainer, data, state, 2)
        one_by_one += more
    assert one_by_one == lines
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_array_equal(raw(ours), raw(theirs))


@pytest.mark.slow
def test_an_ensemble_goes_on_bitwise_from_a_saved_state(tmp_path):
    changes = CASES["dropout-and-buckets"]
    trainer, data, state = start(ensemble=MEMBERS, **changes)
    unbroken, lines = run(trainer, data, state, 4)
    state, first = run(trainer, data, trainer.initial_state(), 1)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state._asdict(), {})
    with Checkpointer(tmp_path) as checkpointer:
        state = restore_position(trainer, checkpointer)[0].state
    state, rest = run(trainer, data, state, 3)
    assert first + rest == lines
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(unbroken), strict=True):
        np.testing.assert_array_equal(raw(ours), raw(theirs))


def test_the_mean_prediction_is_measured_and_each_member_by_itself(tmp_path):
    trainer, data, state = start(ensemble=MEMBERS, epochs=3)
    state, _ = run(trainer, data, state, 3)
    together = Fit(trainer, data, Position(state), RunDirectory(tmp_path), {}).best_model()
    rows = ROWS.take(data.split.test)
    members = [together.member(index) for index in range(MEMBERS)]
    assert [member.config.training.seed for member in members] == [5, 6, 7]
    each = np.stack([member.predict(rows, horizon=2) for member in members])
    assert np.ptp(each, axis=0).min() > 0, "members differ"
    np.testing.assert_allclose(together.predict_members(rows, 2), each, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(together.predict(rows, 2), each.mean(axis=0), rtol=1e-4, atol=1e-4)

    evaluation = together.evaluate(rows)
    for ours, member in zip(evaluation.members, members, strict=True):
        assert ours == pytest.approx(member.evaluate(rows).figures, rel=1e-4)
    errors = evaluation.predicted - evaluation.actual
    assert evaluation.figures["mae"] == pytest.approx(np.abs(errors).mean())
    assert evaluation.figures["loss"] == pytest.approx((errors**2).mean() / data.plan.normalizer.scale**2, rel=1e-4)
    values = [member["mae"] for member in evaluation.members]
    assert evaluation.spread()["mean"]["mae"] == pytest.approx(np.mean(values))
    assert evaluation.spread()["std"]["mae"] == pytest.approx(np.std(values, ddof=1))
    with pytest.raises(ValueError, match=r"an ensemble of 3; expected one model: take member\(index\)"):
        _ = together.model
    with pytest.raises(IndexError, match="member: got 3; expected 0 to 2"):
        together.member(3)
    assert members[0].member(0) is members[0]


@pytest.mark.slow
def test_a_member_that_diverges_ends_the_run_and_all_go_back_to_before_it(tmp_path):
    # A rate that rises until the members diverge, one after the other.
    changes = {"optimizer": "sgd", "nonlinearity": "relu", "learning_rate": 1000.0, "warmup_epochs": 2000}
    trainer, data, state = start(ensemble=MEMBERS, epochs=4000, **changes)
    run_dir = RunDirectory(tmp_path)
    with Checkpointer(run_dir.checkpoints) as checkpointer:
        fit = Fit(trainer, data, Position(state), run_dir, {})
        with pytest.raises(DivergedError) as caught:
            fit.run(checkpointer)
        good = caught.value.epoch - 1
        assert good > 0, "this test needs a run that diverges some epochs in"
        assert fit.state.epoch.tolist() == [good] * MEMBERS
        assert checkpointer.read_metadata(checkpointer.steps()[-1])["epoch"] == good
        assert [line["epoch"] for line in run_dir.read_metrics()] == list(range(1, good + 1))
        # Bit for bit the state of a run that goes no further.
        expected = trainer.initial_state()
        for _ in range(good):
            expected, _ = run(trainer, data, expected, 1)
        position, saved = restore_position(trainer, checkpointer)
        restored = position.state
        for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(raw(ours), raw(theirs))
        again = Fit(trainer, data, position, run_dir, {}, saved)
        with pytest.raises(DivergedError, match=f"^{re.escape(str(caught.value))}$"):
            again.run(checkpointer)


def command(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"} | flags_of_child()
    done = [sys.executable, "-m", f"jaxrnn.{module}", *arguments]
    return subprocess.run(done, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.usefixtures("programs_kept")
def test_the_commands_on_an_ensemble(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [f"--data={REPOSITORY / 'ball.csv'}", "--config=smoke", "--epochs=3", "--hidden-size=8"]
    of_devices = [[*flags, "--ensemble=4", f"--devices={number}", f"--run-dir=run{number}"] for number in (1, 2)]
    done = call("train", *of_devices[0])
    assert done.code == 0, done.err
    shared = command("train", *of_devices[1], cwd=tmp_path)  # this process has one device
    assert shared.returncode == 0, shared.stderr
    for told in (done.out, shared.stdout):
        assert "test, mean of 4 members" in told
        assert "test, std of 4 members" in told
    assert "2 share the ensemble" in shared.stderr
    one, two = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("run1", "run2"))
    for a, b in zip(one["ensemble"]["test"]["members"], two["ensemble"]["test"]["members"], strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    assert one["test"] == pytest.approx(two["test"], rel=1e-3)
    assert one["ensemble"]["seeds"] == [0, 1, 2, 3]
    assert one["ensemble"]["epochs_run"] == [3, 3, 3, 3]

    done = call("train", *flags, "--seed=2", "--split-seed=0", "--run-dir=alone")
    assert done.code == 0, done.err
    alone = json.loads((tmp_path / "alone" / "summary.json").read_text())
    assert alone["test"] == pytest.approx(one["ensemble"]["test"]["members"][2], rel=1e-3)
    assert "ensemble" not in alone

    (tmp_path / "rows.csv").write_text("1,3,5,7\n5,3\n9\n")
    plain = call("predict", "--checkpoint=run1", "--horizon=2", "rows.csv")
    spread = call("predict", "--checkpoint=run1", "--horizon=2", "--std", "rows.csv")
    assert "means over 4 members; --std prints" in plain.err
    means = [line.split(",") for line in plain.out.splitlines()]
    both = [line.split(",") for line in spread.out.splitlines()]
    assert [len(line) for line in means] == [2, 2, 2]
    assert [line[:2] for line in both] == means
    assert all(float(value) > 0 for line in both for value in line[2:])
    assert [len(line) for line in both] == [4, 4, 4]
    single = call("predict", "--checkpoint=alone", "--std", "rows.csv")
    assert (single.code, single.out) == (2, "")
    assert "--std: alone holds one model; expected an ensemble" in single.err

    done = call("eval", "--checkpoint=run1", "--json")
    assert json.loads(done.out)["ensemble"]["mean"] == pytest.approx(one["ensemble"]["test"]["mean"], rel=1e-4)
    assert "mean of 4 members" in call("eval", "--checkpoint=run1").out

    assert "expected which one to convert, 0 to 3" in call("convert", "run1", "--out=x.npz").err
    done = call("convert", "run1", "--member=2", "--out=x.npz")
    assert done.code == 0, done.err
    refused = call("convert", "alone", "--member=0", "--out=y.npz")
    assert "--member: got 0; expected none: alone holds one model" in refused.err
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["rnn.weight_hh_l0"].ndim == 2

    again = call("train", "--resume", "--run-dir=run1")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "run1" / "summary.json").read_text())["test"] == one["test"]
    other = call("train", "--resume", "--run-dir=run1", "--ensemble=3")
    assert other.code == 2
    assert "ensemble: the run has 4, got 3" in other.err
