"""Sections of the page about results: figures, what they are worth, learning curves."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages import markup
from jaxrnn.pages.charts import Series, chart_box, legend, line_chart
from jaxrnn.pages.markup import Markup, element, join, paragraph
from jaxrnn.pages.predictions import TestedRows
from jaxrnn.pages.records import RunRecord
from jaxrnn.settings.task_config import FIGURES_OF_TASK
from jaxrnn.tasks.figures import ACCURACY_NOTE, format_figure
from jaxrnn.tasks.judgement import compare_with_baselines, describe_interval, describe_near_zero, leakage_warning


class ReportedRun(NamedTuple):
    """A run and its predictions; None where there are none."""

    record: RunRecord
    tested: TestedRows | None


ACCURACY_NOTE_WITHOUT_NUMBER = ACCURACY_NOTE.replace("{epsilon:g}", "accuracy_epsilon")
# What comes from a run's files may be of any length.
MAX_LINE, MAX_BASELINES = 1000, 10
# What decides which rows are tested, and in which unit the loss is: figures of runs that differ here are no match.
KEYS_OF_THE_TEST = ("split", "split_fractions", "split_seed", "seed", "split_block")
KEYS_OF_THE_LOSS = ("loss", "target", "normalizer", "divisor")


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


def figures_section(runs: list[ReportedRun]) -> Markup:
    """Returns the figures of all runs, the baselines, and what they are worth in words."""
    parts = [element("h2", "Figures")]
    rows, notes, names = [], [], FIGURES_OF_TASK["next"]
    for run in runs:
        figures, lines = _figures_of(run), _notes_of(run)
        rows += [[name, *[_write(key, values[key]) for key in names]] for name, values in figures.items()]
        notes.append((run.record, lines))
    if not rows:
        return element("section", *parts, paragraph("There are none yet."))
    parts.append(
        markup.table(
            ["", *names],
            rows,
            caption="Figures of the last values of rows; mae and rmse in the data's units, the loss in normalised ones",
        )
    )
    read = [run for run in runs if run.record.is_run]
    different = [what for what in (_different_tests(read), _different_losses(read)) if what]
    if different:
        parts.append(element("div", *map(paragraph, different), class_="notice"))
    for record, lines in notes:
        if len(runs) > 1 and lines:
            parts.append(element("h3", shorten(record.path)))
        parts.append(join(lines))
    epsilons = sorted({run.record.config["accuracy_epsilon"] for run in runs if run.record.config})
    note = ACCURACY_NOTE.format(epsilon=epsilons[0]) if len(epsilons) == 1 else ACCURACY_NOTE_WITHOUT_NUMBER
    return element("section", *parts, paragraph(_as_sentence(note), class_="soft"))


def _write(key: str, value: float) -> str:
    return format_figure(key, value) if math.isfinite(value) else "not finite"


def _figures_of(run: ReportedRun) -> dict[str, dict[str, float]]:
    record, tested = run
    found: dict[str, dict[str, float]] = {}
    summary = record.summary
    if summary is not None:
        found[f"{record.name}, validation"] = summary["validation"]
    if tested is not None:
        when = "" if summary is not None else f" (best so far, checkpoint of epoch {tested.epoch})"
        found[f"{record.name}, test{when}"] = tested.figures
        for kind, figures in (tested.spread or {}).items():
            found[f"{record.name}, test, {kind} of the members"] = figures
        baselines = tested.baselines
    elif summary is not None:
        found[f"{record.name}, test"] = summary["test"]
        baselines = summary["baselines"]
    else:
        return found
    named = list(baselines.items())[:MAX_BASELINES]
    return found | {f"{record.name}, baseline {shorten(name, 60)}": figures for name, figures in named}


def _notes_of(run: ReportedRun) -> list[Markup]:
    """What the figures are worth: of the predictions if there are any, else as summary.json has it."""
    summary = run.record.summary or {}
    if run.tested is not None:
        interval, against, near_zero = run.tested.judgement
        shared = dict(zip(("validation", "test"), run.tested.shared, strict=True))
    else:
        found = [summary.get(key) for key in ("test_mae_interval", "against_baselines", "accuracy_near_zero")]
        interval, against, near_zero = ({} if value is None else value for value in found)
        if summary and not against:  # of a run that was written before it was judged
            baselines = {name: figures["mae"] for name, figures in summary["baselines"].items()}
            against = compare_with_baselines(summary["test"]["mae"], baselines)
        shared = summary.get("shared_rows") or {}
    lines, warning = [], ""
    try:  # of another version the file may hold something else
        if against:
            lines.append(against["sentence"])
        if interval:
            lines.append(describe_interval(interval))
        if near_zero:
            lines.append(describe_near_zero(near_zero))
        if shared:
            warning = leakage_warning(shared["validation"], shared["test"])
    except (KeyError, TypeError, ValueError, AttributeError):
        run.record.missing.append("summary.json: what the figures are worth is not in a form that is known here.")
    notes = [paragraph(_as_sentence(line)) for line in lines if line]
    if run.tested is not None or shared:
        seen = warning or "no validation or test row stands in the training part"
        notes.append(element("div", paragraph(_as_sentence(seen)), class_="notice" if warning else None))
    return notes


def _as_sentence(line: str) -> str:
    if line.startswith("mae:"):
        return f"MAE{line[3:]}."
    line = shorten(line, MAX_LINE)
    return f"{line[:1].upper()}{line[1:]}."


def _different_tests(runs: list[ReportedRun]) -> str:
    described = [(run.record.environment or {}).get("data", {}).get("sha256") for run in runs]
    settings = [_values_of(run, KEYS_OF_THE_TEST) for run in runs]
    if any(settings[0] != other for other in settings) or len(set(map(str, described))) > 1:
        return (
            "These runs were not all tested on the same rows (the data or the split differ), so their figures cannot be"
            " compared directly; --split-seed gives runs of different seeds the same split."
        )
    return ""


def _different_losses(runs: list[ReportedRun]) -> str:
    settings = [_values_of(run, KEYS_OF_THE_LOSS) for run in runs]
    if any(settings[0] != other for other in settings):
        return "The loss is not the same in all runs (its kind, target or unit differ): compare mae and rmse."
    return ""


def _values_of(run: ReportedRun, keys: tuple[str, ...]) -> list[Any]:
    config = run.record.config or {}
    values = {key: config.get(key) for key in keys}
    if "split_seed" in values:  # the run's seed stands in for it
        seed = values.pop("seed", None)
        values["split_seed"] = seed if values["split_seed"] is None else values["split_seed"]
    return list(values.values())


def curves_section(runs: list[ReportedRun]) -> Markup:
    """Returns the learning curves of all runs, laid over each other."""
    heading = element("h2", "Learning curves")
    with_epochs = [(number, run.record) for number, run in enumerate(runs) if run.record.epochs]
    if not with_epochs:
        return element("section", heading, paragraph("No epoch is finished yet."))
    charts = []
    for name, title in (("loss", "Loss"), ("mae", "Mean absolute error")):
        series, told = [], []
        for color, record in with_epochs:
            epochs = np.array([epoch["epoch"] for epoch in record.epochs])
            for part in ("training", "validation"):
                values = np.array([epoch[part][name] for epoch in record.epochs])
                is_training = part == "training"
                part_color = color + 1 if is_training and len(runs) == 1 else color
                series.append(Series(epochs, values, part_color, is_dashed=is_training))
            told.append(_tell_curve(record.name, epochs, values, name))
        unit = "normalised units" if name == "loss" else "the data's units"
        chart = line_chart(
            series, x_label="epoch", y_label=f"{name}, in {unit}", description="; ".join(told), is_log=True
        )
        charts.append(chart_box(title, chart, level=3))
    if len(runs) == 1:
        names, lead = legend([("validation", 0, False), ("training", 1, True)]), ""
    else:
        names = legend([(shorten(record.path), color, False) for color, record in with_epochs])
        lead = "Solid: validation; dashed: training. "
    if any(record.config and record.config["ensemble"] > 1 for _, record in with_epochs):
        lead += "Of an ensemble the mean over its members. "
    note = paragraph(f"{lead}The upright axis is logarithmic; a value of 0 is a gap.", class_="soft")
    return element("section", heading, names, element("div", *charts, class_="charts"), note)


def _tell_curve(run: str, epochs: np.ndarray, values: np.ndarray, name: str) -> str:
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return f"{run}: validation {name} is never finite"
    best = finite[np.argmin(values[finite])]
    return (
        f"{run}: validation {name} from {values[finite[0]]:.3g} in epoch {epochs[finite[0]]} to"
        f" {values[finite[-1]]:.3g} in epoch {epochs[finite[-1]]}, lowest {values[best]:.3g} in epoch {epochs[best]}"
    )
