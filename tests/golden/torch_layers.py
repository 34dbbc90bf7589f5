"""The cases of torch_layers.npz, and the script that makes it with PyTorch:

    python -m tests.golden.torch_layers

Run with torch 2.13.0. A case's numbers are one flat float64 vector: outputs, final states, and the gradients of a
weighted sum of both with respect to inputs, initial states and every parameter, in the order of `names`. Inputs and
parameters are not stored: both sides draw them from NumPy's frozen RandomState stream.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
BATCH, TIME, INPUT, HIDDEN, PROJ = 3, 4, 2, 3, 2
LENGTHS = {
    "ragged": [4, 1, 3],
    "full": [4, 4, 4],
    "ones": [1, 1, 1],
    "unsorted": [2, 4, 3],
    "none": None,
}
KINDS = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}, 1),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}, 1),
    "lstm": ("LSTM", {}, 4),
    "lstm_proj": ("LSTM", {"proj_size": PROJ}, 4),
    "gru": ("GRU", {}, 3),
}


class Case(NamedTuple):
    kind: str
    num_layers: int
    bias: bool
    bidirectional: bool
    lengths: str
    with_state: bool

    @property
    def name(self) -> str:
        flags = [
            f"layers{self.num_layers}",
            "bias" if self.bias else "nobias",
            "both" if self.bidirectional else "forward",
            self.lengths,
            "state" if self.with_state else "zeros",
        ]
        return "-".join([self.kind, *flags])

    @property
    def options(self) -> dict:
        _, extra, _ = KINDS[self.kind]
        return {"num_layers": self.num_layers, "bias": self.bias, "bidirectional": self.bidirectional} | extra

    @property
    def output_size(self) -> int:
        return PROJ if self.kind == "lstm_proj" else HIDDEN


def all_cases() -> list[Case]:
    """Every option with every pattern of lengths; with an initial state in every other case."""
    product = itertools.product(KINDS, (1, 2, 3), (True, False), (True, False), LENGTHS)
    return [Case(*options, with_state=number % 2 == 0) for number, options in enumerate(product)]


def draw(case: Case) -> dict[str, np.ndarray]:
    """Draws a case's parameters, inputs, initial states, and the weights of the sum that is differentiated."""
    directions = 1 + case.bidirectional
    _, _, num_gates = KINDS[case.kind]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, suffix in itertools.product(range(case.num_layers), ["", "_reverse"][:directions]):
        size = INPUT if layer == 0 else directions * case.output_size
        end = f"_l{layer}{suffix}"
        shapes[f"weight_ih{end}"] = (num_gates * HIDDEN, size)
        shapes[f"weight_hh{end}"] = (num_gates * HIDDEN, case.output_size)
        if case.bias:
            shapes |= {f"bias_ih{end}": (num_gates * HIDDEN,), f"bias_hh{end}": (num_gates * HIDDEN,)}
        if case.kind == "lstm_proj":
            shapes[f"weight_hr{end}"] = (PROJ, HIDDEN)
    shapes["inputs"] = (BATCH, TIME, INPUT)
    for name, size in (("h", case.output_size), ("c", HIDDEN))[: 1 + case.kind.startswith("lstm")]:
        shapes[f"initial_{name}"] = shapes[f"sum_{name}"] = (case.num_layers * directions, BATCH, size)
    shapes["sum_outputs"] = (BATCH, TIME, directions * case.output_size)
    stream = np.random.RandomState(len(case.name) + sum(map(ord, case.name)))
    return {name: 0.7 * stream.standard_normal(shape) for name, shape in shapes.items()}


def names(case: Case) -> list[str]:
    """The names of the arrays in a case's vector, in its order."""
    drawn = draw(case)
    parameters = [name for name in drawn if name.startswith(("weight", "bias"))]
    states = [name.removeprefix("sum_") for name in drawn if name in ("sum_h", "sum_c")]
    initial = [f"gradient of initial_{name}" for name in states] if case.with_state else []
    return ["outputs", *states, "gradient of inputs", *initial, *[f"gradient of {name}" for name in parameters]]


def run_torch(case: Case) -> np.ndarray:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    drawn = {name: torch.tensor(array) for name, array in draw(case).items()}
    layer = getattr(torch.nn, KINDS[case.kind][0])(INPUT, HIDDEN, batch_first=True, **case.options).double()
    layer.load_state_dict({name: array for name, array in drawn.items() if name.startswith(("weight", "bias"))})
    inputs = drawn["inputs"].requires_grad_()
    initial = [drawn[name].requires_grad_() for name in ("initial_h", "initial_c") if name in drawn]
    state = (tuple(initial) if len(initial) > 1 else initial[0]) if case.with_state else None
    lengths = LENGTHS[case.lengths]
    if lengths is None:
        outputs, final = layer(inputs, state)
    else:
        packed = pack_padded_sequence(inputs, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        outputs, final = layer(packed, state)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=TIME)
    finals = final if isinstance(final, tuple) else (final,)
    total = (outputs * drawn["sum_outputs"]).sum()
    for name, array in zip(("h", "c"), finals, strict=False):
        total = total + (array * drawn[f"sum_{name}"]).sum()
    total.backward()
    gradients = [inputs.grad, *[leaf.grad for leaf in initial if case.with_state]]
    gradients += [dict(layer.named_parameters())[name].grad for name in drawn if name.startswith(("weight", "bias"))]
    arrays = [outputs, *finals, *gradients]
    assert len(arrays) == len(names(case))
    return np.concatenate([array.detach().numpy().ravel() for array in arrays])


if __name__ == "__main__":
    np.savez_compressed(PATH, **{case.name: run_torch(case) for case in all_cases()})
    print(f"wrote {PATH}: {len(all_cases())} cases, {PATH.stat().st_size:,} bytes")
