"""The compiled calls themselves, as XLA makes them: what they compute, and what they refuse."""

import dataclasses
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from benchmarks import fuzz_native, native_calls, sanitize
from benchmarks.native_calls import KINDS, Case
from jaxrnn.nn.engine import cpu_kernels

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


def test_empty_axes_are_no_fault():
    sizes = ((0, 2, 1, 2), (3, 0, 1, 2), (3, 2, 0, 9))
    for kind, size in zip(("lstm", "gru", "tanh"), sizes, strict=True):
        assert_computes(Case(kind, size, targets=1, reset=True, masked="gaps"))
    assert_computes(Case("lstm", (3, 2, 2, 2), models=(0,), targets=1))


def test_a_code_without_a_target_is_zeros_and_one_at_a_step_that_does_not_count_is_nothing():
    case = Case("lstm", (3, 2, 1, 4), targets=1, reset=True, masked="gaps")
    arguments, cotangents = native_calls.draw_arguments(case, 0)
    arguments["valid"] = np.array([[False, True], [True, False], [True, True]])
    arguments["reset"] = np.array([[1, 255], [0, 2], [0, 0]], np.uint8)
    forward, backward = native_calls.call_both(case, arguments, cotangents)
    for found, wanted in zip((forward, backward), native_calls.expected_of(case, arguments, cotangents), strict=True):
        assert native_calls.difference_of(found, wanted)[0] < 1e-5
    assert not backward["d_h_first"][1].any()  # a reset stands between the start and whatever is read
    assert backward["d_h_first"][0].any()  # its code is at a step that does not count
    assert not backward["d_h_targets"].any()


WRONG = {  # buffers of an LSTM's calls, each with a shape that it must not have
    "inputs": (2, 1),
    "valid": (3, 1),
    "reset": (3, 2, 1),
    "weight_ih": (8, 3),
    "weight_hh": (7, 2),
    "bias_ih": (4,),
    "bias_hh": (0,),
    "h_first": (1, 2),
    "c_first": (0,),
    "h_targets": (1, 2, 3),
    "c_targets": (2, 2, 2),
    "d_outputs": (3, 2, 2),  # time first
    "d_h_last": (0,),
    "d_c_last": (2, 2, 1),
    "h_last": (2, 3),
    "c_last": (0,),
    "outputs": (3, 2, 2),  # time first
    "cells": (3, 2, 2),
    "gates": (3, 2, 8),
}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_buffer_of_another_shape_is_refused_by_name(backward):
    case = Case("lstm", (3, 2, 1, 2), targets=1, reset=True, masked="gaps")
    arguments, cotangents = native_calls.draw_arguments(case, 0)
    name, results = "jaxrnn_forward2", case.forward_results()
    if backward:
        kept = {key: np.zeros(results[key], np.float32) for key in ("outputs", "cells", "gates")}
        arguments = arguments | kept | cotangents
        name, results = "jaxrnn_backward2", case.backward_results()
    wrong = {key: shape for key, shape in WRONG.items() if key in arguments or key in results}
    wrong |= {f"d_{key}": shape for key, shape in WRONG.items() if f"d_{key}" in results}
    assert wrong.keys() == arguments.keys() | results.keys()  # each of them once
    for key, shape in wrong.items():
        given, returned = dict(arguments), dict(results)
        if key in arguments:
            given[key] = np.zeros(shape, arguments[key].dtype)
        else:
            returned[key] = shape
        wanted = re.escape(f"{name}: {key} has shape {shape}, expected (")
        with pytest.raises(jax.errors.JaxRuntimeError, match=wanted):
            native_calls.call(name, case, given, returned)


def test_what_belongs_to_another_call_is_refused():
    case = Case("gru", (3, 2, 1, 2))
    arguments, _ = native_calls.draw_arguments(case, 0)
    results = case.forward_results()

    def refused(match, *, attributes=None, returned=results, **changed):
        structs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in returned.values()]
        attributes = {"cell": np.int64(3), "reverse": False} if attributes is None else attributes
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"INVALID_ARGUMENT: .*{match}"):
            jax.ffi.ffi_call("jaxrnn_forward2", structs)(*(arguments | changed).values(), **attributes)

    refused(r"c_first has shape \(2, 2\), expected \(0,\), as it has no part", c_first=np.zeros((2, 2), np.float32))
    refused(r"cells has shape \(3, 2, 8\), expected \(0,\), as it has no part", returned=results | {"cells": (3, 2, 8)})
    for shape in ((0,), (6, 0)):  # of no units: no library of shorter vectors takes such a call either
        refused(rf"weight_hh has shape {re.escape(str(shape))}, expected", weight_hh=np.zeros(shape, np.float32))
    refused(r"inputs has shape \(2147483648, 1, 0\), .*indices", inputs=np.zeros((2**31, 1, 0), np.float32))
    for number in (-1, 4, 2**32 + 2):
        refused(f"cell is {number}, expected 0 to 3", attributes={"cell": np.int64(number), "reverse": False})
    refused("", attributes={"reverse": False})
    refused("[^$]*expected S64 but got S32", attributes={"cell": np.int32(2), "reverse": False})
    refused("[^$]*expected PRED but got U8", valid=np.ones((3, 2), np.uint8))
    refused("[^$]*expected U8 but got PRED", reset=np.ones((3, 2), bool))
    refused("[^$]*expected F32 but got F16", inputs=np.ones((3, 2, 1), np.float16))


@pytest.mark.parametrize("kind", ["tanh", "gru"])
def test_what_lies_behind_the_rows_ends_is_zeroed_whatever_the_memory_held(kind):
    """The results take the memory of arguments, so what a call leaves out is not 0 by chance."""
    # One task, and more than one: an even and an odd number of rows, so that the last row of either share is the
    # shortest; it is empty, or not. Then rows with gaps.
    for number, (batch, hidden) in enumerate(((5, 8), (7, 72), (8, 72))):
        num_steps = 6
        case = Case(kind, (num_steps, batch, hidden, hidden), masked="gaps", reverse=number == 1, targets=1)
        arguments, cotangents = native_calls.draw_arguments(case, number)
        arguments["inputs"] += 2 * np.sign(arguments["inputs"])  # no zeros
        lengths = np.arange(batch) % num_steps
        steps = np.arange(num_steps)[:, None]
        for valid in (steps < lengths, steps < 1 + lengths, (steps + np.arange(batch)) % 3 > 0):
            arguments["valid"] = valid
            outputs, d_inputs, d_targets = call_in_memory_of_arguments(case, arguments, cotangents)
            assert not d_targets.any(), (kind, batch)  # nothing resets
            for name, array in (("outputs", outputs), ("d_inputs", d_inputs)):
                assert not array[~valid.T].any(), (kind, batch, name)
                assert array[valid.T].any(axis=-1).all() or kind == "relu"


def call_in_memory_of_arguments(case, arguments, cotangents):
    """Returns outputs and the gradients of inputs and targets, of calls that write them over inputs and targets."""
    attributes = {"cell": np.int64(KINDS.index(case.kind)), "reverse": case.reverse}

    def structs(results):
        return [jax.ShapeDtypeStruct(shape, np.float32) for shape in results.values()]

    @jax.jit
    def run(arguments, kept, cotangents):
        call = jax.ffi.ffi_call("jaxrnn_forward2", structs(case.forward_results()), input_output_aliases={0: 0})
        outputs = call(*arguments, **attributes)[0]
        results = case.backward_results()
        aliases = {0: 0, 9: list(results).index("d_h_targets")}
        call = jax.ffi.ffi_call("jaxrnn_backward2", structs(results), input_output_aliases=aliases)
        found = call(*arguments, *kept, *cotangents, **attributes)
        return outputs, found[0], found[aliases[9]]

    whole, _ = native_calls.call_both(case, arguments, cotangents)
    kept = [whole[name] for name in ("outputs", "cells", "gates")]
    assert list(arguments)[9] == "h_targets"
    found = run(list(arguments.values()), kept, list(cotangents.values()))
    return [np.asarray(array) for array in found]


@pytest.mark.slow
def test_memory_that_runs_out_is_an_error(repository):
    """In a process that may not have much: on its own thread, then on those of the pool."""
    program = """
import resource
import jax, numpy as np
from benchmarks import fuzz_native, native_calls, sanitize
from jaxrnn.nn.engine import cpu_kernels
assert cpu_kernels.is_built()
for num_steps in (0, 1):  # no work for a second thread, and enough; working space is 25 times the arguments
    case = native_calls.Case("lstm", (num_steps, 1_000_000, 0, 1), keep=False, with_outputs=False, bias=False)
    arguments, _ = native_calls.draw_arguments(case, 0)
    names, arguments = list(arguments), jax.device_put(list(arguments.values()))

    def run(given):
        return native_calls.call("jaxrnn_forward2", case, dict(zip(names, given)), case.forward_results())["h_last"]

    program = jax.jit(run).lower(arguments).compile()
    wanted = np.asarray(program(arguments))
    size = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (size + (30 << 20), resource.RLIM_INFINITY))
    try:
        print(program(arguments).shape)
    except Exception as error:
        print(str(error))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print((np.asarray(program(arguments)) == wanted).all())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(repository), "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["RESOURCE_EXHAUSTED: no memory left", "True"] * 2


def test_several_threads_call_at_once():
    case = Case("lstm", (20, 12, 8, 32), masked="gaps", reset=True, targets=1)
    given = native_calls.draw_arguments(case, 0)
    alone = native_calls.call_both(case, *given)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: native_calls.call_both(case, *given), range(24)))
    wanted = {name: array for part in alone for name, array in part.items() if name not in ("cells", "gates")}
    for parts in found:
        for name, array in wanted.items():
            np.testing.assert_array_equal((parts[0] | parts[1])[name], array, err_msg=name)


@pytest.mark.parametrize("hidden", [8, 16])
def test_units_that_fill_a_vector(hidden):
    """Their gradients are added up in registers, with up to three inputs from the rows as they lie."""
    for number, inputs in enumerate((1, 2, 3, 4, 1, 4)):
        masked = ("no", "tails", "gaps", "tails", "tails", "tails")[number]
        options = {"masked": masked, "reverse": number > 3, "with_inputs": number % 2 == 0}
        assert_computes(Case("tanh", (5, 7, inputs, hidden), **options), seed=number)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["address", "thread", "baseline"])
def test_sanitizers_report_nothing(tool):
    if (reason := sanitize.missing_for(tool)) is not None:
        pytest.skip(reason)
    done = sanitize.sanitize(tool, 100, seed=1)  # the reader's: tests/data/test_native_text.py
    assert not done.stderr
    assert done.stdout.endswith("\n0 failed\n")
    assert done.returncode == 0


def test_some_calls_of_the_fuzzer():
    outcomes = {fuzz_native.check(3, number).split(" ")[0] for number in range(60)}
    assert outcomes >= {"computed", "accepted", "refused"}


@pytest.mark.slow
def test_calls_of_the_fuzzer_in_processes_of_their_own():
    tally, failures = fuzz_native.fuzz(2, 500, 60)
    assert not failures
    assert sum(tally.values()) == 500


@pytest.mark.slow
def test_the_fuzzer_finds_a_process_that_ends(monkeypatch, capsys):
    """The first process to start ends, its case is noted, and another goes on with the rest."""
    monkeypatch.setattr(fuzz_native, "NUM_PROCESSES", 1)
    monkeypatch.setattr(fuzz_native, "make_calls", end_before_case_two)
    assert fuzz_native.main(["--cases=4"]) == 1
    out = capsys.readouterr().out
    assert out.endswith("1 failed\n")
    assert "4 cases of seed 0" in out
    assert "case 2 (Case(" in out
    assert "the process ended: -6" in out


def end_before_case_two(connection, seed, numbers):
    for number in numbers:
        if number == 2:
            os.abort()
        connection.send((number, "computed", ""))
