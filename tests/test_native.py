"""The compiled calls themselves, as XLA makes them: what they compute, and what they refuse."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import native_calls
from benchmarks.native_calls import KINDS, Case
from jaxrnn import cpu_kernels

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu" or not cpu_kernels.is_built(), reason="the compiled recurrence is not built here"
)


def assert_computes(case: Case, seed: int = 0) -> None:
    """Compares both calls with the loop."""
    given = native_calls.draw_arguments(case, seed)
    for found, wanted in zip(native_calls.call_both(case, *given), native_calls.expected_of(case, *given), strict=True):
        assert (found is None) == (wanted is None)
        if found is not None:
            difference, name = native_calls.difference_of(found, wanted)
            assert difference < 1e-5, (case, name, difference)


def test_the_loop_that_is_the_measure_has_the_gradients_of_its_values():
    """Along a random direction of all arguments, in float64."""
    for kind in KINDS:
        case = Case(kind, (4, 3, 2, 5), targets=2, masked="gaps", reset=True, reverse=kind == "gru")
        arguments, cotangents = native_calls.draw_arguments(case, 0)
        floats = {name for name, array in arguments.items() if array.dtype == np.float32 and array.size}
        generator = np.random.default_rng(1)
        given = {name: array if array.size else None for name, array in (arguments | cotangents).items()}
        along = {name: generator.uniform(-1, 1, arguments[name].shape) for name in floats}

        def value(step, given=given, along=along, case=case):
            moved = {name: given[name].astype(np.float64) + step * along[name] for name in along}
            found = native_calls.plain_loop(case, given | moved)
            return sum(np.vdot(given[f"d_{n}"], found[n]) for n in ("outputs", "h_last", "c_last") if n in found)

        found = native_calls.plain_loop(case, given)
        slope = sum(np.vdot(found[f"d_{name}"], along[name]) for name in floats)
        assert abs((value(1e-6) - value(-1e-6)) / 2e-6 - slope) < 1e-6 * max(1, abs(slope)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_resets_go_to_targets_of_their_own(kind):
    for number, targets in enumerate((0, 1, 2)):
        case = Case(kind, (7, 5, 3, 9), targets=targets, reset=True, reverse=number == 1, bias=number != 2)
        assert_computes(dataclasses.replace(case, masked=("no", "gaps", "tails")[number]), seed=number)
    assert_computes(Case(kind, (4, 3, 2, 5), models=(2,), targets=2, reset=True, masked="gaps"))
