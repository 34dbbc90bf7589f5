"""What a page shows of a command against what it prints, numbers aside: they depend on the machine and its clock."""

import re

# With its sign, or the one before it: a mean of -0.17 is shown as x + 0.17.
NUMBER = re.compile(r"(?:[+-] )?-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
# A run knows its data by the whole path.
DIRECTORY = re.compile(r"(?<!\S)/\S*/")
# How many of these lines there are depends on the time between two of them.
EPOCH = re.compile(r"epoch +\d+/")
LEFT_OUT = "..."


def lines_without_numbers(text: str) -> list[str]:
    """Gives a text's lines with # for a number, one space for several and no directories; without those of epochs."""
    lines = [DIRECTORY.sub("", line) for line in text.splitlines() if not EPOCH.match(line)]
    return [" ".join(NUMBER.sub("#", line).split()) for line in lines]


def is_in(printed: str, shown: str) -> bool:
    """Whether lines of one text are those of another but for numbers, spaces, directories and lines of epochs.

    A line ``...`` stands for any lines.
    """
    parts = [r"(?:.*\n)*?" if line == LEFT_OUT else re.escape(line) + r"\n" for line in lines_without_numbers(shown)]
    return re.search("^" + "".join(parts), _as_text(printed), re.MULTILINE) is not None


def is_alike(printed: str, shown: str) -> bool:
    """Whether `is_in` holds of the whole text."""
    begin, end = "BEGIN\n", "END\n"
    return is_in(begin + printed + end, begin + shown + end)


def _as_text(printed: str) -> str:
    return "".join(f"{line}\n" for line in lines_without_numbers(printed))
