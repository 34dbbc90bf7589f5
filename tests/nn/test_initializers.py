"""Initial values of one's own: functions of JAX and Flax, called gate by gate, and an LSTM's forget bias."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx

import jaxrnn

INPUT, HIDDEN, PROJ = 3, 8, 5
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
BUILDERS: dict[str, Any] = {
    f"{name}{kind}": getattr(jaxrnn, f"{name}{kind}") for name in GATES for kind in ("", "Cell")
}
every_module = pytest.mark.parametrize("name", BUILDERS)


def values_of(module: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value.get_value()) for name, value in oracle.named_parameters(module).items()}


def blocks_of(name: str, value: np.ndarray) -> list[np.ndarray]:
    return np.split(value, GATES[name.removesuffix("Cell")])


@every_module
def test_recurrent_matrices_are_orthogonal_gate_by_gate(name: str) -> None:
    options: dict[str, Any] = {"recurrent_init": nnx.initializers.orthogonal(), "rngs": nnx.Rngs(0)}
    if not name.endswith("Cell"):
        options |= {"num_layers": 2, "bidirectional": True}
    drawn = []
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.02)):
        values = values_of(BUILDERS[name](INPUT, HIDDEN, param_dtype=dtype, **options))
        matrices = {key: value for key, value in values.items() if key.startswith("weight_hh")}
        assert len(matrices) == (1 if name.endswith("Cell") else 4)
        for value in matrices.values():
            assert value.dtype == dtype
            for block in blocks_of(name, value.astype(np.float32)):
                np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=tolerance)
                drawn.append(block[0, 0])
    assert len(set(drawn)) == len(drawn), "every gate has a draw of its own"


@every_module
def test_each_initializer_is_that_of_its_parameters(name: str) -> None:
    constant = nnx.initializers.constant
    inits = {"kernel_init": constant(1.0), "recurrent_init": constant(2.0), "bias_init": constant(3.0)}
    values = values_of(BUILDERS[name](INPUT, HIDDEN, **inits, rngs=nnx.Rngs(0)))
    for start, number in {"weight_ih": 1, "weight_hh": 2, "bias_ih": 3, "bias_hh": 3}.items():
        found = [value for key, value in values.items() if key.startswith(start)]
        assert len(found) == 1
        np.testing.assert_array_equal(found[0], number)
    # One alone leaves the others to PyTorch's distribution.
    alone = values_of(BUILDERS[name](INPUT, HIDDEN, bias_init=inits["bias_init"], rngs=nnx.Rngs(0)))
    for key, value in alone.items():
        if not key.startswith("bias"):
            assert np.abs(value).max() <= 1 / np.sqrt(HIDDEN)
            assert len(np.unique(value)) == value.size


def test_initializers_see_the_inputs_and_outputs_of_one_gate() -> None:
    seen: list[tuple[int, ...]] = []

    def initializer(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        seen.append(shape)
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    layer = jaxrnn.LSTM(
        INPUT,
        HIDDEN,
        proj_size=PROJ,
        kernel_init=initializer,
        recurrent_init=initializer,
        bias_init=initializer,
        rngs=nnx.Rngs(0),
    )
    assert seen == [(INPUT, HIDDEN)] * 4 + [(PROJ, HIDDEN)] * 4 + [(HIDDEN,)] * 8 + [(HIDDEN, PROJ)]
    values = values_of(layer)
    of_gate = np.arange(INPUT * HIDDEN).reshape(INPUT, HIDDEN).T
    np.testing.assert_array_equal(values["weight_ih_l0"], np.tile(of_gate, (4, 1)))
    np.testing.assert_array_equal(values["weight_hr_l0"], np.arange(HIDDEN * PROJ).reshape(HIDDEN, PROJ).T)
    np.testing.assert_array_equal(values["bias_hh_l0"], np.tile(np.arange(HIDDEN), 4))


def test_an_equations_own_blocks_are_its_gates() -> None:
    equation = jaxrnn.Equation(2, lambda h, a, b: h, lambda hidden, output: output)
    layer = jaxrnn.RecurrentLayer(
        equation, INPUT, HIDDEN, recurrent_init=nnx.initializers.orthogonal(), rngs=nnx.Rngs(0)
    )
    for block in np.split(values_of(layer)["weight_hh_l0"], 2):
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-5)


def test_nothing_given_is_pytorchs_distribution_with_one_key_a_parameter() -> None:
    none: dict[str, Any] = {"kernel_init": None, "recurrent_init": None, "bias_init": None, "forget_bias": 0.0}
    found = values_of(jaxrnn.LSTM(INPUT, HIDDEN, **none, rngs=nnx.Rngs(0)))
    rngs, bound = nnx.Rngs(0), 1 / np.sqrt(HIDDEN)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        drawn = jax.random.uniform(rngs.params(), found[name].shape, jnp.float32, -bound, bound)
        np.testing.assert_array_equal(found[name], drawn, err_msg=name)


@pytest.mark.parametrize("build", [jaxrnn.LSTM, jaxrnn.LSTMCell])
def test_a_forget_bias_is_added_to_one_bias_of_the_forget_gate(build: Any) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True} if build is jaxrnn.LSTM else {}
    plain = values_of(build(INPUT, HIDDEN, **options, rngs=nnx.Rngs(0)))
    found = values_of(build(INPUT, HIDDEN, forget_bias=1.5, **options, rngs=nnx.Rngs(0)))
    assert any(name.startswith("bias_ih") for name in plain)
    for name, value in plain.items():
        if name.startswith("bias_ih"):
            value = value + np.repeat([0, 1.5, 0, 0], HIDDEN).astype(np.float32)
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("build", [jaxrnn.LSTM, jaxrnn.LSTMCell])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"forget_bias": 1.0, "bias": False}, ValueError, r"forget_bias: got 1.0 with bias=False; expected a bias"),
        ({"forget_bias": float("nan")}, ValueError, "forget_bias: got nan; expected a finite number"),
        ({"forget_bias": True}, TypeError, r"forget_bias: got True \(bool\); expected a number"),
        ({"forget_bias": "1"}, TypeError, r"forget_bias: got '1' \(str\); expected a number"),
        ({"kernel_init": "orthogonal"}, TypeError, r"kernel_init: got str; expected a function \(key, shape, dtype\)"),
        (
            {"recurrent_init": lambda key, shape, dtype: jnp.zeros((*shape, 1))},
            ValueError,
            r"recurrent_init: got shape \(8, 8, 1\); expected an array of the shape that it was given, \(8, 8\)",
        ),
        ({"bias_init": lambda key, shape, dtype: 0.0}, ValueError, "bias_init: got float; expected an array"),
    ],
)
def test_wrong_initial_values_are_refused(
    build: Any, options: dict, error: type[Exception], message: str, unchecked: None
) -> None:
    with pytest.raises(error, match=message):
        build(INPUT, HIDDEN, **options, rngs=nnx.Rngs(0))


def test_a_forget_bias_of_0_needs_no_bias() -> None:
    assert jaxrnn.LSTM(INPUT, HIDDEN, bias=False, forget_bias=0.0, rngs=nnx.Rngs(0)).bias is False


def test_initializers_run_under_vmap_and_eval_shape() -> None:
    def build(key: Any) -> Any:
        return jaxrnn.LSTM(
            INPUT, HIDDEN, recurrent_init=nnx.initializers.orthogonal(), forget_bias=1.0, rngs=nnx.Rngs(key)
        )

    stacked = nnx.vmap(build)(jax.random.split(jax.random.key(0), 3))
    assert stacked.weight_hh_l0.get_value().shape == (3, 4 * HIDDEN, HIDDEN)
    abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
    assert abstract.bias_ih_l0.get_value().shape == (4 * HIDDEN,)
