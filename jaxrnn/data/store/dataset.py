"""A prepared data set: a directory of shards, and dataset.json, which says what is in them.

dataset.json is written last, so that a directory without it is not a data set; it holds the SHA-256 of every shard,
and one of itself.
"""

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.split import PART_NAMES, Kind
from jaxrnn.data.store.description import SequenceDescription
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.data.store.stored_series import REFIT, STORED, parts_of
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config

FORMAT_VERSION = 1  # of rows of numbers
SEQUENCE_FORMAT_VERSION = 2
SERIES_FORMAT_VERSION = 3  # of series to forecast, stored once whatever part their steps are of
DESCRIPTION_NAME = "dataset.json"
SPLIT_KIND: Kind = "hashed"
# A training part of at most so many rows is drawn in the very order of rows in memory, and evaluated as a whole; one of
# at most so many values is normalised by NumPy's mean and standard deviation of all of them at once.
EXACT_ROWS = 1 << 20
EXACT_VALUES = 1 << 24
_HASH_THREADS = 4
_AGAIN = "prepare the data again with python -m jaxrnn.prepare"


def is_dataset(path: str | Path) -> bool:
    """Whether a path is that of a directory, which can only be a prepared data set."""
    try:
        return Path(path).is_dir() and (Path(path) / DESCRIPTION_NAME).exists()
    except (OSError, ValueError):
        return False


def read_sha256(path: str | Path) -> str | None:
    """Returns the SHA-256 that a data set's description states, unchecked; None where there is none."""
    try:
        description = json.loads((Path(path) / DESCRIPTION_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return description.get("sha256") if isinstance(description, dict) else None


def shard_name(part: str, number: int) -> str:
    """Returns the name of a part's shard, counted from 0."""
    return f"{part}-{number:05}.arrow"


def digest_of(description: dict[str, Any]) -> str:
    """Returns the SHA-256 of a description without its own."""
    content = {key: value for key, value in description.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Dataset:
    """A prepared data set, checked.

    The size of every shard is compared with what was written, and its SHA-256, which takes a second for 1.5 GB: a
    fraction of what an epoch over it takes, and the file of a run in memory is hashed at every start too.

    Args:
      path: The directory.
      checker: Which of several processes this is: each checks the sums of its share of the shards.
      num_checkers: How many there are.

    Attributes:
      sequences: What the data set says of sequences; None of rows of numbers.
      parts: `ShardedRows`, or `ShardedSequences`, by the name of their part.

    Raises:
      DataError: It is none, of another version, edited, cut short or damaged; names the file.
    """

    def __init__(self, path: str | Path, *, checker: int = 0, num_checkers: int = 1):
        self.path = Path(path)
        self.sequences: SequenceDescription | None = None
        self.parts: dict[str, Any] = {}
        self._own = slice(checker, None, num_checkers)
        try:
            self._open()
        except DataError:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError) as error:
            raise DataError(
                f"{self.path / DESCRIPTION_NAME}: found no {shorten(str(error), 200)}; expected what jaxrnn.prepare"
                f" writes; {_AGAIN}"
            ) from error

    def _open(self) -> None:
        self.description = _read_description(self.path / DESCRIPTION_NAME)
        shards = _all_shards(self.description)
        with ThreadPoolExecutor(_HASH_THREADS) as executor:
            list(executor.map(self._check_size, shards))  # raises what a check raised
            list(executor.map(self._check_sum, shards[self._own]))
        if self.description["format_version"] != FORMAT_VERSION:
            self.sequences = SequenceDescription.from_json(self.description["sequences"])
            if (self.sequences.task == "forecast") != self._holds_series:
                raise ValueError("task")
        self.parts = {name: self._sharded(part["shards"]) for name, part in self.description["parts"].items()}
        for name, part in self.parts.items():
            if len(part) != self.description["parts"][name]["rows"]:
                raise DataError(
                    f"{self.path}: found {len(part)} {name} rows; expected {self.description['parts'][name]['rows']};"
                    f" {_AGAIN}"
                )
            self._check_counts(name, part)
        if self._holds_series:
            self._refit_part, self.parts = self._cut(self.parts[STORED])
        split = self.description["split"]
        Config().replace_flat({"split_fractions": list(split["fractions"]), "split_seed": split["seed"]})
        if self.sequences is None:
            moments = self.description["training_moments"]
            np.isfinite([moments["mean"], moments["deviation"], *self.span])
        if not self.num_rows("training"):
            raise DataError(f"{self.path}: found no training rows; expected some; {_AGAIN}")

    def _check_counts(self, name: str, part: Any) -> None:
        """Holds what is said of a part's lengths against the shards.

        Raises:
          ValueError: They differ.
        """
        described, (distinct, counts) = self.description["parts"][name], _pairs(self.description["parts"][name])
        total = (counts * distinct).sum()
        is_so = counts.sum() == len(part) and described["values"] == total and (np.diff(distinct) > 0).all()
        if not is_so or (counts < 1).any() or (distinct < 1).any():
            raise ValueError(f"{name} lengths")
        longest = int(distinct.max(initial=0))
        found = np.zeros(longest + 1, np.int64)
        for lengths in part.lengths():
            if lengths.max(initial=0) > longest:
                raise ValueError(f"{name} lengths")
            found += np.bincount(lengths, minlength=longest + 1)
        if not np.array_equal(np.flatnonzero(found), distinct) or not np.array_equal(found[distinct], counts):
            raise ValueError(f"{name} lengths")

    def _sharded(self, shards: list[dict[str, Any]]) -> Any:
        paths = [self.path / shard["file"] for shard in shards]
        return ShardedRows(paths) if self.sequences is None else ShardedSequences(paths, self.sequences.form)

    def all_rows(self) -> Any:
        """The rows of all parts, one part after the other."""
        return self._sharded(_all_shards(self.description))

    @property
    def _holds_series(self) -> bool:
        return self.description["format_version"] == SERIES_FORMAT_VERSION

    def _cut(self, stored: ShardedSequences) -> tuple[ShardedSequences, dict[str, Any]]:
        """Returns the part that trains a second time, and the others."""
        parts = parts_of(stored)
        return parts.pop(REFIT), parts

    def refitted(self) -> "Dataset":
        """Returns a data set of series to forecast whose validation steps train too, and which has none to validate."""
        assert self.sequences is not None
        other = copy.copy(self)
        other.sequences = self.sequences.refitted()
        other.parts = self.parts | {"training": self._refit_part}
        del other.parts["validation"]
        return other

    @property
    def sha256(self) -> str:
        """The description's hash, and with it that of all whose hashes it holds."""
        return self.description["sha256"]

    @property
    def split_seed(self) -> int:
        return self.description["split"]["seed"]

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest value."""
        parts = [part for part in self.description["parts"].values() if part["rows"]]
        return min(part["min"] for part in parts), max(part["max"] for part in parts)

    def num_rows(self, name: str | None = None) -> int:
        """The rows of a part, or all that are stored."""
        if name is not None:
            return len(self.parts[name]) if name in self.parts else 0
        return sum(part["rows"] for part in self.description["parts"].values())

    def num_values(self) -> int:
        """The values of all rows that are stored."""
        return sum(part["values"] for part in self.description["parts"].values())

    @property
    def lengths(self) -> tuple[int, int]:
        """The least and the greatest length of the rows that are stored."""
        found = [_pairs(part)[0] for part in self.description["parts"].values() if part["rows"]]
        return min(int(lengths[0]) for lengths in found), max(int(lengths[-1]) for lengths in found)

    def histogram(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The distinct lengths of a part's rows, rising, and how many rows have each."""
        if name in self.description["parts"]:
            return _pairs(self.description["parts"][name])
        lengths = np.concatenate([np.zeros(0, np.int64), *self.parts[name].lengths()])
        return np.unique(lengths, return_counts=True)

    def fit_normalizer(self, config: Config) -> Normalizer:
        """Fits the normaliser of a configuration on the training part.

        Raises:
          DataError: A normalised value is beyond float32.
        """
        data, moments = config.data, self.description["training_moments"]
        if data.normalizer == "standard":
            part = self.description["parts"]["training"]
            normalizer = Normalizer.standard(moments["mean"], moments["deviation"], part["min"], part["max"])
        else:
            normalizer = Normalizer(0.0, data.divisor) if data.normalizer == "divide" else Normalizer()
        normalizer.require_float32(np.array(self.span))
        return normalizer

    def adapt(self, config: Config) -> Config:
        """Returns the configuration with the split that the rows were prepared with.

        Raises:
          UserError: The configuration asks for another one.
        """
        split, default, data = self.description["split"], Config().data, config.data
        fractions, kind = tuple(split["fractions"]), split["kind"] if self._holds_series else SPLIT_KIND
        of_recipe = ("time",) if self._holds_series else ()  # what it says for want of anything else
        asked = {
            "split": (data.split, (default.split, *of_recipe, kind), kind),
            "split_fractions": (data.split_fractions, (default.split_fractions, fractions), fractions),
            "split_seed": (data.split_seed, (None, split["seed"]), split["seed"]),
        }
        for key, (got, allowed, expected) in asked.items():
            if got not in allowed:
                raise UserError(
                    f"--{key.replace('_', '-')}: got {got!r}; expected {expected!r}, with which"
                    f" {escape(str(self.path))} was prepared; leave it out, or prepare the data once more"
                )
        values = {key: list(entry[2]) if key == "split_fractions" else entry[2] for key, entry in asked.items()}
        for part in ("validation_data", "test_data"):
            if getattr(data, part) is not None:
                raise UserError(
                    f"--{part.replace('_', '-')}: got {getattr(data, part)!r}; expected none with prepared data: give"
                    " it to jaxrnn.prepare"
                )
        where = escape(str(self.path))
        if self.sequences is not None:
            config = self.sequences.adapt(config, where)
        elif config.task.task != "next":
            raise UserError(
                f"--task: got {config.task.task!r}; expected 'next', for which {where} was prepared: it holds rows of"
                f" numbers; prepare the data once more with --task={config.task.task}"
            )
        return config.replace_flat(values)

    def _check_size(self, shard: dict[str, Any]) -> None:
        path = self.path / shard["file"]
        with _refusing(path):
            size = path.stat().st_size
        if size != shard["bytes"]:
            raise DataError(f"{path}: found {size} bytes; expected {shard['bytes']}: it was cut or changed; {_AGAIN}")

    def _check_sum(self, shard: dict[str, Any]) -> None:
        path = self.path / shard["file"]
        with _refusing(path), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != shard["sha256"]:
            raise DataError(f"{path}: is not what was written (SHA-256 differs); {_AGAIN}")


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a shard; {_AGAIN}") from error


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a prepared data set; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON; expected what jaxrnn.prepare wrote; {_AGAIN}") from error
    version = description.get("format_version") if isinstance(description, dict) else None
    if version not in (FORMAT_VERSION, SEQUENCE_FORMAT_VERSION, SERIES_FORMAT_VERSION):
        raise DataError(
            f"{path}: found format version {str(version)[:20]!r}; expected {FORMAT_VERSION} to"
            f" {SERIES_FORMAT_VERSION}; {_AGAIN}, or use the version of jaxrnn that wrote it"
        )
    if description.get("sha256") != digest_of(description):
        raise DataError(f"{path}: is not what was written (SHA-256 differs): it was edited or damaged; {_AGAIN}")
    parts = description["parts"]
    names = (STORED,) if version == SERIES_FORMAT_VERSION else PART_NAMES
    if set(parts) != set(names):
        raise ValueError("parts")
    description["parts"] = {name: parts[name] for name in names}
    for name in names:
        for number, shard in enumerate(parts[name]["shards"]):
            if shard["file"] != shard_name(name, number):
                raise DataError(f"{path}: names {escape(str(shard['file'])[:40])!r}; expected a shard's name; {_AGAIN}")
    return description


def _all_shards(description: dict[str, Any]) -> list[dict[str, Any]]:
    return [shard for part in description["parts"].values() for shard in part["shards"]]


def _pairs(part: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(part["lengths"], np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
