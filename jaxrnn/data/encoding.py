"""Between sequences as they were read and the arrays that a network takes: fitted on the training rows alone."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.scaling import Scaling, as_text, as_texts, columns_of, missing_column
from jaxrnn.data.sequences import INPUTS, STATICS, Field, Sequences
from jaxrnn.data.statistics import Statistics, category_columns, labels_of, targets_of, values_of
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config

if TYPE_CHECKING:
    from jaxrnn.data.series.ahead import Ahead, Series


class Sizes(NamedTuple):
    """What a network's shapes depend on besides its configuration.

    Attributes:
      inputs: Numbers at every step.
      categories: The categories of each column of them, the unknown one included.
      statics: Numbers of a whole sequence.
      outputs: Numbers that the head gives.
      ahead: What is read of other steps, to forecast: its numbers are the last ones of `inputs`.
    """

    inputs: int = 1
    categories: tuple[int, ...] = ()
    statics: int = 0
    outputs: int = 1
    ahead: "Ahead | None" = None

    @property
    def skipped(self) -> int:
        """Numbers of other steps, which the head reads too."""
        return 0 if self.ahead is None else self.ahead.width

    @property
    def read(self) -> int:
        """Numbers that the recurrent layer reads at a step, without embeddings and those of whole sequences."""
        levels = 0 if self.ahead is None else 2 * self.ahead.lags
        return self.inputs - levels + self.skipped


ONE_NUMBER = Sizes(inputs=0)  # rows of numbers, which need no encoding: one is read, and the next one predicted


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Sequences as flat arrays, in the network's units.

    Attributes:
      offsets: Where each sequence starts among the steps, (sequences + 1,).
      inputs: (steps, inputs) float32.
      categories: (steps, columns) int32; 0 is a category that training has not seen.
      statics: (sequences, statics) float32.
      targets: Classes, (sequences,) or (steps,) int32, -1 where unknown; or (sequences, targets) float64; of series
        to forecast (steps, columns) float32; None where there are none.
      every: Whether a target belongs to every step.
      before: With task = next the last two known values of each target, the latest first, in the network's units:
        float64 (sequences, 2, targets), NaN where there is none.
      series: With task = forecast what turns outputs into forecasts.
    """

    offsets: NDArray[np.int64]
    inputs: NDArray[np.float32]
    categories: NDArray[np.int32]
    statics: NDArray[np.float32]
    targets: NDArray[Any] | None
    every: bool = False
    before: NDArray[np.float64] | None = None
    series: "Series | None" = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The steps of each sequence."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.offsets.size - 1

    def of_last_targets(self) -> "Encoded":
        """Returns the same with the targets of each sequence's last step alone."""
        return dataclasses.replace(self, targets=np.asarray(self.targets)[self.offsets[1:] - 1], every=False)


_NO_COLUMNS = Scaling()


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What the training rows say of columns, categories and classes.

    Attributes:
      inputs: The numbers of every step.
      statics: The numbers of a whole sequence.
      targets: The numbers to predict.
      categories: Each column's name and the texts of its categories, which are numbered from 1.
      classes: The texts of the classes, numbered from 0.
      label: The name of the column that holds them.
      class_counts: How many training rows, or steps, have each class.
      target_medians: The median of each target in the training rows, in its units.
      target_means: The mean of each.
    """

    inputs: Scaling = _NO_COLUMNS
    statics: Scaling = _NO_COLUMNS
    targets: Scaling = _NO_COLUMNS
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classes: tuple[str, ...] = ()
    label: str = "label"
    class_counts: tuple[int, ...] = ()
    target_medians: tuple[float, ...] = ()
    target_means: tuple[float, ...] = ()

    @classmethod
    def fit(cls, training: Sequences, config: Config) -> "Encoding":
        """Fits everything on the training rows.

        Raises:
          DataError: What the task predicts is missing, or has one class only.
        """
        return cls.of(Statistics.of(training, config.task.task), config)

    @classmethod
    def of(cls, training: Statistics, config: Config) -> "Encoding":
        """Makes the encoding of what was measured of the training rows.

        Raises:
          DataError: There is one class only, or a column varies by less, or by more, than float32 holds.
        """
        limit = config.columns.max_tokens
        fitted = cls(
            inputs=Scaling.of(training.inputs, config),
            statics=Scaling.of(training.statics, config),
            categories=tuple((counted.name, counted.most_frequent(limit)) for counted in training.categories),
        )
        if training.classes is None:
            return dataclasses.replace(
                fitted,
                targets=Scaling.of(training.targets, config),
                target_medians=training.medians,
                target_means=training.means,
            )
        label, texts, counts = training.classes
        seen = [code for code, count in enumerate(counts) if count]
        if len(seen) < 2:
            only = "" if not seen else f", {escape(shorten(texts[seen[0]]))!r}"
            raise DataError(f"found {len(seen)} class in the training rows{only}; expected two or more to tell apart")
        return dataclasses.replace(
            fitted,
            classes=tuple(texts[code] for code in seen),
            label=label,
            class_counts=tuple(counts[code] for code in seen),
        )

    @property
    def reads_times(self) -> bool:
        """Whether the network is told something of the steps' times."""
        return False

    @property
    def step_width(self) -> int:
        """How many numbers a step of a batch has, about."""
        return len(self.inputs.names) + len(self.categories)

    @property
    def sizes(self) -> Sizes:
        """What the network's shapes depend on."""
        outputs = len(self.classes) or len(self.targets.names)
        counts = tuple(len(texts) + 1 for _, texts in self.categories)
        return Sizes(len(self.inputs.names), counts, len(self.statics.names), outputs)

    def encode_training(self, sequences: Sequences, task: str, *, every: bool = False) -> Encoded:
        """Encodes sequences that train; as `encode`."""
        return self.encode(sequences, task, every=every)

    def encode(self, sequences: Sequences, task: str, *, with_targets: bool = True, every: bool = False) -> Encoded:
        """Turns sequences into the arrays that the network takes.

        Args:
          sequences: As they were read.
          task: What is predicted.
          with_targets: Whether they have what is to be predicted.
          every: With task = next whether the values after every step are to be predicted, not the last ones alone.

        Raises:
          DataError: A column is missing, or a value is beyond float32 once normalised.
        """
        targets: NDArray[Any] | None = None
        if task == "next":
            return self._encode_next(sequences, with_targets=with_targets, every=every)
        if with_targets and task == "regress":
            targets = self.targets.normalize(targets_of(sequences)[1])
        elif with_targets:
            labels = labels_of(sequences, each_step=task == "tag")
            targets = _recode(labels, 0, self.classes, unknown=-1, first=0)
        return dataclasses.replace(self._encode_steps(sequences), targets=targets, every=task == "tag")

    def _encode_steps(self, sequences: Sequences) -> Encoded:
        """Encodes all but what is to be predicted."""
        inputs = columns_of(sequences.steps.get(INPUTS), self.inputs.names, sequences.num_steps, "input")
        statics = columns_of(sequences.rows.get(STATICS), self.statics.names, len(sequences), "static")
        categories = self._encode_categories(sequences)
        normalized = self.inputs.normalize(inputs).astype(np.float32)
        return Encoded(
            sequences.offsets, normalized, categories, self.statics.normalize(statics).astype(np.float32), None
        )

    def _encode_next(self, sequences: Sequences, *, with_targets: bool, every: bool) -> Encoded:
        """Encodes sequences whose last step, or every one but the first, is to be predicted; or the step behind it."""
        whole = self._encode_steps(sequences)
        if not with_targets:
            return whole
        short = np.flatnonzero(sequences.lengths < 2)
        if len(short):
            raise DataError(f"sequence {short[0]}: found a single step; expected two or more: the last is predicted")
        _, values = values_of(sequences)
        field = Field(self.targets.names, values)
        wanted = self.targets.normalize(columns_of(field, self.targets.names, sequences.num_steps, "target"))
        ends, lengths = sequences.offsets[1:], sequences.lengths
        before = np.stack([wanted[ends - 2], wanted[np.maximum(ends - 3, 0)]], axis=1)
        before[lengths < 3, 1] = np.nan
        kept = np.ones(sequences.num_steps, bool)
        kept[ends - 1] = False
        shorter = sequences.offsets - np.arange(len(sequences) + 1)
        inputs, categories = whole.inputs[kept], whole.categories[kept]
        targets = wanted[np.flatnonzero(kept) + 1 if every else ends - 1]
        return Encoded(shorter, inputs, categories, whole.statics, targets, every, before)

    def _encode_categories(self, sequences: Sequences) -> NDArray[np.int32]:
        codes = np.zeros((sequences.num_steps, len(self.categories)), np.int32)
        held = {name: (field, column, owner) for name, field, column, owner in category_columns(sequences)}
        for i, (name, texts) in enumerate(self.categories):
            if name not in held:
                raise DataError(missing_column(name, tuple(held), "category"))
            field, column, owner = held[name]
            found = _recode(field, column, texts, unknown=0, first=1)
            codes[:, i] = found if owner is None else found[owner]
        return codes

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes, in types that JSON has."""
        flat = dataclasses.asdict(self)
        for key in ("inputs", "statics", "targets"):
            flat[key] = getattr(self, key).to_json()
        return flat

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Encoding":
        """Returns the encoding that a checkpoint describes.

        Raises:
          ValueError, TypeError, KeyError: It is none.
        """
        scalings = {key: Scaling.from_json(content[key]) for key in ("inputs", "statics", "targets")}
        categories = tuple((as_text(name), as_texts(texts)) for name, texts in content["categories"])
        counts = tuple(content["class_counts"])
        numbers = [tuple(map(float, content[key])) for key in ("target_medians", "target_means")]
        classes = as_texts(content["classes"])
        if len(counts) != len(classes) or any(type(count) is not int or count < 1 for count in counts):
            raise ValueError("class_counts")
        if any(len(values) != len(scalings["targets"].names) or not np.isfinite(values).all() for values in numbers):
            raise ValueError("target_medians")
        return cls(**scalings, categories=categories, classes=classes, label=as_text(content["label"]),
                   class_counts=counts, target_medians=numbers[0], target_means=numbers[1])  # fmt: skip


def _recode(field: Field, column: int, texts: tuple[str, ...], *, unknown: int, first: int) -> NDArray[np.int32]:
    numbers = {text: number for number, text in enumerate(texts, first)}
    table = np.array([numbers.get(text, unknown) for text in field.vocabulary[column]], np.int32)
    return table[field.values[:, column]]
