"""What a caller may choose about reading a file of sequences."""

from dataclasses import dataclass
from typing import Literal

from jaxrnn.errors import UserError

# A field is at most this long, its spaces included. The longest decimal that float64 needs to
# tell two neighbours apart has 767 digits; without a limit one field could fill the memory.
MAX_FIELD_LENGTH = 4096

# The largest magnitude that float32 still rounds to a finite number is below this one.
FLOAT32_OVERFLOW = 3.4028235677973366e38


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The choices of `jaxrnn.read_sequences`; the flag of a field is `--` and its name.

    Args:
      delimiter: The character between two values: printable ASCII or a tab; `\\t` spelled out in
        two characters is a tab too, because a shell makes a tab hard to write.
      header: Whether the first line of a text file is a header, which is not read.
      blank_lines: "error" refuses blank lines, "skip" skips and counts them.
      min_length: The fewest values a row may have.
      max_row_length: The most values a row may have.
      max_bytes: The most bytes of text, after decompression; of columns, in memory.
      column: The column of a Parquet or Arrow file; None takes its only list column.

    Raises:
      UserError: A field is not one of its values.
    """

    delimiter: str = ","
    header: bool = False
    blank_lines: Literal["error", "skip"] = "error"
    min_length: int = 2
    max_row_length: int = 1_000_000
    max_bytes: int = 4 * 2**30
    column: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter == r"\t":
            object.__setattr__(self, "delimiter", "\t")
        delimiter = self.delimiter
        is_plain = len(delimiter) == 1 and (delimiter == "\t" or " " <= delimiter <= "~")
        if not is_plain or delimiter.isalnum() or delimiter in "+-.":
            raise UserError(
                f"--delimiter: found {delimiter!r}; expected one ASCII character that no number "
                "holds; give for example --delimiter=';' or --delimiter='\\t'"
            )
        if self.blank_lines not in ("error", "skip"):
            raise UserError(
                f"--blank-lines: found {self.blank_lines!r}; expected 'error' or 'skip'"
            )
        if self.min_length < 1:
            raise UserError(f"min_length: found {self.min_length}; expected at least 1")
        for flag, value, least in (
            ("--max-row-length", self.max_row_length, self.min_length),
            ("--max-bytes", self.max_bytes, 1),
        ):
            if value < least:
                raise UserError(f"{flag}: found {value}; expected at least {least}")
