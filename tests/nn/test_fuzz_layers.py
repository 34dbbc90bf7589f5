"""The layers' fuzzer: its measure is right, it finds what is wrong, it outlives a crash, and the layers pass it."""

import dataclasses
import os
import signal
import time

import jax
import numpy as np
import pytest

from benchmarks import fuzz_layers, layer_checks, layer_oracle
from benchmarks.fuzz_layers import fuzz
from benchmarks.layer_data import draw_data
from benchmarks.layer_oracle import Piece
from benchmarks.layer_programs import INNER, KINDS, OUTER, OUTER_OF_DEVICES, Program, Wrong, draw_program
from benchmarks.layer_transformations import Found

SMALL = Program("gru", batch=2, time=4, input_size=2, hidden_size=3, options=("mask", "resets"), reset_state="full")


def test_sequences_are_read_off_masks_segments_and_resets():
    def pieces(valid: str, segment_ids: str | None = None, resets: str | None = None) -> list[Piece]:
        rows = [None if text is None else np.array([int(digit) for digit in text]) for text in (segment_ids, resets)]
        return layer_oracle.pieces_of(np.array([digit == "1" for digit in valid]), *rows)

    assert pieces("0110") == [Piece([1, 2], True, False)]
    assert pieces("0000", "1111", "1111") == []
    assert pieces("1111", "1122") == [Piece([0, 1], True, False), Piece([2, 3], True, False)]
    assert pieces("1011", None, "0100") == [Piece([0], True, False), Piece([2, 3], False, True)], "reset at padding"
    assert pieces("0111", None, "1000") == [Piece([1, 2, 3], True, True)], "reset before the first step"
    # In the padding before a segment a reset acts only if it stands in that segment.
    assert pieces("1001", "1002", "0110") == [Piece([0], True, False), Piece([3], True, False)]
    assert pieces("1001", "1022", "0010") == [Piece([0], True, False), Piece([3], True, True)]
    assert pieces("1011", "1011", "0100") == [Piece([0], True, False), Piece([2, 3], False, True)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_measure_has_the_derivatives_of_its_values(kind):
    """Along the direction of all arguments, first and second ones, by differences of values in float64."""
    options, step = ("lengths", "mask", "segment_ids", "resets"), 1e-4
    program = Program(
        kind, batch=2, time=4, input_size=2, hidden_size=3, num_layers=2, bidirectional=True, options=options,
        proj_size=2 if kind in ("lstm", "own") else 0, param_dtype="float64", input_dtype="float64",
        reset_state="no batch", mapped=("params", "mask"),
    )  # fmt: skip
    data = draw_data(0, 0, program)

    def loss(shift: float) -> float:
        results, _, _ = layer_oracle.values(program, data, shift=shift)
        weights = layer_oracle.leaves_of(data.weights)
        return sum(np.vdot(weights[path], value) for path, value in results.items())

    _, slopes, _ = layer_oracle.values(program, data)
    found = layer_oracle.derivatives(data, slopes)
    assert sum(value for name, value in found.items() if name != "all") == pytest.approx(found["all"], rel=1e-12)
    assert found["all"] == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=1e-5)
    second = layer_oracle.second_derivatives(program, data)
    assert min(abs(found["all"]), abs(second["all"])) > 0.1, "a draw that shows nothing"
    assert second["all"] == pytest.approx((loss(step) - 2 * loss(0) + loss(-step)) / step**2, rel=1e-4)


def test_draws_are_the_same_again_and_cover_everything():
    programs = [draw_program(3, number) for number in range(400)]
    assert programs[:20] == [draw_program(3, number) for number in range(20)]
    assert {program.inner for program in programs} == set(INNER)
    assert {program.outer for program in programs[::2]} == set(OUTER)
    assert {program.outer for program in programs[1::2]} == set(OUTER_OF_DEVICES)
    assert {program.kind for program in programs} == set(KINDS)
    first, second = (draw_data(3, 8, SMALL) for _ in range(2))
    for name, leaf in layer_oracle.leaves_of(first.given).items():
        np.testing.assert_array_equal(leaf, layer_oracle.leaves_of(second.given)[name])


def test_what_is_wrong_is_found(monkeypatch):
    """A layer that returns what the loop says passes; one number off is told, as is one at padding."""
    data, results, slopes = layer_checks.expected_of(0, 0, SMALL)
    data.options["mask"][:] = [[True, False, True, True]] * 2
    results, slopes, _ = layer_oracle.values(SMALL, data)
    derivatives = layer_oracle.derivatives(data, slopes)

    def gradient(name: str, leaf: np.ndarray) -> np.ndarray:
        """One whose product with the direction is right."""
        direction = layer_oracle.leaves_of(data.directions)[name].copy()
        if name == "inputs":
            direction[:, 1] = 0
        return direction * derivatives[name] / np.vdot(direction, direction)

    def complaints(change) -> str:
        arrays = {"outputs": results["outputs"].copy(), "final": [results["final.0"].copy()]}
        found = Found(arrays, layer_oracle.map_named(gradient, data.given))
        change(found)
        monkeypatch.setattr(layer_checks, "_runner_of", lambda program: lambda data: found)
        return "; ".join(layer_checks.compare(SMALL, data, results, slopes)[0])

    def add(array: np.ndarray, place: tuple[int, ...], value: float) -> None:
        array[place] += value

    assert complaints(lambda found: None) == ""
    assert complaints(lambda f: add(f.results["outputs"], (1, 2, 0), 1e-4)).startswith("outputs: differs by 0.0001;")
    assert complaints(lambda f: add(f.results["outputs"], (1, 1, 0), 1e-9)) == "outputs: not 0 at padding"
    assert "final.0: differs by nan" in complaints(lambda f: add(f.results["final"][0], (0, 0, 0), np.nan))
    weights = "gradient params.weight_hh_l0"
    assert complaints(lambda f: add(f.gradients["params"]["weight_hh_l0"], (2, 1), 0.01)).startswith(weights)
    assert complaints(lambda f: add(f.gradients["inputs"], (0, 1, 0), 1e-9)) == "gradient inputs: not 0 at padding"
    assert "gradient: got" in complaints(lambda f: f.gradients.pop("reset_state"))


def check_badly(seed: int, number: int, invalid: bool) -> str:
    """Ends the process at case 3, is wrong at 5, and silent at 17."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        raise Wrong("as expected")
    if number == 17:
        time.sleep(600)
    return "right"


@pytest.mark.slow
def test_a_crash_and_a_silence_are_noted_and_the_other_cases_run():
    before = os.environ.get("XLA_FLAGS")
    tally, failures = fuzz(0, 24, patience=40, check=check_badly)
    assert tally == {"right": 21, "wrong": 1, "crashed": 2}
    assert sorted(failures) == [
        (3, "the process ended with -11"),
        (5, "as expected"),
        (17, "no answer within 40 s"),
    ]
    assert os.environ.get("XLA_FLAGS") == before
    tally, failures = fuzz(0, 24, seconds=0, check=check_badly)
    assert not tally
    assert not failures


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="float32 is compared with float64 here")
def test_thirty_cases(unchecked, capsys, monkeypatch):
    """Of programs for one device: here there may be one only."""
    programs = [number for number in range(0, 1000, 2) if _is_quick(draw_program(1, number))][:3]
    outcomes = [fuzz_layers.check_case(1, 10 * p + n, False) for p in programs for n in range(10)]
    assert outcomes == ["right"] * 30
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # the command sets its own
    assert fuzz_layers.main([f"--case={10 * programs[0]}", "--seed=1"]) == 0
    out = capsys.readouterr().out
    assert f"--seed=1 --case={10 * programs[0]}  # Program(kind=" in out
    assert out.endswith("right\n")


def _is_quick(program: Program) -> bool:
    plain = dataclasses.replace(program, num_layers=1, bidirectional=False, inner="")
    return program == plain and program.outer in ("jit", "value_and_grad", "jvp") and bool(program.options)
