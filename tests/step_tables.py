"""Tables of steps for the tests: two features, a category, a static, a class of the whole, one of every step."""

from pathlib import Path

import numpy as np

COLUMNS = ["--id-column=unit", "--time-column=hour", "--input-columns=speed,load", "--category-columns=gear",
           "--static-columns=mass"]  # fmt: skip
# What each task predicts; with task = next the inputs themselves.
ASKED = {
    "classify": ["--task=classify", "--label-column=side"],
    "tag": ["--task=tag", "--label-column=state"],
    "regress": ["--task=regress", "--target-columns=weight"],
    "next": [],
}


def write_steps(path: Path, number: int = 160, *, first: int = 0, seed: int = 0) -> Path:
    """Writes sequences of 3 to 14 steps, a few of them alike, with ids from `first` on."""
    generator = np.random.default_rng(seed)
    lines = ["unit,hour,speed,load,gear,mass,side,state,weight"]
    for unit in range(first, first + number):
        side = ("left", "right")[unit % 2]
        slope = 1 - 2 * (unit % 2)
        weight = float(generator.normal()) * 3 + slope
        for hour in range(int(generator.choice([3, 4, 6, 14]))):
            gear = ("low", "mid", "high", f"odd{unit % 7}")[int(generator.integers(4))]
            speed, load = slope * hour + generator.normal() / 4, generator.integers(100) / 8
            state = "up" if load > 6 else "down"
            lines.append(f"{unit},{hour},{speed:.5f},{load},{gear},{unit / 8},{side},{state},{weight:.6f}")
    path.write_text("\n".join(lines) + "\n")
    return path
