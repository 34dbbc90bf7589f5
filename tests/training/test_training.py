"""Training on the device against a plain Python loop on the host, and what it promises beside."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxrnn.data import ball
from jaxrnn.data.batching import pad_sequences
from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DivergedError
from jaxrnn.models.next_value import build_model
from jaxrnn.models.objective import predict_targets, score_targets
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import Config
from jaxrnn.training import train_state
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.compilation import CompilationCounter
from jaxrnn.training.fit import Fit, build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position
from jaxrnn.training.train_state import Position, history_lines

BASE = {
    "cell": "rnn",
    "hidden_size": 6,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "schedule": "constant",
    "batch_size": 16,
    "shuffle": False,
    "batching": "pad",
    "epochs": 40,
}


@functools.cache
def ball_rows() -> Ragged:
    return Ragged.from_rows(ball.generate(150, seed=5))


def config_of(**changes) -> Config:
    return Config().replace_flat(BASE | changes)


@functools.cache
def prepared(config: Config):
    """Shared by all tests of a configuration, so that it compiles once."""
    data = MemorySource(config, ball_rows())
    return build_trainer(config, data), data


def start(config: Config):
    trainer, data = prepared(config)
    return trainer, data, trainer.init(config.training.seed)


def run(config: Config, num_epochs: int | None = None, per_call: int = 1000):
    """Returns the final state and the figures of every epoch."""
    trainer, data, state = start(config)
    epochs = []
    total = num_epochs or config.training.epochs
    while int(state.epoch) < total and int(state.status) == train_state.RUNNING:
        before = int(state.epoch)
        limit = min(per_call, total - before, train_state.MAX_EPOCHS_PER_CALL)
        state, history = data.run_epochs(trainer, state, limit)
        epochs += history_lines(history, before, np.asarray(state.epoch))
    return state, epochs


def python_loop(config: Config, rows: Ragged):
    """The plain loop: no scan, no buckets; a batch is a slice of a list."""
    settings = config.training
    data = MemorySource(config, rows)
    normalized = [data.plan.normalizer.normalize(row) for row in rows]
    parts = [[normalized[i] for i in part] for part in data.split]
    model = build_model(config.model, nnx.Rngs(jax.random.key(settings.seed)))
    graphdef, params = nnx.split(model)
    rate = config.optimizer.learning_rate
    optimizer = {"sgd": optax.sgd(rate), "adam": optax.adam(rate)}[config.optimizer.optimizer]
    opt_state = optimizer.init(params)

    def errors(params, values, lengths):
        model = nnx.merge(graphdef, params)
        targets = values[jnp.arange(len(values)), lengths - 1]
        return model.predict_last(values[:, :-1], lengths - 1) - targets

    errors_of = jax.jit(errors)
    gradient = jax.jit(jax.value_and_grad(lambda *batch: jnp.mean(jnp.square(errors(*batch)))))

    def padded(part):
        return pad_sequences(Ragged.from_rows(part), int(rows.lengths.max()))

    def validation_figures(params):
        batch = padded(parts[1])
        error = np.asarray(errors_of(params, *batch), np.float64)
        actual = data.plan.normalizer.denormalize(np.array([row[-1] for row in parts[1]]))
        relative = abs(error) * data.plan.normalizer.scale / (abs(actual) + settings.accuracy_epsilon)
        return {"loss": (error**2).mean(), "accuracy": 1 - relative.mean()}

    best, best_epoch, best_params, history = -np.inf, 0, params, []
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for begin in range(0, len(parts[0]), settings.batch_size):
            batch = parts[0][begin : begin + settings.batch_size]
            loss, grads = gradient(params, *padded(batch))
            losses.append((float(loss), len(batch)))
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
        figures = validation_figures(params)
        train_loss = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
        history.append({"training_loss": train_loss, **figures})
        score = figures["accuracy"] if settings.monitor == "accuracy" else -figures["loss"]
        if score > best:
            best, best_epoch, best_params = score, epoch, params
        elif settings.patience and epoch - best_epoch > settings.patience:
            break
    return epoch, best_epoch, best_params, history


@pytest.mark.parametrize(
    "changes",
    [
        {"monitor": "loss", "patience": 3, "learning_rate": 0.3},
        pytest.param({"monitor": "accuracy", "patience": 2, "learning_rate": 0.3}, marks=pytest.mark.slow),
        pytest.param({"monitor": "loss", "optimizer": "adam", "epochs": 10}, marks=pytest.mark.slow),
    ],
    ids=["early-stop-on-loss", "early-stop-on-accuracy", "all-epochs"],
)
def test_a_run_is_that_of_a_plain_python_loop(changes):
    config = config_of(**changes)
    epochs_run, best_epoch, best_params, history = python_loop(config, ball_rows())
    state, epochs = run(config)

    if config.training.patience:
        assert epochs_run < config.training.epochs, "the case must stop early to prove something"
    assert (int(state.epoch), int(state.best_epoch)) == (epochs_run, best_epoch)
    stopped = train_state.STOPPED_EARLY if config.training.patience else train_state.RUNNING
    assert int(state.status) == stopped
    for ours, theirs in zip(epochs, history, strict=True):
        np.testing.assert_allclose(ours["training"]["loss"], theirs["training_loss"], rtol=2e-4)
        np.testing.assert_allclose(ours["validation"]["loss"], theirs["loss"], rtol=2e-4)
        np.testing.assert_allclose(ours["validation"]["accuracy"], theirs["accuracy"], rtol=2e-4, atol=2e-4)
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(state.best_params), jax.tree.leaves(best_params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))


def test_early_stopping_comes_at_the_same_epoch_however_many_epochs_a_call_runs():
    config = config_of(monitor="loss", patience=3, learning_rate=0.3)
    all_at_once, epochs = run(config)
    one_by_one, same_epochs = run(config, per_call=1)
    assert epochs == same_epochs
    assert_same_state(all_at_once, one_by_one)


def assert_same_state(a, b):
    """Bitwise, every array of the state."""
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_array_equal(left, right, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_a_run_goes_on_bitwise_from_a_saved_state(tmp_path: Path):
    config = config_of(
        cell="gru",
        shuffle=True,
        batching="bucket",
        num_buckets=3,
        num_layers=2,
        dropout=0.3,
        optimizer="adam",
        learning_rate=0.01,
    )
    unbroken, unbroken_epochs = run(config, num_epochs=6)
    trainer, data, state = start(config)
    state, first = data.run_epochs(trainer, state, 2)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(2, state._asdict(), {})
    with Checkpointer(tmp_path) as checkpointer:
        state = restore_position(trainer, checkpointer)[0].state
    state, rest = data.run_epochs(trainer, state, 4)
    assert_same_state(state, unbroken)
    assert history_lines(first, 0, np.array(2)) + history_lines(rest, 2, np.array(6)) == unbroken_epochs


def test_the_last_short_batch_counts_by_its_rows():
    # 90 training rows in batches of 16: five whole ones and one of 10. With a learning rate of nearly 0 the epoch's
    # loss is the mean over rows of the initial model's.
    config = config_of(learning_rate=1e-12)
    trainer, data, state = start(config)
    assert data.plan.num_rows[0] % config.training.batch_size not in (0, config.training.batch_size)
    params, other = jax.tree.map(jnp.copy, (state.params, state.other))
    _, history = data.run_epochs(trainer, state, 1)
    model = nnx.merge(trainer.graphdef, params, other)
    predicted, (total, weight) = score_targets(
        predict_targets(model, data.training[0], config), data.training[0], config
    )
    assert float(weight) == data.plan.num_rows[0]
    np.testing.assert_allclose(history.training["loss"][0], total / weight, rtol=1e-5)
    assert predicted.shape == data.training[0].lengths.shape


def test_buckets_and_shuffling_show_every_row_once_an_epoch():
    config = config_of(shuffle=True, batching="bucket", num_buckets=3, learning_rate=1e-12)
    trainer, data, state = start(config)
    assert len(data.training) == 2, "a third length would save too little"
    assert sum(data.plan.num_rows) == len(data.split.training)
    orders = []
    for epoch in (0, 1):
        order, (_, bucket_of_batch, number) = draw_batches(
            jnp.uint32(0),
            0,
            jnp.int32(epoch),
            num_rows=data.plan.num_rows,
            filled_rows=[bucket.lengths.shape[0] for bucket in data.training],
            batch_rows=data.plan.batch_rows,
            shuffle=True,
        )
        for rows, bucket, num_real in zip(order, data.training, data.plan.num_rows, strict=True):
            assert sorted(np.ravel(rows)) == list(range(bucket.lengths.shape[0]))
            assert (np.ravel(rows)[:num_real] < num_real).all(), "rows that fill a batch stay in the last one"
        pairs = sorted(zip(bucket_of_batch.tolist(), number.tolist(), strict=True))
        assert pairs == [(b, n) for b, rows in enumerate(order) for n in range(rows.shape[0])]
        orders.append((np.concatenate([np.ravel(rows) for rows in order]), np.asarray(bucket_of_batch)))
    assert (orders[0][0] != orders[1][0]).any(), "every epoch draws its own batches"

    # The epoch's loss does not depend on how rows are bucketed, as long as parameters stand still.
    _, history = data.run_epochs(trainer, state, 1)
    _, epochs = run(config_of(learning_rate=1e-12), num_epochs=1)
    np.testing.assert_allclose(history.training["loss"][0], epochs[0]["training"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(history.validation["mae"][0], epochs[0]["validation"]["mae"], rtol=1e-5)


def test_the_epochs_compile_once_however_many_calls():
    config = config_of(epochs=13, schedule="linear")
    trainer, data, state = start(config)
    jax.block_until_ready(state)
    rates = []
    with CompilationCounter() as counter:
        for num_epochs in (1, 3, 2, 7):
            state, history = data.run_epochs(trainer, state, num_epochs)
            rates.append(history.learning_rate)
        jax.block_until_ready(state)
    found = np.concatenate([rate[:number] for rate, number in zip(rates, (1, 3, 2, 7), strict=True)])
    np.testing.assert_allclose(found, 0.05 * (1 - np.arange(13) / 13), rtol=1e-5)
    assert int(state.epoch) == 13
    assert counter.count == 1
    assert counter.seconds > 0


def test_more_epochs_at_a_constant_rate_compile_nothing():
    run(config_of(schedule="constant", epochs=1))
    with CompilationCounter() as counter:
        _, epochs = run(config_of(schedule="constant", epochs=2))
    assert (len(epochs), counter.count) == (2, 0)
    falling = [prepared(config_of(schedule="cosine", epochs=epochs))[0] for epochs in (1, 2)]
    assert falling[0] != falling[1], "their rates differ"


def test_a_divergence_undoes_its_epoch_and_names_the_batch(tmp_path: Path):
    # Row 40 of the training part becomes huge: its batch, the third of 16, is the first whose loss is not finite.
    config = config_of(normalizer="none", epochs=3)
    trainer, data, state = start(config)
    values = np.array(data.training[0].values)
    values[40, 0] = np.inf
    data.training = (data.training[0]._replace(values=jnp.asarray(values)),)
    before = jax.tree.map(np.asarray, state.params)
    fit = Fit(trainer, data, Position(state), RunDirectory(tmp_path), {})
    with (
        Checkpointer(tmp_path / "checkpoints") as checkpointer,
        pytest.raises(DivergedError, match=r"epoch 1, batch 3;.*--learning-rate=0.005 or --clip-norm=1") as caught,
    ):
        fit.run(checkpointer)
    assert (caught.value.epoch, caught.value.batch) == (1, 3)
    assert int(fit.state.epoch) == 0
    for left, right in zip(jax.tree.leaves(fit.state.params), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_nan_validation_figure_is_never_the_best():
    config = config_of(epochs=2)
    trainer, data, state = start(config)
    values = np.array(data.validation[0].values)
    values[0, 0, 0] = np.nan
    data.validation = (data.validation[0]._replace(values=jnp.asarray(values)),)
    state, history = data.run_epochs(trainer, state, 2)
    assert np.isnan(history.validation["loss"][0])
    assert int(state.best_epoch) == 0
    assert float(state.best_score) == -np.inf


def test_dropout_differs_from_step_to_step_and_is_off_in_validation():
    config = config_of(cell="gru", num_layers=2, dropout=0.5, learning_rate=1e-12, epochs=2)
    _, epochs = run(config)
    assert epochs[0]["training"]["loss"] != epochs[1]["training"]["loss"]
    np.testing.assert_allclose(epochs[0]["validation"]["loss"], epochs[1]["validation"]["loss"], rtol=1e-6)


def test_target_every_learns_from_every_step():
    config = config_of(target="every")
    trainer, data, state = start(config)
    model = trainer._model(state.params, state.other, training=False)
    batch = jax.tree.map(lambda array: array[:5], data.training[0])
    predicted, (total, weight) = score_targets(predict_targets(model, batch, config), batch, config)
    predict = jax.jit(model.predict_last)
    expected, count, last = 0.0, 0, []
    for row, length in zip(np.asarray(batch.values), np.asarray(batch.lengths), strict=True):
        for end in range(1, length):
            values = [predict(row[None], np.array([end]))[0]]
            expected += (float(values[-1]) - row[end]) ** 2
            count += 1
        last.append(values[-1])
    assert float(weight) == count
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    np.testing.assert_allclose(predicted, np.array(last), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_target_every_reaches_a_good_next_value_after_two_values():
    config = config_of(
        target="every", cell="lstm", hidden_size=16, optimizer="adam", learning_rate=0.02, schedule="cosine", epochs=60
    )
    rows = Ragged.from_rows(ball.generate(1500, seed=9))
    data = MemorySource(config, rows)
    trainer = build_trainer(config, data)
    state = trainer.init(0)
    state, _ = data.run_epochs(trainer, state, 60)
    fit = Fit(trainer, data, Position(state))
    predicted = fit.best_model().predict(Ragged.from_rows([[1.0, 4.0], [5.0, 3.0], [-2.0, -6.0]]))[:, 0]
    np.testing.assert_allclose(predicted, [7.0, 1.0, -10.0], atol=1.0)


def test_a_batch_larger_than_the_data_is_all_of_it():
    config = config_of(batch_size=100_000)
    _, data, _ = start(config)
    assert data.training[0].lengths.shape == (len(data.split.training),)
