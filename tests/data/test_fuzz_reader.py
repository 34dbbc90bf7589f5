"""Any bytes are read as Python's float reads their fields, or refused with the line of the first fault."""

import contextlib
import random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_inputs import Failed, Input, check, draw_input, expected_rows
from benchmarks.fuzz_reader import fuzz, main
from jaxrnn.data.readers import short_integers, text_reader
from jaxrnn.data.readers.native import plain_text

OPTIONS = {"delimiter": ",", "header": False, "blank_lines": "error", "min_length": 1, "max_row_length": 100}


READERS = ("compiled", "numpy")


def read_by(reader: str) -> contextlib.AbstractContextManager:
    """Reads plain text by compiled code, where there is any, or without it."""
    return mock.patch.object(plain_text, "library", (lambda: None) if reader == "numpy" else plain_text.library)


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=True), st.sampled_from(READERS))
def test_drawn_and_damaged_files(rng: random.Random, reader: str) -> None:
    with read_by(reader):
        check(draw_input(rng))


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789+-.eE, \n\r", max_size=40), st.sampled_from([1, 2, 3, 8, 1 << 19]), st.sampled_from(READERS))
def test_text_of_the_characters_of_numbers(text: str, block: int, reader: str) -> None:
    content = text.encode()
    with read_by(reader):
        check(Input(content, "text", text=content, options=OPTIONS, block=block))


def test_what_is_expected_is_what_float_reads() -> None:
    assert expected_rows(b"\xef\xbb\xbf1, 2.5 \r\n-0,1e3", OPTIONS) == ([[1.0, 2.5], [-0.0, 1000.0]], None)
    for text, line in ((b"1,2\n1_0\n", 2), (b"1\n\n", 2), (b"3.5e38\n", 1), (b"", 0), (b"nan", 1), (b"1,,2", 1)):
        assert expected_rows(text, OPTIONS)[1] == line


def test_a_value_that_is_read_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = short_integers.parse_short_integers

    def wrong(text: bytes, separators: object, field_lengths: object) -> object:
        values = real(text, separators, field_lengths)  # type: ignore[arg-type]
        return None if values is None else values + (values == 99999999)

    monkeypatch.setattr(text_reader.short_integers, "parse_short_integers", wrong)
    with (
        read_by("numpy"),
        pytest.raises(Failed, match=r"read \[\[1.0, 100000000.0\]\], expected \[\[1.0, 99999999.0\]\]"),
    ):
        check(Input(b"1,99999999", "text", text=b"1,99999999", options=OPTIONS))


def test_the_command_prints_a_tally(capsys: pytest.CaptureFixture) -> None:
    assert main(["--inputs=60", "--seed=1"]) == 0
    out = capsys.readouterr().out
    assert "60 inputs of seed 1" in out
    assert out.endswith("0 failed\n")


@pytest.mark.slow
def test_thousands_of_inputs_in_a_process_of_their_own() -> None:
    tally, failures = fuzz(2, 4_000, 10)
    assert not failures
    assert sum(tally.values()) == 4_000
