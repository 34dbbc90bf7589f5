"""The data of a run whose task reads sequences: files of tables, lists or texts, held in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.sequence_parts import SequenceParts
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.tables.loading import load_hashed_sequences
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config
from jaxrnn.training.memory_source import MemorySource

MAX_CLASSES_SHOWN = 10
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
        holds = [f"{len(encoding.inputs.names):,} inputs"]
        holds += [f"{len(texts):,} categories of {escape(shorten(name))}" for name, texts in encoding.categories]
        holds += [f"{len(encoding.statics.names):,} statics"] if encoding.statics.names else []
        if encoding.classes:
            shown = ", ".join(escape(shorten(text)) for text in encoding.classes[:MAX_CLASSES_SHOWN])
            more = ", ..." if len(encoding.classes) > MAX_CLASSES_SHOWN else ""
            answers = f"{len(encoding.classes):,} classes ({shown}{more})"
        else:
            answers = f"targets {', '.join(escape(shorten(name)) for name in encoding.targets.names)}"
        numbers = [0 if part is None else len(part.sequences) for part in self._split]
        names = ("training", *PARTS_WITH_FILES)
        return (
            f"{escape(self.config.data.data)}: {len(sequences):,} sequences, {sequences.num_steps:,} steps; lengths"
            f" {lengths.min()} to {lengths.max()}, mean {np.mean(lengths):.1f}; {', '.join(holds)}; {answers}",
            ", ".join(f"{number:,} {name}" for number, name in zip(numbers, names, strict=True)),
        )


def _require_what_is_monitored(config: Config, split: SequenceParts) -> None:
    if split.validation is None and config.training.patience:
        raise UserError(
            f"--patience: got {config.training.patience}; expected 0 where no sequences validate: give"
            " --validation-data, or a share of the data by --split-fractions"
        )
