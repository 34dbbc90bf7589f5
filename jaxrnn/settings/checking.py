"""How settings are checked: their types, their ranges, and when; and what is said of one that is refused."""

import contextlib
import contextvars
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from jaxrnn.foundation.errors import UserError

MAX_SHOWN = 80  # characters of a value in a message

_ranges_wait = contextvars.ContextVar("ranges_wait", default=False)


class SettingError(UserError):
    """A value that a field does not take.

    Attributes:
      key: The field's name.
    """

    def __init__(self, name: str, value: object, expected: str):
        super().__init__(f"{name}: got {shown(value)}; expected {expected}")
        self.key = name.removeprefix("--").replace("-", "_")
        self._what = (value, expected)

    def renamed(self, name: str) -> "SettingError":
        """Returns the same error about the field by another name, such as that of its flag."""
        return SettingError(name, *self._what)


def shown(value: object) -> str:
    """Writes a value for a message: of a long one its beginning."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a huge number"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


@contextlib.contextmanager
def ranges_wait() -> Iterator[None]:
    """Lets values out of range into a configuration while it is put together; `checked` then refuses them.

    A file's value may fit only together with a flag's: neither can be judged before both are known.
    """
    token = _ranges_wait.set(True)
    try:
        yield
    finally:
        _ranges_wait.reset(token)


def checked(settings: Any) -> Any:
    """Returns a copy of a dataclass of settings, whose values and those of its parts have been checked.

    Raises:
      SettingError: The first value out of range.
    """
    parts = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return dataclasses.replace(
        settings, **{name: checked(part) for name, part in parts.items() if dataclasses.is_dataclass(part)}
    )


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises a `SettingError` unless the condition holds, or ranges are checked later."""
    if not _ranges_wait.get():
        _require_always(condition, name, value, expected)


def _require_always(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise SettingError(name, value, expected)


def fields_of(hint: Any) -> list[Any]:
    """Returns the types of a named tuple's fields; an empty list for any other type."""
    is_named_tuple = isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")
    return list(typing.get_type_hints(hint).values()) if is_named_tuple else []


def check_value(key: str, value: Any, hint: Any) -> Any:
    """Returns a value as its field's type, or raises a `UserError` that says what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        near = difflib.get_close_matches(value, arguments, n=1) if isinstance(value, str) else []
        hint_text = f"; did you mean {near[0]!r}?" if near and value not in arguments else ""
        _require_always(value in arguments, key, value, f"one of {', '.join(arguments)}{hint_text}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else check_value(key, value, arguments[0])
    if fields := fields_of(hint):
        _require_always(
            isinstance(value, (list, tuple)) and len(value) == len(fields),
            key, value, f"a list of {len(fields)} numbers",
        )  # fmt: skip
        return hint(*(check_value(key, part, kind) for part, kind in zip(value, fields, strict=True)))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    _require_always(type(value) is hint, key, value, names[hint])
    if hint is int:
        _require_always(value.bit_length() <= 64, key, value, "a whole number of 64 bits")
    return value
