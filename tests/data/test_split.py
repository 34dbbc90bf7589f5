"""Splits: whose rows go where."""

import numpy as np
import pytest

from jaxrnn.data import ball
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import count_shared_rows, part_of_rows, split_rows
from jaxrnn.foundation.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


@pytest.fixture(scope="module")
def rows() -> Ragged:
    return Ragged.from_rows(ball.generate(4100, seed=1))


def split(rows, kind, *, seed=0, fractions=FRACTIONS, block=2000):
    return split_rows(rows, kind, fractions=fractions, seed=seed, block=block)


@pytest.mark.parametrize("kind", ["grouped", "random", "tutorial"])
def test_every_row_is_in_one_part_and_the_shares_are_right(rows, kind):
    parts = split(rows, kind)
    assert sorted(np.concatenate(parts)) == list(range(len(rows)))
    shares = np.array([len(part) for part in parts]) / len(rows)
    np.testing.assert_allclose(shares, FRACTIONS, atol=0.01)
    assert all(part.dtype == np.int64 for part in parts)


@pytest.mark.parametrize("kind", ["grouped", "hashed", "random", "tutorial"])
def test_the_seed_decides(rows, kind):
    first, same, other = split(rows, kind), split(rows, kind), split(rows, kind, seed=1)
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(first.test) != set(other.test)


def test_grouped_keeps_identical_rows_on_one_side(rows):
    parts = split(rows, "grouped")
    ids = rows.group_ids()
    training, validation, test = (set(ids[part]) for part in parts)
    assert not training & validation
    assert not training & test
    assert not validation & test
    assert count_shared_rows(rows, parts) == (0, 0)


def test_shared_rows_are_counted_value_for_value(rows):
    parts = split(rows, "random")
    seen = {tuple(rows[i]) for i in parts.training}
    expected = tuple(sum(tuple(rows[i]) in seen for i in part) for part in parts[1:])
    assert count_shared_rows(rows, parts) == expected
    assert expected[1] > 0.8 * len(parts.test), "ball rows repeat: nearly all test rows are in the training part"


def test_tutorial_splits_each_block_by_itself(rows):
    parts = split(rows, "tutorial")
    for begin, end in ((0, 2000), (2000, 4000), (4000, 4100)):
        counts = [int(((part >= begin) & (part < end)).sum()) for part in parts]
        size = end - begin
        assert counts == [int(size * 0.6), int(size * 0.8) - int(size * 0.6), size - int(size * 0.8)]
    # Blocks follow one another in the training order, as the tutorial reads them.
    blocks = parts.training // 2000
    assert (np.diff(blocks) >= 0).all()
    assert (np.diff(parts.training[:1200]) < 0).any(), "drawn at random within a block"


@pytest.mark.parametrize("kind", ["grouped", "hashed", "random", "tutorial"])
@pytest.mark.parametrize("num_rows", [1, 2])
def test_too_few_rows_name_the_part_that_is_empty(kind, num_rows):
    few = Ragged.from_rows([[1, 2, 3], [2, 3, 4]][:num_rows])
    with pytest.raises(DataError, match=r"found \d rows.* leaves none for the (training|validation|test) part; "):
        split(few, kind)


def test_one_distinct_row_cannot_be_split_by_groups():
    same = Ragged.from_rows([[1.0, 2.0]] * 50)
    with pytest.raises(DataError, match="50 rows, 1 distinct"):
        split(same, "grouped")


def test_shares_that_are_binary_fractions_short_are_cut_like_decimal_ones():
    rows = Ragged.from_rows([[float(i), 0.0] for i in range(10)])
    assert [len(part) for part in split(rows, "random", fractions=(0.7, 0.1, 0.2))] == [7, 1, 2]


class TestHashed:
    def test_a_row_is_decided_by_its_values_and_the_seed_alone(self, rows):
        parts = part_of_rows(rows, fractions=FRACTIONS, seed=3)
        order = np.random.default_rng(0).permutation(len(rows))
        np.testing.assert_array_equal(part_of_rows(rows.take(order), fractions=FRACTIONS, seed=3), parts[order])
        one_by_one = [part_of_rows(Ragged.from_rows([row]), fractions=FRACTIONS, seed=3)[0] for row in rows]
        np.testing.assert_array_equal(one_by_one, parts)

    def test_identical_rows_stay_on_one_side(self, rows):
        assert count_shared_rows(rows, split(rows, "hashed")) == (0, 0)
        zeros = Ragged.from_rows([[0.0, 1.0], [-0.0, 1.0]])
        assert all(len(set(part_of_rows(zeros, fractions=FRACTIONS, seed=seed))) == 1 for seed in range(20))

    def test_parts_hold_every_row_once_in_its_order(self, rows):
        assert sorted(np.concatenate(split(rows, "hashed"))) == list(range(len(rows)))
        assert all((np.diff(part) > 0).all() for part in split(rows, "hashed"))

    @pytest.mark.parametrize("fractions", [FRACTIONS, (0.9, 0.05, 0.05), (0.01, 0.01, 0.98)])
    def test_shares_of_similar_rows_are_those_asked_for(self, fractions):
        number = 200_000
        counting = np.stack([np.arange(number), np.arange(number) + 1.0], axis=1)
        rows = Ragged.from_lengths(counting.reshape(-1), np.full(number, 2))
        for seed in range(3):
            counts = np.bincount(part_of_rows(rows, fractions=fractions, seed=seed), minlength=3)
            deviation = np.sqrt(number * np.array(fractions) * (1 - np.array(fractions)))
            assert (np.abs(counts - number * np.array(fractions)) < 5 * deviation).all(), counts

    def test_seeds_and_neighbours_are_independent(self):
        number = 100_000
        rows = Ragged.from_lengths(np.arange(3.0 * number), np.full(number, 3))
        first, second = (part_of_rows(rows, fractions=(0.5, 0.25, 0.25), seed=seed) == 0 for seed in (0, 1))
        for a, b in ((first, second), (first[1:], first[:-1]), (first[2:], first[:-2])):
            assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(number)
