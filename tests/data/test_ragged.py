"""Ragged rows: construction, refusals, selection and grouping against plain Python lists."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrnn.data import ragged as ragged_module
from jaxrnn.data.ragged import Ragged

ROWS = [[1.0, 2.0, 3.0], [], [4.0], [-0.0, 5.5]]
lists_of_rows = st.lists(st.lists(st.floats(allow_nan=False), max_size=5), max_size=12)
few_values = st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0]), max_size=3), max_size=30)


def as_lists(ragged: Ragged) -> list[list[float]]:
    return [row.tolist() for row in ragged]


def test_from_rows_keeps_rows_lengths_and_types() -> None:
    ragged = Ragged.from_rows(ROWS)
    assert as_lists(ragged) == ROWS
    assert ragged.values.dtype == np.float64
    assert ragged.offsets.dtype == ragged.lengths.dtype == np.int64
    assert ragged.lengths.tolist() == [3, 0, 1, 2]
    assert (len(ragged), ragged.num_values) == (4, 6)
    assert repr(ragged) == "Ragged(4 rows, 6 values, lengths 0 to 3)"
    assert repr(Ragged.from_rows([])) == "Ragged(0 rows)"


def test_from_rows_takes_arrays_tuples_and_generators() -> None:
    rows = (row for row in (np.arange(2, dtype=np.int32), (1, 2.5), range(3)))
    assert as_lists(Ragged.from_rows(rows)) == [[0, 1], [1, 2.5], [0, 1, 2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1], 2], "row 1 is a int"),
        (["12"], "row 0 is a str"),
        ([[1], [None]], "row 1 is not a list of numbers"),
        ([[1], [[2, 3]]], "row 1 is not a list of numbers"),
        ([np.zeros((2, 2))], "row 0 is not a list of numbers"),
    ],
)
def test_from_rows_names_the_bad_row(rows: list, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Ragged.from_rows(rows)


@pytest.mark.parametrize(
    ("values", "offsets", "error", "message"),
    [
        ([1.0, 2.0], [0, 1], ValueError, "start and end with 0 and 1; expected 0 and 2"),
        ([1.0], [1, 1], ValueError, "start and end with 1 and 1"),
        ([], np.empty(0, np.int64), ValueError, "start and end with nothing"),
        ([1.0, 2.0], [0, 2, 1, 2], ValueError, "fall from 2 to 1 at row 1"),
        ([[1.0]], [0, 1], ValueError, r"shape \(1, 1\)"),
        ([1.0], [[0, 1]], ValueError, r"offsets \(1, 2\)"),
        ([1.0], [0.0, 1.0], TypeError, "offsets are float64"),
        (["a"], [0, 1], TypeError, "expected real numbers"),
        ([1j], [0, 1], TypeError, "complex128"),
    ],
)
def test_arguments_are_checked(values, offsets, error: type[Exception], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        Ragged(np.asarray(values), np.asarray(offsets))


def test_nothing_changes_a_ragged() -> None:
    values, offsets = np.array([1.0, 2.0]), np.array([0, 2])
    ragged = Ragged(values, offsets)
    values[0] = offsets[1] = 7
    assert as_lists(ragged) == [[1.0, 2.0]]
    assert values.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        ragged[0][0] = 3
    with pytest.raises(ValueError, match="read-only"):
        ragged.offsets[0] = 1
    with pytest.raises(AttributeError):
        ragged.values = values  # type: ignore[misc]


def test_read_only_arrays_are_not_copied() -> None:
    values = np.array([1.0, 2.0])
    values.flags.writeable = False
    ragged = Ragged(values, np.array([0, 2]))
    assert ragged.values is values
    assert np.shares_memory(ragged[0], values)


def test_indexing_counts_from_either_end_and_refuses_the_rest() -> None:
    ragged = Ragged.from_rows(ROWS)
    assert ragged[np.int64(-1)].tolist() == [-0.0, 5.5]
    for index in (4, -5):
        with pytest.raises(IndexError, match="of 4 rows"):
            ragged[index]
    with pytest.raises(TypeError, match=r"take\(\)"):
        ragged[1:]  # type: ignore[index]
    with pytest.raises(TypeError):
        ragged[1.0]  # type: ignore[index]


def test_copies_and_pickles_are_equal() -> None:
    ragged = Ragged.from_rows(ROWS)
    assert pickle.loads(pickle.dumps(ragged)) == ragged
    assert copy.deepcopy(ragged) == ragged


def test_equality_sees_values_and_row_ends() -> None:
    assert Ragged.from_rows([[1, 2], [3]]) == Ragged.from_rows([[1, 2], [3]])
    assert Ragged.from_rows([[1, 2], [3]]) != Ragged.from_rows([[1], [2, 3]])
    assert Ragged.from_rows([[1]]) != Ragged.from_rows([[2]])
    assert Ragged.from_rows([[1]]) != [[1]]


@given(lists_of_rows, st.data())
def test_take_is_list_indexing(rows: list[list[float]], data: st.DataObject) -> None:
    limits = {"min_value": -len(rows), "max_value": len(rows) - 1}
    indices = data.draw(st.lists(st.integers(**limits), max_size=20) if rows else st.just([]))
    taken = Ragged.from_rows(rows).take(indices)
    assert as_lists(taken) == [rows[index] for index in indices]


def test_take_refuses_masks_and_rows_that_are_not_there() -> None:
    ragged = Ragged.from_rows(ROWS)
    with pytest.raises(TypeError, match="flatnonzero"):
        ragged.take(np.array([True, False, True, False]))
    with pytest.raises(IndexError):
        ragged.take([4])


@pytest.mark.parametrize("chunk_values", [1, 4, 1 << 17])
def test_group_ids_number_distinct_rows_in_order(chunk_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged_module, "_CHUNK_VALUES", chunk_values)

    @given(few_values)
    def check(rows: list[list[float]]) -> None:
        seen: dict[tuple[float, ...], int] = {}
        expected = [seen.setdefault(tuple(row), len(seen)) for row in rows]  # 0.0 == -0.0
        ragged = Ragged.from_rows(rows)
        assert ragged.group_ids().tolist() == expected
        assert ragged.group_ids().dtype == np.int64
        assert as_lists(ragged.unique_rows()) == [list(row) for row in seen]

    check()


def test_group_ids_survive_a_hash_that_collides(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seeds = Ragged.row_hashes, []

    def colliding(self: Ragged, seed: int) -> np.ndarray:
        seeds.append(seed)
        return honest(self, seed) if seed >= 2 else np.zeros(len(self), np.uint64)

    monkeypatch.setattr(Ragged, "row_hashes", colliding)
    ragged = Ragged.from_rows([[1, 2], [2, 1], [1, 2], [1]])
    assert ragged.group_ids().tolist() == [0, 1, 0, 2]
    assert seeds == [0, 1, 2]


def test_group_ids_of_small_integers_do_not_collide() -> None:
    # Their doubles differ in a few high bits only, which a weak hash would lose.
    rows = np.stack(np.meshgrid(*[np.arange(-8.0, 8)] * 4), axis=-1).reshape(-1, 4)
    ragged = Ragged.from_lengths(rows.ravel(), np.full(len(rows), 4))
    assert np.unique(ragged.row_hashes(0)).size == len(rows)
    assert ragged.group_ids().tolist() == list(range(len(rows)))
