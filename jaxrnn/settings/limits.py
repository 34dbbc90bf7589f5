"""The largest and least numbers that settings take."""

MAX_COUNT = 2**31 - 1  # what int32 holds, in which the device counts
MAX_LAYERS = 10_000  # each is compiled by itself
MAX_SIZE = 2**63 - 1  # what int64 holds
# What float32, in which the device computes, holds with full precision; smaller numbers end as 0 there.
MIN_FLOAT, MAX_FLOAT = 1.1754944e-38, 3.4028234e38


POSITIVE = f"a positive number, {MIN_FLOAT:.2g} to {MAX_FLOAT:.2g}, as float32 holds them"
