"""Programs for a TPU v5e and an H100, compiled where neither is; skipped where their compilers are not installed.

Each compiler runs in a process of its own (`accelerator_programs`): this one has chosen its platform and XLA's flags.
"""

import json
import os
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from conftest import REPOSITORY

from benchmarks.accelerators import TARGETS, is_installed
from jaxrnn.foundation.errors import UserError
from jaxrnn.parallel.program_text import exchanged, loops_of
from jaxrnn.parallel.targets import Target

PATIENCE_SECONDS = 600
# A recurrence is a loop, its gradient another one. Seven layers, and four of the stack, make one each. In chunks there
# is a loop in a loop, and on the way back one more, which computes a chunk anew.
LOOPS = {"forward": 12, "gradient": 25}
# What is behind these calls is a part of the device's own program.
CALLS = {"AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast", "GatherScatterIndicesBitpacked"}
every_accelerator = pytest.mark.parametrize("name", TARGETS)


def describe(name: str, what: str) -> dict[str, Any]:
    if not is_installed(TARGETS[name]):
        pytest.skip(f"{TARGETS[name].package} is not installed")
    # As for users: what a step executes is found by the names of functions, which a short traceback leaves out.
    ours = ("XLA_FLAGS", "JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    places = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.accelerator_programs", name, what],
        cwd=REPOSITORY,
        env=environment | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@every_accelerator
def test_layers_compile_to_loops_without_a_call_of_the_cpu(name):
    found = describe(name, "layers")
    for program, loops in LOOPS.items():
        facts = found["programs"][program]
        assert set(facts["calls"]) <= CALLS, program
        assert facts["loops"] == loops, program
        # Without these the check above would be none: the same program holds calls where it is for a CPU.
        expected = {"forward": ["jaxrnn_forward2"], "gradient": ["jaxrnn_backward2", "jaxrnn_forward2"]}[program]
        assert facts["calls on a CPU"] == (expected if found["kernels are built"] else []), program


@every_accelerator
def test_the_training_program_compiles_and_exchanges_gradients_once(name):
    found = describe(name, "training")
    alone, together = found["programs"].values()
    for facts in (alone, together):
        assert set(facts["calls"]) <= CALLS
        # Epochs, batches, a batch's steps there and back; and validation's steps, whose only chunk is no loop.
        assert facts["loops"] == 5
    assert alone["exchanged"] == []
    # The gradient of all parameters; else figures only. A batch that is gathered would be there too.
    assert {kind for kind, _ in together["exchanged"]} == {"all-reduce"}
    sizes = sorted(size for _, size in together["exchanged"])
    assert found["parameters"] <= sizes[-1] < found["parameters"] + 8
    assert sum(sizes[:-1]) < 32


def test_a_step_on_a_gpu_is_few_kernels():
    """Each takes microseconds to launch, whatever it computes."""
    assert max(describe("h100", "kernels")["forward"]) <= 3


@every_accelerator
def test_a_run_is_compiled_for_devices_that_are_not_there(name):
    found = describe(name, "run")
    assert found["codes"] == [0, 2], "six devices are not those of the target"
    lines = found["printed"].splitlines()
    target = TARGETS[name]
    assert any(line.startswith(f"target: {target}, {target.num_devices} devices of ") for line in lines)
    (sent,) = (line for line in lines if line.startswith("devices send each other in an update: "))
    assert f"all-reduce of {4 * 8 * (1 + 8 + 2) + 9 + 1} numbers" in sent, (
        "the gradient of all parameters, and the loss"
    )
    steps = [line for line in lines if line.startswith(("a step forward", "a step back"))]
    assert len(steps) == 2
    (memory,) = (line for line in lines if line.startswith("memory of a device, as the compiler has planned it: "))
    assert memory.endswith("% of what it has")
    assert lines[-1] == "nothing was trained and nothing written"


@pytest.mark.parametrize(
    "text",
    ["", "tpu", "tpu:v5e", "tpu:v5e:3x2", "tpu:v5e:2x2x2", "tpu:v5p:2x2", "tpu:v9:2x2", "cuda:h100", "cuda:h100:0",
     "cuda:h100:2x2", "cuda:v5e:2", "tpu:h100:2x2", "cuda:h100:99999", "gpu:h100:8", "tpu:v5e:0x2", "cuda:h100:8 "],
)  # fmt: skip
def test_what_names_no_devices_is_refused(text):
    with pytest.raises(UserError, match=r"--target-devices: got .*; expected tpu:KIND:SHAPE"):
        Target.parse(text)


def test_shapes_and_numbers():
    assert [Target.parse(text).num_devices for text in ("tpu:v5e:16x16", "tpu:v5p:4x4x4", "cuda:h100:8")] == [
        256,
        64,
        8,
    ]
    assert str(Target.parse("tpu:v6e:2x4")) == "tpu:v6e:2x4"


def test_without_the_compiler_it_is_said_how_to_get_it(monkeypatch):
    def nothing(package: str) -> str:
        if package == "jaxlib":
            return "1.2.3"
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", nothing)
    with pytest.raises(
        UserError, match=r"libtpu, the compiler for tpu:v5e:2x2, is not installed; .*'jax\[tpu\]==1\.2\.3'"
    ):
        Target.parse("tpu:v5e:2x2").devices()
    with pytest.raises(UserError, match=r"pip install --no-deps jax-cuda13-plugin==1.2.3 jax-cuda13-pjrt==1.2.3"):
        Target.parse("cuda:h100:8").devices()


# Of a program as XLA writes it, with what it writes around the kinds of operations.
PROGRAM = """
HloModule jit_f, is_scheduled=true

%apart (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %fusion.9 = f32[2]{0} fusion(%p), kind=kLoop, calls=%fused
}

%body.1 (t: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %t = (s32[]{:T(128)}, f32[2,3]{1,0:T(8,128)S(1)}, /*index=2*/bf16[4]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %fusion.1 = (f32[2,3]{1,0:T(8,128)S(1)}, f32[]) fusion(%i, /*index=5*/%t), kind=kOutput, metadata={op_name="dot(x) y"}
  %call.1 = f32[2]{0} call(%i), to_apply=%apart
  %add.1 = s32[] add(%i, %i)
  %copy-start.1 = (s32[], s32[], u32[]) copy-start(%add.1)
  %copy-done.1 = s32[] copy-done(%copy-start.1)
  ROOT %tuple.1 = (s32[], f32[2,3]{1,0}) tuple(%add.1, %fusion.1)
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %while.1 = (s32[], f32[2,3]{1,0}) while(%a), condition=%more, body=%body.1, metadata={op_name="jit(f)/while"}
  %all-reduce.1 = (f32[2,3]{1,0:T(8)}, f32[]) all-reduce(%while.1, %a), channel_id=1
  %all-reduce-start.1 = ((f32[7]{0}), f32[7]{0}) all-reduce-start(%a), channel_id=2
  %all-reduce-done.1 = f32[7]{0} all-reduce-done(%all-reduce-start.1)
  ROOT %all-gather.1 = f32[4,2]{1,0} all-gather(%a), channel_id=3
}
"""


def test_what_a_compiled_program_executes_is_counted():
    (loop,) = loops_of(PROGRAM)
    assert loop.operations == {"fusion": 2, "add": 1, "copy-start": 1}
    assert (loop.name, loop.is_innermost, loop.exchanged, loop.differentiates) == ("jit(f)/while", True, [], False)
    assert exchanged(PROGRAM) == [("all-reduce", 7), ("all-reduce", 7), ("all-gather", 8)]
