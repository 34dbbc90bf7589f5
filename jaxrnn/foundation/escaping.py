"""Text of others - files, paths, flags - written so that it cannot steer a terminal."""


def escape(text: str) -> str:
    """Writes every character that does not print (control, bidi, line end, undecodable byte) as an escape."""
    return "".join(character if character.isprintable() else _escape_character(character) for character in text)


def printable(text: str) -> str:
    """Escapes as `escape` does, but for line ends: for text of several lines of our own."""
    return "\n".join(map(escape, text.split("\n")))


def shorten(text: str, length: int = 200) -> str:
    """Leaves a text of up to `length` characters as it is, and keeps the two ends of a longer one."""
    if len(text) <= length:
        return text
    end = (length - 2) // 2
    return f"{text[: length - 2 - end]}..{text[len(text) - end :]}"


def quoted(text: str) -> str:
    """Returns a short form of a text in quotes, for messages.

    Example:
      >>> print(quoted("a\\tb"))
      'a\\\\tb'
    """
    return repr(escape(shorten(text, 40)))


def _escape_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how decoding with surrogateescape keeps a byte
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
