"""Writes sequences of several files as a prepared data set, and measures those that train."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.overlap import count_overlapping
from jaxrnn.data.sequences import CATEGORIES, GROUPS, IDS, INPUTS, LABELS, TARGETS, Field, Sequences, sort_texts
from jaxrnn.data.split import PART_NAMES, part_of_rows
from jaxrnn.data.statistics import Counted, Statistics, labels_of, targets_of, values_of
from jaxrnn.data.store.dataset import EXACT_VALUES
from jaxrnn.data.store.description import SequenceDescription
from jaxrnn.data.store.form import FieldForm, Form
from jaxrnn.data.store.part_writer import PartWriter
from jaxrnn.data.store.sharded_sequences import NOT_TRAINED_ON, ShardedSequences
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten

BLOCK_VALUES = 1 << 21


class SequenceWriter:
    """Collects the sequences of files, one after the other.

    Args:
      directory: Where to.
      task: What the sequences are prepared for.
      settings: How the files were read.
      shard_rows: Sequences of a shard at most.
      fractions: Shares of training, validation and test of files that are of no part.
      seed: The seed of the split.
    """

    def __init__(
        self,
        directory: Path,
        *,
        task: str,
        settings: dict[str, Any],
        shard_rows: int,
        fractions: tuple[float, float, float],
        seed: int,
    ):
        self._directory = directory
        self._task = task
        self._settings = settings
        self._shard_rows = shard_rows
        self._fractions, self._seed = fractions, seed
        self._form: Form | None = None
        self._first_file = ""
        self._codes: dict[str, list[dict[str, int]]] = {}  # of each field, of each column: the number of each text
        self._parts: list[PartWriter] = []
        self._files_split = 0
        self._ids: dict[int, str] = {}  # hashes of ids, and the file that has each
        self._contents: tuple[list[NDArray[np.uint64]], ...] = ([], [], [])
        self._may_share = False

    def add(self, file: str, sequences: Sequences, part: str | None = None) -> None:
        """Takes the sequences of a file.

        Args:
          file: Its name, for messages.
          sequences: What it holds.
          part: The part that all of them are of; None to split them.

        Raises:
          DataError: They lack what is to be predicted, are too short, or are not like those before.
        """
        read, sequences = sequences, _as_asked(sequences, self._task)
        form = Form.of_sequences(sequences)
        if not sequences.steps:
            raise DataError("found nothing to read at a step; expected numbers or categories; name --input-columns")
        if self._form is None:
            self._form, self._first_file = form, file
            self._codes = {field.key: [{} for _ in field.vocabulary] for field in form.fields}
            self._parts = [PartWriter(self._directory, name, self._shard_rows, width=form.width) for name in PART_NAMES]
        sequences = self._in_one_form(file, sequences, form)
        if part is None:
            self._files_split += 1
            self._require_new_ids(file, sequences)
            numbers = part_of_rows(read, fractions=self._fractions, seed=self._seed)
        else:
            numbers = np.full(len(sequences), PART_NAMES.index(part), np.uint8)
        self._may_share |= part is not None or GROUPS in sequences.rows
        hashes = _hash_contents(read)
        for number, writer in enumerate(self._parts):
            chosen = np.flatnonzero(numbers == number)
            if len(chosen):
                writer.add(self._form.block(sequences.take(chosen)))
                self._contents[number].append(hashes[chosen])

    @property
    def num_rows(self) -> list[int]:
        """The sequences of each part so far."""
        return [part.num_rows for part in self._parts]

    def finish(self, between: Callable[[], None]) -> tuple[dict[str, Any], SequenceDescription]:
        """Writes what is left; returns the description of each part, and that of the sequences.

        Args:
          between: Called now and then; it may raise.
        """
        assert self._form is not None
        described: dict[str, Any] = {}
        ranges: dict[str, Any] = {}
        for part in self._parts:
            between()
            described[part.name] = part.finish()
            for key, (least, greatest) in part.ranges().items():
                before = ranges.get(key, (least, greatest))
                ranges[key] = tuple(map(min, before[0], least)), tuple(map(max, before[1], greatest))
        form = Form(tuple(self._with_texts(field) for field in self._form.fields))
        parts = {
            name: ShardedSequences([self._directory / shard["file"] for shard in described[name]["shards"]], form)
            for name in PART_NAMES
        }
        between()
        return described, SequenceDescription(
            task=self._task,
            settings=self._settings,
            form=form,
            ranges=ranges,
            statistics=self._measure(parts["training"], between),
            shared_rows=self._count_shared(),
            overlapping=_count_overlapping(parts),
        )

    def _in_one_form(self, file: str, sequences: Sequences, form: Form) -> Sequences:
        """Returns sequences whose texts have the numbers of all files."""
        assert self._form is not None
        if form.names() != self._form.names():
            raise DataError(
                f"{file}: found {_listed(form)}; expected {_listed(self._form)}, as {self._first_file} has; prepare"
                " files of the same columns together"
            )
        fields: dict[str, dict[str, Field]] = {"steps": dict(sequences.steps), "rows": dict(sequences.rows)}
        for one, first in zip(sorted(form.fields, key=_key), sorted(self._form.fields, key=_key), strict=True):
            field = fields[one.of][one.name]
            if one.type != first.type and not one.vocabulary:
                raise DataError(
                    f"{file}: found {one.name} of type {one.type}; expected {first.type}, as {self._first_file} has"
                )
            if one.vocabulary:
                fields[one.of][one.name] = self._recoded(one.key, field)
        return Sequences(sequences.offsets, fields["steps"], fields["rows"])

    def _recoded(self, key: str, field: Field) -> Field:
        columns = []
        for column, (numbers, texts) in enumerate(zip(self._codes[key], field.vocabulary, strict=True)):
            table = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32)
            columns.append(table[field.values[:, column]])
        return Field(field.names, np.stack(columns, axis=1), tuple(tuple(numbers) for numbers in self._codes[key]))

    def _with_texts(self, field: FieldForm) -> FieldForm:
        texts = tuple(tuple(numbers) for numbers in self._codes[field.key])
        return FieldForm(field.of, field.name, field.columns, field.type, texts)

    def _require_new_ids(self, file: str, sequences: Sequences) -> None:
        """Refuses an id that a file before has: the steps of one sequence would be two."""
        if IDS not in sequences.rows:
            return
        texts = sequences.rows[IDS].texts()
        for text in texts:
            before = self._ids.setdefault(_hash(text.encode()), file)
            if before != file:
                raise DataError(
                    f"{file}: found the id {escape(shorten(text))!r}, which {before} has too; expected the steps of a"
                    " sequence in one file; join the files, or name the ids apart"
                )

    def _measure(self, training: ShardedSequences, between: Callable[[], None]) -> Statistics:
        """Measures the training sequences: few enough of them all at once, as in memory."""
        if training.num_values <= EXACT_VALUES:
            measured = Statistics.of(training.whole(without=NOT_TRAINED_ON), self._task)
        else:

            def blocks() -> Any:
                for block in training.blocks(BLOCK_VALUES):
                    between()
                    yield block

            measured = Statistics.of_blocks(blocks(), self._task)
        if self._files_split < 2:  # texts are numbered as the file's reader has sorted them
            return measured
        return Statistics(
            **{
                **{name: getattr(measured, name) for name in measured.__dataclass_fields__},
                "categories": tuple(map(_sorted, measured.categories)),
                "classes": None if measured.classes is None else _sorted(measured.classes),
            }
        )

    def _count_shared(self) -> tuple[int, int]:
        """Counts the validation and the test sequences that stand in the training part too."""
        if not self._may_share:  # the split keeps sequences that hold the same on one side
            return 0, 0
        training, *others = (np.concatenate([np.zeros(0, np.uint64), *held]) for held in self._contents)
        validation, test = (int(np.isin(hashes, training).sum()) for hashes in others)
        return validation, test


def _as_asked(sequences: Sequences, task: str) -> Sequences:
    """Returns sequences with what the task predicts, and with the texts of groups in place of numbers.

    Raises:
      DataError: What is to be predicted is missing; or a sequence is too short.
    """
    steps, rows = dict(sequences.steps), dict(sequences.rows)
    if task == "regress":
        names, values = targets_of(sequences)
        rows = {name: field for name, field in rows.items() if name != LABELS}
        steps = {name: field for name, field in steps.items() if name != TARGETS}
        rows[TARGETS] = Field(names, np.array(values, np.float64))
    elif task == "next":
        values_of(sequences)
        short = np.flatnonzero(sequences.lengths < 2)
        if len(short):
            raise DataError(f"sequence {short[0]}: found a single step; expected two or more: the last is predicted")
    else:
        labels_of(sequences, each_step=task == "tag")
    if GROUPS in rows:
        rows[GROUPS] = Field(rows[GROUPS].names, np.array(rows[GROUPS].texts(), object)[:, None])
    return Sequences(sequences.offsets, steps, rows)


def _count_overlapping(parts: dict[str, ShardedSequences]) -> tuple[int, int]:
    """Counts validation and test sequences that look like windows of training ones; of very many none."""
    if sum(part.num_values for part in parts.values()) > EXACT_VALUES:
        return 0, 0
    needed = {field.name for field in parts["training"].form.fields} - {INPUTS, CATEGORIES}
    training, *others = (part.whole(without=needed) if len(part) else None for part in parts.values())
    assert training is not None
    validation, test = (0 if part is None else count_overlapping(training, part) for part in others)
    return validation, test


def _hash_contents(sequences: Sequences) -> NDArray[np.uint64]:
    return np.array([_hash(content) for content in sequences.contents()], np.uint64)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _sorted(counted: Counted) -> Counted:
    count_of = dict(zip(counted.texts, counted.counts, strict=True))
    texts = sort_texts(counted.texts)
    return Counted(counted.name, tuple(texts), tuple(count_of[text] for text in texts))


def _key(field: FieldForm) -> str:
    return field.key


def _listed(form: Form) -> str:
    return ", ".join(f"{field.name} {escape(shorten('/'.join(field.columns)))!r}" for field in form.fields)
