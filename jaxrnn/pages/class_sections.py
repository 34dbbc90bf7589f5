"""Parts of the page about classes: which are taken for each other, and how sure that is done."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrnn.evaluation.sequence_errors import count_confusions, reliability
from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages import markup
from jaxrnn.pages.charts import Series, chart_box, legend, line_chart
from jaxrnn.pages.markup import Markup, paragraph
from jaxrnn.pages.predictions import TestedSequences
from jaxrnn.pages.shell import NUM_SHADES

MAX_CLASSES = 30
MAX_NAME = 24  # letters of a class's name
MODEL_COLOR, EQUAL_COLOR = 0, 7


def confusion_table(classes: Sequence[str], counts: np.ndarray, what: str) -> Markup:
    """Returns how often each class was taken for each other one, the cells shaded by their share of the true class.

    Args:
      classes: The classes' texts.
      counts: (classes, classes), true ones first.
      what: What is counted, such as sequences.
    """
    totals, right = counts.sum(axis=1), np.diag(counts)
    kept = np.arange(len(classes))
    note = Markup("")
    if len(classes) > MAX_CLASSES:
        wrong = totals + counts.sum(axis=0) - 2 * right
        kept = np.sort(np.argsort(-wrong, kind="stable")[:MAX_CLASSES])
        note = paragraph(
            f"Of {len(classes):,} classes those {MAX_CLASSES} are shown that are most often in an error; the sums count"
            " the others too.",
            class_="soft",
        )
    names = [name_of(text) for text in classes]
    rows, kinds = [], []
    for true in kept:
        shares = counts[true] / max(totals[true], 1)
        share = f"{shares[true]:.1%}" if totals[true] else "-"
        rows.append([names[true], *[f"{counts[true, taken]:,}" for taken in kept], f"{totals[true]:,}", share])
        kinds.append([_shade(shares[taken], is_right=taken == true) for taken in kept] + [None, None])
    caption = f"Confusion matrix: {what} of each true class (lines) by the class that the model tells (columns)"
    header = ["true class", *[names[taken] for taken in kept], "all", "right"]
    return markup.join([markup.table(header, rows, caption=caption, cell_classes=kinds), note])


def confusions_of(tested: TestedSequences) -> Markup:
    """Returns the confusion matrix of a run's test sequences, or of their steps."""
    classes, rows = tested.model.classes, tested.evaluation.rows
    counts = count_confusions(tested.evaluation.predicted, rows, len(classes))
    return confusion_table(classes, counts, "steps" if rows.every else "sequences")


def confusions_of_summary(summary: dict[str, Any], task: str) -> Markup | None:
    """Returns the confusion matrix that summary.json holds; None if there is none, or something else."""
    try:
        found = summary["confusion_matrix"]
        classes, counts = found["classes"], np.array(found["counts"])
        is_one = counts.shape == (len(classes), len(classes)) and counts.dtype.kind == "i" and counts.min() >= 0
        if not is_one or not all(isinstance(text, str) for text in classes):
            return None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return confusion_table(classes, counts, "steps" if task == "tag" else "sequences")


def reliability_chart(tested: TestedSequences) -> Markup:
    """Draws how often predictions are right against how sure they are, with the numbers folded below."""
    predicted, targets = tested.evaluation.predicted, np.asarray(tested.evaluation.rows.targets)
    sure, right, counts = reliability(predicted.max(axis=1), predicted.argmax(axis=1) == targets)
    ends, what = np.array([0.0, 1.0]), "steps" if tested.evaluation.rows.every else "sequences"
    told = "; ".join(f"{a:.2f} sure, {b:.2f} right" for a, b in zip(sure, right, strict=True))
    chart = line_chart(
        [Series(ends, ends, EQUAL_COLOR, is_dashed=True), Series(sure, right, MODEL_COLOR, has_dots=True)],
        x_label="mean probability of the class told",
        y_label=f"share of {what} that is right",
        description=f"How often predictions are right against how sure they are: {told}",
    )
    names = legend([("the model", MODEL_COLOR, False), ("as right as sure", EQUAL_COLOR, True)])
    rows = [[f"{a:.4f}", f"{b:.4f}", f"{count:,}"] for a, b, count in zip(sure, right, counts, strict=True)]
    numbers = markup.table(
        ["mean probability", "right", what], rows, caption="Reliability, in ten ranges of probability"
    )
    return chart_box("Reliability", chart, names, markup.folded("The numbers", numbers))


def name_of(text: str) -> str:
    """Writes a class's name, at most so long that a table keeps its columns."""
    return shorten(text, MAX_NAME)


def _shade(share: float, *, is_right: bool) -> str | None:
    number = int(np.ceil(share * NUM_SHADES))
    return f"{'right' if is_right else 'wrong'}{number}" if number else None
