"""How the parts of a prepared data set are arranged in batches, and what reads them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.arranging import Batching
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.data.store.layout import Layout, choose_batching_of, lay_out
from jaxrnn.data.store.readings import Reading, RowReading, SequenceReading
from jaxrnn.settings.config import Config
from jaxrnn.training.plan import VALIDATION_CHUNK_ROWS, Plan, make_plan, require_whole_sequences

Histogram = tuple[NDArray[np.int64], NDArray[np.int64]]


class Part(NamedTuple):
    """Rows of a part of a data set: how they are arranged, and what reads them."""

    layout: Layout
    reading: Reading


class Arranged(NamedTuple):
    """What a source reads.

    Attributes:
      plan: How an epoch goes.
      training: The training rows.
      validation: The validation rows; None if there are none.
      width: Numbers of a step.
    """

    plan: Plan
    training: Part
    validation: Part | None
    width: int


def arrange_dataset(config: Config, dataset: Dataset) -> Arranged:
    """Arranges rows or sequences as those in memory are.

    Raises:
      DataError: A value is too large for float32 once normalised, or there is one class only.
      UserError: A setting does not go with sequences.
    """
    settings, described = config.training, dataset.sequences
    histogram = dataset.histogram("training")
    normalizer, encoding, width, shift = Normalizer(), None, 1, 0
    batching: Batching
    if described is None:
        normalizer = dataset.fit_normalizer(config)
        batching = choose_batching_of(histogram, settings.batching, settings.num_buckets, may_pack=not settings.tbptt)
    else:
        require_whole_sequences(config)
        encoding = described.fit_encoding(config)
        batching = "bucket" if settings.batching == "auto" else settings.batching
        width, shift = max(described.form.width, encoding.step_width), described.target_steps

    def part(name: str, batch_size: int) -> Part | None:
        if not dataset.num_rows(name):
            return None
        rows = dataset.parts[name]
        distinct, counts = dataset.histogram(name)
        given: Any = {"batch_size": min(batch_size, len(rows)), "num_buckets": settings.num_buckets}
        if encoding is None:
            return Part(lay_out(rows, (distinct, counts), batching, **given), RowReading(rows, normalizer))
        reading = SequenceReading(rows, encoding, config, shift, trains=name == "training")
        return Part(lay_out(reading, (distinct - shift, counts), batching, target_steps=0, **given), reading)

    training, validation = part("training", settings.batch_size), part("validation", VALIDATION_CHUNK_ROWS)
    assert training is not None
    layout = training.layout
    if encoding is not None and batching == "bucket" and len(layout.parts) == 1:
        batching = "pad"
    plan = make_plan(
        config,
        normalizer,
        batching,
        lengths=layout.lengths,
        num_rows=layout.num_rows,
        real_steps=_real_steps(layout, (histogram[0] - shift, histogram[1])),
        num_sequences=dataset.num_rows("training"),
        batch_rows=layout.batch_rows,
        encoding=encoding,
    )
    return Arranged(plan, training, validation, width)


def _real_steps(layout: Layout, histogram: Histogram) -> tuple[int, ...]:
    """Counts the steps of each part that are not padding, from how many rows there are of each length."""
    distinct, counts = histogram
    steps = (distinct - layout.target_steps) * counts
    if layout.batching == "pack":
        return (int(steps.sum()),)
    part_of = np.searchsorted(np.array([part.length for part in layout.parts]), distinct)
    found = np.bincount(part_of, weights=steps, minlength=len(layout.parts))
    return tuple(int(number) for number in found)
