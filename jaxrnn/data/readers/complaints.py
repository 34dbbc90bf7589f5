"""The one form of every message about data: where, what was found, what was expected, what to do.

Text from a file is escaped before it is shown, so that a hostile file cannot move a terminal's
cursor, reorder its text or flood it.
"""

import contextlib
from collections.abc import Iterator

from jaxrnn.foundation.errors import DataError
from jaxrnn.foundation.escaping import escape

MAX_QUOTED_LENGTH = 40  # characters between the quotes
_ELLIPSIS = "..."


def complaint(name: str, *position: int, found: str, expected: str, remedy: str) -> DataError:
    """Makes the error `NAME:POSITION: found ...; expected ...; remedy`.

    Args:
      name: The file's name, as the user gave it.
      *position: Line and column, or row and element; all count from 1.
      found: What was found; quote text of the file with `quote`.
      expected: What was expected.
      remedy: What the user can do.
    """
    place = ":".join([escape(name) or "''", *map(str, position)])
    return DataError(f"{place}: found {found}; expected {expected}; {remedy}")


def quote(text: str) -> str:
    """Puts text of a file into single quotes: escaped, and at most 40 characters of it."""
    pieces: list[str] = []
    length = 0
    # No character escapes to nothing: those past the limit need not be looked at.
    for character in text[: MAX_QUOTED_LENGTH + 1]:
        piece = f"\\{character}" if character in "\\'" else escape(character)
        pieces.append(piece)
        length += len(piece)
    if length <= MAX_QUOTED_LENGTH:
        return f"'{''.join(pieces)}'"
    while length > MAX_QUOTED_LENGTH - len(_ELLIPSIS):
        length -= len(pieces.pop())
    return f"'{''.join(pieces)}{_ELLIPSIS}'"


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts the file's name before a complaint about its rows as a whole, raised where the name is not known."""
    try:
        yield
    except DataError as error:
        if str(error).startswith(f"{escape(name)}:"):  # raised where it is known
            raise
        raise DataError(f"{escape(name)}: {error}") from error
