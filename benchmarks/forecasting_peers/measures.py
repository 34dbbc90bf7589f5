"""What a method hands over, and how good it is on the steps that were held out."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forecasting_peers.panels import Panel

LOW, MEDIAN, HIGH = "q0.1", "q0.5", "q0.9"


class CannotDo(Exception):
    """A method that cannot forecast this panel at all; says why."""


@dataclasses.dataclass(frozen=True)
class Forecasts:
    """What a method hands over.

    Attributes:
      frame: ``unique_id``, ``step`` (from 1), "q0.5", and where the method gives a band "q0.1" and "q0.9".
      train_seconds: From the training frame to a trained model, preparation included, imports not.
      predict_seconds: From a trained model to the frame of forecasts.
      origins: From how many steps a forecast was trained, repetitions counted; None where nothing is trained so.
      remarks: What a reader of the table should know.
      packages: The installed packages whose versions the figures are of.
    """

    frame: Any
    train_seconds: float
    predict_seconds: float
    origins: int | None
    remarks: tuple[str, ...]
    packages: tuple[str, ...]


def with_steps(frame: Any, columns: dict[str, str]) -> Any:
    """Keeps a library's frame, sorted by series and time, as this project's columns; steps are counted from 1."""
    kept = frame[["unique_id", *columns]].rename(columns=columns)
    kept["step"] = kept.groupby("unique_id", sort=False).cumcount() + 1
    return kept


def measure(panel: Panel, forecasts: Forecasts) -> dict[str, float | int | None]:
    """Computes the figures, each a mean over series.

    MASE: the mean absolute error, divided by the mean of abs(y[t] - y[t - season]) over the training steps, which is
    Monash's definition too. sMAPE: the mean of 200 abs(y - f) / (abs(y) + abs(f)), in percent. ``mase_all`` takes the
    last value for series that the method left out.

    Raises:
      CannotDo: A forecast is missing or not finite.
    """
    names = list(dict.fromkeys(panel.frame["unique_id"]))
    training = dict(tuple(panel.training.groupby("unique_id", sort=False)["y"]))
    actual = panel.held_out["y"].to_numpy().reshape(len(names), panel.horizon)
    scales = np.array([np.abs(seasonal_differences(training[name], panel.season)).mean() for name in names])
    last = np.array([training[name].iloc[-1] for name in names])
    found = {column: _table(forecasts.frame, column, names, panel.horizon) for column in (LOW, MEDIAN, HIGH)}
    median, low, high = found[MEDIAN], found[LOW], found[HIGH]
    if median is None:
        raise CannotDo("gave no median")
    done = ~np.isnan(median).all(axis=1)
    if not done.any() or not np.isfinite(median[done]).all():
        raise CannotDo(f"forecasts of {int((~np.isfinite(median).all(axis=1)).sum())} series are missing or not finite")
    errors = np.abs(np.where(done[:, None], median, last[:, None]) - actual)
    mase = errors.mean(axis=1) / scales
    total = np.abs(actual) + np.abs(median)
    smape = np.where(total > 0, 200 * np.abs(actual - median) / np.where(total > 0, total, 1), 0)
    covered = None
    if low is not None and high is not None:
        covered = float(((low <= actual) & (actual <= high))[done].mean())
    return {
        "series": int(done.sum()),
        "all_series": len(names),
        "mase": float(mase[done].mean()),
        "mase_all": float(mase.mean()),
        "smape": float(smape[done].mean()),
        "coverage": covered,
    }


def seasonal_differences(values: Any, season: int) -> NDArray[np.float64]:
    """Returns y[t] - y[t - season]."""
    array = np.asarray(values, np.float64)
    return array[season:] - array[:-season]


def _table(frame: Any, column: str, names: list[str], horizon: int) -> NDArray[np.float64] | None:
    """Returns (series, step), NaN where the frame has no row."""
    if column not in frame:
        return None
    table = frame.pivot(index="unique_id", columns="step", values=column)
    return table.reindex(index=names, columns=range(1, horizon + 1)).to_numpy(np.float64)
