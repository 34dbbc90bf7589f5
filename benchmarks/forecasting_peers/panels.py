"""The panels that are forecast: a frame of ``unique_id``, ``ds`` and ``y``, the last steps of every series held out."""

import dataclasses
import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecasting_peers import generated

PANELS = ("m1", "air", "panel")
LATEST = "2020-01"
"""The last month of every generated series."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """What is forecast.

    Attributes:
      name: "m1", "air", "panel" or "panel-small".
      frame: ``unique_id``, ``ds``, ``y``; every step, the held-out ones too, sorted by series and time.
      horizon: How many steps of every series are held out.
      season: The steps of a season, and of the differences that MASE is a ratio to; 1 for yearly values.
      frequency: By pandas' name.
    """

    name: str
    frame: Any
    horizon: int
    season: int
    frequency: str

    @property
    def training(self) -> Any:
        """The frame without the held-out steps."""
        return self.frame[self._behind() >= self.horizon].reset_index(drop=True)

    @property
    def held_out(self) -> Any:
        """The last ``horizon`` steps of every series."""
        return self.frame[self._behind() < self.horizon].reset_index(drop=True)

    @property
    def digest(self) -> str:
        """Tells whether two machines forecast the same values."""
        return hashlib.sha256(np.round(self.frame["y"].to_numpy(), 6).tobytes()).hexdigest()[:12]

    def _behind(self) -> Any:
        return self.frame.groupby("unique_id", sort=False).cumcount(ascending=False)


def open_panel(name: str, directory: Path, m1_file: Path | None = None, *, small: bool = False) -> Panel:
    """Reads a panel from the directory, into which it is written first if it is not there yet.

    Raises:
      ImportError: The package that has the panel is not installed in this environment.
    """
    import pandas as pd

    kept = f"{name}-small" if small else name
    path = directory / f"{kept}.parquet"
    if not path.exists():
        frame = {"m1": lambda: _read_m1(m1_file), "air": _read_air, "panel": lambda: _draw(small)}[name]()
        directory.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        frame.to_parquet(part)
        part.replace(path)
    frame = pd.read_parquet(path)
    return Panel(kept, frame, 6, 1, "YS") if name == "m1" else Panel(kept, frame, 12, 12, "MS")


def _read_m1(path: Path | None) -> Any:
    import jaxrnn

    if path is None:
        spec = importlib.util.find_spec("aeon")
        if spec is None or spec.origin is None:
            raise ImportError("aeon is not installed: give m1_yearly_dataset.tsf by --m1")
        path = Path(spec.origin).parent / "datasets" / "data" / "m1_yearly_dataset" / "m1_yearly_dataset.tsf"
    series = jaxrnn.read(path)
    times = np.asarray(series.steps["times"].values).reshape(-1)
    return _frame(series.rows["ids"].texts(), series.arrays("inputs"), times)


def _read_air() -> Any:
    from neuralforecast.utils import AirPassengersPanel

    frame = AirPassengersPanel[["unique_id", "ds", "y"]].copy()
    frame["unique_id"] = frame["unique_id"].astype(str)
    frame["ds"] = frame["ds"].dt.to_period("M").dt.to_timestamp()
    return frame.sort_values(["unique_id", "ds"]).reset_index(drop=True)


def _draw(small: bool) -> Any:
    drawn = generated.draw_panel(*(generated.SMALL if small else generated.FULL))
    last = np.datetime64(LATEST, "M")
    times = np.concatenate([last - np.arange(len(values))[::-1] for values in drawn])
    return _frame([f"series{i:04}" for i in range(len(drawn))], drawn, times)


def _frame(names: Any, arrays: Any, times: Any) -> Any:
    import pandas as pd

    lengths = [len(array) for array in arrays]
    values = np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in arrays])
    return pd.DataFrame(
        {"unique_id": np.repeat(np.asarray(names), lengths), "ds": times.astype("datetime64[ns]"), "y": values}
    )
