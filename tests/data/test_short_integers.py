"""The fast way to read short integers takes what float() reads as the same number, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrnn.data.readers.short_integers import parse_short_integers


def parse(fields: list[bytes]):
    text = b"".join(field + b"," for field in fields)
    separators = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    return parse_short_integers(text, separators, np.array([len(field) for field in fields]))


def is_short_integer(field: bytes) -> bool:
    digits = field.removeprefix(b"-")
    return 1 <= len(digits) <= 8 and all(ord("0") <= c <= ord("9") for c in digits) and not (
        field.startswith(b"-") and not int(digits)
    )  # fmt: skip


@given(st.lists(st.integers(-99_999_999, 99_999_999), min_size=1, max_size=40), st.integers(0, 7))
def test_every_number_of_up_to_eight_digits(numbers, width):
    fields = [f"{number:0{width}d}".encode() for number in numbers]
    values = parse(fields)
    if not all(map(is_short_integer, fields)):
        assert values is None
        return
    assert values.dtype == np.int32
    assert values.tolist() == [float(field) for field in fields]


near_digits = st.binary(max_size=10) | st.text("0123456789-+.:/e ", max_size=10).map(str.encode)
fields_of_any_bytes = st.lists(near_digits.filter(lambda field: b"," not in field), min_size=1, max_size=6)


@given(fields_of_any_bytes)
def test_whatever_is_no_short_integer_is_left_to_others(fields):
    values = parse(fields)
    if all(map(is_short_integer, fields)):
        assert values.tolist() == [float(field) for field in fields]
    else:
        assert values is None


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte != ord(",")])
def test_every_byte_at_every_place_of_a_field(byte):
    for place in range(8):
        field = bytearray(b"12345678")
        field[place] = byte
        values = parse([b"7", bytes(field), b"-3"])
        expected = None
        if (chr(byte).isdigit() and byte < 128) or (chr(byte) == "-" and place == 0):
            expected = [7, int(field), -3]
        assert (None if values is None else values.tolist()) == expected
