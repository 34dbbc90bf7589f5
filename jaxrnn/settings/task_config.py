"""The settings of the question: what is predicted, how the network answers, and which figures tell how well."""

import dataclasses
import typing
from collections.abc import Iterable
from typing import Literal

from jaxrnn.settings.checking import require

TaskName = Literal["next", "classify", "regress", "tag"]
Metric = Literal[
    "loss", "accuracy", "mae", "rmse", "within_half", "balanced_accuracy", "macro_f1", "log_loss", "r2", "rows_right"
]

TASKS: tuple[str, ...] = typing.get_args(TaskName)
# The figures of every epoch by task, the loss first.
FIGURES_OF_TASK: dict[str, tuple[str, ...]] = {
    "next": ("loss", "accuracy", "mae", "rmse", "within_half"),
    "classify": ("loss", "accuracy", "balanced_accuracy", "macro_f1", "log_loss"),
    "regress": ("loss", "mae", "rmse", "r2"),
    "tag": ("loss", "accuracy", "macro_f1", "rows_right"),
}
# What is measured on whole parts besides.
FURTHER_FIGURES: dict[str, tuple[str, ...]] = {"next": (), "classify": ("roc_auc",), "regress": (), "tag": ()}
HIGHER_IS_BETTER = ("accuracy", "within_half", "balanced_accuracy", "macro_f1", "roc_auc", "r2", "rows_right")


def task_of_figures(names: Iterable[str]) -> str:
    """Returns the task whose figures have these names, as far as they are known ones; next where several have them."""
    known = {name for task in TASKS for name in (*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task])} & set(names)
    return next((task for task in TASKS if known <= {*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task]}), "next")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which question, and how the network answers it."""

    task: TaskName = "next"
    """next value of a row; classify or regress a sequence; tag every step."""
    bidirectional: bool = False
    """Read from both ends; not for task = next, which would see what it is to predict."""
    readout: Literal["last", "mean", "max"] = "last"
    """What classify and regress read: the state after the last step, or the mean or maximum of all outputs."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs every class alike in the loss, however many rows it has."""
    embedding_size: int = 0
    """Numbers that stand for a category; 0: half as many as there are categories, at most 32."""

    def __post_init__(self) -> None:
        is_next = self.task == "next"
        require(not (is_next and self.bidirectional), "bidirectional", self.bidirectional, "false with task = next")
        expected = f"last with task = {self.task}"
        require(self.task in ("classify", "regress") or self.readout == "last", "readout", self.readout, expected)
        expected = f"none with task = {self.task}: it has no classes"
        has_classes = self.task in ("classify", "tag")
        require(has_classes or self.class_weights == "none", "class_weights", self.class_weights, expected)
        require(0 <= self.embedding_size <= 4096, "embedding_size", self.embedding_size, "0 to 4096")

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of every epoch."""
        return FIGURES_OF_TASK[self.task]
