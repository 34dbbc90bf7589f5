"""Training from Python: from sequences and settings to a model, without files."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.commands.selection import best_epochs, of_second_training
from jaxrnn.commands.training_data import PreparedData
from jaxrnn.console.command_line import load_config
from jaxrnn.console.progress import Progress
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.data.sequence_parts import SequenceParts
from jaxrnn.data.sequences import CATEGORIES, Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.split import Split, draw_split
from jaxrnn.data.store.dataset import is_dataset
from jaxrnn.data.tables.loading import load_sequences, reads_sequences
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.messages import say
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.checking import checked, require
from jaxrnn.settings.columns_config import SEVERAL
from jaxrnn.settings.config import Config
from jaxrnn.tasks.judgement import alike_warnings, single_step_warning
from jaxrnn.training.fit import Fit, Source, build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position


def fit(
    train: Any,
    *,
    validation: Any = None,
    task: str = "next",
    config: str | None = None,
    run_dir: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> TrainedModel:
    """Trains a model.

    Without validation rows all rows train and the model of the last epoch is returned; with some, that of the epoch
    whose figure `monitor` is best.

    Args:
      train: With task = "next" rows of numbers: a path, `Ragged` rows or a list of them. With the others, and to
        predict the next values of several features, `Sequences`, or what `jaxrnn.read` takes: a path, a DataFrame, a
        list of arrays; the settings `id_column`, `label_column` and so on say what the columns are. Or the directory
        that `jaxrnn.prepare` has written, which is streamed from the disk, with its own validation part.
      validation: The same, of rows that do not train; None for none, or for the share that `split_fractions` says.
      task: "next", "classify", "regress", "tag" or "forecast".
      config: A TOML file or the name of a recipe, as ``--config`` takes it.
      run_dir: Where to write checkpoints and metrics.jsonl, a new directory; None to write nothing.
      progress: Whether to show how training goes, on stderr or in a notebook.
      **settings: Any key of the configuration by its name: ``cell="gru"``, ``hidden_size=64``, ``epochs=20``. They
        cover the recipes of the cell and the task, as flags do.

    Returns:
      The model; its ``metadata["history"]`` holds the figures of every epoch, as the lines of metrics.jsonl.

    Raises:
      UserError: A setting that is unknown or out of its range, or data that cannot be read.
      DivergedError: A loss or gradient was not finite.

    Example:
      >>> import numpy as np
      >>> import jaxrnn
      >>> waves = [np.sin(np.arange(length) * speed) for length in (20, 30) for speed in np.linspace(0.2, 1.0, 20)]
      >>> speeds = [speed for _ in (20, 30) for speed in np.linspace(0.2, 1.0, 20)]
      >>> sequences = jaxrnn.read(waves, labels=["slow" if speed < 0.6 else "fast" for speed in speeds])
      >>> model = jaxrnn.fit(sequences, task="classify", hidden_size=8, learning_rate=0.03, epochs=40, progress=False)
      >>> model.evaluate(sequences)["accuracy"] > 0.9
      True
      >>> model.predict([np.sin(np.arange(25) * 0.3)]).tolist()
      ['slow']
    """
    chosen = _configure(task, config, settings)
    share = chosen.data.split_fractions.test
    is_left = "split_fractions" in settings and validation is None and share > 0
    require(not is_left, "split_fractions", share, "a test share of 0: test rows are given to evaluate()")
    data = _arrange(train, validation, chosen, share_wanted="split_fractions" in settings)
    chosen, source = data.config, data.source
    require(
        data.has_validation or not chosen.training.patience,
        "patience", chosen.training.patience, "0 without validation rows",
    )  # fmt: skip
    single = single_step_warning(source.plan.lengths, chosen.task.task)
    for warning in [single, *alike_warnings(source.plan.encoding, chosen)]:
        if warning:
            say(warning)
    if chosen.task.refit and validation is None and data.has_validation:
        first, _ = _train(chosen, source, None, progress=progress)
        chosen = of_second_training(chosen, best_epochs(first))
        source = data.source_of_all(chosen)
    run, history = _train(chosen, source, run_dir, progress=progress)
    metadata = {"data": None, "epoch": run.best_epoch, "history": history}
    return dataclasses.replace(run.best_model(), metadata=metadata)


class _Arranged(NamedTuple):
    """What a run learns from.

    Attributes:
      config: The configuration, with what the data says of it.
      source: Where batches come from.
      has_validation: Whether rows validate.
      source_of_all: Returns where batches come from once the validation steps of series train too.
    """

    config: Config
    source: Source
    has_validation: bool
    source_of_all: Callable[[Config], Source]


def _arrange(train: Any, validation: Any, config: Config, *, share_wanted: bool) -> _Arranged:
    if isinstance(train, str | Path) and is_dataset(str(train)):
        require(validation is None, "validation", "rows", f"none with prepared data: {train} has its own")
        prepared = PreparedData(config.replace_flat({"data": str(train)}), lambda described: None)
        prepared.arrange()

        def again(_: Config) -> Source:
            prepared.arrange(refit=True)
            return prepared.source

        return _Arranged(prepared.config, prepared.source, "validation" in prepared.parts, again)
    if config.task.task == "next" and not _are_sequences(train, config):
        rows, split = _rows_of(train, validation, config, share_wanted=share_wanted)
        source = MemorySource(config, rows, split)
        return _Arranged(config, source, bool(source.validation), lambda config: MemorySource(config, rows, split))

    def parts_of(config: Config, *, refit: bool = False) -> SequenceParts:
        return _parts_of(train, validation, config, share_wanted=share_wanted or refit, refit=refit)

    parts = parts_of(config)
    config = _with_tokens(config, parts.training.sequences)
    source = MemorySource(config, parts)
    return _Arranged(
        config, source, bool(source.validation), lambda config: MemorySource(config, parts_of(config, refit=True))
    )


def _train(
    config: Config, source: Source, directory: str | Path | None, *, progress: bool
) -> tuple[Fit, list[dict[str, Any]]]:
    """Trains to the end; returns the run and the lines of its epochs."""
    trainer = build_trainer(config, source)
    history: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        run_dir, checkpointer = _open(directory, config, stack)
        position, saved = restore_position(trainer, None)
        run = Fit(trainer, source, position, run_dir, saved=saved, on_epochs=history.extend)
        watch: Callable[[], Progress] | None = (lambda: Progress(config.training.epochs)) if progress else None
        run.run(checkpointer, watch=watch)
    return run, history


def _configure(task: str, file: str | None, settings: dict[str, Any]) -> Config:
    # numpy's numbers are those of Python: they come out of a search over an array.
    flat = {
        key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value for key, value in settings.items()
    }
    for key, instead in {"data": "train", "validation_data": "validation", "test_data": "evaluate()"}.items():
        require(key not in flat, key, flat.get(key), f"none: the rows are given, to {instead}")
    for key in SEVERAL:
        if not isinstance(flat.get(key, ""), str):
            flat[key] = ",".join(flat[key])
    loaded = load_config(flat.get("cell"), file, task=task)
    return checked(loaded.config.replace_flat(flat | {"task": task}))


def _open(
    directory: str | Path | None, config: Config, stack: contextlib.ExitStack
) -> tuple[RunDirectory | None, Checkpointer | None]:
    if directory is None:
        return None, None
    run_dir = RunDirectory.choose(str(directory), name="", resume=False)
    run_dir.create(config)
    return run_dir, stack.enter_context(Checkpointer(run_dir.checkpoints))


def _rows_of(train: Any, validation: Any, config: Config, *, share_wanted: bool) -> tuple[Ragged, Split]:
    rows = _as_rows(train, config)
    nothing = np.zeros(0, np.int64)
    if validation is not None:
        others = _as_rows(validation, config)
        both = Ragged.from_lengths(
            np.concatenate([rows.values, others.values]), np.concatenate([rows.lengths, others.lengths])
        )
        return both, Split(np.arange(len(rows)), np.arange(len(rows), len(both)), nothing)
    if share_wanted:
        return rows, draw_split(config, rows)
    return rows, Split(np.arange(len(rows)), nothing, nothing)


def _are_sequences(source: Any, config: Config) -> bool:
    if isinstance(source, Sequences) or hasattr(source, "__arrow_c_stream__"):
        return True
    if isinstance(source, Ragged) or not isinstance(source, str | Path):
        return isinstance(source, list | tuple) and any(np.ndim(row) == 2 for row in source)
    return reads_sequences(config.replace_flat({"data": str(source)}))


def _as_rows(source: Any, config: Config) -> Ragged:
    if isinstance(source, Ragged):
        rows = source
    elif isinstance(source, str | Path):
        return load_rows(str(source), config.reader, min_length=2)
    else:
        rows = Ragged.from_rows(source)
    shortest = int(rows.lengths.min()) if len(rows) else 0
    require(shortest >= 2, "train", f"a row of {shortest} values", "rows of at least two: the last is predicted")
    return rows


def _parts_of(train: Any, validation: Any, config: Config, *, share_wanted: bool, refit: bool = False) -> SequenceParts:
    sequences = _as_sequences(train, config)
    others = None if validation is None else _as_sequences(validation, config)
    return split_parts(config, sequences, validation=others, whole=not share_wanted, refit=refit)


def _with_tokens(config: Config, sequences: Sequences) -> Config:
    """Returns a configuration that says which column has texts, and how they are cut, where sequences come from some.

    So the model reads new texts as these were read.
    """
    if sequences.tokens is None:
        return config
    return config.replace_flat({"text_column": sequences.steps[CATEGORIES].names[0], "tokens": sequences.tokens})


def _as_sequences(source: Any, config: Config) -> Sequences:
    return source if isinstance(source, Sequences) else load_sequences(source, config)
