"""Sections of the page about results: how far the runs are, their figures, and what those are worth."""

import math
from typing import Any, NamedTuple

from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages import markup
from jaxrnn.pages.markup import Markup, element, join, paragraph
from jaxrnn.pages.predictions import TestedRows, TestedSequences
from jaxrnn.pages.records import RunRecord
from jaxrnn.settings.task_config import FIGURES_OF_TASK, FURTHER_FIGURES, TASKS, task_of_figures
from jaxrnn.tasks.figures import ACCURACY_NOTE, FORECAST_NOTE, explain_forecasts, write_figure
from jaxrnn.tasks.judgement import (
    compare_with_baselines,
    describe_interval,
    describe_near_zero,
    leakage_warning,
    overlap_warning,
)
from jaxrnn.tasks.verdict import MAIN_FIGURE


class ReportedRun(NamedTuple):
    """A run and its predictions; None where there are none."""

    record: RunRecord
    tested: TestedRows | TestedSequences | None

    @property
    def task(self) -> str:
        """What the run predicts, by its model or its configuration, or else by the names of its figures."""
        if self.tested is not None:
            return self.tested.task
        if self.record.config is not None:
            return self.record.config["task"]
        summary = self.record.summary or {}
        figures = [
            summary.get("test"),
            summary.get("validation"),
            *[epoch["training"] for epoch in self.record.epochs[:1]],
        ]
        return task_of_figures(next((found for found in figures if found), {}))


ACCURACY_NOTE_WITHOUT_NUMBER = ACCURACY_NOTE.replace("{epsilon:g}", "accuracy_epsilon")
# What comes from a run's files may be of any length.
MAX_LINE, MAX_BASELINES = 1000, 10
# What decides which rows are tested, and in which unit the loss is: figures of runs that differ here are no match.
KEYS_OF_THE_TEST = ("split", "split_fractions", "split_seed", "seed", "split_block", "group_column")
KEYS_OF_THE_LOSS = {
    "next": ("loss", "target", "normalizer", "divisor"),
    "classify": ("class_weights",),
    "regress": ("loss", "normalizer", "divisor"),
    "tag": ("class_weights",),
    "forecast": ("loss", "quantiles", "scaling", "transform"),
}
# Of forecasts these decide what is tested besides: which steps, and in which unit MASE is.
KEYS_OF_FORECASTS = ("horizon", "origins", "season")
CAPTIONS = {
    "next": "Figures of the last values of rows; mae and rmse in the data's units, the loss in normalised ones",
    "classify": "Figures of the classes of sequences",
    "regress": "Figures of the numbers of sequences; mae and rmse in the data's units, the loss in normalised ones",
    "tag": "Figures of the tags of steps",
    "forecast": "Figures of the forecasts of the last steps of series, from those before; smape in percent, 0 to 200",
}
EXPLANATIONS = {
    "classify": "accuracy is the share of sequences whose class is right, balanced_accuracy the mean of that share over"
    " the true classes; macro_f1 is the mean over the classes of 2 * precision * recall / (precision + recall);"
    " log_loss is the mean of -log of the true class's probability; roc_auc is the area under the ROC curve, of more"
    " than two classes the mean of each against the rest, and is undefined unless every class is there",
    "regress": "r2 is 1 - the squared error in proportion to that of the mean of these rows, which has 0; mae and rmse"
    " are in the data's units; of several targets each figure is the mean",
    "tag": "accuracy is the share of steps whose tag is right; macro_f1 is the mean over the tags of"
    " 2 * precision * recall / (precision + recall); rows_right is the share of sequences without a wrong step",
}
TITLES = {
    "next": "Next values",
    "classify": "Classes of sequences",
    "regress": "Numbers of sequences",
    "tag": "Tags of steps",
    "forecast": "Forecasts of series",
}


def head_section(runs: list[ReportedRun]) -> Markup:
    """Returns how far the runs are, and what the page cannot show."""
    named = [(shorten(run.record.path), run.record) for run in runs]
    parts = [markup.bullets(join([element("strong", path), ": ", record.status]) for path, record in named)]
    for path, record in named:
        if record.missing:
            lead = paragraph(element("strong", f"Not shown of {path}"))
            lines = [shorten(line, MAX_LINE) for line in record.missing]
            parts.append(element("div", lead, markup.bullets(lines), class_="notice"))
    return element("section", *parts)


def tasks_of(runs: list[ReportedRun]) -> dict[str, list[ReportedRun]]:
    """Returns the runs of each task, those that could be read; the one of next values where none could."""
    found = {task: [run for run in runs if run.record.is_run and run.task == task] for task in TASKS}
    return {task: several for task, several in found.items() if several} or {"next": []}


def figures_section(runs: list[ReportedRun]) -> Markup:
    """Returns the figures of all runs, the baselines, and what they are worth in words: a table for each task."""
    tasks = tasks_of(runs)
    parts = [element("h2", "Figures")]
    for task, several in tasks.items():
        if len(tasks) > 1:
            parts.append(element("h3", TITLES[task]))
        level = (3 if len(tasks) == 1 else 4) if len(runs) > 1 else None
        parts += _figures_of_task(task, several, level)
    return element("section", *parts)


def _figures_of_task(task: str, runs: list[ReportedRun], level: int | None) -> list[Markup]:
    """Returns a table and notes, which have the run's name as a heading of this level."""
    rows, notes = [], []
    names = (*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task])
    for run in runs:
        figures, lines = _figures_of(run), _notes_of(run)
        rows += [[name, *[_write(key, values) for key in names]] for name, values in figures.items()]
        notes.append((run.record, lines))
    if not rows:
        is_over = runs and all(run.record.summary is not None for run in runs)
        return [paragraph("There are none: all rows train." if is_over else "There are none yet.")]
    parts = [markup.table(["", *names], rows, caption=CAPTIONS[task])]
    tested = [run for run in runs if run.record.summary is None or run.tested or run.record.summary["test"]]
    different = [what for what in (_different_tests(tested), _different_losses(runs, task)) if what]
    if different:
        parts.append(element("div", *map(paragraph, different), class_="notice"))
    for record, lines in notes:
        if level is not None and lines:
            parts.append(element(f"h{level}", shorten(record.path)))
        parts.append(join(lines))
    return [*parts, paragraph(_as_sentence(_explain(task, runs)), class_="soft")]


def _explain(task: str, runs: list[ReportedRun]) -> str:
    if task == "forecast":
        levels = {_quantiles_of(run) for run in runs}
        return explain_forecasts(levels.pop()) if len(levels) == 1 else FORECAST_NOTE
    if task != "next":
        return EXPLANATIONS[task]
    epsilons = sorted({run.record.config["accuracy_epsilon"] for run in runs if run.record.config})
    return ACCURACY_NOTE.format(epsilon=epsilons[0]) if len(epsilons) == 1 else ACCURACY_NOTE_WITHOUT_NUMBER


def _quantiles_of(run: ReportedRun) -> tuple[float, ...]:
    config = run.record.config or {}
    is_of_points = config.get("loss") != "pinball" or not isinstance(config.get("quantiles"), str)
    return () if is_of_points else tuple(map(float, config["quantiles"].split(",")))


def _write(key: str, figures: dict[str, float]) -> str:
    if math.isfinite(figures.get(key, 0.0)):
        return write_figure(key, figures)
    return "undefined" if key in ("roc_auc", "r2") else "not finite"


def _figures_of(run: ReportedRun) -> dict[str, dict[str, float]]:
    record, tested = run
    found: dict[str, dict[str, float]] = {}
    summary = record.summary
    if summary is not None:
        found[f"{record.name}, validation"] = summary["validation"]
    baselines: dict[str, dict[str, float]] = {}
    if tested is not None:
        when = "" if summary is not None else f" (best so far, checkpoint of epoch {tested.epoch})"
        found[f"{record.name}, test{when}"] = tested.figures
        for kind, figures in (tested.spread or {}).items():
            found[f"{record.name}, test, {kind} of the members"] = figures
        baselines = tested.baselines
    elif summary is not None:
        found[f"{record.name}, test"] = summary["test"]
        baselines = summary["baselines"]
    named = list(baselines.items())[:MAX_BASELINES]
    found |= {f"{record.name}, baseline {shorten(name, 60)}": figures for name, figures in named}
    return {name: figures for name, figures in found.items() if figures}  # a part without rows has none


def _notes_of(run: ReportedRun) -> list[Markup]:
    """What the figures are worth: of the predictions if there are any, else as summary.json has it."""
    summary, tested = run.record.summary or {}, run.tested
    lines, warning, overlap, shared = [], "", "", {}
    try:  # of another version the file may hold something else
        lines = _judged(tested) if tested is not None else _judged_by_summary(summary, run.task)
        shared = _shared_rows(run)
        if shared:
            warning = leakage_warning(shared["validation"], shared["test"])
        overlap = overlap_warning(*_overlapping(run))
    except (KeyError, TypeError, ValueError, AttributeError):
        run.record.missing.append("summary.json: what the figures are worth is not in a form that is known here.")
    notes = [paragraph(_as_sentence(line)) for line in lines if line]
    if shared:
        seen = warning or "no validation or test row stands in the training part"
        notes.append(element("div", paragraph(_as_sentence(seen)), class_="notice" if warning else None))
    if overlap:
        notes.append(element("div", paragraph(_as_sentence(overlap)), class_="notice"))
    return notes


def _shared_rows(run: ReportedRun) -> dict[str, Any]:
    """Returns how many rows that do not train stand in the training part; nothing where all rows train.

    Of parts that are the ends of the same series there is nothing to count.
    """
    if (run.record.config or {}).get("split") == "time":
        return {}
    if run.tested is not None:
        return dict(zip(("validation", "test"), run.tested.shared, strict=True))
    summary = run.record.summary or {}
    return summary.get("shared_rows") or {} if summary.get("validation") or summary.get("test") else {}


def _overlapping(run: ReportedRun) -> tuple[int, int]:
    """Returns how many validation and test sequences look like windows of training ones."""
    if isinstance(run.tested, TestedSequences):
        return run.tested.overlapping
    found = (run.record.summary or {}).get("overlapping_rows") or {}
    return found.get("validation", 0), found.get("test", 0)


def _judged(tested: TestedRows | TestedSequences) -> list[str]:
    if isinstance(tested, TestedSequences):
        return tested.evaluation.verdict.notes
    interval, against, near_zero = tested.judgement
    return [against["sentence"], describe_interval(interval), describe_near_zero(near_zero)]


def _judged_by_summary(summary: dict[str, Any], task: str) -> list[str]:
    if not summary.get("test"):
        return []
    figure, against = MAIN_FIGURE[task], summary.get("against_baselines")
    interval = summary.get("test_mae_interval") or summary.get("test_interval")
    near_zero = summary.get("accuracy_near_zero")
    if not against and task == "next":  # of a run that was written before it was judged
        baselines = {name: figures["mae"] for name, figures in summary["baselines"].items()}
        against = compare_with_baselines(summary["test"]["mae"], baselines)
    return [
        against["sentence"] if against else "",
        describe_interval(interval, figure=figure) if interval else "",
        describe_near_zero(near_zero) if near_zero else "",
    ]


def _as_sentence(line: str) -> str:
    first = line.split(":")[0].split(" ")[0]
    if first in ("mae", "mase"):
        return f"{shorten(first.upper() + line[len(first) :], MAX_LINE)}."
    line = shorten(line, MAX_LINE)
    return f"{line[:1].upper()}{line[1:]}."


def _different_tests(runs: list[ReportedRun]) -> str:
    if len({str(_tested_on(run)) for run in runs}) > 1:
        return (
            "These runs were not all tested on the same rows (the data or the split differ), so their figures cannot be"
            " compared directly; --split-seed gives runs of different seeds the same split."
        )
    return ""


def _tested_on(run: ReportedRun) -> list[Any]:
    """Returns what says which rows a run is tested on: a file's hash, or one with the split."""
    data = (run.record.environment or {}).get("data", {})
    given, of_task = data.get("given"), _values_of(run, KEYS_OF_FORECASTS if run.task == "forecast" else ())
    if isinstance(given, dict) and "test" in given:
        return [given["test"], *of_task]
    return [data.get("sha256"), sorted(given or {}), *_values_of(run, KEYS_OF_THE_TEST), *of_task]


def _different_losses(runs: list[ReportedRun], task: str) -> str:
    settings = [_values_of(run, KEYS_OF_THE_LOSS[task]) for run in runs]
    if all(settings[0] == other for other in settings):
        return ""
    if task in ("next", "regress"):
        return "The loss is not the same in all runs (its kind, target or unit differ): compare mae and rmse."
    if task == "forecast":
        return "The loss is not the same in all runs (its kind, quantiles or unit differ): compare mase, smape and mae."
    return "The loss is not the same in all runs (their classes are weighted differently): compare the other figures."


def _values_of(run: ReportedRun, keys: tuple[str, ...]) -> list[Any]:
    config = run.record.config or {}
    values = {key: config.get(key) for key in keys}
    if "split_seed" in values:  # the run's seed stands in for it
        seed = values.pop("seed", None)
        values["split_seed"] = seed if values["split_seed"] is None else values["split_seed"]
    return list(values.values())
