"""What the columns of a table are: which one says whose a step is, which are read, predicted, or known as a whole."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from jaxrnn.data.readers.tokens import Tokens
from jaxrnn.settings.checking import require

Names = str | Sequence[str]

_SINGLE = ("id_column", "time_column", "label_column", "text_column", "group_column")
_SEVERAL = (
    "input_columns",
    "category_columns",
    "target_columns",
    "known_columns",
    "static_columns",
    "static_category_columns",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Roles of the columns of a table, a row of which is a step of a sequence.

    Args:
      id_column: Says which sequence a step belongs to; without one the table is a single sequence.
      time_column: Puts the steps of a sequence in order; without one they stand in the table's own.
      input_columns: Numbers to read at every step; if empty, all columns of numbers without another role.
      category_columns: Texts or whole numbers to read at every step, of which each different one is a category.
      target_columns: Numbers to predict.
      known_columns: Numbers of every step that are known ahead of it.
      label_column: A class or number that belongs to a whole sequence.
      group_column: Says which sequences belong together, such as those of a person: a split does not part them.
      static_columns: Numbers that belong to a whole sequence.
      static_category_columns: Texts that belong to a whole sequence.
      text_column: Texts, each a sequence of tokens.
      tokens: What the steps of a text are; "character" if it is not given.
      each_step_has_a_label: Labels may change within a sequence, to learn one at every step.
      missing: What becomes of inputs, and numbers known ahead, that are missing: "error", "forward" for the last one
        before, or "mask" for 0 and a further input that is 1 there.
      targets_may_be_missing: It holds for targets too, but "mask" leaves them NaN, without a mark; else a target that
        is missing is refused.
      of_model: The inputs that a model reads, where a table's are not named: those of them that there are; None to take
        all columns of numbers without a role.
      may_lack: Arguments above whose columns a table need not have.

    Raises:
      UserError: A column has two roles, or an option is not one of its values.
    """

    id_column: str | None = None
    time_column: str | None = None
    input_columns: Names = ()
    category_columns: Names = ()
    target_columns: Names = ()
    known_columns: Names = ()
    label_column: str | None = None
    group_column: str | None = None
    static_columns: Names = ()
    static_category_columns: Names = ()
    text_column: str | None = None
    tokens: Tokens | None = None
    each_step_has_a_label: bool = False
    missing: Literal["error", "forward", "mask"] = "error"
    targets_may_be_missing: bool = False
    of_model: tuple[str, ...] | None = None
    may_lack: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in _SEVERAL:
            given = getattr(self, field)
            require(isinstance(given, str | Iterable), field, given, "a name, or several")
            names = (given,) if isinstance(given, str) else tuple(given)
            require(len(set(names)) == len(names), field, given, "each column once")
            object.__setattr__(self, field, names)
        require(self.missing in ("error", "forward", "mask"), "missing", self.missing, "error, forward or mask")
        require(self.tokens in (None, *typing.get_args(Tokens)), "tokens", self.tokens, "character, word or byte")
        if self.text_column is not None:
            for field in (
                "time_column",
                "input_columns",
                "category_columns",
                "target_columns",
                "known_columns",
                "each_step_has_a_label",
            ):
                given = getattr(self, field)
                require(not given, field, given, "none beside text_column: the steps are those of the text")
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
        single = [(getattr(self, field), field) for field in _SINGLE]
        listed = [(name, field) for field in _SEVERAL for name in getattr(self, field)]
        return [(name, field) for name, field in [*single, *listed] if name is not None]

    def without_absent(self, names: Sequence[str]) -> "Columns":
        """Takes the roles from columns that a table lacks and need not have.

        Args:
          names: The columns that there are.
        """
        kept: dict[str, Any] = {}
        for role in self.may_lack:
            given = getattr(self, role)
            if role in _SEVERAL:
                kept[role] = given if set(given) <= set(names) else ()
            else:
                kept[role] = given if given in names else None
        return dataclasses.replace(self, **kept)

    def with_own(self, own: Mapping[str, Names], names: Sequence[str]) -> "Columns":
        """Gives columns the roles that their format says they have, where the caller has named no other column.

        Args:
          own: Columns by role.
          names: The columns that there are.
        """
        held = {name for name, _ in self.roles()}
        changed: dict[str, Any] = {}
        for role, given in own.items():
            listed = (given,) if isinstance(given, str) else given
            free = tuple(name for name in listed if name in names and name not in held)
            if free and not getattr(self, role):
                changed[role] = free if role in _SEVERAL else free[0]
                held |= set(free)
        return dataclasses.replace(self, **changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How a text of cells is cut.

    Args:
      delimiter: The character between two cells; None finds it.
      comment: Lines that begin with it are left out.
      skip_lines: Lines before the data that are left out.
      decimal: The character before the decimals.
      header: Whether the first line has the names of columns; None tells it from the text, or refuses.
      row_end: What ends a row before the line's end: "nan" or "empty" fields.

    Raises:
      UserError: An option is not one of its values.
    """

    delimiter: str | None = None
    comment: str | None = None
    skip_lines: int = 0
    decimal: str = "."
    header: bool | None = None
    row_end: Literal["nan", "empty"] | None = None

    def __post_init__(self) -> None:
        for name in ("delimiter", "decimal"):
            value = getattr(self, name)
            is_single = value is None or (
                len(value) == 1 and value.isascii() and value not in '"\r\n' and not value.isdigit()
            )
            require(is_single, name, value, "one ASCII character, no quote, digit or line end")
        require(self.delimiter != self.decimal, "decimal", self.decimal, "another character than the delimiter")
        require(self.comment is None or bool(self.comment), "comment", self.comment, "one character or more")
        require(self.skip_lines >= 0, "skip_lines", self.skip_lines, "at least 0")
        require(self.header in (None, True, False), "header", self.header, "true, false or none")
        require(self.row_end in (None, "nan", "empty"), "row_end", self.row_end, "nan, empty or none")
        no_names = "none: rows with an end of their own have no names of columns"
        require(not (self.header and self.row_end), "header", self.header, no_names)

    def refuse_for(self, name: str) -> None:
        """Refuses every option that is given, since `name` is no text of cells.

        Raises:
          UserError: One is given.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(value == field.default, field.name, value, f"none: {name} is no CSV or TSV")
