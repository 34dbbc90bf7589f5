"""GluonTS: DeepAR on PyTorch, with its class's own settings, 100 epochs of 50 batches.

Source: its quickstart and the page of ``DeepAREstimator``. Short series are padded in front by the library itself.
"""

import time

import numpy as np

from benchmarks.forecasting_peers import torch_trainer
from benchmarks.forecasting_peers.measures import HIGH, LOW, MEDIAN, Forecasts
from benchmarks.forecasting_peers.panels import Panel

PERIODS = {"YS": "Y", "MS": "M"}
EPOCHS = 100


def run_gluon(panel: Panel, seed: int, limit: float) -> Forecasts:
    """Trains DeepAR."""
    import lightning.pytorch as pl
    import pandas as pd
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch import DeepAREstimator

    torch_trainer.quiet()
    pl.seed_everything(seed, verbose=False)
    counter = torch_trainer.new_counter(pl.Callback)
    options = {**torch_trainer.trainer_options(limit, counter), "max_epochs": EPOCHS}
    begin = time.perf_counter()
    period = PERIODS[panel.frequency]
    data = PandasDataset.from_long_dataframe(
        panel.training, item_id="unique_id", timestamp="ds", target="y", freq=period
    )
    estimator = DeepAREstimator(freq=period, prediction_length=panel.horizon, trainer_kwargs=options)
    predictor = estimator.train(data)
    trained = time.perf_counter()
    parts = []
    for forecast in predictor.predict(data):
        low, median, high = (forecast.quantile(q) for q in (0.1, 0.5, 0.9))
        steps = np.arange(1, panel.horizon + 1)
        parts.append(pd.DataFrame({"unique_id": forecast.item_id, "step": steps, LOW: low, MEDIAN: median, HIGH: high}))
    done = time.perf_counter()
    # The loss is taken at every step of the context but its first, and of the horizon.
    origins = counter.windows * (estimator.context_length - 1 + panel.horizon)
    return Forecasts(
        pd.concat(parts),
        trained - begin,
        done - trained,
        origins,
        (*torch_trainer.cut_remark(trained - begin, limit), f"{counter.steps} steps of 32 windows"),
        ("gluonts", "lightning", "torch"),
    )
