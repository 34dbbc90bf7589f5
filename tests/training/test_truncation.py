"""Truncated backpropagation through time, against plain loops over steps and windows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxrnn.data.arranging import choose_batching
from jaxrnn.data.batching import Bucket, pad_sequences
from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import UserError
from jaxrnn.models.model_state import new_model
from jaxrnn.models.objective import loss_and_sums
from jaxrnn.models.windows import count_windows, cut_windows
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource

STEPS = 4
BASE = {
    "cell": "lstm",
    "hidden_size": 5,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "schedule": "constant",
    "batch_size": 8,
    "batching": "pad",
    "shuffle": False,
    "epochs": 2,
    "devices": 1,
}


@functools.cache
def wavy_rows(num_rows: int = 30, longest: int = 15) -> Ragged:
    generator = np.random.default_rng(3)
    lengths = generator.integers(2, longest + 1, num_rows)
    lengths[:3] = longest
    return Ragged.from_rows([np.sin(generator.uniform(0, 6) + 0.4 * np.arange(length)) for length in lengths])


def config_of(**changes) -> Config:
    return Config().replace_flat(BASE | changes)


def train(config: Config, rows: Ragged, num_epochs: int = 1):
    data = MemorySource(config, rows)
    trainer = build_trainer(config, data)
    state = trainer.initial_state()
    begin = jax.tree.map(jnp.copy, state.params)
    state, history = data.run_epochs(trainer, state, num_epochs)
    return trainer, data, begin, state, history


def test_windows_hold_every_step_once():
    batch = pad_sequences([[1, 2, 3, 4, 5, 6], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]], 7)
    windows = cut_windows(Bucket(*map(jnp.asarray, batch)), 3)
    assert windows.rows.values.shape == (2, 4, 4)
    steps = [
        [
            (int(a), int(b))
            for window in range(2)
            for a, b in zip(
                windows.rows.values[window, row][: max(int(windows.rows.lengths[window, row]) - 1, 0)],
                windows.rows.values[window, row][1:],
                strict=False,
            )
        ]
        for row in range(4)
    ]
    assert steps == [[(i, i + 1) for i in range(1, length)] for length in (6, 3, 4, 5)]
    assert windows.is_end.T.tolist() == [[False, True], [True, False], [True, False], [False, True]]
    longer_than_rows = cut_windows(Bucket(*map(jnp.asarray, batch)), 1000)
    assert longer_than_rows.rows.values.shape == (1, 4, 7), "no step is computed behind the longest row"
    assert [count_windows(6, steps) for steps in (0, 1, 3, 4, 6, 100)] == [1, 6, 2, 2, 1, 1]


def test_an_epoch_is_that_of_a_plain_loop_over_windows():
    # With momentum an update without a gradient would still be one.
    config = config_of(target="every", tbptt=STEPS, momentum=0.5)
    rows = wavy_rows()
    trainer, data, params, state, history = train(config, rows)
    graphdef = trainer.graphdef
    other = trainer.init(0).other

    def window_loss(params, values, lengths, layer_state, start):
        """Step by step: the state at `start` is given, errors after each of `STEPS` inputs are summed."""
        model = nnx.merge(graphdef, params, other)
        total = 0.0
        for t in range(start, min(start + STEPS, values.shape[1] - 1)):
            output, after = model.rnn.step(values[:, t, None], layer_state)
            valid = t < lengths - 1
            keep = functools.partial(jnp.where, valid[None, :, None])
            layer_state = jax.tree.map(keep, after, layer_state)
            error = jnp.square(model.linear(output)[:, 0] - values[:, t + 1])
            total = total + jnp.sum(jnp.where(valid, error, 0.0))
        count = jnp.sum(jnp.clip(lengths - 1 - start, 0, STEPS))
        return total / jnp.maximum(count, 1), (layer_state, total, count)

    gradient = jax.jit(jax.value_and_grad(window_loss, has_aux=True), static_argnums=4)
    bucket = data.training[0]
    sums, counts, updates = 0.0, 0, 0
    velocity = jax.tree.map(jnp.zeros_like, params)
    for begin in range(0, data.plan.num_rows[0], data.plan.batch_rows):
        values, lengths = (leaf[begin : begin + data.plan.batch_rows] for leaf in bucket)
        layer_state = new_model(config, nnx.Rngs(0)).rnn.initial_state(values.shape[0])
        for start in range(0, values.shape[1] - 1, STEPS):
            (_, (layer_state, total, count)), grads = gradient(params, values, lengths, layer_state, start)
            sums, counts = sums + float(total), counts + int(count)
            if int(count):
                velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, grads)
                params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
                updates += 1
    assert updates > -(-data.plan.num_rows[0] // data.plan.batch_rows), "several updates a batch"
    assert updates < data.plan.steps_per_epoch, "a batch whose rows are short has fewer"
    np.testing.assert_allclose(history.training["loss"][0], sums / counts, rtol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert data.plan.steps_per_epoch == -(-data.plan.num_rows[0] // data.plan.batch_rows) * 4


def test_the_gradient_of_the_last_value_goes_back_as_far_as_it_is_told():
    rows = wavy_rows()
    config = config_of(tbptt=STEPS)
    model = new_model(config, nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    batch = Bucket(*map(jnp.asarray, pad_sequences(rows)))
    normalizer = MemorySource(config, rows).plan.normalizer

    def gradient_of(config):
        def loss(params):
            (total, weight), _ = loss_and_sums(nnx.merge(graphdef, params), batch, config, normalizer)
            return total / weight

        return jax.jit(jax.grad(loss))(params)

    @jax.jit
    @jax.grad
    def by_steps(params):
        """All rows in step: the gradient passes in the last `STEPS` steps of each only."""
        model = nnx.merge(graphdef, params)
        fixed = nnx.merge(graphdef, lax.stop_gradient(params))
        values, lengths = batch
        state = model.rnn.initial_state(len(lengths))
        for t in range(values.shape[1] - 1):
            learning, plain = (part.rnn.step(values[:, t, None], state)[1] for part in (model, fixed))
            after = jax.tree.map(functools.partial(jnp.where, (t >= lengths - 1 - STEPS)[:, None]), learning, plain)
            state = jax.tree.map(functools.partial(jnp.where, (t < lengths - 1)[:, None]), after, state)
        last = values[jnp.arange(len(lengths)), lengths - 1]
        return jnp.mean(jnp.square(model.linear(state.h[-1])[:, 0] - last))

    truncated, expected = gradient_of(config), by_steps(params)
    for (path, left), right in zip(
        jax.tree_util.tree_leaves_with_path(truncated), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    whole = jax.tree.leaves(gradient_of(config_of()))
    assert max(float(jnp.max(abs(a - b))) for a, b in zip(whole, jax.tree.leaves(truncated), strict=True)) > 1e-4


@pytest.mark.parametrize("target", ["last", pytest.param("every", marks=pytest.mark.slow)])
def test_windows_as_long_as_the_rows_change_nothing(target):
    rows = wavy_rows()
    *_, without, _ = train(config_of(target=target), rows, 2)
    *_, state, _ = train(config_of(target=target, tbptt=14), rows, 2)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(without.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_figures_do_not_depend_on_windows():
    rows = wavy_rows()
    frozen = {"target": "every", "learning_rate": 1e-12}
    *_, whole = train(config_of(**frozen), rows)
    *_, windows = train(config_of(**frozen, tbptt=STEPS), rows)
    for part in ("training", "validation"):
        for name, values in getattr(whole, part).items():
            np.testing.assert_allclose(getattr(windows, part)[name][0], values[0], rtol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.real_flags
@pytest.mark.parametrize("target", ["last", "every"])
def test_memory_does_not_grow_with_the_rows(target):
    rows = Ragged.from_rows([np.sin(0.01 * np.arange(2000 + i)) for i in range(12)])
    planned = {}
    for tbptt in (0, 50):
        config = config_of(target=target, tbptt=tbptt, hidden_size=32)
        data = MemorySource(config, rows)
        trainer = build_trainer(config, data)
        planned[tbptt] = data.trace(trainer)().memory_analysis().temp_size_in_bytes
    assert 0 < planned[50] < planned[0] / 5


@pytest.mark.slow
def test_a_stream_trains_within_one_epoch():
    rows = Ragged.from_rows([np.sin(0.3 * np.arange(3000) + phase) for phase in range(5)])
    settings = {"target": "every", "optimizer": "adam", "learning_rate": 0.01, "hidden_size": 16}
    *_, one_update = train(config_of(**settings), rows)
    *_, state, history = train(config_of(**settings, tbptt=20), rows)
    assert int(state.epoch) == 1
    assert history.validation["mae"][0] < one_update.validation["mae"][0] / 3


def test_packed_rows_are_refused_and_never_chosen():
    with pytest.raises(UserError, match="batching: got 'pack'; expected auto, bucket or pad with tbptt = 4"):
        config_of(batching="pack", tbptt=4)
    lengths = np.array([100] + 99 * [5])
    assert choose_batching(lengths, "auto", 4) == "pack" or choose_batching(lengths, "auto", 1) == "pack"
    assert choose_batching(lengths, "auto", 1, may_pack=False) == "bucket"


@pytest.mark.slow
def test_dropout_draws_anew_behind_the_cut():
    model = new_model(config_of(num_layers=2, dropout=0.5), nnx.Rngs(0))
    model.train()
    values, lengths = map(jnp.asarray, pad_sequences(wavy_rows()))

    def draws():
        return [
            int(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model)) if "count" in str(path)
        ]

    before = draws()
    model.predict_last(values, lengths, gradient_steps=STEPS)
    assert [after - count for after, count in zip(draws(), before, strict=True) if after != count] == [2]
