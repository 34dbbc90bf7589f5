"""The settings of tables: what each column is, and how a text of them is written."""

import dataclasses
from typing import Any, Literal, Optional

from jaxrnn.settings.checking import require
from jaxrnn.settings.limits import MAX_COUNT

# Settings of several names.
SEVERAL = ("input_columns", "category_columns", "target_columns", "known_columns", "static_columns")
# What the network does with what was read: no matter of reading, and of a data set that is read already.
NOT_OF_READING = ("max_tokens",)


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names of a list that is joined by commas."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


@dataclasses.dataclass(frozen=True)
class ColumnsConfig:
    """What the columns of a table are; several names are joined by commas."""

    id_column: Optional[str] = None
    """Column that says which sequence a step belongs to."""
    time_column: Optional[str] = None
    """Column that puts the steps of a sequence in order; the order in the file if left out."""
    input_columns: str = ""
    """Numbers to read at every step; all columns of numbers without another role if left out."""
    category_columns: str = ""
    """Texts or whole numbers to read at every step, each different one a category."""
    target_columns: str = ""
    """Numbers to predict."""
    known_columns: str = ""
    """Numbers of every step that are known ahead, such as prices and holidays."""
    label_column: Optional[str] = None
    """Class or number of a whole sequence; of every step with task = tag; in rows without a header first or last."""
    static_columns: str = ""
    """Numbers that belong to a whole sequence."""
    group_column: Optional[str] = None
    """Column whose rows with one value stay together in a split, such as a subject's."""
    text_column: Optional[str] = None
    """Texts, each a sequence of tokens."""
    tokens: Literal["character", "word", "byte"] = "character"
    """What the steps of a text are."""
    max_tokens: int = 10_000
    """Tokens, or categories of a column, at most: the most frequent of the training rows; others are unknown."""
    row_end: Literal["none", "nan", "empty"] = "none"
    """In rows without a header, trailing fields that end a row."""
    missing: Literal["error", "forward", "mask"] = "error"
    """Inputs that are missing: error, forward (the last one before), or mask (0, and a further input that is 1)."""
    comment: str = ""
    """Lines of a text file that begin with this are left out."""
    skip_lines: int = 0
    """Lines before a text file's header that are left out."""
    decimal: str = "."
    """Character before the decimals of a text file's numbers."""

    def __post_init__(self) -> None:
        for key in SEVERAL:
            names = names_in(getattr(self, key))
            require("" not in names, key, getattr(self, key), "names joined by commas")
        require(self.skip_lines >= 0, "skip_lines", self.skip_lines, "0 or more")
        require(1 <= self.max_tokens <= MAX_COUNT, "max_tokens", self.max_tokens, f"1 to {MAX_COUNT}")

    @property
    def is_default(self) -> bool:
        """Whether nothing is said of columns."""
        return self == ColumnsConfig()

    def as_options(self) -> dict[str, Any]:
        """Returns the roles and the way of writing as keyword arguments of `jaxrnn.read`."""
        options = dataclasses.asdict(self)
        del options["max_tokens"]
        if self.text_column is None:
            del options["tokens"]
        options["row_end"] = None if self.row_end == "none" else self.row_end
        for key in SEVERAL:
            options[key] = names_in(options[key])
        return options | {"comment": self.comment or None}
