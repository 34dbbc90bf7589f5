"""Packing: where sequences go, and that a packed row computes what its sequences compute on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn.data.arranging import arrange, choose_batching
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.packing import place_sequences
from jaxrnn.data.ragged import Ragged
from jaxrnn.models.model_state import new_model
from jaxrnn.models.objective import loss_and_sums
from jaxrnn.settings.config import Config


def first_fit_decreasing(lengths: np.ndarray, length: int) -> tuple[int, list[int], list[int]]:
    """As the books have it: the longest first, each into the first row that has room."""
    free: list[int] = []
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    for i in np.argsort(-lengths, kind="stable"):
        if not lengths[i]:
            continue
        row = next((r for r, room in enumerate(free) if room >= lengths[i]), len(free))
        if row == len(free):
            free.append(length)
        rows[i], starts[i] = row, length - free[row]
        free[row] -= lengths[i]
    return len(free), rows, starts


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), max_size=60))))
@settings(max_examples=300, deadline=None)
def test_sequences_go_where_first_fit_decreasing_puts_them(case):
    length, lengths = case
    placed = place_sequences(np.array(lengths, int), length)
    expected = first_fit_decreasing(np.array(lengths, int), length)
    assert (placed.num_rows, placed.row_of.tolist(), placed.start_of.tolist()) == expected


def test_many_sequences_of_many_lengths_are_packed_tightly():
    lengths = np.random.default_rng(0).integers(1, 2000, 200_000)
    placed = place_sequences(lengths, 2000)
    used = np.bincount(placed.row_of, weights=lengths, minlength=placed.num_rows)
    assert used.max() <= 2000
    assert placed.num_rows <= 1.01 * lengths.sum() / 2000
    order = np.lexsort((placed.start_of, placed.row_of))  # no two share a step
    ends = (placed.start_of + lengths)[order]
    same_row = np.diff(placed.row_of[order]) == 0
    assert (ends[:-1] <= placed.start_of[order][1:])[same_row].all()


@given(st.lists(st.lists(st.integers(-9, 9), max_size=7), max_size=30), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_unpacking_undoes_packing(rows, more):
    ragged = Ragged.from_rows(rows)
    packed = jaxrnn.pack_sequences(ragged, max([len(row) for row in rows], default=0) + more)
    assert [values.tolist() for values in packed.unpack(packed.values)] == rows
    assert (packed.segment_ids > 0).sum() == ragged.num_values
    for ids in packed.segment_ids:  # 1, 2, .. from the left without a gap, then padding
        used = ids[ids > 0]
        assert (np.diff(used) >= 0).all()
        assert set(used.tolist()) == set(range(1, int(ids.max(initial=0)) + 1))
        assert not ids[len(used) :].any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="got a sequence of 3 values; expected at most length = 2"):
        jaxrnn.pack_sequences(Ragged.from_rows([[1, 2, 3]]), 2)
    packed = jaxrnn.pack_sequences(Ragged.from_rows([[1, 2, 3], [4]]))
    with pytest.raises(ValueError, match=r"steps: got shape \(1, 2\); expected \(2, 3"):
        packed.unpack(np.zeros((1, 2)))


def test_a_bidirectional_layer_on_packed_rows_computes_what_it_computes_on_each_row():
    rows = Ragged.from_rows([[1, 2], [3, 4, 5, 6], [7], [8, 9, 10], [11, 12]])
    layer = jaxrnn.LSTM(1, 4, num_layers=2, bidirectional=True, rngs=nnx.Rngs(0))
    packed = jaxrnn.pack_sequences(rows, 7)
    assert packed.values.shape[0] < len(rows)
    values, lengths = jaxrnn.pad_sequences(rows)
    padded, _ = layer(jnp.asarray(values)[:, :, None], lengths=jnp.asarray(lengths))
    outputs, _ = layer(jnp.asarray(packed.values)[:, :, None], segment_ids=jnp.asarray(packed.segment_ids))
    for found, expected in zip(packed.unpack(outputs), jaxrnn.unpad_sequences(padded, lengths), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


ROWS = Ragged.from_rows([np.sin(np.arange(n) + n) for n in (2, 9, 3, 5, 4, 4, 2, 7, 3, 2, 6)])


@pytest.mark.parametrize(
    ("cell", "target"),
    [
        ("lstm", "last"),
        *(pytest.param(cell, target, marks=pytest.mark.slow) for cell, target in
          (("gru", "every"), ("rnn", "last"), ("gru", "last"), ("rnn", "every"), ("lstm", "every"))),
    ],
)  # fmt: skip
def test_losses_figures_and_gradients_do_not_depend_on_how_rows_are_arranged(cell, target, x64):
    config = Config().replace_flat({"cell": cell, "hidden_size": 4, "num_layers": 2, "target": target})
    normalizer = Normalizer(0.1, 2.0)
    graphdef, params = nnx.split(new_model(config, nnx.Rngs(0)))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)

    @jax.jit
    def outcome(params, part):
        def loss(params):
            (total, _weight), sums = loss_and_sums(nnx.merge(graphdef, params), part, config, normalizer)
            return total, sums._replace(rows=sums.rows.sum(axis=1))

        return jax.value_and_grad(loss, has_aux=True)(params)

    found = {}
    for batching in ("pad", "bucket", "pack"):
        arranged = arrange(ROWS, batching, batch_size=4, num_buckets=3)
        found[batching] = [outcome(params, part) for part in arranged.parts]
        found[batching] = oracle.flat(jax.tree.map(lambda *leaves: sum(leaves), *found[batching]))
    assert len(arrange(ROWS, "bucket", batch_size=4, num_buckets=3).parts) == 3
    # Values and targets are kept in float32: their sums are those of float32 numbers, exactly or nearly so.
    oracle.assert_close(found["bucket"], found["pad"], 1e-6)
    oracle.assert_close(found["pack"], found["pad"], 1e-6)


def test_rows_are_packed_where_it_saves_much():
    alike, one_long = np.full(1000, 50), np.append(np.full(1000, 5), 500)
    lognormal = np.clip(np.random.default_rng(0).lognormal(4, 0.9, 2000), 2, 500).astype(int)
    assert choose_batching(alike, "auto", 4) == "bucket"
    assert choose_batching(one_long, "auto", 4) == "bucket"
    assert choose_batching(lognormal, "auto", 1) == "pack"
    assert choose_batching(lognormal, "auto", 4) == "pack"
    assert choose_batching(alike, "pack", 4) == "pack"


def test_a_packed_batch_holds_about_as_many_sequences_as_asked_for():
    lengths = np.clip(np.random.default_rng(0).lognormal(3, 0.9, 2000), 2, 200).astype(int)
    rows = Ragged.from_lengths(np.zeros(lengths.sum()), lengths)
    arranged = arrange(rows, "pack", batch_size=64, num_buckets=4)
    ids = arranged.parts[0].segment_ids[: arranged.num_rows[0]]
    assert ids.max(axis=1).sum() == len(rows)
    per_batch = len(rows) / arranged.num_rows[0] * arranged.batch_rows
    assert 0.9 * 64 < per_batch < 1.1 * 64
    assert len(arranged.parts[0].inputs) % arranged.batch_rows == 0
