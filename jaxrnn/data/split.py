"""Which rows train, validate and test."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.config import Config

Kind = Literal["grouped", "hashed", "random", "tutorial"]
PART_NAMES = ("training", "validation", "test")


class Split(NamedTuple):
    """Row numbers of each part, int64."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Rows(Protocol):
    """What can be split: `Ragged` rows and `Sequences`."""

    def __len__(self) -> int: ...

    def group_ids(self) -> np.ndarray:
        """Returns the same number for rows that hold the same."""
        ...

    def row_hashes(self, seed: int) -> np.ndarray:
        """Returns a hash of each row and the seed, uint64."""
        ...


def split_rows(rows: Rows, kind: Kind, *, fractions: tuple[float, float, float], seed: int, block: int = 2000) -> Split:
    """Draws three parts.

    Args:
      rows: All rows.
      kind: "random" draws rows; "grouped" draws sets of identical rows, so that no test row was seen
        in training; "hashed" does so by a hash of each row alone, in any order and without holding the rows;
        "tutorial" draws rows within each block of `block` rows, as the tutorial does.
      fractions: Shares of training, validation and test.
      seed: The seed of the draw; the same one gives the same parts.
      block: Rows of a block.

    Raises:
      DataError: A part whose share is not 0 would be empty.
    """
    generator = np.random.default_rng(seed)
    if kind == "grouped":
        parts = _split_groups(rows.group_ids(), fractions, generator)
    elif kind == "hashed":
        numbers = part_of_rows(rows, fractions=fractions, seed=seed)
        parts = [np.flatnonzero(numbers == number) for number in range(3)]
    else:
        size = block if kind == "tutorial" else max(len(rows), 1)
        blocks = [_cut(start + generator.permutation(min(size, len(rows) - start)), fractions)
                  for start in range(0, len(rows), size)]  # fmt: skip
        parts = [np.concatenate(pieces) for pieces in zip(*blocks, strict=True)] if blocks else [np.array([])] * 3
    is_by_values = kind in ("grouped", "hashed")
    distinct = (
        f", {rows.group_ids().max() + 1} distinct" if is_by_values and len(rows) and not all(map(len, parts)) else ""
    )
    require_parts([len(part) for part in parts], kind, fractions, more=distinct)
    return Split(*[part.astype(np.int64) for part in parts])


def require_parts(num_rows: Sequence[int], kind: str, fractions: tuple[float, float, float], *, more: str = "") -> None:
    """Complains of an empty part.

    Args:
      num_rows: Rows of the three parts.
      kind: The kind of split.
      fractions: Asked for.
      more: What else the message tells of the rows.

    Raises:
      DataError: A part is empty whose share is not 0.
    """
    for name, number in zip(PART_NAMES, num_rows, strict=True):
        if not number and fractions[PART_NAMES.index(name)] > 0:
            raise DataError(
                f"found {sum(num_rows)} rows{more}, of which split {kind!r} into {fractions} leaves none for the {name}"
                " part; expected at least one for each part; give more rows, or other --split-fractions"
            )


def part_of_rows(rows: Rows, *, fractions: tuple[float, float, float], seed: int) -> np.ndarray:
    """Decides each row's part by its values and the seed alone; identical rows share one.

    Args:
      rows: Any rows; which others stand beside a row changes nothing for it.
      fractions: Shares of training, validation and test, which many distinct rows come close to.
      seed: Another one gives other parts.

    Returns:
      0, 1 or 2 for each row, (rows,) uint8.
    """
    bounds = np.array([min(int(share * 2**64), 2**64 - 1) for share in np.cumsum(fractions)[:2]], np.uint64)
    return np.searchsorted(bounds, rows.row_hashes(seed), side="right").astype(np.uint8)


def _cut(order: np.ndarray, fractions: tuple[float, float, float]) -> list[np.ndarray]:
    # Rounded down, as the tutorial does; 1e-9 undoes a sum like 0.6 + 0.2 = 0.7999999999999999...
    first = int(len(order) * fractions[0] + 1e-9)
    second = int(len(order) * (fractions[0] + fractions[1]) + 1e-9)
    return [order[:first], order[first:second], order[second:]]


def _split_groups(
    ids: np.ndarray, fractions: tuple[float, float, float], generator: np.random.Generator
) -> list[np.ndarray]:
    """Deals whole groups out, in random order, until each part has its share of rows."""
    if not len(ids):
        return [ids, ids, ids]
    sizes = np.bincount(ids)
    order = generator.permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2  # a group belongs where its middle row falls
    part_of_group = np.empty(len(sizes), np.int64)
    part_of_group[order] = np.searchsorted(np.cumsum(fractions)[:2] * len(ids), middle, side="right")
    part = part_of_group[ids]
    return [generator.permutation(np.flatnonzero(part == number)) for number in range(3)]


def count_shared_rows(rows: Rows, split: Split) -> tuple[int, int]:
    """Counts the validation and the test rows that also stand, value for value, in the training part."""
    ids = rows.group_ids()
    seen = np.zeros(ids.max() + 1, bool)
    seen[ids[split.training]] = True
    return int(seen[ids[split.validation]].sum()), int(seen[ids[split.test]].sum())


def draw_split(config: Config, rows: Rows) -> Split:
    """Returns the parts that a configuration's seed gives.

    Raises:
      DataError: Too few rows.
    """
    data = config.data
    kind: Kind = "random" if data.split == "given" or data.split == "time" else data.split
    return split_rows(
        rows,
        kind,
        fractions=data.split_fractions,
        seed=config.split_seed,
        block=data.split_block,
    )
