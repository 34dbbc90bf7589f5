"""What is measured of training sequences: all that an encoding is made from, whatever the settings of a run."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.columns import CollectedColumns, ColumnMoments, as_moments, moments_of
from jaxrnn.data.sequences import CATEGORIES, INPUTS, LABELS, STATICS, TARGETS, Field, Sequences, ids_of, mark_of
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten


class Counted(NamedTuple):
    """A column of texts, and how often each of them comes.

    Attributes:
      name: The column's.
      texts: Every one, in the order in which they are numbered; also those that training has not.
      counts: How many training steps, or sequences, have each.
    """

    name: str
    texts: tuple[str, ...]
    counts: tuple[int, ...]

    def most_frequent(self, limit: int) -> tuple[str, ...]:
        """Returns so many texts at most that come at all, in the order of their numbers."""
        counts = np.array(self.counts, np.int64)
        kept = np.sort(np.argsort(-counts, kind="stable")[: min(limit, int((counts > 0).sum()))])
        return tuple(self.texts[code] for code in kept)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What `jaxrnn.data.encoding.Encoding` needs to know of training sequences.

    Attributes:
      inputs: The numbers of every step.
      statics: The numbers of a whole sequence.
      targets: The numbers to predict.
      categories: The columns of categories, counted by steps.
      classes: The classes; None where numbers are predicted.
      medians: The median of each target.
      means: The mean of each.
    """

    inputs: tuple[ColumnMoments, ...] = ()
    statics: tuple[ColumnMoments, ...] = ()
    targets: tuple[ColumnMoments, ...] = ()
    categories: tuple[Counted, ...] = ()
    classes: Counted | None = None
    medians: tuple[float, ...] = ()
    means: tuple[float, ...] = ()

    @classmethod
    def of(cls, training: Sequences, task: str) -> "Statistics":
        """Measures sequences.

        Args:
          training: The training sequences.
          task: What is predicted.

        Raises:
          DataError: What the task predicts is missing.
        """
        measured = cls(
            inputs=moments_of(training.steps.get(INPUTS)),
            statics=moments_of(training.rows.get(STATICS)),
            categories=tuple(count_categories(training)),
        )
        if task not in ("regress", "next"):
            return dataclasses.replace(measured, classes=_count_classes(training, task))
        names, values = targets_of(training) if task == "regress" else values_of(training)
        return dataclasses.replace(
            measured,
            targets=moments_of(Field(names, values)),
            medians=tuple(map(float, np.median(values, axis=0))) if len(values) else (),
            means=tuple(map(float, values.mean(axis=0))) if len(values) else (),
        )

    @classmethod
    def of_blocks(cls, blocks: Iterable[Sequences], task: str) -> "Statistics":
        """Measures sequences that come in pieces; of all of them it holds the numbers to predict alone.

        Args:
          blocks: The training sequences; columns and vocabularies of all blocks are the same.
          task: What is predicted.

        Raises:
          DataError: What the task predicts is missing.
        """
        inputs, statics, targets = CollectedColumns(), CollectedColumns(), CollectedColumns()
        categories = CollectedCategories()
        classes: Counted | None = None
        answers: list[NDArray[np.float64]] = []
        for block in blocks:
            inputs.add(block.steps.get(INPUTS))
            statics.add(block.rows.get(STATICS))
            categories.add(block)
            if task in ("regress", "next"):
                names, values = targets_of(block) if task == "regress" else values_of(block)
                targets.add(Field(names, values))
                answers.append(values)
            else:
                classes = _added(classes, _count_classes(block, task))
        moments = targets.moments()
        medians = []
        for i in range(len(moments)):
            medians.append(float(np.median(np.concatenate([values[:, i] for values in answers]))))
        return cls(
            inputs=inputs.moments(),
            statics=statics.moments(),
            targets=moments,
            categories=categories.counted(),
            classes=classes,
            medians=tuple(medians),
            means=tuple(column.mean for column in moments),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        flat = dataclasses.asdict(self)
        for key in ("inputs", "statics", "targets", "categories"):
            flat[key] = [one._asdict() for one in getattr(self, key)]
        return flat | {"classes": None if self.classes is None else self.classes._asdict()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Statistics":
        """Returns what a prepared data set describes.

        Raises:
          ValueError, TypeError, KeyError: It does not.
        """
        moments = {
            key: tuple(as_moments(column) for column in content[key]) for key in ("inputs", "statics", "targets")
        }
        classes = content["classes"]
        found = cls(
            **moments,
            categories=tuple(_as_counted(column) for column in content["categories"]),
            classes=None if classes is None else _as_counted(classes),
            medians=tuple(map(float, content["medians"])),
            means=tuple(map(float, content["means"])),
        )
        if not len(found.medians) == len(found.means) == len(found.targets):
            raise ValueError("medians")
        if not np.isfinite([*found.medians, *found.means]).all():
            raise ValueError("medians")
        return found


class CollectedCategories:
    """The columns of categories of sequences that come in pieces."""

    def __init__(self) -> None:
        self._counted: list[Counted] = []

    def add(self, block: Sequences) -> None:
        """Takes a piece, whose vocabularies are those of all."""
        now = list(count_categories(block))
        before = self._counted
        self._counted = [_added(one, more) for one, more in zip(before, now, strict=True)] if before else now

    def counted(self) -> tuple[Counted, ...]:
        """Returns what all pieces hold."""
        return tuple(self._counted)


def count_categories(training: Sequences) -> Iterable[Counted]:
    """Yields each column of categories, counted by steps, those of whole sequences too."""
    for name, field, column, owner in category_columns(training):
        codes = field.values[:, column] if owner is None else field.values[owner, column]
        yield _count(name, codes, field.vocabulary[column])


def _count_classes(training: Sequences, task: str) -> Counted:
    labels = labels_of(training, each_step=task == "tag")
    return _count(labels.names[0], labels.values[:, 0], labels.vocabulary[0])


def _count(name: str, codes: NDArray[Any], texts: tuple[str, ...]) -> Counted:
    return Counted(name, texts, tuple(np.bincount(codes, minlength=len(texts)).tolist()))


def _added(before: Counted | None, more: Counted) -> Counted:
    if before is None:
        return more
    return more._replace(counts=tuple(a + b for a, b in zip(before.counts, more.counts, strict=True)))


def _as_counted(content: Mapping[str, Any]) -> Counted:
    name, texts, counts = content["name"], tuple(content["texts"]), tuple(content["counts"])
    is_text = all(isinstance(text, str) for text in (name, *texts))
    if (
        not is_text
        or len(texts) != len(counts)
        or any(type(count) is not int or not 0 <= count < 2**62 for count in counts)
    ):
        raise ValueError("counts")
    return Counted(name, texts, counts)


def category_columns(sequences: Sequences) -> Iterator[tuple[str, Field, int, NDArray[np.int64] | None]]:
    """Yields each column of categories: its name, its field, its place there, and for columns of whole sequences the
    sequence of every step."""
    for fields, owner in ((sequences.steps, None), (sequences.rows, sequences.owners())):
        field = fields.get(CATEGORIES)
        if field is not None:
            yield from ((name, field, column, owner) for column, name in enumerate(field.names))


def labels_of(sequences: Sequences, *, each_step: bool) -> Field:
    """Returns the labels of sequences, or of every step.

    Raises:
      DataError: There are none.
    """
    field = (sequences.steps if each_step else sequences.rows).get(LABELS)
    if field is not None:
        return field
    whose = "every step" if each_step else "a sequence"
    raise DataError(f"found no label of {whose}; expected what is to be predicted; name its column by --label-column")


def targets_of(sequences: Sequences) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Returns the numbers of whole sequences to predict: targets of rows, or labels, or targets that do not change.

    Raises:
      DataError: There are none, one is no number, or one changes within a sequence.
    """
    of_rows = sequences.rows.get(TARGETS)
    if of_rows is not None:
        return of_rows.names, np.asarray(of_rows.values, np.float64)
    labels, field = sequences.rows.get(LABELS), sequences.steps.get(TARGETS)
    if labels is not None:
        values = np.array([_as_number(text) for text in labels.vocabulary[0]])[labels.values[:, 0]]
        if not np.isfinite(values).all():
            row = int(np.argmax(~np.isfinite(values)))
            name, found = escape(shorten(labels.names[0])), escape(shorten(labels.texts()[row]))
            sequence = escape(shorten(str(ids_of(sequences)[row])))
            raise DataError(
                f"sequence {sequence!r}: column {name!r}: found {found!r}; expected a number with task = regress; mend"
                " it, or leave the sequence out"
            )
        return labels.names, values[:, None]
    if field is None:
        raise DataError(
            "found no number of a sequence to predict; expected one; name its column by --label-column, or several by"
            " --target-columns"
        )
    values = field.values[sequences.offsets[:-1]]
    owner = sequences.owners()
    changes = (field.values != values[owner]).any(axis=1)
    if changes.any():
        number = int(owner[np.argmax(changes)])
        raise DataError(
            f"sequence {number}: found target columns whose values change from step to step; expected one value a"
            " sequence with task = regress"
        )
    return field.names, np.asarray(values, np.float64)


def values_of(sequences: Sequences) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Returns the numbers of every step whose next ones are predicted: the targets, or without any the inputs.

    Raises:
      DataError: There are none.
    """
    field = sequences.steps.get(TARGETS) or sequences.steps.get(INPUTS)
    if field is None:
        raise DataError("found no number of a step; expected one to predict; name columns by --target-columns")
    marked = next((name for name in field.names if mark_of(name) in field.names), None)
    if marked is not None and TARGETS not in sequences.steps:
        raise DataError(
            f"column {escape(shorten(marked))!r}: found marks of what is missing; expected values alone: name those to"
            " predict by --target-columns, or give --missing=forward"
        )
    return field.names, np.asarray(field.values, np.float64)


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
