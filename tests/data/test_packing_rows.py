"""Packing of features, token ids and lists; and the state in which each packed sequence ended."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn

LENGTHS = (2, 4, 1, 0, 3, 2)
FEATURES = [oracle.draw(number, length, 3) for number, length in enumerate(LENGTHS)]
TOKENS = [np.random.default_rng(n).integers(0, 30_000, length) for n, length in enumerate(LENGTHS)]


class TestRows:
    @pytest.mark.parametrize("as_lists", [False, True])
    def test_features(self, as_lists):
        rows = [row.tolist() if as_lists else row for row in FEATURES]  # the empty one is [] as a list
        packed = jaxrnn.pack_sequences(rows, 5, dtype=np.float64)
        assert packed.values.shape == (3, 5, 3)
        assert [len(row) for row in packed.unpack(packed.values)] == list(LENGTHS)
        for found, row in zip(packed.unpack(packed.values), FEATURES, strict=True):
            np.testing.assert_array_equal(found, row)
        assert not packed.values[packed.segment_ids == 0].any()
        assert jaxrnn.pack_sequences(rows).values.dtype == np.float32

    @pytest.mark.parametrize("as_lists", [False, True])
    def test_token_ids_stay_integers(self, as_lists):
        rows = [row.tolist() if as_lists else row for row in TOKENS]
        packed = jaxrnn.pack_sequences(rows, 5)
        assert packed.values.dtype == np.int32
        assert [row.tolist() for row in packed.unpack(packed.values)] == [row.tolist() for row in TOKENS]
        assert jaxrnn.pack_sequences(rows, dtype=np.uint16).values.dtype == np.uint16
        assert jaxrnn.pack_sequences([row[:, None].repeat(2, 1) for row in TOKENS]).values.dtype == np.int32

    def test_lists_and_arrays_are_placed_as_ragged_rows_are(self):
        rows = [row[:, 0] for row in FEATURES]
        ragged = jaxrnn.pack_sequences(jaxrnn.Ragged.from_rows(rows), 6)
        for given in (rows, [row.tolist() for row in rows], map(jnp.asarray, [row.astype(np.float32) for row in rows])):
            packed = jaxrnn.pack_sequences(given, 6)
            for found, expected in zip(packed, ragged, strict=True):
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype

    def test_numbers_of_two_types_are_floats(self):
        packed = jaxrnn.pack_sequences([[1, 2], [0.5], np.array([3], ml_dtypes.bfloat16)])
        assert packed.values.dtype == np.float32
        assert [row.tolist() for row in packed.unpack(packed.values)] == [[1, 2], [0.5], [3]]

    def test_only_empty_sequences(self):
        packed = jaxrnn.pack_sequences([[], []], 3)
        assert packed.values.shape == (0, 3)
        assert [row.tolist() for row in packed.unpack(packed.values)] == [[], []]
        np.testing.assert_array_equal(packed.final_states(np.zeros((2, 0, 3, 4))), np.zeros((2, 2, 4)))

    @pytest.mark.parametrize(
        ("rows", "options", "error", "message"),
        [
            ([], {}, ValueError, "pack_sequences: got no sequences; expected at least one"),
            (5, {}, TypeError, "pack_sequences: got int; expected a list of sequences"),
            ([1.0, 2.0], {}, TypeError, r"sequence 0: got shape \(\); .*: put a single sequence in a list"),
            (
                [np.ones((2, 3, 4))],
                {},
                TypeError,
                r"sequence 0: got shape \(2, 3, 4\); expected \(length,\) or \(length, f",
            ),
            ([[1, 2], ["a"]], {}, TypeError, "sequence 1: got <U1; expected numbers"),
            ([[1, 2], [None]], {}, TypeError, "sequence 1: got object; expected numbers"),
            ([[True]], {}, TypeError, "sequence 0: got bool; expected numbers"),
            ([[1.0], [[1.0, 2.0], [3.0]]], {}, ValueError, "sequence 1: its steps differ in their number of features"),
            ([[], np.ones((2, 3)), np.ones((1, 2))], {}, ValueError, "got 2 features in sequence 2, 3 features before"),
            ([np.ones((2, 3)), np.ones(2)], {}, ValueError, "got single numbers in sequence 1, 3 features before"),
            ([np.ones((2, 0))], {}, ValueError, "got sequences of 0 features; expected at least one"),
            (
                [[1, 2, 3], [4]],
                {"length": 2},
                ValueError,
                "got a sequence of 3 values; expected at most length = 2: .* 0",
            ),
            ([[1]], {"length": 2.0}, TypeError, "got length = 2.0; expected an integer"),
            ([[1.5]], {"dtype": np.int32}, TypeError, "got float64 values; expected integers for dtype = int32"),
            ([[1, 2**31]], {}, ValueError, "got integers from 1 to 2147483648; expected .*, which dtype = int32 holds"),
            ([[-1]], {"dtype": np.uint8}, ValueError, "got integers from -1 to -1; expected 0 to 255"),
        ],
    )
    def test_refusals(self, rows, options, error, message):
        with pytest.raises(error, match=message):
            jaxrnn.pack_sequences(rows, **options)


class TestFinalStates:
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_they_are_those_of_rows_of_their_own(self, bidirectional, x64):
        """States and outputs, an LSTM's c included, and the gradients of parameters and inputs."""
        layer = jaxrnn.LSTM(
            3,
            4,
            num_layers=1 + bidirectional,
            bidirectional=bidirectional,
            param_dtype=jnp.float64,
            rngs=nnx.Rngs(0),
        )
        oracle.perturb(layer)
        graphdef, parameters = nnx.split(layer)
        packed = jaxrnn.pack_sequences(FEATURES, 5, dtype=np.float64)
        padded, lengths = jaxrnn.pad_sequences(FEATURES, dtype=np.float64)
        size = 4 * layer.num_directions
        weights = [oracle.draw(n, layer.num_layers * layer.num_directions, len(LENGTHS), 4) for n in range(2)]
        weights.append(oracle.draw(2, len(LENGTHS), size))

        def of_packed(parameters: Any, values: Any) -> Any:
            module, ids = nnx.merge(graphdef, parameters), jnp.asarray(packed.segment_ids)
            states = module.all_states(values, segment_ids=ids)
            outputs = jnp.concatenate([*states.h[-layer.num_directions :]], axis=-1)  # what a call returns
            return packed.final_states((states, outputs), bidirectional=bidirectional)

        def of_rows(parameters: Any, values: Any) -> Any:
            state = nnx.merge(graphdef, parameters).final_state(values, lengths=jnp.asarray(lengths))
            return state, jnp.concatenate([*state.h[-layer.num_directions :]], axis=-1)

        def outcome(run: Any) -> Any:
            def loss(*arguments: Any) -> Any:
                results = run(*arguments)
                return oracle.weigh(results, weights), results

            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

        (_, found), (d_found, d_values) = outcome(of_packed)(parameters, jnp.asarray(packed.values))
        (_, expected), (d_expected, d_padded) = outcome(of_rows)(parameters, jnp.asarray(padded))
        assert isinstance(found[0], jaxrnn.LSTMState)
        empty = LENGTHS.index(0)
        assert not np.asarray(found[0].h[:, empty]).any()
        oracle.assert_close(
            oracle.flat({"results": found, "gradient": nnx.to_pure_dict(d_found)})
            | {f"d row {n}": row for n, row in enumerate(packed.unpack(d_values))},
            oracle.flat({"results": expected, "gradient": nnx.to_pure_dict(d_expected)})
            | {f"d row {n}": row for n, row in enumerate(jaxrnn.unpad_sequences(d_padded, lengths))},
            1e-12,
        )

    def test_every_sequence_ends_where_it_lies(self):
        """Each step holds its sequence's number and its place in it, so that every end is known."""
        packed = jaxrnn.pack_sequences([[[n, t] for t in range(length)] for n, length in enumerate(LENGTHS)], 5)
        there = np.array(LENGTHS) > 0
        lasts = np.stack([np.arange(len(LENGTHS)), np.array(LENGTHS) - 1], axis=1) * there[:, None]
        firsts = lasts * [1, 0]
        outputs = packed.values
        np.testing.assert_array_equal(packed.final_states(outputs), lasts)
        np.testing.assert_array_equal(packed.final_states(outputs[:, :, 1]), lasts[:, 1])  # (rows, length)
        np.testing.assert_array_equal(packed.final_states(outputs, reverse=True), firsts)
        np.testing.assert_array_equal(packed.final_states(outputs[None], reverse=True), [firsts])
        joined = packed.final_states(np.concatenate([outputs, outputs], axis=2), bidirectional=True)
        np.testing.assert_array_equal(joined, np.concatenate([lasts, firsts], axis=1))
        states = packed.final_states({"h": np.stack([outputs, outputs, -outputs, -outputs])}, bidirectional=True)
        np.testing.assert_array_equal(states["h"], [lasts, firsts, -lasts, -firsts])
        # The packed rows may themselves be an argument of a compiled function.
        np.testing.assert_array_equal(jax.jit(lambda packed: packed.final_states(packed.values))(packed), lasts)

    @pytest.mark.parametrize(
        ("shape", "bidirectional", "message"),
        [
            (
                (2, 5),
                False,
                r"got an array of shape \(2, 5\); expected states \(.*, 3, 5, size\), .* or outputs \(3, 5, f",
            ),
            ((5, 3, 4), False, r"got an array of shape \(5, 3, 4\)"),
            ((3, 5, 2, 4), False, r"got an array of shape \(3, 5, 2, 4\)"),
            ((), False, r"got an array of shape \(\)"),
            ((3, 3, 5, 4), True, "got 3 states; expected as many of each direction"),
            ((3, 5, 7), True, "got 7 features; expected as many of each direction"),
            ((3, 5), True, "got 1 features; expected as many of each direction"),
        ],
    )
    def test_shapes_that_do_not_fit_are_refused(self, shape, bidirectional, message):
        packed = jaxrnn.pack_sequences(FEATURES, 5)
        with pytest.raises(ValueError, match=f"final_states: {message}"):
            packed.final_states(np.zeros(shape), bidirectional=bidirectional)
        with pytest.raises(ValueError, match="final_states: got bidirectional=True and reverse=True; expected one"):
            packed.final_states(packed.values, bidirectional=True, reverse=True)
