"""The one form of every message about data: where, what was found, what was expected, what to do.

Text from a file is escaped before it is shown, so that a hostile file cannot move a terminal's
cursor, reorder its text or flood it.
"""

from jaxrnn.errors import DataError

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
    place = ":".join([escape(name), *map(str, position)])
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


def escape(text: str) -> str:
    """Writes every character that does not print (control, bidi, undecodable byte) as an escape."""
    return "".join(character if character.isprintable() else _escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how decoding with surrogateescape keeps a byte
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
