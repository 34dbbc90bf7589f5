"""Writes the data set of the tutorial: a ball's positions at equal time steps.

    python -m jaxrnn.data.ball [--out=ball.csv] [--rows=10000] [--seed=2]

Each row holds 5 to 10 positions, its length uniform. The first position is uniform on the integers
-10 to 10, and the step from one to the next is uniform on -5 to -1 and 1 to 5. There are only
6 * 21 * 10 = 1,260 distinct rows, so nearly every row occurs several times in 10,000.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jaxrnn.foundation.errors import EXIT_OK, EXIT_USER_ERROR, UserError

LENGTHS = range(5, 11)
FIRST_POSITIONS = range(-10, 11)
STEPS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)
# The smallest seed whose first 10,000 rows hold all 1,260 distinct ones; half of all seeds do.
DEFAULT_SEED = 2


def generate(num_rows: int, seed: int) -> list[list[int]]:
    """Draws rows of positions; the same arguments give the same rows in every Python version."""
    rng = random.Random(seed)

    def draw(choices: Sequence[int]) -> int:
        # Only the stream of random() is kept from one Python version to the next.
        return choices[int(rng.random() * len(choices))]

    rows = []
    for _ in range(num_rows):
        length, first, step = draw(LENGTHS), draw(FIRST_POSITIONS), draw(STEPS)
        rows.append([first + step * index for index in range(length)])
    return rows


def write(path: Path, rows: Sequence[Sequence[int]], *, force: bool = False) -> None:
    """Writes rows as text, whole or not at all.

    Args:
      path: The file; one that holds these very rows already is left as it is.
      rows: The rows.
      force: Whether a file with other contents is replaced.

    Raises:
      UserError: The file has other contents and `force` is not set, or it cannot be written.
    """
    text = "".join(",".join(map(str, row)) + "\n" for row in rows).encode("ascii")
    try:
        if path.is_dir():
            raise UserError(f"{path}: found a directory; expected a file; give another --out")
        if path.exists() and not force:
            if path.stat().st_size == len(text) and path.read_bytes() == text:
                return
            raise UserError(
                f"{path}: found a file with other contents; expected none; "
                "give another --out, or replace it with --force"
            )
        _write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another --out") from error


def _write_atomically(path: Path, text: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are for their owner only; data sets are for everyone the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxrnn.data.ball",
        description="Write the tutorial's data set: positions of a ball at equal time steps.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("ball.csv"), help="file to write")
    parser.add_argument("--rows", type=int, default=10_000, help="number of rows")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of the random numbers")
    parser.add_argument("--force", action="store_true", help="replace a file with other contents")
    arguments = parser.parse_args(argv)
    if arguments.rows < 1:
        parser.error(f"--rows: found {arguments.rows}; expected at least 1")
    try:
        write(arguments.out, generate(arguments.rows, arguments.seed), force=arguments.force)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    print(f"{arguments.out}: {arguments.rows} rows", file=sys.stderr)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
