"""The preparing command once its arguments are parsed: read once, split, write shards, describe them.

Everything is written into a temporary directory beside the one asked for, which gets its name once all is on the disk:
nothing that was interrupted has that name, and none of it has a dataset.json.
"""

import glob
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.commands.sequence_data import refuse_parts_of_rows
from jaxrnn.commands.unfinished import end_if_interrupted, whole_or_not_at_all
from jaxrnn.console.progress import ReadingProgress
from jaxrnn.console.signals import NoteSignal
from jaxrnn.data.normalizer import Moments
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.reader import RowBlock, read_blocks
from jaxrnn.data.readers.sources import open_file
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.data.split import PART_NAMES, part_of_rows, require_parts
from jaxrnn.data.store.dataset import (
    DESCRIPTION_NAME,
    EXACT_VALUES,
    FORMAT_VERSION,
    SEQUENCE_FORMAT_VERSION,
    SERIES_FORMAT_VERSION,
    SPLIT_KIND,
    digest_of,
)
from jaxrnn.data.store.part_writer import PartWriter
from jaxrnn.data.store.sequence_writer import SequenceWriter
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.shards import COLUMN, Block
from jaxrnn.data.tables.loading import load_hashed_sequences, reads_sequences
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.files import write_atomically
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import ReaderConfig


def prepare(inputs: Sequence[str], out: str, config: Config, *, shard_rows: int) -> None:
    """Writes a prepared data set, whole or not at all.

    Args:
      inputs: Paths of files, or patterns.
      out: The directory; there must be none yet.
      config: How to read the files, and how to split what they hold.
      shard_rows: Rows of a shard at most.

    Raises:
      DataError: A file is not what it should be, or a part would be empty.
      UserError: The directory is there, or cannot be written.
    """
    target = Path(out)
    files = _expand(inputs)
    fractions, seed = shares_of(config.data), config.split_seed
    kind = config.data.split if config.task.task == "forecast" else SPLIT_KIND
    are_sequences = reads_sequences(config.replace_flat({"data": files[0]}))
    given = {part: path for part, path in _given(config).items() if path is not None}
    for path in given.values():
        open_file(path).close()
    begin = time.perf_counter()
    with NoteSignal() as signals, whole_or_not_at_all(target, signals) as directory:

        def between() -> None:
            end_if_interrupted(signals)

        write = _write_sequences if are_sequences else _write_rows
        with naming(inputs[0] if len(inputs) == 1 else f"{len(files)} files"):
            described, counts = write(files, given, directory, config, between, shard_rows=shard_rows)
        between()
        description = {
            "format_version": _format_version(config, are_sequences),
            "jaxrnn": versions()["jaxrnn"],
            "sources": [os.path.basename(file) for file in (*files, *given.values())],
            "split": {"kind": kind, "seed": seed, "fractions": list(fractions)},
            **described,
        }
        description["sha256"] = digest_of(description)
        write_atomically(directory / DESCRIPTION_NAME, json.dumps(description, indent=1, allow_nan=False) + "\n")
    _report(target, description, config, counts, time.perf_counter() - begin)


def _given(config: Config) -> dict[str, str | None]:
    return {"validation": config.data.validation_data, "test": config.data.test_data}


def _write_rows(
    files: list[str],
    given: dict[str, str],
    directory: Path,
    config: Config,
    between: Callable[[], None],
    *,
    shard_rows: int,
) -> tuple[dict[str, Any], list[int]]:
    """Writes rows of numbers; returns what the description holds of them, and how many each part has."""
    refuse_parts_of_rows(config)
    fractions, seed = shares_of(config.data), config.split_seed
    parts = [PartWriter(directory, name, shard_rows) for name in PART_NAMES]
    moments = Moments()
    num_blank_lines = 0
    with ReadingProgress(sum(map(os.path.getsize, files))) as progress:
        for block in _read(files, config.reader, progress):
            between()
            num_blank_lines += block.num_blank_lines
            rows = Ragged.from_lengths(block.values, block.lengths)
            part_of = part_of_rows(rows, fractions=fractions, seed=seed)
            for number, part in enumerate(parts):
                chosen = part_of == number
                values = rows.values[np.repeat(chosen, rows.lengths)]
                part.add(Block(rows.lengths[chosen], {COLUMN: values}))
                if number == 0:
                    moments.add(values)
    if num_blank_lines:
        say(f"skipped {num_blank_lines} blank lines")
    require_parts([part.num_rows for part in parts], SPLIT_KIND, fractions)
    described = {}
    for part in parts:
        between()
        described[part.name] = part.finish()
        least, greatest = part.ranges().get(COLUMN, ([None], [None]))
        described[part.name] |= {"min": least[0], "max": greatest[0]}
    measured = _describe_moments(moments, directory, described[PART_NAMES[0]])
    return {"parts": described, "training_moments": measured}, [part.num_rows for part in parts]


def _write_sequences(
    files: list[str],
    given: dict[str, str],
    directory: Path,
    config: Config,
    between: Callable[[], None],
    *,
    shard_rows: int,
) -> tuple[dict[str, Any], list[int]]:
    """Writes sequences; returns what the description holds of them, and how many each part has."""
    writer = SequenceWriter(directory, config, shard_rows=shard_rows)
    named: list[tuple[str, str | None]] = [*((file, None) for file in files), *((given[part], part) for part in given)]
    done = 0
    with ReadingProgress(sum(os.path.getsize(file) for file, _ in named)) as progress:
        for file, part in named:
            between()
            sequences, _ = load_hashed_sequences(file, config)
            between()
            with naming(file):
                writer.add(file, sequences, part)
            done += os.path.getsize(file)
            progress.update(done, len(sequences))
            del sequences  # before the next file is read
    writer.require_parts()
    described, sequences_described = writer.finish(between)
    return {"parts": described, "sequences": sequences_described.to_json()}, writer.num_rows


def _format_version(config: Config, are_sequences: bool) -> int:
    if config.task.task == "forecast":
        return SERIES_FORMAT_VERSION
    return SEQUENCE_FORMAT_VERSION if are_sequences else FORMAT_VERSION


def _expand(inputs: Sequence[str]) -> list[str]:
    """Returns the files that paths and patterns name, in their order; those of a pattern sorted.

    Raises:
      UserError: None is named, a pattern matches nothing, or a file is named twice.
    """
    files: list[str] = []
    for name in inputs:
        if os.path.exists(name) or not glob.has_magic(name):
            files.append(name)
            continue
        found = sorted(glob.glob(name, recursive=True))
        if not found:
            raise UserError(f"{escape(name)}: matches no file; expected a path, or a pattern such as 'parts/*.csv'")
        files += found
    if not files:
        raise UserError("INPUTS: got none; expected at least one file")
    for file in files:
        open_file(file).close()  # refuses what is none before hours of reading those before it
    real = [os.path.realpath(file) for file in files]
    twice = next((file for file, path in zip(files, real, strict=True) if real.count(path) > 1), None)
    if twice is not None:
        raise UserError(f"{escape(twice)}: is named twice; its rows would count twice; name each file once")
    return files


def _read(files: list[str], reader: ReaderConfig, progress: ReadingProgress) -> Iterator[RowBlock]:
    done = 0
    for file in files:
        for block in read_blocks(file, min_length=2, **reader.as_options()):
            progress.update(done + (block.num_bytes or 0), len(block.lengths))
            yield block
        done += os.path.getsize(file)


def _describe_moments(moments: Moments, directory: Path, part: dict[str, Any]) -> dict[str, Any]:
    """Describes the training values; few enough of them as `Normalizer.fit` measures them in memory."""
    mean, deviation = moments.mean, moments.deviation
    if moments.count <= EXACT_VALUES:
        shards = ShardedRows([directory / shard["file"] for shard in part["shards"]])
        values = shards.take(np.arange(len(shards))).values
        mean, deviation = float(np.mean(values)), float(np.std(values))
    return {"count": moments.count, "mean": mean, "squares": moments.squares, "deviation": deviation}


def _report(target: Path, description: dict[str, Any], config: Config, counts: list[int], seconds: float) -> None:
    parts = description["parts"].values()
    shards = [shard for part in parts for shard in part["shards"]]
    size = sum(shard["bytes"] for shard in shards)
    types = dict.fromkeys(name for shard in shards for name in shard["type"].split(", "))
    what = "series" if config.task.task == "forecast" else "sequences" if "sequences" in description else "rows"
    print(
        f"{escape(str(target))}: {sum(part['rows'] for part in parts):,} {what}: "
        + ", ".join(f"{count:,} {name}" for name, count in zip(PART_NAMES, counts, strict=True))
        + f"; {len(shards)} shards of {' and '.join(sorted(types))}, {size / 1e6:,.1f} MB; {seconds:.1f} s"
    )
    task = f" --task={config.task.task}" if config.task.task != "next" else ""
    print(f"train on it:  python -m jaxrnn.train{task} --data={shlex.quote(escape(str(target)))}")
