"""How a layer is run: constructor arguments that are attributes too, checked whenever they are set."""

import copy
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

import jaxrnn
from jaxrnn.models.next_value import build_model
from jaxrnn.nn import cells
from jaxrnn.nn.cell_stack import AbstractCellStack
from jaxrnn.nn.layer_options import CHECKS, LayerOptions
from jaxrnn.settings.config import ModelConfig

SIZES = (2, 3)
CHOSEN: dict[str, Any] = {
    "backend": "scan",
    "remat_steps": 5,
    "compute_dtype": jnp.dtype("bfloat16"),
    "custom_gradient": False,
}
DEFAULTS: dict[str, Any] = {"backend": "auto", "remat_steps": None, "compute_dtype": None, "custom_gradient": True}
LAYERS: dict[str, Any] = {
    "rnn": jaxrnn.RNN,
    "lstm": jaxrnn.LSTM,
    "gru": jaxrnn.GRU,
    "own": lambda *sizes, **options: jaxrnn.RecurrentLayer(cells.GRU, *sizes, **options),
}


def options_of(layer: Any) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in CHOSEN}


@pytest.mark.parametrize("kind", LAYERS)
def test_options_are_arguments_and_attributes(kind: str) -> None:
    assert options_of(LAYERS[kind](*SIZES, rngs=nnx.Rngs(0))) == DEFAULTS
    layer = LAYERS[kind](*SIZES, **CHOSEN, rngs=nnx.Rngs(0))
    assert options_of(layer) == CHOSEN
    assert layer.mesh is None


def test_options_stay_with_a_layer() -> None:
    layer = jaxrnn.LSTM(*SIZES, **CHOSEN, rngs=nnx.Rngs(0))
    layer.remat_steps = 7
    kept = CHOSEN | {"remat_steps": 7}
    assert options_of(nnx.merge(*nnx.split(layer))) == kept
    assert options_of(copy.deepcopy(layer)) == kept
    assert options_of(nnx.clone(layer)) == kept
    assert options_of(jax.tree.map(lambda leaf: leaf, layer)) == kept
    assert options_of(nnx.eval_shape(lambda: jaxrnn.LSTM(*SIZES, **CHOSEN, rngs=nnx.Rngs(0)))) == CHOSEN
    seen = []
    nnx.jit(lambda layer: seen.append(options_of(layer)))(layer)
    nnx.vmap(lambda keys: seen.append(options_of(nnx.merge(*nnx.split(layer)))))(jnp.zeros(2))
    assert seen == [kept, kept]


def test_another_option_is_another_program() -> None:
    layer = jaxrnn.GRU(*SIZES, rngs=nnx.Rngs(0))
    traced: list[str] = []
    run = nnx.jit(lambda layer: traced.append(layer.backend))
    for backend in ("auto", "scan", "auto"):
        layer.backend = backend
        run(layer)
    assert traced == ["auto", "scan"]


WRONG = [
    ("backend", "sacn", ValueError, "backend: got 'sacn'; expected 'auto', 'compiled' or 'scan': did you mean 'scan'?"),
    ("backend", "Compiled", ValueError, "did you mean 'compiled'?"),
    ("backend", None, ValueError, "backend: got None; expected 'auto', 'compiled' or 'scan'"),
    ("remat_steps", 0, ValueError, "remat_steps: got 0; expected at least 1"),
    ("remat_steps", 2.0, TypeError, "remat_steps: got 2.0 (float); expected an integer"),
    ("remat_steps", True, TypeError, "remat_steps: got True (bool); expected an integer"),
    ("compute_dtype", jnp.int8, TypeError, "expected a floating-point type such as jnp.float32"),
    ("compute_dtype", "half precision", TypeError, "compute_dtype: got 'half precision'; expected a floating"),
    ("custom_gradient", 1, TypeError, "custom_gradient: got 1 (int); expected True or False"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG)
def test_wrong_options_are_refused_whenever_they_are_set(
    name: str, value: Any, error: type[Exception], message: str, unchecked: None
) -> None:
    with pytest.raises(error) as caught:
        jaxrnn.LSTM(*SIZES, **{name: value}, rngs=nnx.Rngs(0))
    assert message in str(caught.value)
    layer = jaxrnn.LSTM(*SIZES, **CHOSEN, rngs=nnx.Rngs(0))
    with pytest.raises(error) as caught:
        setattr(layer, name, value)
    assert message in str(caught.value)
    assert options_of(layer) == CHOSEN, "a refused value changes nothing"


def test_values_are_kept_in_one_form(unchecked: None) -> None:
    layer = jaxrnn.RNN(*SIZES, remat_steps=np.int64(4), custom_gradient=np.True_, rngs=nnx.Rngs(0))
    layer.compute_dtype = "bfloat16"
    assert type(layer.remat_steps) is int
    assert layer.custom_gradient is True
    assert layer.compute_dtype == jnp.bfloat16
    layer.compute_dtype = layer.remat_steps = None
    assert layer.compute_dtype is layer.remat_steps is None


def test_a_mesh_must_have_an_axis_for_the_hidden_units(unchecked: None) -> None:
    layer = jaxrnn.GRU(*SIZES, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"mesh: got int; expected a jax.sharding.Mesh, or None"):
        layer.mesh = 2
    with pytest.raises(ValueError, match=r"mesh: got axes \('data',\); expected one named 'model'"):
        layer.mesh = Mesh(jax.devices()[:1], ("data",))
    layer.mesh = Mesh(np.array(jax.devices()[:1] * 2), ("model",))
    with pytest.raises(ValueError, match="hidden_size: got 3; expected a multiple of 2, the devices along the mesh's"):
        layer(jnp.zeros((1, 1, 2)))
    layer.mesh = None


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'backnd'"):
        jaxrnn.LSTM(*SIZES, backnd="scan", rngs=nnx.Rngs(0))  # type: ignore[call-arg]


def test_something_else_than_an_equation_is_refused(unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"equation: got int; expected a jaxrnn.Equation"):
        jaxrnn.RecurrentLayer(2, 3, 4, rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def test_every_option_of_the_constructor_is_one_that_layers_take_by_name() -> None:
    of_all = set(inspect.signature(AbstractCellStack.__init__).parameters)
    of_some = {"self", "equation", "input_size", "hidden_size", "proj_size", "rngs"}
    assert of_all - of_some == set(LayerOptions.__annotations__)
    assert set(CHECKS) - {"mesh"} <= set(LayerOptions.__annotations__)


def test_models_are_built_with_options() -> None:
    model = build_model(ModelConfig(), nnx.Rngs(0), remat_steps=3, compute_dtype="bfloat16", backend="scan")
    assert options_of(model.rnn) == CHOSEN | {"remat_steps": 3, "custom_gradient": True}
    assert options_of(build_model(ModelConfig(), nnx.Rngs(0)).rnn) == DEFAULTS
