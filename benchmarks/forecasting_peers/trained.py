"""This project: the recipe of ``--task=forecast``, nothing set but the columns, the horizon and the season."""

import time

from benchmarks.forecasting_peers.measures import HIGH, LOW, MEDIAN, Forecasts
from benchmarks.forecasting_peers.panels import Panel


def run_jaxrnn(dataset: Panel, seed: int, ensemble: int = 1) -> Forecasts:
    """Trains one model, or ``ensemble`` of them together."""
    import jaxrnn

    frame = dataset.training
    begin = time.perf_counter()
    model = jaxrnn.fit(
        frame,
        task="forecast",
        horizon=dataset.horizon,
        id_column="unique_id",
        time_column="ds",
        target_columns=["y"],
        season=dataset.season,
        seed=seed,
        ensemble=ensemble,
        progress=False,
    )
    trained = time.perf_counter()
    predicted = model.predict(frame)
    done = time.perf_counter()
    epochs = model.config.training.epochs
    return Forecasts(
        predicted[["unique_id", "step", LOW, MEDIAN, HIGH]],
        trained - begin,
        done - trained,
        int((frame.groupby("unique_id").size() - 4).clip(lower=0).sum()) * epochs * ensemble,  # no first three, no last
        (f"{epochs} epochs",),
        ("jaxrnn", "jax"),
    )
