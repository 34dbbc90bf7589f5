"""The data of a run whose task reads sequences: files of tables, lists or texts, held in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.commands.data_words import describe_columns
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.sequence_parts import SequenceParts
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.tables.loading import load_hashed_sequences
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.settings.config import Config
from jaxrnn.training.memory_source import MemorySource

PARTS_WITH_FILES = ("validation", "test")


class SequencesInMemory:
    """The sequences of a file, or of several; attributes as those of `TrainingData`."""

    source: MemorySource

    def __init__(self, config: Config, check: Callable[[dict[str, Any]], None]):
        self.config = config
        named = {"path": str(Path(config.data.data).absolute())}
        self._given: dict[str, Sequences] = {}
        files: dict[str, dict[str, str]] = {}
        for name in PARTS_WITH_FILES:
            path = getattr(config.data, f"{name}_data")
            if path is not None:
                self._given[name], sha256 = load_hashed_sequences(path, config)
                files[name] = {"path": str(Path(path).absolute()), "sha256": sha256}
        self._sequences, sha256 = load_hashed_sequences(
            config.data.data, config, check=lambda sha256: check({**named, "sha256": sha256, "given": files})
        )
        size = {"rows": len(self._sequences), "values": self._sequences.num_steps}
        self.description: dict[str, Any] = {**named, "sha256": sha256, **size}
        if files:
            self.description["given"] = files

    def arrange(self, *, refit: bool = False) -> None:
        with naming(self.config.data.data):
            given: Any = {name: self._given.get(name) for name in PARTS_WITH_FILES}
            self._split = split_parts(self.config, self._sequences, **given, refit=refit)
            _require_what_is_monitored(self.config, self._split)
            self.source = MemorySource(self.config, self._split)
        self.parts = {
            name: part.sequences for name, part in zip(PARTS_WITH_FILES, self._split[1:], strict=True) if part
        }
        self.shared_rows, self.overlapping = self._split.shared_rows(), self._split.overlapping()

    def in_words(self) -> tuple[str, str]:
        sequences, lengths = self._sequences, self._sequences.lengths
        encoding = self.source.plan.encoding
        assert encoding is not None
        counts = [0 if part is None else len(part.sequences) for part in self._split]
        names = ("training", *PARTS_WITH_FILES)
        parts = [f"{count:,} {name}" for count, name in zip(counts, names, strict=True)]
        if self.config.data.split == "time":  # the parts are ends of the same series
            parts += [
                f"{len(sequences) - count:,} too short for the {name} part"
                for count, name in zip(counts, names, strict=True)
                if name not in self._given and 0 < count < len(sequences)
            ]
        what = "series" if self.config.task.task == "forecast" else "sequences"
        return (
            f"{escape(self.config.data.data)}: {len(sequences):,} {what}, {sequences.num_steps:,} steps; lengths"
            f" {lengths.min()} to {lengths.max()}, mean {np.mean(lengths):.1f}; {describe_columns(encoding)}",
            ", ".join(parts),
        )


def _require_what_is_monitored(config: Config, split: SequenceParts) -> None:
    if split.validation is None and config.training.patience:
        raise UserError(
            f"--patience: got {config.training.patience}; expected 0 where no sequences validate: give"
            " --validation-data, or a share of the data by --split-fractions"
        )
