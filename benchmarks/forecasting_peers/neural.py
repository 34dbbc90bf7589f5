"""neuralforecast: windows of twice the horizon, drawn at random from batches of series.

Source: its quickstart (LSTM: a window of two horizons, 500 steps, 64 units, values standardised; NHITS with
down-sampling by 2, 1, 1) and the example of DeepAR's page (one layer, Student's t, learning rate 0.005). Bands as its
page of prediction intervals has them (``MQLoss``); short series padded in front (``start_padding_enabled``). GRU is set
as LSTM. NHITS and DeepAR train for as many steps as these, where their pages have 100, and standardise alike.
"""

import time
from typing import Any

from benchmarks.forecasting_peers import torch_trainer
from benchmarks.forecasting_peers.measures import HIGH, LOW, MEDIAN, Forecasts, with_steps
from benchmarks.forecasting_peers.panels import Panel

STEPS = 500


def run_neural(model: str, panel: Panel, seed: int, limit: float) -> Forecasts:
    """Trains one model of neuralforecast: "LSTM", "GRU", "DeepAR" or "NHITS"."""
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import DistributionLoss, MQLoss

    torch_trainer.quiet()
    recurrent = {"encoder_hidden_size": 64, "decoder_hidden_size": 64}
    own: dict[str, dict[str, Any]] = {
        "LSTM": recurrent,
        "GRU": recurrent,
        "NHITS": {"n_freq_downsample": [2, 1, 1]},
        "DeepAR": {"lstm_n_layers": 1, "trajectory_samples": 100, "learning_rate": 0.005},
    }
    loss = DistributionLoss("StudentT", level=[80], return_params=False) if model == "DeepAR" else MQLoss(level=[80])
    built = getattr(models, model)(
        h=panel.horizon,
        input_size=2 * panel.horizon,
        max_steps=STEPS,
        scaler_type="standard",
        start_padding_enabled=True,
        loss=loss,
        random_seed=seed,
        **own[model],
        **torch_trainer.trainer_options(limit),
        enable_checkpointing=False,
    )
    begin = time.perf_counter()
    forecaster = NeuralForecast(models=[built], freq=panel.frequency)
    forecaster.fit(df=panel.training)
    trained = time.perf_counter()
    predicted = forecaster.predict()
    done = time.perf_counter()
    steps = len(forecaster.models[0].train_trajectories)  # `built` was copied
    columns = {f"{model}-lo-80": LOW, f"{model}-median": MEDIAN, f"{model}-hi-80": HIGH}
    cut = torch_trainer.cut_remark(trained - begin, limit) if steps < STEPS else ()
    return Forecasts(
        with_steps(predicted, columns),
        trained - begin,
        done - trained,
        steps * built.windows_batch_size,
        (*cut, f"{steps} steps of {built.windows_batch_size} windows"),
        ("neuralforecast", "pytorch-lightning", "torch"),
    )
