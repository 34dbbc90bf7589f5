"""Padding, bucketing, normalising."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrnn.data import batching
from jaxrnn.data.batching import bucket_rows, choose_bucket_lengths, pad_sequences, unpad_sequences
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.foundation.errors import DataError

lengths_of_rows = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def rows_of(lengths) -> Ragged:
    return Ragged.from_lengths(np.arange(1.0, sum(lengths) + 1), np.asarray(lengths))


def test_padding_is_zeros_at_the_end():
    padded = pad_sequences(Ragged.from_rows([[1, 2, 3], [], [4]]), 4)
    np.testing.assert_array_equal(padded.values, [[1, 2, 3, 0], [0, 0, 0, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(padded.lengths, [3, 0, 1])
    assert padded.values.dtype == np.float32
    assert padded.lengths.dtype == np.int32


def test_nothing_is_cut_off():
    with pytest.raises(ValueError, match="got a row of 3 values; expected at most length = 2"):
        pad_sequences(rows_of([3]), 2)


@given(lengths_of_rows, st.integers(0, 3))
def test_unpadding_undoes_padding(lengths, more):
    rows = rows_of(lengths)
    padded = pad_sequences(rows, max(lengths) + more, dtype=np.float64)
    assert unpad_sequences(*padded) == rows


@pytest.mark.parametrize(("lengths", "match"), [([3], "got lengths from 3 to 3"), ([-1], "-1"), ([1, 1], "expected")])
def test_unpadding_refuses_lengths_that_do_not_fit(lengths, match):
    with pytest.raises(ValueError, match=match):
        unpad_sequences(np.zeros((1, 2)), np.array(lengths))


@given(lengths_of_rows, st.integers(1, 4))
def test_buckets_hold_every_row_once_in_order(lengths, max_buckets):
    rows = rows_of(lengths)
    chosen = choose_bucket_lengths(rows.lengths, max_buckets)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == max(lengths)
    assert len(chosen) <= max_buckets
    seen = []
    for indices, bucket in bucket_rows(rows, chosen, multiple_of=4):
        assert len(bucket.lengths) % 4 == 0
        assert len(bucket.lengths) - len(indices) < 4
        assert (bucket.lengths[len(indices) :] == 0).all()
        assert (np.diff(indices) > 0).all()
        for row, values, length in zip(indices, bucket.values, bucket.lengths, strict=False):
            np.testing.assert_array_equal(values[:length], rows[row])
            shorter = [c for c in chosen if c < bucket.values.shape[1]]
            assert not shorter or length > shorter[-1], "a row goes to the shortest bucket that holds it"
        seen += list(indices)
    assert sorted(seen) == list(range(len(rows)))


@given(lengths_of_rows, st.integers(1, 4))
def test_no_other_choice_of_lengths_pads_less(lengths, max_buckets):
    def padded_steps(chosen):
        return sum(min(c for c in chosen if c >= length) for length in lengths)

    distinct = sorted(set(lengths))
    chosen = choose_bucket_lengths(np.array(lengths), max_buckets)
    for others in itertools.combinations(distinct[:-1], len(chosen) - 1):
        assert padded_steps(chosen) <= padded_steps((*others, distinct[-1]))


def test_a_further_bucket_must_save_its_share():
    assert choose_bucket_lengths(np.array([99] * 50 + [100] * 50), 4) == [100]
    assert choose_bucket_lengths(np.array([10] * 50 + [100] * 50), 4) == [10, 100]


def test_many_distinct_lengths_are_bucketed_by_quantiles():
    generator = np.random.default_rng(0)
    lengths = np.maximum(1, generator.lognormal(4, 1, 20_000).astype(int))
    assert len(np.unique(lengths)) > batching.MAX_CANDIDATE_LENGTHS
    chosen = np.array(choose_bucket_lengths(lengths, 4))
    assert len(chosen) == 4
    padded = chosen[np.searchsorted(chosen, lengths)].sum()
    assert padded < 0.1 * len(lengths) * lengths.max()


def test_a_normaliser_knows_the_training_rows_alone():
    training = Ragged.from_rows([[1.0, 2.0], [3.0]])
    fitted = Normalizer.fit("standard", training, divisor=50.0)
    assert (fitted.offset, fitted.scale) == (2.0, pytest.approx(np.std([1, 2, 3])))
    assert Normalizer.fit("divide", training, divisor=50.0) == Normalizer(0.0, 50.0)
    assert Normalizer.fit("none", training, divisor=50.0) == Normalizer(0.0, 1.0)
    values = np.array([-7.0, 0.0, 1e6])
    np.testing.assert_allclose(fitted.denormalize(fitted.normalize(values)), values, atol=1e-12)


def test_constant_values_are_not_divided_by_zero():
    assert Normalizer.fit("standard", Ragged.from_rows([[5.0, 5.0]]), divisor=1.0) == Normalizer(5.0, 1.0)


def test_values_that_float32_cannot_hold_once_normalised_are_refused():
    rows = Ragged.from_rows([[1.0, 3e38]])
    assert Normalizer(0.0, 2.0).normalize_rows(rows) == Ragged.from_rows([[0.5, 1.5e38]])
    with pytest.raises(DataError, match=r"found a value of 3e\+39 once normalised"):
        Normalizer(0.0, 0.1).normalize_rows(rows)


def test_lists_and_rows_of_features_are_padded_too():
    values, lengths = pad_sequences([[1, 2, 3], [4]])
    np.testing.assert_array_equal(values, [[1, 2, 3], [4, 0, 0]])
    rows = [np.arange(6).reshape(3, 2), np.zeros((0, 2)), np.ones((1, 2))]
    values, lengths = pad_sequences(rows, 4)
    assert values.shape == (3, 4, 2)
    np.testing.assert_array_equal(lengths, [3, 0, 1])
    assert not values[np.arange(4)[None] >= lengths[:, None]].any()
    for found, row in zip(unpad_sequences(values, lengths), rows, strict=True):
        np.testing.assert_array_equal(found, row)
    with pytest.raises(ValueError, match="features of shapes"):
        pad_sequences([np.zeros((1, 2)), np.zeros((1, 3))])
    with pytest.raises(ValueError, match="got a row of 3 values; expected at most"):
        pad_sequences(rows, 2)
    with pytest.raises(TypeError, match="lengths of float64; expected integers"):
        unpad_sequences(values, np.ones(3))
