"""What is decided between two epochs, without training any: which is the best, when to stop, and what comes next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.settings.config import Config
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.restoring import as_tree, restore_position
from jaxrnn.training.train_state import RUNNING, STOPPED_EARLY, Position, TrainState
from jaxrnn.training.trainer import Trainer


def trainer_of(**values) -> Trainer:
    return Trainer(Config().replace_flat({"cell": "rnn", "hidden_size": 2, "monitor": "loss"} | values), batch_rows=4)


def state_of(epoch: int, params: float, *, best_epoch: int = 2, best_score: float = -0.5) -> TrainState:
    best = {"best_params": jnp.float32(2), "best_score": jnp.float32(best_score), "best_epoch": jnp.int32(best_epoch)}
    running, none = jnp.int32(RUNNING), jnp.int32(0)
    return TrainState(seed=none, params=jnp.float32(params), other=(), opt_state=(), epoch=jnp.int32(epoch),
                      **best, status=running, bad_batch=none)  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "best_epoch"), [(0.25, 3), (0.5, 2), (0.75, 2), (np.nan, 2)], ids=["better", "equal", "worse", "nan"]
)
def test_the_earliest_of_equal_epochs_is_the_best(loss, best_epoch):
    after = trainer_of().finish_epoch(state_of(2, 2.0), state_of(3, 3.0), {"loss": jnp.float32(loss)})
    assert (int(after.best_epoch), float(after.best_params)) == (best_epoch, best_epoch)
    assert float(after.best_score) == (-loss if best_epoch == 3 else -0.5)


@pytest.mark.parametrize(("epoch", "status"), [(5, RUNNING), (6, STOPPED_EARLY)])
def test_training_stops_after_more_epochs_than_its_patience(epoch, status):
    before, trained = state_of(epoch - 1, 0.0), state_of(epoch, 0.0)
    after = trainer_of(patience=3).finish_epoch(before, trained, {"loss": jnp.float32(0.75)})
    assert int(after.status) == status


@pytest.mark.parametrize(("patience", "status"), [(2, STOPPED_EARLY), (3, RUNNING), (0, RUNNING)])
def test_a_run_that_has_stopped_early_goes_on_with_more_patience(tmp_path, patience, status):
    trainer = trainer_of(patience=2)
    stopped = {"epoch": np.int32(7), "best_epoch": np.int32(4), "status": np.int32(STOPPED_EARLY)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, as_tree(Position(trainer.init(0)._replace(**stopped))), {"epoch": 7, "batch": 0})
        position, _ = restore_position(trainer_of(patience=patience), checkpointer)
    assert int(position.state.status) == status
    assert position.epoch == 7


def test_parts_of_as_many_rows_are_shuffled_apart():
    (first, second), _ = draw_batches(
        jnp.uint32(0), 0, jnp.int32(0), num_rows=(60, 60), filled_rows=(64, 64), batch_rows=16, shuffle=True
    )
    orders = jax.device_get((first.reshape(-1)[:60], second.reshape(-1)[:60]))
    assert [sorted(order) for order in orders] == 2 * [list(range(60))]
    assert (orders[0] != orders[1]).mean() > 0.8
