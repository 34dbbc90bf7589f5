"""The layers against PyTorch's numbers, kept in golden/torch_layers.npz: float64, to 1e-10, no torch needed."""

import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import torch_layers

import jaxrnn
from jaxrnn.nn.cells import LSTMState

HAS_TORCH = importlib.util.find_spec("torch") is not None
GROUPS = {
    name: list(cases)
    for name, cases in itertools.groupby(torch_layers.all_cases(), key=lambda case: case.name.rsplit("-", 2)[0])
}


def everyday(cases) -> bool:
    """Some groups where torch is absent; where it is there, test_torch_equivalence.py asks it every day."""
    case = cases[0]
    return (
        not HAS_TORCH
        and case.num_layers == 2
        and case.bias
        and case.bidirectional
        and case.kind in ("lstm_proj", "gru")
    )


@pytest.fixture(scope="module")
def golden():
    with np.load(torch_layers.PATH, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "group", [pytest.param(name, marks=() if everyday(cases) else pytest.mark.slow) for name, cases in GROUPS.items()]
)
def test_outputs_states_and_gradients_are_torchs(group, golden):
    cases = GROUPS[group]
    layer = getattr(jaxrnn, torch_layers.KINDS[cases[0].kind][0])(
        torch_layers.INPUT, torch_layers.HIDDEN, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **cases[0].options
    )
    graphdef, params = nnx.split(layer)
    flat_names = [path[0] for path, _ in nnx.to_flat_state(params)]

    @jax.jit
    def run(parameters, inputs, initial, sums, lengths):
        def total(parameters, inputs, initial):
            state = nnx.State({name: nnx.Param(parameters[name]) for name in flat_names})
            outputs, final = nnx.merge(graphdef, state)(inputs, initial, lengths=lengths)
            finals = tuple(jax.tree.leaves(final))
            summed = sum((a * b).sum() for a, b in zip((outputs, *finals), sums, strict=True))
            return summed, (outputs, *finals)

        gradients, values = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(parameters, inputs, initial)
        return values, gradients

    for case in cases:
        drawn = torch_layers.draw(case)
        parameters = {name: drawn[name] for name in drawn if name.startswith(("weight", "bias"))}
        assert sorted(parameters) == sorted(flat_names)
        initial = [drawn[name] for name in ("initial_h", "initial_c") if name in drawn]
        if not case.with_state:
            initial = [np.zeros_like(array) for array in initial]
        initial = LSTMState(*initial) if len(initial) > 1 else initial[0]
        sums = [drawn[name] for name in ("sum_outputs", "sum_h", "sum_c") if name in drawn]
        lengths = torch_layers.LENGTHS[case.lengths]
        values, (d_parameters, d_inputs, d_initial) = run(
            parameters, drawn["inputs"], initial, sums, None if lengths is None else np.array(lengths)
        )
        arrays = [*values, d_inputs, *(jax.tree.leaves(d_initial) if case.with_state else [])]
        arrays += [d_parameters[name] for name in parameters]
        expected = golden[case.name]
        position = 0
        for name, array in zip(torch_layers.names(case), arrays, strict=True):
            theirs = expected[position : position + array.size].reshape(array.shape)
            position += array.size
            np.testing.assert_allclose(array, theirs, rtol=0, atol=1e-10, err_msg=f"{case.name}: {name}")
        assert position == expected.size


def test_the_script_still_makes_these_numbers(golden):
    pytest.importorskip("torch")
    assert sorted(golden) == sorted(case.name for case in torch_layers.all_cases())
    for case in torch_layers.all_cases()[::23]:
        np.testing.assert_allclose(torch_layers.run_torch(case), golden[case.name], rtol=0, atol=1e-12)
