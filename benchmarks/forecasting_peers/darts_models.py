"""darts: every window of every series, an epoch of them at a time; series shorter than a window are left out.

Source: its pages of recurrent models and of DeepAR: each series scaled to 0..1, an LSTM of 20 units (``RNNModel``,
which is DeepAR with ``GaussianLikelihood``) or 25 units (``BlockRNNModel`` with ``QuantileRegression``), windows of 14
steps (yearly: of one horizon, so that fewer series are left out), the month as a covariate, 100 epochs (the
default of both classes; the page has 300 on one series).
"""

import time
from typing import Any

import numpy as np

from benchmarks.forecasting_peers import torch_trainer
from benchmarks.forecasting_peers.measures import HIGH, LOW, MEDIAN, CannotDo, Forecasts
from benchmarks.forecasting_peers.panels import Panel

EPOCHS, SAMPLES = 100, 100
MONTHLY_WINDOW, MONTHLY_TRAINING = 14, 20


def run_darts(model: str, panel: Panel, seed: int, limit: float) -> Forecasts:
    """Trains "RNNModel" or "BlockRNNModel", both of an LSTM."""
    import pandas as pd
    import pytorch_lightning
    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler
    from darts.models import BlockRNNModel, RNNModel
    from darts.utils.likelihood_models import GaussianLikelihood, QuantileRegression

    torch_trainer.quiet()
    counter = torch_trainer.new_counter(pytorch_lightning.Callback)
    options: dict[str, Any] = {"random_state": seed, "n_epochs": EPOCHS,
                               "pl_trainer_kwargs": torch_trainer.trainer_options(limit, counter)}  # fmt: skip
    monthly = panel.season == 12
    window = MONTHLY_WINDOW if monthly else panel.horizon
    if model == "RNNModel":
        training_length = MONTHLY_TRAINING if monthly else window + 2
        encoders = {"cyclic": {"future": ["month"]}} if monthly else None
        built = RNNModel(window, model="LSTM", hidden_dim=20, training_length=training_length, batch_size=16,
                         likelihood=GaussianLikelihood(), add_encoders=encoders, **options)  # fmt: skip
        needed, origins_of_window = training_length + 1, training_length
    else:
        encoders = {"cyclic": {"past": ["month"]}} if monthly else None
        built = BlockRNNModel(window, panel.horizon, model="LSTM", likelihood=QuantileRegression([0.1, 0.5, 0.9]),
                              add_encoders=encoders, **options)  # fmt: skip
        needed, origins_of_window = window + panel.horizon, 1
    begin = time.perf_counter()
    training = panel.training
    lengths = training.groupby("unique_id", sort=False)["y"].transform("size")
    kept = training[lengths >= needed]
    if kept.empty:
        raise CannotDo(f"no series has the {needed} steps of a window")
    series = TimeSeries.from_group_dataframe(
        kept, group_cols="unique_id", time_col="ds", value_cols="y", freq=panel.frequency, drop_group_cols="unique_id"
    )
    scaler = Scaler()
    scaled = [one.astype(np.float32) for one in scaler.fit_transform(series)]
    built.fit(scaled)
    trained = time.perf_counter()
    predicted = scaler.inverse_transform(built.predict(panel.horizon, series=scaled, num_samples=SAMPLES))
    # (series, quantile, step)
    values = np.stack([np.quantile(one.all_values()[:, 0], (0.1, 0.5, 0.9), axis=1) for one in predicted])
    done = time.perf_counter()
    names = list(dict.fromkeys(kept["unique_id"]))
    frame = pd.DataFrame({"unique_id": np.repeat(names, panel.horizon),
                          "step": np.tile(np.arange(1, panel.horizon + 1), len(names))})  # fmt: skip
    for index, column in enumerate((LOW, MEDIAN, HIGH)):
        frame[column] = values[:, index].reshape(-1)
    left = training["unique_id"].nunique() - len(names)
    short = (f"cannot: {left} series have fewer than the {needed} steps of a window",) if left else ()
    return Forecasts(
        frame,
        trained - begin,
        done - trained,
        counter.windows * origins_of_window,
        (*torch_trainer.cut_remark(trained - begin, limit), *short, f"{counter.steps} steps"),
        ("u8darts", "pytorch-lightning", "torch"),
    )
