"""Windows of one series are seen, and sequences that only look alike are not."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn.data import overlap
from jaxrnn.data.overlap import RUN, count_overlapping
from jaxrnn.data.sequence_parts import split_sequences
from jaxrnn.settings.config import Config


def windows(series: np.ndarray, starts: range, length: int = 20) -> list[np.ndarray]:
    return [series[start : start + length] for start in starts]


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 2))


@pytest.mark.parametrize("runs_at_once", [1 << 17, 7])
def test_windows_that_overlap_by_half_are_counted(series, runs_at_once, monkeypatch):
    monkeypatch.setattr(overlap, "_RUNS_AT_ONCE", runs_at_once)
    training = jaxrnn.read(windows(series, range(0, 200, 40)))
    # 20 steps have 13 runs of 8: seven or more of them are to stand in a training sequence.
    shifts = {0: 1, 6: 1, 7: 0, 10: 0, 19: 0, 25: 0, 34: 1, 33: 0}
    for shift, expected in shifts.items():
        others = jaxrnn.read(windows(series, range(shift, shift + 1)))
        assert count_overlapping(training, others) == expected, shift
    assert count_overlapping(training, jaxrnn.read(windows(series, range(200, 380, 10)))) == 0


def test_a_plain_loop_counts_the_same(series):
    generator = np.random.default_rng(1)

    def drawn(number: int) -> list[np.ndarray]:
        return [
            np.array(series[start : start + length])
            for start, length in zip(generator.integers(0, 370, number), generator.integers(1, 30, number), strict=True)
        ]

    for _ in range(20):
        training, others = drawn(6), drawn(12)
        expected = 0
        held = {array[i : i + RUN].tobytes() for array in training for i in range(len(array) - RUN + 1)}
        for array in others:
            found = [array[i : i + RUN].tobytes() in held for i in range(len(array) - RUN + 1)]
            expected += sum(found) > len(found) / 2
        assert count_overlapping(jaxrnn.read(training), jaxrnn.read(others)) == expected


def test_what_stands_still_or_switches_is_no_window():
    generator = np.random.default_rng(0)
    switches = [generator.integers(0, 2, size=(30, 1)).astype(float) for _ in range(40)]
    assert count_overlapping(jaxrnn.read(switches[:30]), jaxrnn.read(switches[30:])) == 0
    still = [np.zeros((30, 2))] * 5
    assert count_overlapping(jaxrnn.read(still), jaxrnn.read(still)) == 0


def test_texts_and_other_features_are_not_looked_at(series):
    texts = jaxrnn.read(["the film was good", "the film was bad"], tokens="character")
    assert count_overlapping(texts, texts) == 0
    one = jaxrnn.read([series[:20, :1]])
    assert count_overlapping(one, jaxrnn.read([series[:20]])) == 0


def test_parts_say_how_many(series):
    sequences = jaxrnn.read(windows(series, range(0, 380, 5)), labels=["a", "b"] * 38)
    parts = split_sequences(Config().replace_flat({"task": "classify"}), sequences)
    validation, test = parts.overlapping()
    assert validation > 10
    assert test > 10
    apart = jaxrnn.read(windows(series, range(0, 380, 20)), labels=["a", "b"] * 9 + ["a"])
    assert split_sequences(Config().replace_flat({"task": "classify"}), apart).overlapping() == (0, 0)
