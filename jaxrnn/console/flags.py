"""Flags looked at before they are parsed: a mistake is named in one line, with the nearest flag or value.

The parser itself (tyro) sees only what has passed here, and prints the help.
"""

import dataclasses
import difflib
import itertools
import re
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import tyro

from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.checking import SettingError, check_value, fields_of

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A field of a command: its type, and whether it may be left out."""

    hint: Any
    is_required: bool
    is_positional: bool


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether the parser itself is to answer: the help, or a shell's completion."""
    flags = itertools.takewhile(lambda argument: argument != "--", arguments)
    return any(argument in ("-h", "--help") or argument.startswith("--tyro-") for argument in flags)


def check_flags(command: type, arguments: Sequence[str]) -> None:
    """Checks the names of flags and the types of their values, not yet the values' range.

    Args:
      command: The dataclass that they are to fill.
      arguments: The command line's arguments.

    Raises:
      UserError: The first that is wrong, or one that is missing.
    """
    known = _flags_of(command)
    flags = [name for name, flag in known.items() if not flag.is_positional]
    positionals = [name for name, flag in known.items() if flag.is_positional]
    given: set[str] = set()
    waiting = list(arguments)
    are_names = False  # behind a bare -- all are positional
    while waiting:
        argument = waiting.pop(0)
        if argument == "--" and positionals and not are_names:
            are_names = True
            continue
        if are_names or not argument.startswith("--") or argument == "--":
            is_flag = argument.startswith("-") and argument != "-" and not are_names
            if not positionals or argument == "--" or is_flag:
                behind = "; a name that begins with a dash goes behind a bare --" if is_flag and positionals else ""
                raise UserError(f"{argument!r}: unexpected; expected flags such as --{flags[0]}=..{behind}")
            given.add(positionals[0])
            if Ellipsis not in typing.get_args(known[positionals[0]].hint):  # of a list, all that come belong to it
                positionals.pop(0)
            continue
        written, equals, value = argument.partition("=")
        name = written.removeprefix("--").replace("_", "-")
        switch = name.removeprefix("no-")
        if name not in flags and switch in flags and known[switch].hint is bool:
            name = switch
        if name not in flags:
            raise UserError(f"{written}: unknown flag{_nearest(name, known)}")
        given.add(name)
        hint = known[name].hint
        if hint is bool:
            if equals:
                raise SettingError(f"--{name}", value, f"no value: --{name} or --no-{name} alone")
            continue
        kinds = fields_of(hint) or [hint]
        number = len(kinds)
        values = [value] if equals else []
        while len(values) < number and waiting and not waiting[0].startswith("--"):
            values.append(waiting.pop(0))
        if len(values) < number:
            some = "a value" if number == 1 else f"{number} values"
            raise UserError(f"--{name}: got {' '.join(values) or 'none'}; expected {some}")
        for text, part in zip(values, kinds, strict=True):
            _check_text(f"--{name}", text, part)
    for name, flag in known.items():
        if flag.is_required and name not in given:
            shown_name = name.upper() if flag.is_positional else f"--{name}=.."
            raise UserError(f"{shown_name}: is missing; --help says what it is")


def is_given(key: str, arguments: Sequence[str]) -> bool:
    """Whether a field was set by a flag."""
    name = key.replace("_", "-")
    written = (argument.partition("=")[0].replace("_", "-") for argument in arguments)
    return any(flag in (f"--{name}", f"--no-{name}") for flag in written)


def value_of_flag(name: str, arguments: Sequence[str]) -> str | None:
    """Looks up a flag before parsing, for those that decide the defaults of the others."""
    found = None
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") == f"--{name}":
            found = value if equals else next(iter(arguments[position + 1 :]), None)
    return found


def has_switch(name: str, arguments: Sequence[str]) -> bool:
    """Whether a switch is on: the last of ``--name`` and ``--no-name`` counts."""
    switches = [argument.replace("_", "-") for argument in arguments]
    return f"--{name}" in switches and (
        f"--no-{name}" not in switches or switches[::-1].index(f"--{name}") < switches[::-1].index(f"--no-{name}")
    )


def _flags_of(command: type) -> dict[str, _Flag]:
    found: dict[str, _Flag] = {}
    hints = typing.get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        hint, extras = hints[field.name], ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)  # type: ignore[assignment]
        if dataclasses.is_dataclass(hint):
            found |= _flags_of(typing.cast(type, hint))
            continue
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        found[field.name.replace("_", "-")] = _Flag(hint, is_required, tyro.conf.Positional in extras)
    return found


def _check_text(name: str, text: str, hint: Any) -> None:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if text != "None":
            _check_text(name, text, typing.get_args(hint)[0])
    elif typing.get_origin(hint) is Literal:
        check_value(name, text, hint)
    elif hint is int:
        # Python reads no number of more digits, to save time.
        if not _INTEGER.fullmatch(text) or len(text) > 4000:
            raise SettingError(name, text, "a whole number")
    elif hint is float and not _NUMBER.fullmatch(text):
        raise SettingError(name, text, "a number")


def _nearest(name: str, known: dict[str, _Flag]) -> str:
    flags = [flag for flag, described in known.items() if not described.is_positional]
    near = difflib.get_close_matches(name, [*flags, *(f"no-{flag}" for flag in flags if known[flag].hint is bool)], n=1)
    return f"; did you mean --{near[0]}?" if near else "; --help lists them"
