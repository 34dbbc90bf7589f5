"""The part of the page about a run's test sequences: what a person would look at, by the run's task."""

import numpy as np

from jaxrnn.data.sequences import IDS
from jaxrnn.evaluation.sequence_errors import error_of_each
from jaxrnn.pages import markup
from jaxrnn.pages.class_sections import confusions_of, name_of, reliability_chart
from jaxrnn.pages.error_charts import errors_by_group, scatters
from jaxrnn.pages.markup import Markup, element, paragraph
from jaxrnn.pages.predictions import TestedSequences
from jaxrnn.pages.sequence_drawings import (
    MAX_TARGETS,
    actual_numbers,
    draw_sequences,
    explain_drawings,
    name_sequence,
    tell,
    true_class,
)

NUM_WORST, NUM_DRAWN = 10, 3


def sequence_parts(tested: TestedSequences) -> list[Markup]:
    """Returns the charts of a run's test sequences, the worst of them and typical ones."""
    parts = [*_charts_of_classes(tested)] if tested.model.classes else [*_charts_of_numbers(tested)]
    errors = error_of_each(tested.evaluation, tested.model)
    order = _distinct_worst_first(tested, errors)
    wrong = order[_is_wrong(tested)[order]]
    if len(wrong):
        parts.append(_table_of_worst(tested, errors, wrong[:NUM_WORST]))
    parts.append(explain_drawings(tested))
    worst = (wrong if len(wrong) else order)[:NUM_DRAWN]
    typical = _typical(order[~np.isin(order, worst)])
    for heading, chosen in ((_heading_of_worst(tested, are_wrong=len(wrong) > 0), worst), ("Typical", typical)):
        if len(chosen):
            parts += [element("h4", heading), draw_sequences(tested, list(map(int, chosen)), 5)]
    return parts


def _charts_of_classes(tested: TestedSequences) -> list[Markup]:
    return [confusions_of(tested), element("div", reliability_chart(tested), class_="charts")]


def _charts_of_numbers(tested: TestedSequences) -> list[Markup]:
    encoding = tested.model.encoding
    assert encoding is not None
    names, actual, predicted = encoding.targets.names, actual_numbers(tested), tested.evaluation.predicted
    charts = []
    for place, name in enumerate(names[:MAX_TARGETS]):
        title = f"{name_of(name)}: " if len(names) > 1 else ""
        numbers = (actual[:, place], predicted[:, place])
        charts += scatters(*numbers, whats=f"values of {name_of(name)}", label=name_of(name), title=title)
    lengths = tested.sequences.lengths
    if len(names) == 1:
        error = np.abs(predicted - actual)[:, 0]
        charts.append(errors_by_group("Error by length", "steps of the sequence", lengths, error))
        magnitude = np.abs(actual[:, 0])
        label = f"|actual {name_of(names[0])}|"
        charts.append(errors_by_group("Error by magnitude of the target", label, magnitude, error))
    else:
        error, unit = error_of_each(tested.evaluation, tested.model), "normalised units, the mean over the targets"
        charts.append(errors_by_group("Error by length", "steps of the sequence", lengths, error, unit))
    parts = [element("div", *charts, class_="charts")]
    if len(names) > MAX_TARGETS:
        parts.append(paragraph(f"Of {len(names):,} targets the first {MAX_TARGETS} are shown.", class_="soft"))
    return parts


def _distinct_worst_first(tested: TestedSequences, errors: np.ndarray) -> np.ndarray:
    """Returns the sequences by falling error; of those that hold the same, answer included, the first."""
    order = np.argsort(np.where(np.isfinite(errors), -errors, -np.inf), kind="stable")
    groups = np.stack([tested.sequences.group_ids(), np.unique(errors, return_inverse=True)[1]], axis=1)
    _, first = np.unique(groups[order], axis=0, return_index=True)
    return order[np.sort(first)]


def _is_wrong(tested: TestedSequences) -> np.ndarray:
    """Returns which sequences are not predicted as they are; numbers never quite are."""
    rows, predicted = tested.evaluation.rows, tested.evaluation.predicted
    if not tested.model.classes:
        return np.ones(len(rows), bool)
    wrong = predicted.argmax(axis=1) != np.asarray(rows.targets)
    if not rows.every:
        return wrong
    sums = np.concatenate([[0], np.cumsum(wrong)])
    return np.diff(sums[rows.offsets]) > 0


def _typical(order: np.ndarray) -> np.ndarray:
    """Returns those in the middle."""
    number = min(NUM_DRAWN, len(order))
    middle = (len(order) - number) // 2
    return order[middle : middle + number]


def _heading_of_worst(tested: TestedSequences, *, are_wrong: bool) -> str:
    if not tested.model.classes:
        return "The largest errors"
    if tested.evaluation.rows.every:
        return "The largest shares of wrong steps" if are_wrong else "Some of those that are right, as all are"
    return "The most surely wrong" if are_wrong else "The least sure, all of them right"


def _table_of_worst(tested: TestedSequences, errors: np.ndarray, worst: np.ndarray) -> Markup:
    rows, classes = tested.evaluation.rows, tested.model.classes
    told: list[list[str]]
    if rows.every:
        header, which = ["steps", "share that is wrong"], "The sequences with the largest shares of wrong steps"
        told = [[tell(tested, sequence), f"{errors[sequence]:.1%}"] for sequence in worst]
    elif classes:
        header = ["class told", "its probability", "true class", "its probability"]
        which = "The sequences that are most surely wrong"
        taken, sure = tested.evaluation.predicted.argmax(axis=1), tested.evaluation.predicted.max(axis=1)
        told = [
            [name_of(classes[taken[one]]), f"{sure[one]:.4f}", true_class(tested, one), f"{1 - errors[one]:.4f}"]
            for one in worst
        ]
    else:
        which, shown, kind = "The sequences with the largest errors", errors, "error, normalised"
        if tested.evaluation.predicted.shape[1] == 1:
            shown, kind = np.abs(tested.evaluation.predicted - actual_numbers(tested))[:, 0], "error"
        header, told = ["numbers", kind], [[tell(tested, sequence), f"{shown[sequence]:.4g}"] for sequence in worst]
    lengths = [f"{length:,}" for length in tested.sequences.lengths[worst]]
    names = [name_sequence(tested, sequence) for sequence in worst]
    body = [
        [place, name, length, *cells]
        for place, (name, length, cells) in enumerate(zip(names, lengths, told, strict=True), start=1)
    ]
    numbered = "" if IDS in tested.sequences.rows else "; rows are counted from 1"
    header = ["", "sequence", "length", *header]
    return markup.table(header, body, caption=f"{which}, of like ones the first{numbered}", is_text=True)
