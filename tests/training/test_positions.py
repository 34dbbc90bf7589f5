"""Where a run stands: what is saved of it, in the middle of an epoch too, and what is served of such a checkpoint."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import SMALL, arrays_of, call, write_rows
from streamed_runs import stopped_after

from jaxrnn.console.progress import Progress
from jaxrnn.data.ragged import Ragged
from jaxrnn.evaluation.loading import load_checkpoint
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError
from jaxrnn.settings.config import Config
from jaxrnn.training.compilation import CompilationCounter
from jaxrnn.training.fit import Fit, build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position
from jaxrnn.training.stream_order import EpochOrder
from jaxrnn.training.train_state import Position

pytestmark = pytest.mark.usefixtures("programs_kept")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared")
    assert call("prepare", write_rows(place / "rows.csv"), f"--out={place / 'set'}").code == 0
    return place / "set"


@pytest.fixture
def cut_short(prepared, tmp_path):
    """Trains a run that is interrupted after so many batches, each a super batch; returns its directory."""

    def run(number: int, *flags: str, name: str = "run") -> Path:
        with stopped_after(number):
            done = call("train", *SMALL, "--batch-size=10", "--epochs=3", f"--data={prepared}",
                        f"--run-dir={tmp_path / name}", "--checkpoint-seconds=1000", *flags)  # fmt: skip
        assert done.code == 143, done.err
        return tmp_path / name

    return run


def metadata_of(run_dir: Path) -> dict:
    with Checkpointer(run_dir / "checkpoints", read_only=True) as checkpointer:
        return checkpointer.read_metadata(checkpointer.steps()[-1])


def test_before_the_first_epoch_is_finished_there_is_no_best_model(cut_short, prepared):
    run_dir = cut_short(3)
    assert (metadata_of(run_dir)["epoch"], metadata_of(run_dir)["batch"]) == (0, 3)
    for name, more in (("eval", []), ("predict", [prepared.parent / "rows.csv"])):
        done = call(name, f"--checkpoint={run_dir}", *more)
        assert done.code == 2
        assert "no epoch of this run is finished, so there are no best parameters yet" in done.err
        assert "Traceback" not in done.err
    latest = load_checkpoint(run_dir / "latest")
    found = {name: value for name, value in arrays_of(run_dir).items() if "/params/" in f"/{name}"}
    initial = found["params/rnn/weight_hh_l0"][2]
    within = found["progress/trained/params/rnn/weight_hh_l0"][2]
    served = np.asarray(latest.params["rnn"]["weight_hh_l0"].get_value()).tobytes()
    assert served == within != initial, "the parameters so far, not those of the epoch's start"


def test_goes_on_at_the_batch_with_pieces_of_another_size(cut_short, prepared, tmp_path):
    """The constant that cuts an epoch into pieces may change between two versions; the rows that come next do not."""
    run_dir = cut_short(4, "--batching=bucket", "--schedule=linear")
    batches = metadata_of(run_dir)["batch"]
    assert batches == 4
    done = call("train", "--resume", f"--run-dir={run_dir}")
    assert done.code == 0, done.err
    assert "of the next" in done.err
    whole = tmp_path / "whole"
    flags = [*SMALL, "--batch-size=10", "--epochs=3", "--batching=bucket", "--schedule=linear", f"--data={prepared}"]
    assert call("train", *flags, f"--run-dir={whole}").code == 0
    rates = [json.loads(line)["learning_rate"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([0.01, 0.01 * 2 / 3, 0.01 / 3], rel=1e-5), "those that the epochs began with"
    assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = arrays_of(run_dir), arrays_of(whole)
    assert ours == theirs


def test_a_run_whose_validation_was_never_finite_serves_its_last_parameters(tmp_path):
    config = small_config()
    source = MemorySource(config, rows())
    source.validation = jax.tree.map(
        lambda leaf: leaf * np.nan if leaf.dtype == np.float32 else leaf, source.validation
    )
    trainer = build_trainer(config, source)
    fit = Fit(trainer, source, restore_position(trainer, None)[0])
    fit.data_description = {"path": "/none", "sha256": "0", "rows": 1, "values": 1}
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        fit.run(checkpointer)
    assert fit.best_epoch == 0
    assert fit.epoch == config.training.epochs
    served = load_checkpoint(tmp_path)
    for ours, theirs in zip(jax.tree.leaves(served.params), jax.tree.leaves(fit.state.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(served.params), jax.tree.leaves(fit.state.best_params), strict=True)
    )


def test_after_a_divergence_the_next_epochs_are_saved_again(tmp_path):
    """Numbers of checkpoints rise one by one, whatever epoch and batch they are of."""
    config = small_config()
    source = MemorySource(config, rows())
    trainer = build_trainer(config, source)
    with Checkpointer(tmp_path, keep=10) as checkpointer:
        fit = Fit(trainer, source, Position(trainer.initial_state()))
        for epochs in (1, 1, 1):
            fit.position, _ = source.advance(trainer, fit.position, epochs=epochs)
            fit.save(checkpointer)
        assert checkpointer.steps() == [1, 2, 3]
        position, saved = restore_position(trainer, checkpointer)
        assert saved == (3, (3, 0))
        again = Fit(trainer, source, position, saved=saved)
        again.position, _ = source.advance(trainer, again.position, epochs=1)
        again.save(checkpointer)
        assert checkpointer.steps() == [1, 2, 3, 4]
        assert checkpointer.read_metadata(4)["epoch"] == 4


def test_a_second_fit_of_the_same_sizes_compiles_nothing():
    """Other values, another seed, another path: the library may fit in a loop."""

    def fit(seed: int) -> None:
        config = small_config(seed=seed, split_seed=0, data=f"{seed}.csv")
        source = MemorySource(config, rows(scale=1.0 + seed))
        trainer = build_trainer(config, source)
        Fit(trainer, source, restore_position(trainer, None)[0]).run()

    fit(0)
    with CompilationCounter() as counter:
        fit(1)
    assert counter.count == 0


def test_counters_leave_one_listener_behind_for_all():
    from jax._src import monitoring

    with CompilationCounter():
        pass
    before = len(monitoring.get_event_duration_listeners())
    for _ in range(3):
        with CompilationCounter():
            pass
    assert len(monitoring.get_event_duration_listeners()) == before


def test_blocks_and_the_first_window_draw_from_different_streams(monkeypatch):
    from jaxrnn.data.store.layout import Layout, PartLayout
    from jaxrnn.training import stream_order
    from jaxrnn.training.stream_order import Seeds

    monkeypatch.setattr(stream_order, "EXACT_ROWS", 4)
    monkeypatch.setattr(stream_order, "BLOCK_ROWS", 1)
    layout = Layout((PartLayout(40, 3),), 5, "pad")
    order = EpochOrder(layout, Seeds(3, 3), 0)
    blocks = np.random.default_rng([3, 0, 0]).permutation(40)
    shuffled = blocks.copy()
    np.random.default_rng([3, 0, 0]).shuffle(shuffled)
    found = order.rows(0, np.arange(40))
    assert sorted(found) == list(range(40))
    assert not np.array_equal(found, shuffled), "the window would be shuffled as the blocks were"


def small_config(**values) -> Config:
    flat = {"cell": "rnn", "hidden_size": 4, "epochs": 3, "batch_size": 20, "batching": "pad", "backend": "scan"}
    return Config().replace_flat(flat | values)


def rows(scale: float = 1.0) -> Ragged:
    generator = np.random.default_rng(0)
    return Ragged.from_rows([scale * generator.normal(size=5) for _ in range(60)])


def test_dry_run_of_prepared_data_compiles_and_counts_the_state_beside(prepared):
    done = call("train", *SMALL, f"--data={prepared}", "--dry-run")
    assert done.code == 0, done.err
    assert "memory of a device, as XLA has planned the compiled epochs" in done.out
    assert "of the state that an epoch goes back to" in done.out
    assert "padded share" in done.out
    assert "nothing was trained" in done.out


@pytest.mark.parametrize("batching", ["pad", "pack"])
def test_progress_within_an_epoch_counts_the_rows_of_the_data(cut_short, monkeypatch, batching):
    told = []
    monkeypatch.setattr(Progress, "within", lambda self, epoch, share, num_rows: told.append((share, num_rows)))
    cut_short(2, f"--batching={batching}")
    assert [num_rows for _, num_rows in told] == [round(57 * share) for share, _ in told], "57 rows train"


def test_no_checkpoint_is_named_as_such(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no whole checkpoint yet"):
        load_checkpoint(tmp_path)
