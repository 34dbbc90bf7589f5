"""The ends of series that test and validate a forecast, and the steps behind them that are forecast."""

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.series.frequency import Frequency
from jaxrnn.data.series.parts import LEAST_STEPS, cut_ends, extend_series, first_steps, require_ends, split_parts
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import Fractions

HORIZON = 3
LENGTHS = [30, HORIZON + LEAST_STEPS, HORIZON + LEAST_STEPS - 1, 2 * HORIZON + LEAST_STEPS]


def config_of(**settings) -> Config:
    return Config().replace_flat({"task": "forecast", "horizon": HORIZON, "split": "time", **settings})


@pytest.fixture(scope="module")
def sequences() -> jaxrnn.Sequences:
    ids = np.repeat(["a", "b", "c", "d"], LENGTHS)
    times = np.concatenate([np.arange(length) + 1990 for length in LENGTHS])
    table = pa.table({"id": ids, "year": times, "y": np.arange(len(ids), dtype=float), "price": np.ones(len(ids))})
    roles = {"id_column": "id", "time_column": "year", "target_columns": "y", "known_columns": "price"}
    return jaxrnn.read(table, **roles)


def test_the_last_steps_test_and_those_before_validate(sequences):
    parts = split_parts(config_of(), sequences)
    training, validation, test = parts
    assert test.numbers.tolist() == [0, 1, 3]  # c is too short
    assert test.sequences.lengths.tolist() == [LENGTHS[0], LENGTHS[1], LENGTHS[3]]
    assert validation.numbers.tolist() == [0, 3]
    assert validation.sequences.lengths.tolist() == [27, HORIZON + LEAST_STEPS]
    assert training.sequences.lengths.tolist() == [24, LEAST_STEPS, LENGTHS[2], LEAST_STEPS]
    assert training.sequences[1] == first_steps(sequences, np.array(LENGTHS) - HORIZON)[1]
    assert parts.shared_rows() == parts.overlapping() == (0, 0)


def test_more_origins_hold_out_more_steps(sequences):
    parts = split_parts(config_of(origins=4), sequences)
    assert parts.training.sequences.lengths[0] == 30 - (HORIZON + 3) - HORIZON


def test_to_refit_is_to_train_on_the_validation_steps(sequences):
    parts = split_parts(config_of(), sequences, refit=True)
    assert parts.validation is None
    assert parts.training.sequences.lengths.tolist() == [27, LEAST_STEPS, LENGTHS[2], LENGTHS[3] - HORIZON]
    assert parts.test.sequences == split_parts(config_of(), sequences).test.sequences
    # Whole series that validate are taken in whole.
    whole = config_of(split="random", split_fractions=[0.5, 0.25, 0.25])
    before, after = split_parts(whole, sequences), split_parts(whole, sequences, refit=True)
    together = sorted([*before.training.numbers, *before.validation.numbers])
    assert after.training.numbers.tolist() == together
    assert after.test.numbers.tolist() == before.test.numbers.tolist()


def test_a_share_of_0_leaves_a_part_out(sequences):
    whole = split_parts(config_of(split_fractions=[1.0, 0.0, 0.0]), sequences)
    assert whole[1:] == (None, None)
    assert whole.training.sequences == sequences
    checked = split_parts(config_of(split_fractions=[0.8, 0.2, 0.0]), sequences)
    assert checked.test is None
    expected = [length - HORIZON * (length >= HORIZON + LEAST_STEPS) for length in LENGTHS]
    assert checked.training.sequences.lengths.tolist() == expected


def test_series_that_are_all_too_short_are_refused(sequences):
    with pytest.raises(DataError, match=r"series of at most 30 steps, whose last 40 are to be the test part"):
        split_parts(config_of(horizon=40), sequences)
    with pytest.raises(UserError, match="--horizon: got none"):
        split_parts(config_of(horizon=0), sequences)


def test_steps_ahead_are_added_behind_each_series(sequences):
    known = np.arange(4.0 * 2)[:, None]
    extended = extend_series(sequences, Frequency.of(sequences), 2, known)
    assert extended.lengths.tolist() == [length + 2 for length in LENGTHS]
    second = extended[1]
    assert second.steps["times"].values[-3:, 0].tolist() == [
        1990 + LENGTHS[1] - 1,
        1990 + LENGTHS[1],
        1991 + LENGTHS[1],
    ]
    assert np.isnan(second.steps["targets"].values[-2:]).all()
    assert second.steps["known"].values[-2:, 0].tolist() == [2.0, 3.0]
    assert first_steps(extended, np.array(LENGTHS)) == sequences
    with pytest.raises(DataError, match=r"found nothing known ahead of price; .* --known-data"):
        extend_series(sequences, Frequency.of(sequences), 2)
    table = pa.table({"y": [1.0, 2.0], "price": [1.0, None]})
    marked = jaxrnn.read(table, target_columns="y", known_columns="price", missing="mask")
    with pytest.raises(DataError, match="found nothing known ahead of price; expected"):
        extend_series(marked, Frequency(), 2)


def test_inputs_that_are_forecast_themselves_are_missing_ahead():
    table = pa.table({"x": [1.0, None, 3.0]})
    marked = extend_series(jaxrnn.read(table, missing="mask"), Frequency(), 2)
    assert marked.steps["inputs"].values.tolist() == [[1, 0], [0, 1], [3, 0], [0, 1], [0, 1]]
    plain = extend_series(jaxrnn.read([[1.0, 2.0]]), Frequency(), 1)
    assert np.isnan(plain.steps["inputs"].values[-1, 0])


def test_a_week_of_business_days_stays_business_days():
    days = np.busday_offset("2024-01-01", np.arange(15)).astype("M8[us]")
    table = pa.table({"day": days, "y": np.arange(15.0)})
    sequences = jaxrnn.read(table, time_column="day", target_columns="y")
    parts = split_parts(config_of(horizon=5), sequences)
    assert Frequency.of(parts.training.sequences).unit == "business_day"
    assert Frequency.of(parts.training.sequences).season == 5


class TestEnds:
    SHARES = Fractions(0.6, 0.2, 0.2)

    def test_each_part_has_its_first_steps(self):
        held_out = HORIZON + 1
        ends = cut_ends(
            np.array([30, held_out + LEAST_STEPS - 1, held_out + LEAST_STEPS]), self.SHARES, horizon=HORIZON, origins=2
        )
        assert ends.test.tolist() == [30, 0, held_out + LEAST_STEPS]
        assert ends.refit.tolist() == [26, held_out + LEAST_STEPS - 1, LEAST_STEPS]
        assert ends.validation.tolist() == [26, held_out + LEAST_STEPS - 1, 0]
        assert ends.training.tolist() == [23, LEAST_STEPS, LEAST_STEPS]

    @pytest.mark.parametrize("shares", [Fractions(1, 0, 0), Fractions(0.8, 0, 0.2), Fractions(0.8, 0.2, 0)])
    def test_a_share_of_0_leaves_a_part_out(self, shares):
        lengths = np.array([30, 40])
        ends = cut_ends(lengths, shares, horizon=HORIZON, origins=1)
        assert (ends.test > 0).all() == (shares.test > 0)
        assert (ends.validation > 0).all() == (shares.validation > 0)
        assert (ends.training == lengths - HORIZON * ((shares.test > 0) + (shares.validation > 0))).all()

    def test_a_part_without_series_is_refused_by_their_lengths(self):
        lengths = np.array([HORIZON + LEAST_STEPS])
        require_ends(lengths, Fractions(0.8, 0, 0.2), horizon=HORIZON, origins=1)
        with pytest.raises(DataError, match="whose last 3 are to be the validation part"):
            require_ends(lengths, self.SHARES, horizon=HORIZON, origins=1)
        with pytest.raises(DataError, match="whose last 4 are to be the test part"):
            require_ends(lengths, self.SHARES, horizon=HORIZON, origins=2)
