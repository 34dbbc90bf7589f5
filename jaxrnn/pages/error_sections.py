"""Sections of the page about single rows: predicted against actual, where the errors are large, the worst rows."""

from typing import Any

import numpy as np

from jaxrnn.evaluation.forecasting import ForecastEvaluation
from jaxrnn.pages import markup
from jaxrnn.pages.charts import MAX_DOTS
from jaxrnn.pages.class_sections import confusions_of_summary
from jaxrnn.pages.error_charts import errors_by_group, scatters
from jaxrnn.pages.forecast_sections import forecast_parts
from jaxrnn.pages.markup import Markup, element, join, paragraph
from jaxrnn.pages.predictions import TestedRows, TestedSequences
from jaxrnn.pages.result_sections import ReportedRun, tasks_of
from jaxrnn.pages.sequence_sections import sequence_parts

NUM_WORST = 10
NUM_VALUES_SHOWN = 9


def errors_section(runs: list[ReportedRun]) -> Markup:
    """Returns the charts and the worst rows of every run whose test rows could be predicted."""
    parts = [element("h2", "Predictions of the test rows")]
    for run in runs:
        tested = run.tested
        if tested is None:
            parts.append(paragraph(f"{run.record.path}: none, for the reason above."))
            if run.record.summary is not None:
                parts.append(_from_summary(run, run.record.summary))
        elif isinstance(tested, TestedSequences):
            evaluation, number = tested.evaluation, f"{len(tested.sequences):,}"
            if isinstance(evaluation, ForecastEvaluation):
                parts.append(element("h3", f"{run.record.path}: {number} series"))
                parts += forecast_parts(tested, evaluation)
            else:
                parts.append(element("h3", f"{run.record.path}: {number} sequences"))
                parts += sequence_parts(tested)
        else:
            parts.append(element("h3", f"{run.record.path}: {len(tested.rows):,} rows"))
            parts += _parts_of_rows(tested)
    tasks, notes = tasks_of(runs), []
    if "next" in tasks or "regress" in tasks:
        notes.append(f"Dots that fall together are drawn once, and at most {MAX_DOTS:,} of a chart, drawn at random.")
    if any(not isinstance(run.tested, TestedSequences) for run in tasks.get("next", [])):
        notes.append("A worst row that stands in the file several times is listed once, with its first place.")
    if any(isinstance(run.tested, TestedSequences) and run.task != "forecast" for run in runs):
        notes.append("Of sequences that are the same one is listed and drawn.")
    note = paragraph(" ".join(notes), class_="soft") if notes else Markup("")
    return element("section", *parts, note)


def _from_summary(run: ReportedRun, summary: dict[str, Any]) -> Markup:
    """Returns what summary.json tells of single predictions: which classes were taken for each other."""
    if run.task not in ("classify", "tag") or "confusion_matrix" not in summary:
        return Markup("")
    table = confusions_of_summary(summary, run.task)
    if table is None:
        run.record.missing.append("summary.json: the confusion matrix is not in a form that is known here.")
        return Markup("")
    return join([paragraph("From summary.json, as the run wrote it at its end:"), table])


def _parts_of_rows(tested: TestedRows) -> list[Markup]:
    parts = []
    if not np.isfinite(tested.predicted).all():
        parts.append(paragraph("Predictions that are not finite are left out of the charts."))
    charts = scatters(tested.actual, tested.predicted, whats="last values", label="last value")
    parts.append(element("div", *charts, *_errors_by_group(tested), class_="charts"))
    return [*parts, _worst_rows(tested)]


def _errors_by_group(tested: TestedRows) -> list[Markup]:
    error = np.abs(tested.predicted - tested.actual)
    lengths, magnitude = tested.rows.lengths, np.abs(tested.actual)
    return [
        errors_by_group("Error by row length", "values in the row", lengths, error),
        errors_by_group("Error by magnitude of the target", "|actual last value|", magnitude, error),
    ]


def _worst_rows(tested: TestedRows) -> Markup:
    error = np.abs(tested.predicted - tested.actual)
    order = np.argsort(np.where(np.isfinite(error), -error, -np.inf), kind="stable")
    _, first = np.unique(tested.row_ids[order], return_index=True)  # of copies one
    worst = order[np.sort(first)[:NUM_WORST]]
    rows = []
    for place, index in enumerate(worst, start=1):
        copies = np.flatnonzero(tested.row_ids == tested.row_ids[index])
        values = tested.rows[int(index)]
        shown = " ".join(f"{value:.6g}" for value in values[-NUM_VALUES_SHOWN:])
        more = len(values) - NUM_VALUES_SHOWN
        rows.append(
            [
                place,
                f"{tested.row_numbers[copies].min():,}",
                len(copies),
                f"{tested.actual[index]:.6g}",
                f"{tested.predicted[index]:.6g}",
                f"{error[index]:.4g}",
                f"({more:,} before) {shown}" if more > 0 else shown,
            ]
        )
    header = ["", "row of the file", "copies", "actual", "predicted", "error", "the row's values"]
    return markup.table(header, rows, caption=f"The {len(rows)} distinct rows with the largest errors")
