"""Learning curves: the loss and the task's first figure over the epochs, of all runs of a task in one chart."""

import numpy as np

from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages.charts import Series, chart_box, legend, line_chart
from jaxrnn.pages.markup import Markup, element, paragraph
from jaxrnn.pages.records import RunRecord
from jaxrnn.pages.result_sections import TITLES, ReportedRun, tasks_of
from jaxrnn.settings.task_config import HIGHER_IS_BETTER

# The figure beside the loss, its heading, and its unit.
FIRST_FIGURE = {
    "next": ("mae", "Mean absolute error", "mae, in the data's units"),
    "classify": ("accuracy", "Accuracy", "accuracy, share of sequences"),
    "regress": ("mae", "Mean absolute error", "mae, in the data's units"),
    "tag": ("accuracy", "Accuracy", "accuracy, share of steps"),
    "forecast": ("mase", "Scaled error", "mase"),
}
UNIT_OF_LOSS = {
    "next": "normalised units", "classify": "nats", "regress": "normalised units", "tag": "nats",
    "forecast": "units of the series",
}  # fmt: skip
Numbered = list[tuple[int, RunRecord]]


def curves_section(runs: list[ReportedRun]) -> Markup:
    """Returns the learning curves of all runs, those of each task laid over each other."""
    heading = element("h2", "Learning curves")
    places = {id(run.record): number for number, run in enumerate(runs)}
    with_epochs = {
        task: [(places[id(run.record)], run.record) for run in several if run.record.epochs]
        for task, several in tasks_of(runs).items()
    }
    with_epochs = {task: numbered for task, numbered in with_epochs.items() if numbered}
    shown = sorted((number, record) for numbered in with_epochs.values() for number, record in numbered)
    if not shown:
        return element("section", heading, paragraph("No epoch is finished yet."))
    is_single = len(runs) == 1
    charts = []
    for task, numbered in with_epochs.items():
        level = 3 if len(with_epochs) == 1 else 4
        if level == 4:
            charts.append(element("h3", TITLES[task]))
        drawn = _charts_of_task(task, numbered, level, is_single=is_single)
        charts.append(element("div", *drawn, class_="charts"))
    if is_single:
        has_validation = _has_validation(shown[0][1])
        entries = [("validation", 0, False)] * has_validation + [("training", 1, True)]
        names, lead = legend(entries), "" if has_validation else "No row validates. "
    else:
        names = legend([(shorten(record.path), number, False) for number, record in shown])
        lead = "Solid: validation; dashed: training. "
    if any(record.config and record.config["ensemble"] > 1 for _, record in shown):
        lead += "Of an ensemble the mean over its members. "
    are_all_logarithmic = not any(FIRST_FIGURE[task][0] in HIGHER_IS_BETTER for task in with_epochs)
    which = "The upright axis" if are_all_logarithmic else "The upright axis of a loss or an error"
    note = paragraph(f"{lead}{which} is logarithmic; a value of 0 is a gap.", class_="soft")
    return element("section", heading, names, *charts, note)


def _charts_of_task(task: str, numbered: Numbered, level: int, *, is_single: bool) -> list[Markup]:
    first, title, label = FIRST_FIGURE[task]
    charts = []
    for name, heading, y_label in (("loss", "Loss", f"loss, in {UNIT_OF_LOSS[task]}"), (first, title, label)):
        series, told = [], []
        for color, record in numbered:
            epochs = np.array([epoch["epoch"] for epoch in record.epochs])
            for part in ("training", "validation"):
                is_training = part == "training"
                part_color = color + 1 if is_training and is_single else color
                series.append(Series(epochs, _values(record, part, name), part_color, is_dashed=is_training))
            told.append(_tell_curve(record, epochs, name))
        description, is_log = "; ".join(told), name not in HIGHER_IS_BETTER
        chart = line_chart(series, x_label="epoch", y_label=y_label, description=description, is_log=is_log)
        charts.append(chart_box(heading, chart, level=level))
    return charts


def _values(record: RunRecord, part: str, name: str) -> np.ndarray:
    return np.array([epoch[part].get(name, np.nan) for epoch in record.epochs])


def _has_validation(record: RunRecord) -> bool:
    """Whether any figure of the validation rows is known: of a run without them none is."""
    return any(np.isfinite(list(epoch["validation"].values())).any() for epoch in record.epochs)


def _tell_curve(record: RunRecord, epochs: np.ndarray, name: str) -> str:
    part = "validation" if _has_validation(record) else "training"
    values = _values(record, part, name)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return f"{record.name}: {part} {name} is never finite"
    is_higher_better = name in HIGHER_IS_BETTER
    best = finite[np.argmax(values[finite]) if is_higher_better else np.argmin(values[finite])]
    return (
        f"{record.name}: {part} {name} from {values[finite[0]]:.3g} in epoch {epochs[finite[0]]} to"
        f" {values[finite[-1]]:.3g} in epoch {epochs[finite[-1]]}, {'highest' if is_higher_better else 'lowest'}"
        f" {values[best]:.3g} in epoch {epochs[best]}"
    )
