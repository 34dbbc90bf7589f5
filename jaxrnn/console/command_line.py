"""From the command line to a configuration, and from exceptions to exit codes. JAX is not imported here."""

import contextlib
import dataclasses
import errno
import gc
import os
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import tyro

from jaxrnn.console import flags, streams
from jaxrnn.console.signals import EndOnSignal, RaiseOnSignal, end_at_once_on_signal
from jaxrnn.foundation import errors
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import printable
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.quiet import root_logger_kept
from jaxrnn.settings.checking import SettingError, checked, ranges_wait, shown
from jaxrnn.settings.columns_config import NOT_OF_READING, ColumnsConfig
from jaxrnn.settings.config import CELLS, Config
from jaxrnn.settings.data_config import Fractions, ReaderConfig
from jaxrnn.settings.task_config import TASKS
from jaxrnn.settings.toml_files import line_of, read_toml, recipe_directory, recipe_names

Command = TypeVar("Command")

# What the user can mend of what the system refuses: a full disk, a directory that is not theirs.
_USERS_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG}


# Importing JAX and tracing a run makes hundreds of thousands of objects that stay, through which Python would look
# again and again for cycles: that took up to a tenth of the time to the first epoch.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


# Settings have types whose defaults tyro checks by itself: for `X | None` and tuple[...] it imports typeguard, which
# would be a fifth of the time that --help takes.
_registry = tyro.constructors.ConstructorRegistry()


@_registry.primitive_rule
def _fractions_rule(
    type_info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Fractions] | None:
    """Takes shares as three numbers, as a plain tuple's."""
    if type_info.type is not Fractions:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=len(Fractions._fields),
        metavar="SHARE SHARE SHARE",
        instance_from_str=lambda texts: Fractions(*map(float, texts)),
        is_instance=lambda value: isinstance(value, Fractions),
        str_from_instance=lambda value: list(map(str, value)),
    )


_NAMES_OF_TYPES: dict[Any, str] = {str: "TEXT", int: "N", float: "X"}


@_registry.primitive_rule
def _plain_rule(
    type_info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Takes a text, a number or a word as tyro does, and names it in the help for people: not ``{None}|STR``."""
    parts = typing.get_args(type_info.type)
    is_optional = type(None) in parts
    kinds = [part for part in parts if part is not type(None)] if is_optional else [type_info.type]
    kind, words = kinds[0], typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is typing.Literal else ()
    if len(kinds) > 1 or (kind not in _NAMES_OF_TYPES and not (words and is_optional)):
        return None
    if words:
        kind = str
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(words)}}}" if words else _NAMES_OF_TYPES[kind],
        instance_from_str=lambda texts: None if is_optional and texts[0] == "None" else kind(texts[0]),
        is_instance=lambda value: isinstance(value, kind) or (is_optional and value is None),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


class Loaded(NamedTuple):
    """A configuration put together from files, whose ranges are not checked yet.

    Attributes:
      config: The values.
      sources: The last file that has set a key, by the key.
    """

    config: Config
    sources: dict[str, Path]

    def check(self) -> Config:
        """Returns the configuration, checked.

        Raises:
          UserError: ``FILE:LINE: key: got ..; expected ..``.
        """
        return _checked(self.config, self.sources)


def parse(
    command: type[Command],
    argv: Sequence[str] | None,
    *,
    program: str,
    default: Any = None,
    sources: dict[str, Path] | None = None,
) -> Command:
    """Parses flags into a dataclass.

    Args:
      command: A dataclass; the help is what its module says of it, with examples.
      argv: Arguments without the program's name; None for the process's own.
      program: What the user typed, for the help.
      default: An instance to start from.
      sources: The files that the default's values come from, by key.

    Raises:
      UserError: A flag or a value that is wrong; names the flag, or the file and the line.
    """
    given = arguments(argv)
    ways: tuple[Any, ...] = (tyro.conf.OmitArgPrefixes,)
    if not flags.asks_for_help(given):
        flags.check_flags(command, given)
        ways += (tyro.conf.HelptextFromCommentsOff,)  # no help: no source to read it from
    with ranges_wait():
        parsed = tyro.cli(
            command,
            args=given,
            default=default,
            prog=program,
            description=sys.modules[command.__module__].__doc__,
            config=ways,
            registry=_registry,
        )
    return _checked(parsed, sources or {}, given)


def arguments(argv: Sequence[str] | None) -> list[str]:
    """Returns the arguments without the program's name: those given, or the process's own."""
    return list(sys.argv[1:] if argv is None else argv)


def refuse_reader_settings(given: Sequence[str], where: str, *parts: ReaderConfig | ColumnsConfig) -> None:
    """Refuses settings of files and columns where no file is read by them: they would be ignored in silence.

    Args:
      given: The command line.
      where: In whose place they have no effect, in words.
      parts: Settings whose values count too, if they are not the defaults; without any only flags do.

    Raises:
      UserError: One is given; names it.
    """
    for kind in (ReaderConfig, ColumnsConfig):
        part = next((part for part in parts if isinstance(part, kind)), kind())
        for field in dataclasses.fields(kind):
            if field.name in NOT_OF_READING:
                continue
            is_set = getattr(part, field.name) != field.default
            if is_set or flags.is_given(field.name, given):
                name = f"--{field.name.replace('_', '-')}"
                got = f"{field.name} = {shown(getattr(part, field.name))}" if is_set else "the flag"
                raise UserError(f"{name}: got {got}; expected none {where}; leave it out")


def given_settings(given: Sequence[str], *parts: Any) -> dict[str, Any]:
    """Returns the fields of dataclasses of settings that flags have set, by name."""
    fields = [(field.name, part) for part in parts for field in dataclasses.fields(part)]
    return {name: getattr(part, name) for name, part in fields if flags.is_given(name, given)}


def _checked(settings: Any, sources: dict[str, Path], given: Sequence[str] = ()) -> Any:
    """Checks a dataclass of settings; blames the flag, the file and line, or just the key of what is refused."""
    try:
        return checked(settings)
    except SettingError as error:
        if flags.is_given(error.key, given):
            raise error.renamed(f"--{error.key.replace('_', '-')}") from error
        if error.key not in sources:
            raise
        path = sources[error.key]
        raise UserError(f"{path}:{line_of(error.key, path.read_text(encoding='utf-8'))}: {error}") from error


def load_config(
    cell: str | None = None, config: str | None = None, *, task: str | None = None, base: Path | None = None
) -> Loaded:
    """Puts a configuration together from the defaults, the recipes of cell and task and a file, each over those before.

    Args:
      cell: The cell as a flag gave it; else the file's; else the default.
      task: The task, in the same way.
      config: A TOML file's path or a recipe's name.
      base: A run's config.toml, which then takes the place of the defaults and the recipes.

    Raises:
      UserError: ``FILE:LINE: key: got ..; expected ..``: a key that is unknown, or a value of a wrong type.
    """
    values: dict[str, Any] = {}
    sources: dict[str, Path] = {}
    file, held = None, {}
    if config is not None:
        is_recipe = config in recipe_names() and not Path(config).is_file()
        file = recipe_directory() / f"{config}.toml" if is_recipe else Path(config)
        held = read_toml(file)
    for path in ([base] if base else _recipes_of(cell or held.get("cell"), task or held.get("task"))) + [file]:
        if path is not None:
            read = read_toml(path)
            values |= read
            sources |= dict.fromkeys(read, path)
    for key, given in (("cell", cell), ("task", task)):
        if given is not None:
            values[key] = given
            sources.pop(key, None)
    with ranges_wait():
        return Loaded(Config().replace_flat(values), sources)


def _recipes_of(cell: str | None, task: str | None) -> list[Path | None]:
    """Returns the recipes of a cell and of a task, as far as there are any."""
    of_task = recipe_directory() / f"{task}.toml" if task in TASKS and task != Config().task.task else None
    if cell is None and of_task is not None:
        cell = read_toml(of_task).get("cell")
    of_cell = recipe_directory() / f"{cell or Config().model.cell}.toml"
    return [of_cell if of_cell.stem in CELLS else None, of_task]


def run(body: Callable[[], None], *, own_process: bool = False, how_to_go_on: Callable[[], str] = lambda: "") -> int:
    """Runs a command and returns its exit code: 0, 2 for the user's errors, 3 diverged, 130 or 143 interrupted.

    Args:
      body: The command.
      own_process: Whether the process is there for the command alone and ends with it, by `leave`; then a signal may
        end it wherever it is.
      how_to_go_on: Returns what to add to the last words of an interrupted command.
    """

    def last_words(number: int) -> str:
        return printable(f"interrupted by {signal.Signals(number).name}{how_to_go_on()}")

    thresholds = gc.get_threshold()
    if own_process:
        streams.occupy_closed()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
    try:
        with EndOnSignal(last_words) if own_process else RaiseOnSignal(), root_logger_kept():
            return _exit_code(body)
    except errors.InterruptedRun as error:
        say(f"{error}{how_to_go_on()}")
        return errors.EXIT_SIGNAL_BASE + error.signal_number
    finally:
        if own_process:
            gc.set_threshold(*thresholds)


def leave(code: int) -> NoReturn:
    """Ends the process; where the command failed, without waiting for what it left behind.

    That may be a thread that is still compiling, or tasks of a save that a full disk cut off, which would print
    tracebacks behind the error.
    """
    end_at_once_on_signal(code)  # what the command had to do is done
    if code != errors.EXIT_OK:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    gc.freeze()  # the system takes back all memory at once, cycles too; Python took 0.4 seconds to look for them
    sys.exit(code)


def _exit_code(body: Callable[[], None]) -> int:
    try:
        streams.require_output()
        body()
        sys.stdout.flush()
    except errors.ToldElsewhereError:
        return errors.EXIT_USER_ERROR
    except errors.UserError as error:
        say(f"error: {error}", always=True)
        return errors.EXIT_USER_ERROR
    except errors.LostProcessError as error:
        say(f"error: {error}; start all processes again with --resume", always=True)
        return errors.EXIT_LOST_PROCESS
    except errors.DivergedError as error:
        say(f"diverged: {error}")
        return errors.EXIT_DIVERGED
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        _discard_output()
        return errors.EXIT_SIGNAL_BASE + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _USERS_ERRNOS:
            raise
        _discard_output()
        say(f"error: {error.filename or 'standard output'}: {error.strerror}", always=True)
        return errors.EXIT_USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = printable(str(error).partition("\n")[0]) or "Python could not allocate"
        advice = "use a smaller --batch-size or --hidden-size, shorter rows, or --remat-steps"
        say(f"error: out of memory: {reason}; {advice}")
        return errors.EXIT_USER_ERROR
    return errors.EXIT_OK


def _is_out_of_memory(error: Exception) -> bool:
    # jax.errors.JaxRuntimeError, by its words: JAX may not have been imported.
    said = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said or "Out of memory allocating" in said


def _discard_output() -> None:
    """Keeps Python from complaining once more, at exit, of what it could not write."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
