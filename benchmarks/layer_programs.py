"""Random layers, and random ways to run them. Nothing here imports JAX."""

import dataclasses
import random
from typing import Any

KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "own", "closure")
NUM_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "own": 2, "closure": 2}
CASES_PER_PROGRAM = 10
DEVICES = 2  # of an odd program; an even one has a single device
MODELS = 2  # that jax.vmap runs at once

# What is made of a layer's call first, and what that is made into.
INNER: dict[str, float] = {
    "": 10,
    "vmap": 3,
    "map": 1,
    "cond": 1,
    "checkpoint": 2,
    "step": 3,
    "chunks": 2,
    "nnx_scan": 2,
    "nested_jit": 1,
}
OF_MODELS = ("vmap", "map")
OUTER: dict[str, float] = {
    "eager": 2,
    "jit": 2,
    "eager_grad": 2,
    "value_and_grad": 4,
    "vmapped_grad": 3,
    "grad_of_grad": 2,
    "jvp": 2,
    "jacrev": 2,
    "nnx_grad": 1,
    "disable_jit": 1,
    "export_cpu": 1,
    "export_all": 1,
    "export_symbolic": 1,
}
OUTER_OF_DEVICES: dict[str, float] = {
    "value_and_grad": 2,
    "vmapped_grad": 1,
    "shard_map_inside": 3,
    "shard_map_outside": 3,
    "eager_shard_map_inside": 0.5,
    "eager_shard_map_outside": 0.5,
    "nnx_shard_map": 1,
    "sharded_jit": 3,
    "pmap_inside": 2,
    "pmap_outside": 2,
    "shared_units": 1,
}
WITH_CELLS = ("lstm", "own", "closure")  # whose state has two arrays
RESULTS = ("outputs", "final", "states")
OPTIONS = ("lengths", "mask", "segment_ids", "resets")


class Wrong(AssertionError):
    """What came of a case is not what must come of it."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A layer, the shapes and types that it is called with, and the transformation.

    Attributes:
      batch: Rows; None for a single row without the axis.
      options: Which of lengths, mask, segment_ids and resets are given.
      state: Whether an initial state is given.
      reset_state: Of what shape one is given: "none", "full" or "no batch".
      method: Which method is called.
      inner: What is made of the call.
      outer: What is made of that.
      mapped: Which groups of arguments have an axis of models in front, for jax.vmap.
      sharded_weights: Whether devices hold parts of the weights, and gather them.
    """

    kind: str
    batch: int | None
    time: int
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    bias: bool = True
    backend: str = "auto"
    remat_steps: int | None = None
    custom_gradient: bool = True
    compute_dtype: str | None = None
    param_dtype: str = "float32"
    input_dtype: str = "float32"
    integer_dtype: str = "int32"
    options: tuple[str, ...] = ()
    state: bool = True
    reset_state: str = "none"
    method: str = "call"
    inner: str = ""
    outer: str = "jit"
    mapped: tuple[str, ...] = ()
    sharded_weights: bool = False

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Sizes of the arrays of a state, the hidden vector first."""
        return (self.output_size, self.hidden_size) if self.kind in WITH_CELLS else (self.output_size,)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by their names."""
        shapes: dict[str, tuple[int, ...]] = {}
        hidden, gates = self.hidden_size, NUM_GATES[self.kind] * self.hidden_size
        for layer in range(self.num_layers):
            inputs = self.num_directions * self.output_size if layer else self.input_size
            for suffix in ("", "_reverse")[: self.num_directions]:
                own = {"weight_ih": (gates, inputs), "weight_hh": (gates, self.output_size)}
                own |= {"bias_ih": (gates,), "bias_hh": (gates,)} if self.bias else {}
                own |= {"weight_hr": (self.proj_size, hidden)} if self.proj_size else {}
                own |= {"decay": (hidden,), "mix": (hidden, hidden)} if self.kind == "own" else {}
                shapes |= {f"{name}_l{layer}{suffix}": shape for name, shape in own.items()}
        return shapes | ({"around": (hidden,)} if self.kind == "closure" else {})

    def batch_axis(self, group: str, ndim: int) -> int | None:
        """The axis of the rows in an array of a group of arguments or results that has so many axes; None if none."""
        if self.batch is None or group == "params" or (group == "reset_state" and self.reset_state == "no batch"):
            return None
        shift = 1 if group in self.mapped or (group in RESULTS and self.mapped) else 0
        axis = shift + (1 if group in ("state", "reset_state", "final", "states") else 0)
        return axis if axis < ndim else None


def _pick(rng: random.Random, weights: dict[Any, float]) -> Any:
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_program(seed: int, number: int) -> Program:
    """Draws program `number` of a seed."""
    rng = random.Random(f"{seed}:program {number}")
    while True:
        program = _draw(rng, devices=1 + (DEVICES - 1) * (number % 2))
        if program is not None:
            return program


def _draw(rng: random.Random, *, devices: int) -> Program | None:
    """Draws a program; None if what was drawn does not go together."""
    kind, outer = rng.choice(KINDS), _pick(rng, OUTER if devices == 1 else OUTER_OF_DEVICES)
    inner = _pick(rng, INNER)
    streams = inner in ("step", "chunks", "nnx_scan")
    method = "call" if streams else _pick(rng, {"call": 8, "all_states": 1, "final_state": 1})
    options = tuple(name for name in OPTIONS if rng.random() < 0.5)
    if inner == "step":
        options = tuple(name for name in options if name == "resets")
    if inner == "chunks":  # a reset in the padding at a chunk's end is not known to the next one
        options = rng.choice(((), ("resets",), ("mask",)))
    hidden, inputs = _pick(rng, {1: 1, 3: 3, 5: 3, 8: 2, 9: 2, 17: 0.5}), _pick(rng, {1: 2, 2: 2, 3: 3, 8: 1})
    proj = rng.randrange(1, hidden) if kind in WITH_CELLS and hidden > 1 and rng.random() < 0.25 else 0
    dtype = _pick(rng, {"float32": 8, "float64": 2, "bfloat16": 1})
    input_dtype = dtype
    if dtype != "float64" and rng.random() < 0.1:
        input_dtype = rng.choice(("float32", "bfloat16"))
    batch = _pick(rng, {None: 2, 1: 2, 2: 2, 3: 4, 5: 1, 13: 0.5, 0: 0.2} if devices == 1 else {2: 3, 4: 2, 6: 1})
    mapped: tuple[str, ...] = ()
    if inner in OF_MODELS or outer == "vmapped_grad":
        groups = ["params", "inputs", "state", "reset_state", *options]
        mapped = tuple(name for name in groups if rng.random() < 0.5) or (rng.choice(("params", "inputs")),)
    program = Program(
        kind=kind,
        batch=batch,
        time=_pick(rng, {1: 2, 2: 1, 5: 4, 9: 2, 21: 0.5, 0: 0.2}),
        input_size=inputs,
        hidden_size=hidden,
        num_layers=2 if inner == "nnx_scan" else _pick(rng, {1: 2, 2: 1}),
        bidirectional=not streams and rng.random() < 0.35,
        proj_size=proj,
        bias=rng.random() < 0.75,
        backend=_pick(rng, {"auto": 6, "scan": 3, "compiled": 1}),
        remat_steps=_pick(rng, {None: 6, 1: 1, 2: 1, 3: 1, 20: 1}),
        custom_gradient=outer != "jvp" and rng.random() < 0.9,
        compute_dtype=_pick(rng, {None: 19, "bfloat16": 1}),
        param_dtype=dtype,
        input_dtype=input_dtype,
        integer_dtype=_pick(rng, {"int32": 6, "uint8": 1, "int64": 1}),
        options=options,
        state=rng.random() < 0.6,
        reset_state=_pick(rng, {"none": 2, "full": 2, "no batch": 1}) if rng.random() < 0.8 else "none",
        method=method,
        inner=inner,
        outer=outer,
        mapped=mapped,
        sharded_weights=rng.random() < 0.25,
    )
    if outer == "shared_units":  # by two devices
        program = dataclasses.replace(program, hidden_size=hidden + hidden % 2, proj_size=proj - proj % 2)
    if inner == "nnx_scan":
        program = dataclasses.replace(program, input_size=program.output_size)
    if batch is None and program.reset_state == "no batch":
        program = dataclasses.replace(program, reset_state="full")
    if program.backend == "compiled" and not _may_be_compiled(program):
        program = dataclasses.replace(program, backend="auto")
    present = set(groups_of(program)) | set(options)
    program = dataclasses.replace(program, mapped=tuple(name for name in mapped if name in present))
    return program if _goes_together(program) else None


def groups_of(program: Program) -> tuple[str, ...]:
    """Names the groups of arguments that have gradients."""
    state = ("state",) if program.state else ()
    return ("params", "inputs", *state, *(("reset_state",) if program.reset_state != "none" else ()))


def _may_be_compiled(program: Program) -> bool:
    is_float32 = program.param_dtype == program.input_dtype == "float32"
    plain = program.compute_dtype is None and program.custom_gradient and not program.proj_size
    sizes = program.time > 0 and program.batch != 0 and program.outer != "shared_units"
    return program.kind not in ("own", "closure") and is_float32 and plain and sizes and program.method != "all_states"


def _goes_together(program: Program) -> bool:
    inner, outer = program.inner, program.outer
    is_short = "bfloat16" in (program.param_dtype, program.input_dtype, program.compute_dtype)
    conditions = (
        # Rounded to 8 bits, a number close to the kink has either slope; and of second derivatives little is left.
        not (is_short and program.kind == "rnn_relu" and outer not in ("eager", "jit")),
        not (is_short and outer == "grad_of_grad"),
        not (outer == "grad_of_grad" and program.time > 5),
        not (outer == "disable_jit" and program.time > 5),
        not ((inner in OF_MODELS or outer == "vmapped_grad") and not program.mapped),
        not (inner in OF_MODELS and outer == "vmapped_grad"),
        not (inner == "chunks" and program.time < 2),
        not (inner in ("step", "chunks") and (program.time < 1 or program.num_layers > 2)),
        not (outer == "export_symbolic" and not program.batch),
        # These take the layer itself, its equation included.
        not (outer in ("nnx_grad", "nnx_shard_map") and (inner or program.kind == "closure")),
        not (inner == "nnx_scan" and program.kind == "closure"),
        # An equation with parameters of its own cannot share its units.
        not (outer == "shared_units" and program.kind in ("own", "closure")),
        # JAX says that it does not do these.
        not (outer.startswith("eager_shard_map") and inner == "checkpoint"),
        # With jax.disable_jit, JAX's own jax.checkpoint and nnx.scan are the loops of other rules.
        not (outer == "disable_jit" and inner not in ("", "step", "chunks", *OF_MODELS)),
    )
    return all(conditions)
