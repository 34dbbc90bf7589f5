"""The settings of the data: how files are read, and which rows train, validate and test."""

import dataclasses
from typing import Any, Literal, NamedTuple, Optional

from jaxrnn.settings.checking import require
from jaxrnn.settings.limits import MAX_FLOAT, MAX_SIZE, MIN_FLOAT, POSITIVE


class Fractions(NamedTuple):
    """Shares of the rows of each part."""

    training: float
    validation: float
    test: float


def require_fractions(shares: tuple[float, ...]) -> None:
    """Refuses shares that leave nothing to train on, or that are not everything together.

    Raises:
      SettingError: They do.
    """
    is_whole = len(shares) == 3 and shares[0] > 0 and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6
    require(is_whole, "split_fractions", list(shares), "three shares from 0 to 1 that sum to 1, the first above 0")


_DEFAULT_FRACTIONS = Fractions(0.6, 0.2, 0.2)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """How the data file is read."""

    delimiter: str = ","
    """Between the values of a row: one ASCII character, or \\t for a tab."""
    header: bool = False
    """Skip the first line of a text file."""
    blank_lines: Literal["error", "skip"] = "error"
    """What to do with blank lines: error, or skip and count them."""
    column: Optional[str] = None
    """The list column of a Parquet or Arrow file that has several."""
    max_row_length: int = 1_000_000
    """Longest row accepted, in values."""
    max_bytes: int = 4 * 2**30
    """Largest file accepted, in bytes after decompression."""

    def __post_init__(self) -> None:
        if self.delimiter == r"\t":
            object.__setattr__(self, "delimiter", "\t")
        delimiter = self.delimiter
        is_plain = len(delimiter) == 1 and (delimiter == "\t" or " " <= delimiter <= "~")
        require(
            is_plain and not delimiter.isalnum() and delimiter not in "+-.",
            "delimiter",
            delimiter,
            "one ASCII character that no number holds, such as --delimiter=';' or --delimiter='\\t'",
        )
        require(self.blank_lines in ("error", "skip"), "blank_lines", self.blank_lines, "error or skip")
        require(_is_utf8(self.column or ""), "column", self.column, "a name in UTF-8")
        require(1 <= self.max_row_length <= MAX_SIZE, "max_row_length", self.max_row_length, f"1 to {MAX_SIZE}")
        require(1 <= self.max_bytes <= MAX_SIZE, "max_bytes", self.max_bytes, f"1 to {MAX_SIZE}")

    def as_options(self) -> dict[str, Any]:
        """Returns the fields as keyword arguments of `jaxrnn.read_sequences`."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which rows train, validate and test, and in which units the network sees them."""

    data: str = "ball.csv"
    """File of ragged rows: CSV (also gzip or zstd), Parquet or Arrow; or of sequences, as docs/data.md lists them."""
    validation_data: Optional[str] = None
    """File of validation sequences, in place of a share of the data; not of rows of one number."""
    test_data: Optional[str] = None
    """File of test sequences, in place of a share of the data; not of rows of one number."""
    split: Literal["grouped", "hashed", "random", "tutorial", "given", "time"] = "grouped"
    """grouped, hashed: identical rows on one side; random, tutorial (in blocks): not; given: all data trains; time: the
    ends of every series test and validate a forecast."""
    split_fractions: Fractions = _DEFAULT_FRACTIONS
    """Shares of training, validation and test rows; a file given for a part takes the place of its share."""
    split_seed: Optional[int] = None
    """Seed of the split; the run's seed if left out. Runs with the same one can be compared."""
    split_block: int = 2000
    """Rows of a block of split = tutorial."""
    normalizer: Literal["standard", "divide", "none"] = "standard"
    """standard subtracts the training mean and divides by the standard deviation; divide uses divisor."""
    divisor: float = 50.0
    """Divisor of normalizer = divide, in the data's units."""

    def __post_init__(self) -> None:
        require(_is_utf8(self.data), "data", self.data, "a path in UTF-8; rename the file")
        # The file is read again, to evaluate and to go on.
        require(self.data not in ("", "-"), "data", self.data, "the path of a file, not standard input")
        for key in ("validation_data", "test_data"):
            path = getattr(self, key)
            require(path is None or (path not in ("", "-") and _is_utf8(path)), key, path, "the path of a file")
        require_fractions(self.split_fractions)
        seed = self.split_seed
        require(seed is None or 0 <= seed < 2**32, "split_seed", seed, "0 to 4294967295")
        require(3 <= self.split_block <= MAX_SIZE, "split_block", self.split_block, f"3 to {MAX_SIZE}")
        require(MIN_FLOAT <= self.divisor <= MAX_FLOAT, "divisor", self.divisor, POSITIVE)
