"""Single sequences, drawn: their numbers as lines, their categories as text, tags as bands of colour below."""

from typing import NamedTuple

import numpy as np

from jaxrnn.data.sequences import CATEGORIES, IDS, LABELS, Sequences
from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages import markup
from jaxrnn.pages.charts import NUM_COLORS, Band, Series, legend, line_chart
from jaxrnn.pages.class_sections import name_of
from jaxrnn.pages.markup import Markup, element, join, paragraph
from jaxrnn.pages.predictions import TestedSequences

MAX_FEATURES = NUM_COLORS
MAX_POINTS = 200  # of a line: several stand in a chart, and three charts in a row
MAX_CATEGORIES = 4  # columns of them
MAX_TARGETS = 3
MAX_TEXT, MAX_ID, MAX_TOKEN = 400, 40, 20
# Of a longer sequence the tags around the first wrong one are shown.
MAX_TAGGED_STEPS, MAX_TAGGED_TOKENS = 120, 30
STEPS_BEFORE = 10


class Window(NamedTuple):
    """Steps of a sequence that are drawn, from `start` up to `end`, of `length`."""

    start: int
    end: int
    length: int

    def __str__(self) -> str:
        if self.end - self.start == self.length:
            return f"{self.length:,} step{'s' * (self.length != 1)}"
        return f"steps {self.start + 1:,} to {self.end:,} of {self.length:,}"


def draw_sequence(tested: TestedSequences, sequence: int, level: int) -> Markup:
    """Draws a sequence, with what was predicted and what is true as its heading."""
    rows, targets = tested.evaluation.rows, np.asarray(tested.evaluation.rows.targets)
    start, end = int(rows.offsets[sequence]), int(rows.offsets[sequence + 1])
    wrong = np.zeros(end - start, bool)
    if rows.every:
        wrong = tested.evaluation.predicted[start:end].argmax(axis=1) != targets[start:end]
    has_lines, is_text = rows.inputs.shape[1] > 0, rows.categories.shape[1] > 0
    limit = (MAX_TAGGED_STEPS if has_lines else MAX_TAGGED_TOKENS) if rows.every else end - start
    window = _window(wrong, limit)
    parts: list[object] = [element(f"h{level}", f"{name_sequence(tested, sequence)}: {tell(tested, sequence)}")]
    single = tested.sequences[sequence]
    if has_lines:
        parts.append(_lines(tested, sequence, window))
    if is_text and rows.every and not has_lines:
        parts.append(_tagged_tokens(tested, sequence, single, window, wrong))
    elif is_text:
        parts += [element("p", text, class_="tokens") for text in _texts(tested, single)]
    if rows.every and has_lines:
        parts.append(markup.folded("The tags", *_tags_in_words(tested, sequence, single, window)))
    return element("figure", *parts)


def draw_sequences(tested: TestedSequences, chosen: list[int], level: int) -> Markup:
    """Draws some sequences beside each other; those that are wide, a table of tags each, one below the other."""
    rows = tested.evaluation.rows
    is_wide = rows.every and not rows.inputs.shape[1]
    drawn = [draw_sequence(tested, sequence, level) for sequence in chosen]
    return element("div", *drawn, class_=None if is_wide else "charts drawn")


def explain_drawings(tested: TestedSequences) -> Markup:
    """Returns the names of the colours and what is drawn in which unit."""
    rows, encoding = tested.evaluation.rows, tested.model.encoding
    assert encoding is not None
    parts, notes = [], []
    names = encoding.inputs.names
    if len(names) > 1:
        shown = [name_input(name, number) for number, name in enumerate(names[:MAX_FEATURES])]
        parts.append(legend([(name, color, False) for color, name in enumerate(shown)]))
        more = f"; of {len(names):,} inputs the first {MAX_FEATURES} are drawn" if len(names) > MAX_FEATURES else ""
        notes.append(f"Lines: the inputs as the network reads them, normalised{more}.")
    if rows.every and names:
        tags = [(f"tag {name_of(text)}", number, False) for number, text in enumerate(tested.model.classes)]
        parts.append(legend(tags[:MAX_FEATURES]))
        more = " Further tags have the same colours again." if len(tags) > MAX_FEATURES else ""
        notes.append(f"Bands: the true tag of each step, and the model's, with a line below wrong ones.{more}")
    if tested.task == "next":
        notes.append("The last step, which is predicted, is not drawn.")
    if notes:
        parts.append(paragraph(" ".join(notes), class_="soft"))
    return join(parts)


def name_sequence(tested: TestedSequences, sequence: int) -> str:
    """Returns a sequence's id, or where there are none its number in the file."""
    ids = tested.sequences.rows.get(IDS)
    if ids is None:
        return f"row {tested.row_numbers[sequence]:,}"
    return f"id {shorten(ids.take([sequence]).texts()[0], MAX_ID)}"


def name_input(name: str, number: int) -> str:
    """Writes an input's name; one that is only counted is called an input."""
    return f"input {number + 1}" if name == str(number) else name_of(name)


def tell(tested: TestedSequences, sequence: int) -> str:
    """Says what was predicted of a sequence, and what is true."""
    rows, classes = tested.evaluation.rows, tested.model.classes
    targets = np.asarray(rows.targets)
    if rows.every:
        steps = slice(rows.offsets[sequence], rows.offsets[sequence + 1])
        right = tested.evaluation.predicted[steps].argmax(axis=1) == targets[steps]
        return f"{right.sum():,} of {right.size:,} steps right"
    if classes:
        probabilities = tested.evaluation.predicted[sequence]
        told = f"{name_of(classes[int(probabilities.argmax())])} ({probabilities.max():.1%})"
        if probabilities.argmax() == targets[sequence]:
            return f"{told}, right"
        return f"{told}, true: {true_class(tested, sequence)}"
    encoding = tested.model.encoding
    assert encoding is not None
    names, actual = encoding.targets.names, actual_numbers(tested)[sequence]
    found = tested.evaluation.predicted[sequence]
    return "; ".join(
        (f"{name_of(name)} " if len(names) > 1 else "") + f"predicted {found[place]:.4g}, actual {actual[place]:.4g}"
        for place, name in enumerate(names[:MAX_TARGETS])
    )


def true_class(tested: TestedSequences, sequence: int) -> str:
    """Returns the class of a sequence as its file has it, and whether training has seen it."""
    label = tested.sequences.rows[LABELS].take([sequence]).texts()[0]
    is_known = np.asarray(tested.evaluation.rows.targets)[sequence] >= 0
    return name_of(label) + ("" if is_known else " (not in the training rows)")


def actual_numbers(tested: TestedSequences) -> np.ndarray:
    """Returns the numbers that were to be predicted, in the data's units, (sequences, targets)."""
    encoding = tested.model.encoding
    assert encoding is not None
    targets = np.asarray(tested.evaluation.rows.targets, np.float64)
    return encoding.targets.denormalize(targets)


def _window(wrong: np.ndarray, limit: int) -> Window:
    length = len(wrong)
    first = int(np.argmax(wrong)) if wrong.any() else 0
    start = max(0, min(first - STEPS_BEFORE, length - limit))
    return Window(start, min(start + limit, length), length)


def _lines(tested: TestedSequences, sequence: int, window: Window) -> Markup:
    rows, encoding = tested.evaluation.rows, tested.model.encoding
    assert encoding is not None
    first = int(rows.offsets[sequence])
    values = rows.inputs[first + window.start : first + window.end, :MAX_FEATURES].astype(np.float64)
    names = encoding.inputs.names
    label = "inputs, normalised"
    if len(names) == 1:
        values = encoding.inputs.denormalize(values)
        label = name_input(names[0], 0)
    x = np.arange(window.start, window.end) + 1.0
    bands = _bands(tested, sequence, window, x) if rows.every else []
    return line_chart(
        [Series(x, column, color) for color, column in enumerate(values.T)],
        x_label="step",
        y_label=label,
        description=f"The inputs of {name_sequence(tested, sequence)}, {window}: {tell(tested, sequence)}",
        bands=bands,
        max_points=MAX_POINTS,
    )


def _bands(tested: TestedSequences, sequence: int, window: Window, x: np.ndarray) -> list[Band]:
    true, taken = _tags(tested, sequence, window)
    return [Band("true", x, true, np.zeros(len(x), bool)), Band("model", x, taken, true != taken)]


def _tags(tested: TestedSequences, sequence: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true classes of some steps, -1 where unknown, and those that the model tells."""
    rows = tested.evaluation.rows
    first = int(rows.offsets[sequence])
    steps = slice(first + window.start, first + window.end)
    return np.asarray(rows.targets)[steps], tested.evaluation.predicted[steps].argmax(axis=1)


def _texts(tested: TestedSequences, single: Sequences) -> list[str]:
    """Returns the categories of a sequence's steps as running text, a line a column; letters stand close."""
    encoding = tested.model.encoding
    assert encoding is not None
    names = [name for name, _ in encoding.categories[:MAX_CATEGORIES]]
    lines = []
    for name in names:
        tokens = _tokens(single, name)
        text = ("" if all(len(token) == 1 for token in tokens) else " ").join(tokens)
        lines.append((f"{name_of(name)}: " if len(names) > 1 else "") + shorten(text, MAX_TEXT))
    return lines


def _tokens(single: Sequences, name: str) -> list[str]:
    field = single.steps[CATEGORIES]
    return field.texts(field.names.index(name))


def _tagged_tokens(
    tested: TestedSequences, sequence: int, single: Sequences, window: Window, wrong: np.ndarray
) -> Markup:
    """Returns the steps' categories with the tags below them; wrong ones are marked."""
    encoding, classes = tested.model.encoding, tested.model.classes
    assert encoding is not None
    steps = slice(window.start, window.end)
    taken = _tags(tested, sequence, window)[1]
    kinds = ["differs" if is_wrong else None for is_wrong in wrong[steps]]
    rows = [
        [name_of(name), *[shorten(token, MAX_TOKEN) for token in _tokens(single, name)[steps]]]
        for name, _ in encoding.categories[:MAX_CATEGORIES]
    ]
    rows.append(["true", *map(name_of, single.steps[LABELS].texts()[steps])])
    rows.append(["model", *[name_of(classes[number]) for number in taken]])
    classes_of_cells = [[None] * len(taken)] * (len(rows) - 1) + [kinds]
    header = ["step", *range(window.start + 1, window.end + 1)]
    caption = f"Tags of {name_sequence(tested, sequence)}, {window}; wrong ones are marked"
    return markup.table(header, rows, caption=caption, cell_classes=classes_of_cells)


def _tags_in_words(tested: TestedSequences, sequence: int, single: Sequences, window: Window) -> list[Markup]:
    taken = _tags(tested, sequence, window)[1]
    true = single.steps[LABELS].texts()[window.start : window.end]
    told = [tested.model.classes[number] for number in taken]
    return [
        paragraph(f"{name}: {shorten(_runs(texts, window.start + 1), MAX_TEXT)}", class_="soft")
        for name, texts in (("True", true), ("Model", told))
    ]


def _runs(texts: list[str], first: int) -> str:
    """Writes tags one after the other, each with the steps that have it."""
    changes = [place for place, text in enumerate(texts) if not place or text != texts[place - 1]]
    return ", ".join(
        f"{name_of(texts[start])} {first + start}" + (f" to {first + end - 1}" if end - start > 1 else "")
        for start, end in zip(changes, [*changes[1:], len(texts)], strict=True)
    )
