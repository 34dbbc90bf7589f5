"""Reads sequences as a configuration says."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.sources import open_file
from jaxrnn.data.sequences import CATEGORIES, INPUTS, KNOWN, LABELS, Sequences, mark_of
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.known_ahead import match_known
from jaxrnn.data.tables.columns import Columns, TextOptions
from jaxrnn.data.tables.ragged_rows import FIRST, LAST
from jaxrnn.data.tables.reading import read, read_source
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.files import hash_file
from jaxrnn.foundation.messages import say
from jaxrnn.settings.checking import SettingError
from jaxrnn.settings.columns_config import SEVERAL, names_in
from jaxrnn.settings.config import Config

SEQUENCE_SUFFIXES = (".ts", ".tsf", ".jsonl")
NO_LABEL = "none"  # in place of the label's column: the rows to predict from have none
# What a file to predict from may lack, though the training file had it.
_ANSWERS: dict[str, Any] = {"label_column": None, "target_columns": (), "group_column": None}


def reads_sequences(config: Config) -> bool:
    """Whether the data is read as sequences, rather than as rows of numbers whose next ones are predicted."""
    is_table = not config.columns.is_default or config.data.data.endswith(SEQUENCE_SUFFIXES)
    return config.task.task != "next" or is_table


def read_options(config: Config) -> dict[str, Any]:
    """Returns a configuration's settings of columns and files as keyword arguments of `jaxrnn.read`."""
    reader = config.reader
    options = config.columns.as_options() | {"max_bytes": reader.max_bytes}
    if reader.delimiter != ",":  # the default stands for any that the header shows
        options["delimiter"] = reader.delimiter
    if reader.header:  # else it is told from the file
        options["header"] = True
    if config.task.task == "tag":
        options["each_step_has_a_label"] = True
    if config.task.task == "forecast":
        options["targets_may_be_missing"] = True
    return options


def _answers(config: Config) -> dict[str, Any]:
    """Returns the options without what is to be predicted; what a forecast goes on from is no answer."""
    left = dict(_ANSWERS)
    if config.task.task == "forecast":
        del left["target_columns"]
    return left


def load_sequences(
    source: Any,
    config: Config,
    *,
    with_answers: bool = True,
    encoding: Encoding | None = None,
    given: Collection[str] = (),
) -> Sequences:
    """Reads sequences.

    Args:
      source: A file, or a table or list as `jaxrnn.read` takes it. Where the configuration reads texts, a list of
        strings holds texts, not paths.
      config: Says what the columns are.
      with_answers: Whether what is to be predicted has to be there; else it is read if it is.
      encoding: What the model says of columns that is to read them; None to train one. Where the configuration names no
        inputs, those of the model are read; groups are read if they are there.
      given: Settings that are not those of training but of this call: their columns have to be there.

    Raises:
      DataError: It is not what it should be.
    """
    options = read_options(config)
    if encoding is not None:
        may_lack = tuple({"group_column"} - set(given))
        options |= {"of_model": _inputs_of(encoding), "may_lack": may_lack}
    if isinstance(source, list | tuple):
        column = config.columns.text_column
        if column is not None and all(isinstance(text, str) for text in source):
            return _read_texts(source, config, column)
        if not any(isinstance(path, str | os.PathLike) for path in source):  # arrays, whose features have no names
            options = {"max_bytes": options["max_bytes"]}
    if with_answers:
        return _read(source, options)
    is_named = set(given) if config.columns.label_column != NO_LABEL else set()
    answers = {role: nothing for role, nothing in _answers(config).items() if role in options and role not in is_named}
    options |= {"may_lack": tuple(answers)}
    label = options.get("label_column")
    if label in (FIRST, LAST, NO_LABEL):
        return _read_rows(source, options, encoding, has_labels=label != NO_LABEL)
    try:
        return _read(source, options)
    except DataError:  # of an answer, or of what is needed
        return _read(source, options | answers)


def _read_rows(source: Any, options: dict[str, Any], encoding: Encoding | None, *, has_labels: bool) -> Sequences:
    """Reads rows to predict from, which may lack the label that those of training have at one end.

    Classes tell whether it is there. Where a number is predicted, nothing does: then it is taken to be there, and said.
    """
    without = options | {"label_column": None}
    headless = without | {"header": False}
    try:
        found = _read(source, options if has_labels else without)
    except DataError as error:
        try:
            return _read(source, headless)
        except UserError:  # no file of rows, perhaps
            raise error from None
    labels = found.rows.get(LABELS)
    if not has_labels or encoding is None or labels is None or labels.names == (options["label_column"],):
        return found  # a table may have a column of that name
    if not encoding.classes:
        say(
            f"took the {options['label_column']} value of each row as its label, as in training; if the rows have none,"
            f" give --label-column={NO_LABEL}"
        )
    elif not set(labels.texts()) & set(encoding.classes):
        with contextlib.suppress(UserError):  # classes that the model has not seen
            return _read(source, headless)
    return found


def _read(source: Any, options: dict[str, Any]) -> Sequences:
    """Reads as `jaxrnn.read` does, which has not all of the options of `Columns`."""
    given = dict(options)
    max_bytes = given.pop("max_bytes")
    of_text = {field.name: given.pop(field.name) for field in dataclasses.fields(TextOptions) if field.name in given}
    return read_source(source, Columns(**given), TextOptions(**of_text), max_bytes=max_bytes)


def _inputs_of(encoding: Encoding) -> tuple[str, ...]:
    """Returns the columns of numbers that a model reads, without the marks of what is missing there."""
    marks = {mark_of(name) for name in encoding.inputs.names}
    return tuple(name for name in encoding.inputs.names if name not in marks)


def future_known(
    sequences: Sequences, source: Any, config: Config, frequency: Frequency, horizon: int
) -> NDArray[np.float64]:
    """Reads numbers that are known of the steps behind each series.

    Args:
      sequences: The series, with numbers known ahead.
      source: A file or a table with the columns of ids, times and numbers known ahead, as the series' own has them;
        other columns and rows are left out of account.
      config: Says what the columns are.
      frequency: How far apart the steps are.
      horizon: How many steps behind each series.

    Returns:
      (series * horizon, columns), in the order of the columns of ``sequences.steps["known"]``.

    Raises:
      DataError: Something that is needed is missing; says how much, and names ids and times.
    """
    columns = config.columns
    options = read_options(config) | dict.fromkeys(SEVERAL, ()) | {"label_column": None, "group_column": None}
    options |= {"input_columns": names_in(columns.known_columns), "text_column": None}
    options.pop("tokens", None)
    read_ahead = read(source, **options)
    ahead = dataclasses.replace(
        read_ahead, steps={KNOWN if name == INPUTS else name: field for name, field in read_ahead.steps.items()}
    )
    with naming(os.fspath(source) if isinstance(source, str | os.PathLike) else "numbers known ahead"):
        return match_known(sequences, ahead, frequency, horizon)


def _read_texts(texts: Iterable[str], config: Config, column: str) -> Sequences:
    """Reads texts as if they stood in a column of this name."""
    sequences = read(texts, tokens=config.columns.tokens)
    tokens = dataclasses.replace(sequences.steps[CATEGORIES], names=(column,))
    return dataclasses.replace(sequences, steps={CATEGORIES: tokens})


def load_hashed_sequences(
    path: str,
    config: Config,
    *,
    check: Callable[[str], None] | None = None,
    encoding: Encoding | None = None,
    given: Collection[str] = (),
) -> tuple[Sequences, str]:
    """Reads a file as `load_sequences` does; returns its sequences and its SHA-256.

    Args:
      path: A file.
      config: Says what the columns are.
      check: Called with the SHA-256 before anything is parsed; it may raise.
      encoding: As `load_sequences` takes it.
      given: As `load_sequences` takes it.

    Raises:
      DataError: The file is not what it should be, or was written to meanwhile.
    """
    open_file(path).close()  # says what is wrong with the path itself
    sha256 = hash_file(path)
    if check is not None:
        check(sha256)
    try:
        sequences = load_sequences(path, config, encoding=encoding, given=given)
    except SettingError as error:  # one that only the columns of a file show to be wrong
        raise error.renamed(f"--{error.key.replace('_', '-')}") from error
    if hash_file(path) != sha256:
        raise DataError(f"{path}: was written to while it was read; expected a file at rest; try again")
    return sequences, sha256
