"""statsforecast: a model fitted to every series on its own, on all cores; prediction includes nothing of the fit."""

import time

from benchmarks.forecasting_peers.measures import HIGH, LOW, MEDIAN, Forecasts, with_steps
from benchmarks.forecasting_peers.panels import Panel


def run_classical(model: str, panel: Panel) -> Forecasts:
    """Fits "AutoETS", "AutoTheta", "SeasonalNaive", "RandomWalkWithDrift" or "Naive"."""
    from statsforecast import StatsForecast, models

    seasonal = {"season_length": panel.season} if model in ("AutoETS", "AutoTheta", "SeasonalNaive") else {}
    begin = time.perf_counter()
    forecaster = StatsForecast(models=[getattr(models, model)(**seasonal, alias="it")], freq=panel.frequency, n_jobs=-1)
    forecaster.fit(panel.training)
    trained = time.perf_counter()
    predicted = forecaster.predict(h=panel.horizon, level=[80])
    done = time.perf_counter()
    frame = with_steps(predicted, {"it-lo-80": LOW, "it": MEDIAN, "it-hi-80": HIGH})
    return Forecasts(frame, trained - begin, done - trained, None, (), ("statsforecast",))
