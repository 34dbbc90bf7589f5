"""What a head reads of a sequence."""

from typing import Literal

Readout = Literal["last", "mean", "max", "every"]
