"""The data of a run, as a file whose rows are held in memory or as a prepared data set on the disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from jaxrnn.commands.sequence_data import (
    PARTS_WITH_FILES,
    SequencesInMemory,
    describe_sequences,
    refuse_parts_of_rows,
    require_what_is_monitored,
)
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.loading import load_hashed_rows
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.split import PART_NAMES, count_shared_rows
from jaxrnn.data.store.dataset import Dataset, is_dataset
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.data.tables.loading import reads_sequences
from jaxrnn.foundation.escaping import escape
from jaxrnn.parallel import hosts
from jaxrnn.settings.config import Config
from jaxrnn.training.disk_source import DiskSource
from jaxrnn.training.fit import Source
from jaxrnn.training.memory_source import MemorySource

Check = Callable[[dict[str, Any]], None]


class TrainingData(Protocol):
    """What a run learns from, and is measured on."""

    @property
    def config(self) -> Config:
        """The configuration, with the split that the data brings."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """The data's path, hash and size, which a run remembers."""
        ...

    @property
    def source(self) -> Source:
        """Where batches come from; there once `arrange` was called."""
        ...

    @property
    def parts(self) -> Mapping[str, Ragged | ShardedRows | Sequences | ShardedSequences]:
        """The "validation" and "test" rows, as far as there are any; there once `arrange` was called."""
        ...

    @property
    def shared_rows(self) -> tuple[int, int]:
        """How many validation and test rows stand in the training part too; there once `arrange` was called."""
        ...

    @property
    def overlapping(self) -> tuple[int, int]:
        """How many validation and test sequences look like windows of training ones; as `shared_rows`."""
        ...

    def arrange(self, *, refit: bool = False) -> None:
        """Splits the rows and arranges them in batches.

        Args:
          refit: Whether the validation steps of series train too, and none validate.

        Raises:
          DataError: Too few rows, or a value too large for float32 once normalised; names the data.
        """
        ...

    def in_words(self) -> tuple[str, str]:
        """Returns what the data holds, and how many rows of it train, validate and test."""
        ...


def open_training_data(config: Config, check: Check | None = None) -> TrainingData:
    """Opens what a configuration names.

    Args:
      config: The configuration.
      check: Called with the data's path and hash, before anything is made of its content.

    Raises:
      DataError: It is not what it should be.
      UserError: A setting does not go with it.
    """
    kind: Callable[[Config, Check], TrainingData]
    if is_dataset(config.data.data):
        kind = PreparedData
    else:
        kind = SequencesInMemory if reads_sequences(config) else RowsInMemory
    return kind(config, check or (lambda described: None))


class RowsInMemory:
    """The rows of a file; attributes as those of `TrainingData`."""

    source: MemorySource
    overlapping = (0, 0)  # rows of one number are not looked at: ball.csv's are parts of straight lines

    def __init__(self, config: Config, check: Check):
        refuse_parts_of_rows(config)
        self.config = config
        named = {"path": str(Path(config.data.data).absolute())}
        self._rows, sha256 = load_hashed_rows(
            config.data.data, config.reader, min_length=2, check=lambda sha256: check({**named, "sha256": sha256})
        )
        size = {"rows": len(self._rows), "values": self._rows.num_values}
        self.description: dict[str, Any] = {**named, "sha256": sha256, **size}

    def arrange(self, *, refit: bool = False) -> None:
        del refit  # the rows of a task that refits are sequences
        with naming(self.config.data.data):
            self.source = MemorySource(self.config, self._rows)
        split = self.source.split
        numbers = {"validation": split.validation, "test": split.test}
        self.parts = {name: self._rows.take(chosen) for name, chosen in numbers.items() if len(chosen)}
        self.shared_rows = count_shared_rows(self._rows, split)

    def in_words(self) -> tuple[str, str]:
        rows, split = self._rows, self.source.split
        lengths = rows.lengths
        return (
            f"{escape(self.config.data.data)}: {len(rows):,} rows, {rows.group_ids().max() + 1:,} distinct,"
            f" {rows.num_values:,} values; lengths {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f};"
            f" values {rows.values.min():g} to {rows.values.max():g}",
            f"{len(split.training):,} training, {len(split.validation):,} validation, {len(split.test):,} test",
        )


class PreparedData:
    """The rows or sequences of a prepared data set, which stay on the disk; attributes as those of `TrainingData`."""

    source: DiskSource

    def __init__(self, config: Config, check: Check):
        several = hosts.is_distributed()
        share = {"checker": jax.process_index(), "num_checkers": jax.process_count()} if several else {}
        self._dataset = dataset = Dataset(config.data.data, **share)
        self.config = dataset.adapt(config)
        self.description = {
            "path": str(Path(dataset.path).absolute()),
            "sha256": dataset.sha256,
            "rows": dataset.num_rows(),
            "values": dataset.num_values(),
        }
        check(self.description)

    def arrange(self, *, refit: bool = False) -> None:
        self._arranged = dataset = self._dataset.refitted() if refit else self._dataset
        with naming(self.config.data.data):
            # Who trains again knows the best epoch: patience was that of the first training.
            has_validation = refit or dataset.num_rows("validation") > 0
            require_what_is_monitored(self.config, has_validation=has_validation)
            self.source = DiskSource(self.config, dataset)
        self.parts = {name: dataset.parts[name] for name in PARTS_WITH_FILES if dataset.num_rows(name)}
        described = dataset.sequences
        # The split keeps identical rows of numbers on one side; windows are not looked at.
        self.shared_rows = (0, 0) if described is None else described.shared_rows
        self.overlapping = (0, 0) if described is None else described.overlapping

    def in_words(self) -> tuple[str, str]:
        dataset, encoding = self._arranged, self.source.plan.encoding
        number, num_values, name = dataset.num_rows(), dataset.num_values(), escape(self.config.data.data)
        counts = {part: dataset.num_rows(part) for part in PART_NAMES}
        shortest, longest = dataset.lengths
        if encoding is not None:
            given: Any = {"num_steps": num_values, "lengths": (shortest, longest), "counts": counts, "number": number}
            return describe_sequences(f"{name}, prepared", encoding, self.config, **given)
        low, high = dataset.span
        return (
            f"{name}, prepared: {number:,} rows, {num_values:,} values; lengths {shortest} to {longest}, mean"
            f" {num_values / number:.1f}; values {low:g} to {high:g}",
            ", ".join(f"{count:,} {part}" for part, count in counts.items()),
        )
