"""What the columns of a table are: which one says whose a step is, which are read, predicted, or known as a whole."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from jaxrnn.settings.checking import require

Names = str | Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Roles of the columns of a table, a row of which is a step of a sequence.

    Args:
      id_column: Says which sequence a step belongs to; without one the table is a single sequence.
      time_column: Puts the steps of a sequence in order; without one they stand in the table's own.
      input_columns: Numbers to read at every step; if empty, all columns of numbers without another role.
      category_columns: Texts or whole numbers to read at every step, of which each different one is a category.
      target_columns: Numbers to predict.
      label_column: A class or number that belongs to a whole sequence.
      static_columns: Numbers that belong to a whole sequence.
      each_step_has_a_label: Labels may change within a sequence, to learn one at every step.
      missing: What becomes of inputs that are missing: "error", "forward" for the last one before, or "mask" for 0 and
        a further input that is 1 there.

    Raises:
      UserError: A column has two roles, or an option is not one of its values.
    """

    id_column: str | None = None
    time_column: str | None = None
    input_columns: Names = ()
    category_columns: Names = ()
    target_columns: Names = ()
    label_column: str | None = None
    static_columns: Names = ()
    each_step_has_a_label: bool = False
    missing: Literal["error", "forward", "mask"] = "error"

    def __post_init__(self) -> None:
        for field in ("input_columns", "category_columns", "target_columns", "static_columns"):
            given = getattr(self, field)
            names = (given,) if isinstance(given, str) else tuple(given)
            require(len(set(names)) == len(names), field, given, "each column once")
            object.__setattr__(self, field, names)
        require(self.missing in ("error", "forward", "mask"), "missing", self.missing, "error, forward or mask")
        roles = self.roles()
        for name in {name for name, _ in roles}:
            held = [field for other, field in roles if other == name]
            # What is predicted may be read too, a step earlier.
            require(
                len(held) == 1 or set(held) == {"input_columns", "target_columns"},
                held[-1],
                name,
                f"a column without another role; it has that of {held[0]} too",
            )

    def roles(self) -> list[tuple[str, str]]:
        """Lists every column that has a role, with the argument that gives it."""
        single = [(getattr(self, field), field) for field in ("id_column", "time_column", "label_column")]
        several = ("input_columns", "category_columns", "target_columns", "static_columns")
        listed = [(name, field) for field in several for name in getattr(self, field)]
        return [(name, field) for name, field in [*single, *listed] if name is not None]
