"""The network that forecasts: where its training starts."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.data.packing import place_sequences
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.step_batches import lay_steps, pad_steps
from jaxrnn.models.model_state import new_model
from jaxrnn.settings.config import Config
from jaxrnn.tasks.forecast_figures import baseline_forecasts, rolling_origins

SEASON, HORIZON = 4, 6


@pytest.mark.parametrize("num_targets", [1, 2])
def test_the_head_starts_at_the_seasonal_naive_forecast(num_targets):
    generator = np.random.default_rng(3)
    lengths = (30, 23, 11)
    arrays = [
        generator.normal(50, 3, (length, num_targets)) + np.arange(length)[:, None] % SEASON for length in lengths
    ]
    config = Config().replace_flat(
        {"task": "forecast", "loss": "pinball", "horizon": HORIZON, "season": SEASON, "cell": "gru", "hidden_size": 5}
    )
    sequences = jaxrnn.read(arrays)
    encoding = SeriesEncoding.fit(sequences, config)
    rows = encoding.encode(sequences, "forecast")
    model = new_model(config, nnx.Rngs(0), encoding.sizes)
    kernel = model.linear.kernel.get_value()
    assert (kernel[:5] != 0).all()  # what the head reads of the layer is drawn
    model.linear.kernel.set_value(kernel.at[:5].set(0))
    model.linear.bias.set_value(jnp.zeros_like(model.linear.bias.get_value()))
    batch = pad_steps(rows, np.arange(3), max(lengths), 3)
    origins = rolling_origins(rows.lengths, HORIZON, 2)
    outputs = model.at(batch.inputs, batch.categories, batch.statics, batch.lengths, jnp.asarray(origins))
    outputs = np.asarray(outputs).reshape(3, 2, HORIZON, num_targets, 3)
    at = rows.offsets[:-1, None] + origins
    level, unit = (values[at][:, :, None, :, None] for values in (rows.series.levels, rows.series.scales))
    wanted = baseline_forecasts(rows.series.levels, rows.offsets, origins, horizon=HORIZON, season=SEASON)
    seasonal = np.broadcast_to(wanted["seasonal_naive"], outputs.shape)
    np.testing.assert_allclose(level + unit * outputs, seasonal, rtol=1e-6)


def test_without_a_season_the_whole_head_is_drawn():
    config = Config().replace_flat({"task": "forecast", "loss": "pinball", "horizon": 2, "season": 1})
    sequences = jaxrnn.read([np.arange(9.0)[:, None] ** 2])
    encoding = SeriesEncoding.fit(sequences, config)
    model = new_model(config, nnx.Rngs(0), encoding.sizes)
    assert (model.linear.kernel.get_value() != 0).all()


def test_dropout_leaves_out_outputs_of_all_steps_of_a_series_and_of_none_in_use():
    config = Config().replace_flat({"task": "forecast", "horizon": 1, "season": 1, "hidden_size": 64, "dropout": 0.5})
    sequences = jaxrnn.read([np.random.default_rng(seed).normal(size=(9, 1)) for seed in range(4)])
    encoding = SeriesEncoding.fit(sequences, config)
    batch = pad_steps(encoding.encode_training(sequences, "forecast"), np.arange(4), 9, 4)
    model = new_model(config, nnx.Rngs(0), encoding.sizes)
    dropped = np.asarray(features_of(model, batch)) == 0
    assert (dropped == dropped[:, :1]).all()  # the same ones at every step
    assert 0.3 < dropped.mean() < 0.7
    assert (dropped[0, 0] != dropped[1, 0]).any()
    model.eval()
    used = np.asarray(features_of(model, batch))
    assert (used != 0).all()
    model.train()
    again = np.asarray(features_of(model, batch))
    assert ((again == 0) != dropped).any()  # drawn afresh
    np.testing.assert_allclose(again, np.where(again == 0, 0, 2 * used), rtol=1e-6)


def features_of(model, batch):
    """What the head reads."""
    return model._features(batch.inputs, batch.categories, batch.statics, batch.lengths)


def test_series_packed_in_a_row_do_not_see_each_other():
    """Neither what is known ahead nor the season before reaches over the end of a series."""
    generator = np.random.default_rng(5)
    lengths = (9, 14, 5)
    frames = [{"y": generator.normal(50, 3, length), "price": generator.normal(size=length)} for length in lengths]
    table = pa.table({
        "id": np.repeat(["a", "b", "c"], lengths),
        "time": np.concatenate([np.arange(length) for length in lengths]),
        **{name: np.concatenate([frame[name] for frame in frames]) for name in ("y", "price")},
    })  # fmt: skip
    columns = {"id_column": "id", "time_column": "time", "target_columns": "y", "known_columns": "price"}
    sequences = jaxrnn.read(table, **columns)
    config = Config().replace_flat({"task": "forecast", "horizon": 3, "season": 4, "hidden_size": 5, **columns})
    encoding = SeriesEncoding.fit(sequences, config)
    rows = encoding.encode_training(sequences, "forecast")
    model = new_model(config, nnx.Rngs(0), encoding.sizes)
    batch = pad_steps(rows, np.arange(3), max(lengths), 3)
    alone = np.asarray(model(batch.inputs, batch.categories, batch.statics, batch.lengths))
    placed = place_sequences(rows.lengths, sum(lengths))
    packed = lay_steps(rows, placed, sum(lengths), 1)
    together = np.asarray(model.packed(packed.inputs, packed.categories, packed.statics, packed.segment_ids))[0]
    for number, (length, start) in enumerate(zip(lengths, placed.start_of, strict=True)):
        np.testing.assert_allclose(together[start : start + length], alone[number, :length], rtol=1e-5, atol=1e-6)
