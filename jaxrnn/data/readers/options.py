"""What a caller may choose about reading a file of sequences."""

from dataclasses import dataclass

from jaxrnn.settings.checking import require
from jaxrnn.settings.data_config import ReaderConfig

# A field is at most this long, its spaces included. The longest decimal that float64 needs to
# tell two neighbours apart has 767 digits; without a limit one field could fill the memory.
MAX_FIELD_LENGTH = 4096

# The largest magnitude that float32 still rounds to a finite number is below this one.
FLOAT32_OVERFLOW = 3.4028235677973366e38


@dataclass(frozen=True, kw_only=True)
class ReadOptions(ReaderConfig):
    """A `ReaderConfig`, and how short a row may be, which the caller knows and no user sets.

    Args:
      min_length: The fewest values a row may have.

    Raises:
      UserError: A field is not one of its values.
    """

    min_length: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.min_length >= 1, "min_length", self.min_length, "at least 1")
        least = f"at least min_length = {self.min_length}"
        require(self.max_row_length >= self.min_length, "max_row_length", self.max_row_length, least)
