"""Runs that stream from the disk, held against those in memory; stopped in the middle of an epoch, and gone on with."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from forked import Forked
from kept_programs import variables_of_child
from small_runs import arrays_of

from jaxrnn.commands import selection, train_run
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel import hosts
from jaxrnn.training import super_batches
from jaxrnn.training.batch_order import draw_batches
from jaxrnn.training.disk_arranging import Arranged
from jaxrnn.training.fit import Interrupts
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.stream_order import Seeds
from jaxrnn.training.super_batches import SuperBatches


def assert_same_batches(streamed: Arranged, memory: MemorySource, *, several: bool = True) -> None:
    """Compares the super batches of an epoch with the arrays that training in memory draws from, of seeds 5 and 0.

    Args:
      streamed: Rows on the disk.
      memory: The same rows in memory.
      several: Whether an epoch has to have several super batches.
    """
    assert streamed.plan == memory.plan
    ours = dict(zip(("training", "validation"), (streamed.training, streamed.validation), strict=True))
    for name, arranged in (("training", memory.training), ("validation", memory.validation)):
        part = ours[name]
        if part is None:
            assert not arranged
            continue
        seeds = Seeds(5, 0) if name == "training" else None
        reading = SuperBatches(part.reading, part.layout, seeds=seeds, width=streamed.width)
        assert name == "validation" or not several or reading.per_epoch > 1
        first, (shapes, _) = reading[0].batches, reading.shapes(len(reading[0].batches[0][0]))
        assert [(leaf.shape, leaf.dtype) for leaf in shapes] == [(leaf.shape, leaf.dtype) for leaf in first]
        found = [
            cut_batch(piece.batches, batch, part.layout.parts[piece.parts[batch]].length)
            for piece in (reading[number] for number in range(reading.per_epoch))
            for batch in range(piece.num_batches)
        ]
        if name == "validation":
            expected = [
                [leaf[chunk] for leaf in map(np.asarray, one)] for one in arranged for chunk in range(len(one[0]))
            ]
        else:
            orders, (_, parts, numbers) = draw_batches(
                np.uint32(5), 0, np.int32(0),
                num_rows=memory.plan.num_rows, filled_rows=[len(one[0]) for one in arranged],
                batch_rows=memory.plan.batch_rows, shuffle=True,
            )  # fmt: skip
            expected = [
                [np.asarray(leaf)[np.asarray(orders[number])[place]] for leaf in arranged[number]]
                for number, place in zip(np.asarray(parts), np.asarray(numbers), strict=True)
            ]
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            for leaf, other in zip(mine, theirs, strict=True):
                assert leaf.dtype == other.dtype
                np.testing.assert_array_equal(leaf, other)


def cut_batch(batches, batch, length):
    one = type(batches)(*(leaf[batch] for leaf in batches))
    return one.cut(length) if hasattr(one, "cut") else one


def leaves_of(reading: SuperBatches, which: slice = slice(None)) -> list[np.ndarray]:
    pieces = [reading[number] for number in range(reading.per_epoch)]
    return [
        np.concatenate([leaf[: piece.num_batches][which] for piece in pieces for leaf in [piece.batches[place]]])
        for place in range(len(pieces[0].batches))
    ]


def assert_same_training(streamed: Path, in_memory: Path, *, to_the_bit: bool) -> None:
    """Compares two runs: all that `assert_same_epochs` does, and on a CPU all of the end."""
    assert_same_epochs(streamed, in_memory, to_the_bit=to_the_bit)
    if jax.default_backend() != "cpu":
        return
    summaries = [json.loads((run / "summary.json").read_text()) for run in (streamed, in_memory)]
    for summary in summaries:
        del summary["seconds"], summary["compilations"]
    assert summaries[0] == summaries[1]


def assert_same_epochs(streamed: Path, in_memory: Path, *, to_the_bit: bool) -> None:
    """Compares two runs: all arrays, the losses and the figures of every epoch.

    Figures of an epoch other than the loss are computed from the same sums; XLA fuses that with where they go, and
    their last bits may differ. JAX's own loop is fused with what is around it: the last bits of a loss may differ too.
    On a GPU two programs of the same equations differ in their last bits: there all of it has to be near.
    """
    if jax.default_backend() != "cpu":
        return assert_near_epochs(streamed, in_memory)
    is_built = cpu_kernels.is_built()
    arrays, expected = arrays_of(streamed), arrays_of(in_memory)
    if not is_built:
        del expected["best_score"]
    assert {name: arrays[name] for name in expected} == expected
    lines = [list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in (streamed, in_memory)]
    if to_the_bit and is_built:
        assert (streamed / "metrics.jsonl").read_bytes() == (in_memory / "metrics.jsonl").read_bytes()
    for ours, theirs in zip(*lines, strict=True):
        for part in ("training", "validation"):
            mine, others = without_ones(ours.pop(part)), without_ones(theirs.pop(part))
            assert not is_built or mine["loss"] == others["loss"] or np.isnan([mine["loss"], others["loss"]]).all()
            assert mine == pytest.approx(others, rel=1e-6, nan_ok=True)
            spread, expected_spread = (line.pop(f"{part}_std", {}) for line in (ours, theirs))
            assert spread.keys() == expected_spread.keys()
            for name, value in expected_spread.items():  # that of numbers that are off by as much as above
                assert spread[name] == (value and pytest.approx(value, abs=1e-6 * abs(others[name]), rel=0))
        assert ours == theirs


def assert_near_epochs(streamed: Path, in_memory: Path) -> None:
    """Does what `assert_same_epochs` does, where last bits differ."""
    arrays, expected = arrays_of(streamed), arrays_of(in_memory)
    for name, (dtype, shape, content) in expected.items():
        assert arrays[name][:2] == (dtype, shape)
        ours, theirs = (np.frombuffer(part, dtype) for part in (arrays[name][2], content))
        if ours.dtype.kind in "biu":
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=name)
    lines = [list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in (streamed, in_memory)]
    for ours, theirs in zip(*lines, strict=True):
        for part in ("training", "validation"):
            assert ours[part] == pytest.approx(theirs[part], rel=1e-3, abs=1e-4, nan_ok=True)


def without_ones(figures: dict[str, float | None]) -> dict[str, float]:
    """Gives r2 as 1 - r2, the quotient that is computed: what 1 leaves of it may be next to nothing.

    Where no rows validate, NaN takes the place of what was not measured.
    """
    known = {name: float("nan") if value is None else value for name, value in figures.items()}
    return {name: 1 - value if name == "r2" else value for name, value in known.items()}


# A process whose epochs have several pieces, and which saves after every one of them.
TRAIN = """
import sys
from jaxrnn.training import super_batches
from jaxrnn import train
super_batches.SUPER_VALUES = 1000
if __name__ == "__main__":
    from jaxrnn.console import command_line
    command_line.leave(train.main(sys.argv[1:], own_process=True))
"""


def start(cwd: Path, *flags: str, programs: Path | None = None) -> Forked:
    """Starts a run in a process of its own; programs that are compiled are kept in a directory, or beside the run."""
    kept = variables_of_child(programs or cwd / "programs")
    return Forked(TRAIN, *flags, cwd=cwd, environment=os.environ | kept)


@contextlib.contextmanager
def stopped_after(number: int) -> Iterator[None]:
    """Lets training be interrupted after so many calls of the device, each of one batch where it streams."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(super_batches, "SUPER_VALUES", 1)
        asked, calls = Interrupts(), []

        def agree(received, num_epochs, *, is_due):
            calls.append(received)
            asked.received = signal.SIGTERM if len(calls) >= number else None
            return hosts.Decision(None, num_epochs, is_due)

        patch.setattr(hosts, "agree", agree)
        for module in (train_run, selection):
            patch.setattr(module, "NoteSignal", lambda: contextlib.nullcontext(asked))
        yield
