"""Writes sequences of several files as a prepared data set, and measures those that train."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.overlap import count_overlapping
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.data.sequences import CATEGORIES, GROUPS, IDS, INPUTS, LABELS, TARGETS, Field, Sequences, sort_texts
from jaxrnn.data.series.encodings import AnyStatistics, make_encoding, measure, measure_blocks
from jaxrnn.data.series.parts import Ends, first_steps, told_apart
from jaxrnn.data.series.series_statistics import SeriesStatistics, series_values
from jaxrnn.data.split import PART_NAMES, part_of_rows, require_parts
from jaxrnn.data.statistics import Counted, Statistics, labels_of, targets_of, values_of
from jaxrnn.data.store.dataset import EXACT_VALUES, SPLIT_KIND
from jaxrnn.data.store.description import Measured, SequenceDescription, reading_settings
from jaxrnn.data.store.form import FieldForm, Form
from jaxrnn.data.store.part_writer import PartWriter
from jaxrnn.data.store.sharded_sequences import NOT_TRAINED_ON, ShardedSequences
from jaxrnn.data.store.stored_series import REFIT, STORED, SeriesCutter, parts_of, require_encoded, with_ends
from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config

BLOCK_VALUES = 1 << 21


class SequenceWriter:
    """Collects the sequences of files, one after the other.

    Args:
      directory: Where to.
      config: What the sequences are prepared for, how their files are read, and how they are split.
      shard_rows: Sequences of a shard at most.
    """

    def __init__(self, directory: Path, config: Config, *, shard_rows: int):
        self._directory = directory
        self._config, self._task = config, config.task.task
        self._cutter = SeriesCutter(config) if self._task == "forecast" else None
        self._shard_rows = shard_rows
        self._form: Form | None = None
        self._first_file = ""
        self._codes: dict[str, list[dict[str, int]]] = {}  # of each field, of each column: the number of each text
        self._writers: list[PartWriter] = []
        self._files_split = 0
        self._ids: dict[int, str] = {}  # hashes of ids, and the file that has each
        self._contents: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in (*PART_NAMES, REFIT)}
        self._may_share = self._cutter is not None  # the split keeps other sequences that hold the same on one side

    def add(self, file: str, sequences: Sequences, part: str | None = None) -> None:
        """Takes the sequences of a file.

        Args:
          file: Its name, for messages.
          sequences: What it holds.
          part: The part that all of them are of; None to split them.

        Raises:
          DataError: They lack what is to be predicted, are too short, or are not like those before.
        """
        ends: Ends | None = None
        if self._cutter is not None:
            sequences, ends = self._cutter.cut(file, sequences, part)
        read, sequences = sequences, _as_asked(sequences, self._task)
        sequences = sequences if ends is None else with_ends(sequences, ends)
        form = Form.of_sequences(sequences)
        if not sequences.steps:
            raise DataError("found nothing to read at a step; expected numbers or categories; name --input-columns")
        if self._form is None:
            self._form, self._first_file = form, file
            self._codes = {field.key: [{} for _ in field.vocabulary] for field in form.fields}
            names = PART_NAMES if ends is None else (STORED,)
            self._writers = [PartWriter(self._directory, name, self._shard_rows, width=form.width) for name in names]
        sequences = self._in_one_form(file, sequences, form)
        if part is None:
            self._files_split += 1
            self._require_new_ids(file, sequences)
        if ends is not None:
            self._writers[0].add(self._form.block(sequences))
            told = told_apart(read)
            for name, steps in ends._asdict().items():
                chosen = np.flatnonzero(steps)
                self._contents[name].append(_hash_contents(first_steps(told.take(chosen), steps[chosen])))
            return
        if part is None:
            numbers = part_of_rows(read, fractions=shares_of(self._config.data), seed=self._config.split_seed)
        else:
            numbers = np.full(len(sequences), PART_NAMES.index(part), np.uint8)
        self._may_share |= part is not None or GROUPS in sequences.rows
        hashes = _hash_contents(read)
        for number, writer in enumerate(self._writers):
            chosen = np.flatnonzero(numbers == number)
            if len(chosen):
                writer.add(self._form.block(sequences.take(chosen)))
                self._contents[writer.name].append(hashes[chosen])

    @property
    def num_rows(self) -> list[int]:
        """The sequences of each part so far."""
        return [sum(map(len, self._contents[name])) for name in PART_NAMES]

    def require_parts(self) -> None:
        """Complains where a part that is to be is empty.

        Raises:
          DataError: It is.
        """
        if self._cutter is not None:
            self._cutter.require()
        kind = SPLIT_KIND if self._cutter is None else self._config.data.split
        require_parts(self.num_rows, kind, shares_of(self._config.data))

    def finish(self, between: Callable[[], None]) -> tuple[dict[str, Any], SequenceDescription]:
        """Writes what is left; returns the description of each part, and that of the sequences.

        Args:
          between: Called now and then; it may raise.
        """
        assert self._form is not None
        described: dict[str, Any] = {}
        ranges: dict[str, Any] = {}
        for writer in self._writers:
            between()
            described[writer.name] = writer.finish()
            for key, (least, greatest) in writer.ranges().items():
                before = ranges.get(key, (least, greatest))
                ranges[key] = tuple(map(min, before[0], least)), tuple(map(max, before[1], greatest))
        form = Form(tuple(self._with_texts(field) for field in self._form.fields))
        parts = {
            name: ShardedSequences([self._directory / shard["file"] for shard in part["shards"]], form)
            for name, part in described.items()
        }
        between()
        config = self._config
        if self._cutter is not None:
            config = config.replace_flat({"horizon": self._cutter.horizon})
            parts = parts_of(parts[STORED])
        measured = refit = self._measure(parts, between)
        if self._cutter is not None:
            if shares_of(config.data).validation:
                refit = self._measure(parts, between, training=REFIT)
            else:  # what trains a second time is what has trained
                del parts[REFIT]
            require_encoded(parts, make_encoding(measured.statistics, config), BLOCK_VALUES, between)
        return described, SequenceDescription(
            task=self._task,
            settings=reading_settings(config),
            form=form,
            ranges=ranges,
            refit=None if self._cutter is None else refit,
            **measured._asdict(),
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

    def _measure(
        self, parts: dict[str, ShardedSequences], between: Callable[[], None], *, training: str = PART_NAMES[0]
    ) -> Measured:
        """Measures what trains: the training part, or one that validation sequences are in too."""
        trains = parts[training]
        others = [name for name in PART_NAMES[1:] if training == PART_NAMES[0] or name != "validation"]
        shared, overlapping = dict.fromkeys(PART_NAMES, 0), dict.fromkeys(PART_NAMES, 0)
        if self._may_share:
            seen, *hashes = (
                np.concatenate([np.zeros(0, np.uint64), *self._contents[name]]) for name in (training, *others)
            )
            shared |= {name: int(np.isin(held, seen).sum()) for name, held in zip(others, hashes, strict=True)}
        if self._cutter is None or self._config.data.split != "time":  # else the parts are of the same series
            overlapping |= _count_overlapping(trains, {name: parts[name] for name in others})
        return Measured(
            self._measure_training(trains, between),
            (shared["validation"], shared["test"]),
            (overlapping["validation"], overlapping["test"]),
        )

    def _measure_training(self, training: ShardedSequences, between: Callable[[], None]) -> AnyStatistics:
        """Measures the training sequences: few enough of them all at once, as in memory."""
        schedule = None if self._cutter is None else self._cutter.schedule
        without = NOT_TRAINED_ON if self._cutter is None else {GROUPS}

        def scheduled(block: Sequences) -> Sequences:
            between()
            return block if schedule is None else dataclasses.replace(block, schedule=schedule)

        if training.num_values <= EXACT_VALUES:
            measured = measure(scheduled(training.whole(without=without)), self._config)
        else:
            measured = measure_blocks(map(scheduled, training.blocks(BLOCK_VALUES)), self._config)
        if self._files_split < 2:  # texts are numbered as the file's reader has sorted them
            return measured
        if isinstance(measured, SeriesStatistics):
            return dataclasses.replace(measured, columns=_sorted(measured.columns))
        return _sorted(measured)


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
    elif task == "forecast":
        series_values(sequences)
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


def _count_overlapping(training: ShardedSequences, others: dict[str, ShardedSequences]) -> dict[str, int]:
    """Counts sequences that look like windows of training ones; of very many none."""
    if training.num_values + sum(part.num_values for part in others.values()) > EXACT_VALUES:
        return {}
    needed = {field.name for field in training.form.fields} - {INPUTS, CATEGORIES}
    whole = training.whole(without=needed)
    return {name: count_overlapping(whole, part.whole(without=needed)) for name, part in others.items() if len(part)}


def _hash_contents(sequences: Sequences) -> NDArray[np.uint64]:
    return np.array([_hash(content) for content in sequences.contents()], np.uint64)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _sorted(measured: Statistics) -> Statistics:
    """Returns what was measured with the texts of all columns sorted."""
    classes = None if measured.classes is None else _sort_counted(measured.classes)
    return dataclasses.replace(measured, categories=tuple(map(_sort_counted, measured.categories)), classes=classes)


def _sort_counted(counted: Counted) -> Counted:
    count_of = dict(zip(counted.texts, counted.counts, strict=True))
    texts = sort_texts(counted.texts)
    return Counted(counted.name, tuple(texts), tuple(count_of[text] for text in texts))


def _key(field: FieldForm) -> str:
    return field.key


def _listed(form: Form) -> str:
    return ", ".join(f"{field.name} {escape(shorten('/'.join(field.columns)))!r}" for field in form.fields)
