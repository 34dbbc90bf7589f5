"""The data of a run whose task reads sequences: files of tables, lists or texts, held in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrnn.commands.data_words import describe_columns
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.parts import split_parts
from jaxrnn.data.series.series_encoding import SeriesEncoding
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
            # Who trains again knows the best epoch: patience was that of the first training.
            require_what_is_monitored(self.config, has_validation=refit or self._split.validation is not None)
            self.source = MemorySource(self.config, self._split)
        self.parts = {
            name: part.sequences for name, part in zip(PARTS_WITH_FILES, self._split[1:], strict=True) if part
        }
        self.shared_rows, self.overlapping = self._split.shared_rows(), self._split.overlapping()

    def in_words(self) -> tuple[str, str]:
        sequences, encoding = self._sequences, self.source.plan.encoding
        assert encoding is not None
        counts = {"training": len(self._split.training.sequences)}
        counts |= {name: len(self.parts[name]) if name in self.parts else 0 for name in PARTS_WITH_FILES}
        lengths = int(sequences.lengths.min()), int(sequences.lengths.max())
        given: Any = {"num_steps": sequences.num_steps, "lengths": lengths, "counts": counts}
        name = escape(self.config.data.data)
        return describe_sequences(name, encoding, self.config, number=len(sequences), **given)


def describe_sequences(
    name: str,
    encoding: Encoding,
    config: Config,
    *,
    num_steps: int,
    lengths: tuple[int, int],
    counts: dict[str, int],
    number: int,
) -> tuple[str, str]:
    """Says what sequences hold, and how many of them train, validate and test.

    Args:
      name: The data's.
      encoding: What the training rows say.
      config: Says how they are split.
      num_steps: The steps of all of them.
      lengths: The least steps of one, and the most.
      counts: How many are of each part.
      number: How many there are.
    """
    what = "series" if isinstance(encoding, SeriesEncoding) else "sequences"
    parts = [f"{count:,} {part}" for part, count in counts.items()]
    if config.data.split == "time":  # the parts are ends of the same series, but for those of files of their own
        shares = shares_of(config.data)
        parts += [
            f"{counts['training'] - counts[part]:,} too short for the {part} part"
            for part in PARTS_WITH_FILES
            if getattr(shares, part) > 0 and 0 < counts[part] < counts["training"]
        ]
    return (
        f"{name}: {number:,} {what}, {num_steps:,} steps; lengths {lengths[0]} to {lengths[1]}, mean"
        f" {num_steps / number:.1f}; {describe_columns(encoding)}",
        ", ".join(parts),
    )


def require_what_is_monitored(config: Config, *, has_validation: bool) -> None:
    """Refuses patience where nothing says which epoch is best.

    Raises:
      UserError: It is given.
    """
    if not has_validation and config.training.patience:
        raise UserError(
            f"--patience: got {config.training.patience}; expected 0 where no sequences validate: give"
            " --validation-data, or a share of the data by --split-fractions"
        )


def refuse_parts_of_rows(config: Config) -> None:
    """Refuses files for parts of rows of one number, whose parts are shares of one file.

    Raises:
      UserError: There are some.
    """
    for part in PARTS_WITH_FILES:
        path = getattr(config.data, f"{part}_data")
        if path is not None:
            raise UserError(f"--{part}-data: got {path!r}; expected none of rows of one number; name their columns")
    if config.data.split == "given":
        raise UserError("--split: got 'given'; expected another one of rows of one number; name their columns")
