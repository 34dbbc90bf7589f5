"""The settings of the question: what is predicted, how the network answers, and which figures tell how well."""

import dataclasses
import typing
from collections.abc import Iterable
from typing import Literal

from jaxrnn.settings.checking import require
from jaxrnn.settings.columns_config import names_in
from jaxrnn.settings.limits import MAX_COUNT

TaskName = Literal["next", "classify", "regress", "tag", "forecast"]
Metric = Literal[
    "loss",
    "accuracy",
    "mae",
    "rmse",
    "within_half",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "r2",
    "rows_right",
    "mase",
]

TASKS: tuple[str, ...] = typing.get_args(TaskName)
# The figures of every epoch by task, the loss first.
FIGURES_OF_TASK: dict[str, tuple[str, ...]] = {
    "next": ("loss", "accuracy", "mae", "rmse", "within_half"),
    "classify": ("loss", "accuracy", "balanced_accuracy", "macro_f1", "log_loss"),
    "regress": ("loss", "mae", "rmse", "r2"),
    "tag": ("loss", "accuracy", "macro_f1", "rows_right"),
    "forecast": ("loss", "mase"),
}
# What is measured on whole parts besides.
FURTHER_FIGURES: dict[str, tuple[str, ...]] = {
    "next": (),
    "classify": ("roc_auc",),
    "regress": (),
    "tag": (),
    "forecast": ("smape", "mae", "rmse", "quantile_loss", "coverage"),
}
_ALL_FIGURES_OF_TASK = {task: {*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task]} for task in TASKS}
_KNOWN_FIGURES = set().union(*_ALL_FIGURES_OF_TASK.values())
HIGHER_IS_BETTER = ("accuracy", "within_half", "balanced_accuracy", "macro_f1", "roc_auc", "r2", "rows_right")


DEFAULT_QUANTILES = "0.1,0.5,0.9"
SCALINGS, TRANSFORMS = ("series", "global", "none"), ("none", "log")
CALENDAR = ("month", "quarter", "week", "weekday", "day", "dayofyear", "hour", "minute")
MAX_HORIZON = 10_000
# How series are cut, measured and read; what a forecast is asked for besides.
OF_SERIES = ("horizon", "season", "scaling", "transform", "calendar", "origins")
OF_FORECASTS = (*OF_SERIES, "quantiles", "refit")


def _are_quantiles(text: str) -> bool:
    try:
        levels = [float(level) for level in text.split(",")]
    except ValueError:
        return False
    is_inside = all(0 < level < 1 for level in levels)
    return is_inside and 0.5 in levels and levels == sorted(set(levels))


def task_of_figures(names: Iterable[str]) -> str:
    """Returns the task whose figures have these names, as far as they are known ones; next where several have them."""
    known = _KNOWN_FIGURES.intersection(names)
    return next((task for task, of_task in _ALL_FIGURES_OF_TASK.items() if known <= of_task), "next")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which question, and how the network answers it."""

    task: TaskName = "next"
    """next value of a row; classify or regress a sequence; tag every step; forecast series."""
    bidirectional: bool = False
    """Read from both ends; not for task = next, which would see what it is to predict."""
    readout: Literal["last", "mean", "max"] = "last"
    """What classify and regress read: the state after the last step, or the mean or maximum of all outputs."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs every class alike in the loss, however many rows it has."""
    embedding_size: int = 0
    """Numbers that stand for a category; 0: half as many as there are categories, at most 32."""
    horizon: int = 0
    """Steps ahead to forecast; 0 for what a .tsf file says."""
    quantiles: str = DEFAULT_QUANTILES
    """Quantiles to forecast with loss = pinball, 0.5 among them."""
    season: int = 0
    """Steps of a season, such as 12 of months; 0 for the usual one of the times' frequency."""
    scaling: Literal["series", "global", "none"] = "series"
    """Units that a series is read and forecast in: its own mean change of a step, that of all series, or none."""
    transform: Literal["none", "log"] = "none"
    """log forecasts the logarithm of positive values."""
    calendar: str = ""
    """What is read off the times, for steps ahead too: month, quarter, week, weekday, day, dayofyear, hour, minute."""
    origins: int = 1
    """Origins that split = time tests each series at: its last horizon + origins - 1 steps do not train."""
    refit: bool = False
    """Once the best epoch is known, train anew for as many epochs, on the validation steps too."""

    def __post_init__(self) -> None:
        is_next = self.task == "next"
        require(not (is_next and self.bidirectional), "bidirectional", self.bidirectional, "false with task = next")
        expected = f"last with task = {self.task}"
        require(self.task in ("classify", "regress") or self.readout == "last", "readout", self.readout, expected)
        expected = f"none with task = {self.task}: it has no classes"
        has_classes = self.task in ("classify", "tag")
        require(has_classes or self.class_weights == "none", "class_weights", self.class_weights, expected)
        require(0 <= self.embedding_size <= 4096, "embedding_size", self.embedding_size, "0 to 4096")
        self._require_forecast()

    def _require_forecast(self) -> None:
        for key in OF_FORECASTS:
            value, default = getattr(self, key), TaskConfig.__dataclass_fields__[key].default
            expected = f"{default!r} with task = {self.task}: it is of forecasts"
            require(self.task == "forecast" or value == default, key, value, expected)
        require(0 <= self.horizon <= MAX_HORIZON, "horizon", self.horizon, f"1 to {MAX_HORIZON}, or 0")
        require(1 <= self.origins <= MAX_COUNT, "origins", self.origins, f"1 to {MAX_COUNT}")
        require(0 <= self.season <= MAX_COUNT, "season", self.season, f"1 to {MAX_COUNT}, or 0")
        expected = "rising numbers between 0 and 1, joined by commas, 0.5 among them"
        require(_are_quantiles(self.quantiles), "quantiles", self.quantiles, expected)
        unknown = [name for name in self.calendar_names if name not in CALENDAR]
        expected = f"some of {', '.join(CALENDAR)}, joined by commas"
        require(not unknown, "calendar", self.calendar, expected)
        is_forecast = self.task == "forecast"
        require(not (is_forecast and self.bidirectional), "bidirectional", True, "false with task = forecast")

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """The quantiles as numbers."""
        return tuple(map(float, self.quantiles.split(",")))

    @property
    def calendar_names(self) -> tuple[str, ...]:
        """What is read off the times."""
        return names_in(self.calendar)

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of every epoch."""
        return FIGURES_OF_TASK[self.task]
