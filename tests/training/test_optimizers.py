"""Optimisers are torch.optim's: by hand where torch is missing, against torch where it is there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn.settings.config import OptimizerConfig
from jaxrnn.training.optimizers import build_optimizer, clip_grad_norm, learning_rate_schedule

STEPS = 20


def trajectory(config: OptimizerConfig, start, gradients):
    optimizer = build_optimizer(config, epochs=1, steps_per_epoch=STEPS)
    params = jnp.asarray(start)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


@pytest.fixture
def problem():
    generator = np.random.default_rng(0)
    return generator.normal(size=7), generator.normal(size=(STEPS, 7)) * 3


CASES = {
    "sgd": {"optimizer": "sgd"},
    "sgd-momentum": {"optimizer": "sgd", "momentum": 0.9},
    "sgd-decay": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    "adam": {"optimizer": "adam"},
    "adam-decay": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "rmsprop": {"optimizer": "rmsprop"},
    "rmsprop-momentum": {"optimizer": "rmsprop", "momentum": 0.9},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip_norm", [0.0, 2.0], ids=["", "clipped"])
@pytest.mark.parametrize("name", CASES)
def test_updates_are_torchs(name, clip_norm, problem):
    torch = pytest.importorskip("torch")
    start, gradients = problem
    config = OptimizerConfig(learning_rate=0.03, schedule="constant", clip_norm=clip_norm, **CASES[name])
    parameter = torch.nn.Parameter(torch.tensor(start))
    kinds = {
        "sgd": lambda: torch.optim.SGD(
            [parameter], lr=0.03, momentum=config.momentum, weight_decay=config.weight_decay
        ),
        "adam": lambda: torch.optim.Adam([parameter], lr=0.03, weight_decay=config.weight_decay),
        "adamw": lambda: torch.optim.AdamW([parameter], lr=0.03, weight_decay=config.weight_decay),
        "rmsprop": lambda: torch.optim.RMSprop([parameter], lr=0.03, momentum=config.momentum),
    }
    optimizer = kinds[config.optimizer]()
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([parameter], clip_norm)
        optimizer.step()
    np.testing.assert_allclose(trajectory(config, start, gradients), parameter.detach().numpy(), rtol=0, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_clipping_divides_by_the_norm_and_a_millionth(problem):
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    clip = clip_grad_norm(2.0)
    clipped, _ = clip.update(gradient, clip.init(gradient))
    expected = jax.tree.map(lambda leaf: leaf * 2.0 / (5.0 + 1e-6), gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), clipped, expected)
    small = jax.tree.map(lambda leaf: leaf / 100, gradient)
    kept, _ = clip.update(small, clip.init(small))
    jax.tree.map(np.testing.assert_array_equal, kept, small)


def rates(**changes):
    config = OptimizerConfig(learning_rate=0.1, **changes)
    schedule = learning_rate_schedule(config, epochs=10, steps_per_epoch=5)
    return [float(schedule(step)) for step in range(51)]


def test_schedules_fall_to_zero_over_the_epochs():
    cosine, linear, constant = (rates(schedule=kind) for kind in ("cosine", "linear", "constant"))
    np.testing.assert_allclose([cosine[0], cosine[25], cosine[50]], [0.1, 0.05, 0.0], atol=1e-7)
    np.testing.assert_allclose([linear[0], linear[10], linear[50]], [0.1, 0.08, 0.0], atol=1e-7)
    np.testing.assert_allclose(constant, 0.1, rtol=1e-6)


def test_warm_up_rises_from_zero_and_then_falls():
    warmed = rates(schedule="cosine", warmup_epochs=2)
    np.testing.assert_allclose([warmed[0], warmed[5], warmed[10], warmed[30], warmed[50]], [0, 0.05, 0.1, 0.05, 0],
                               atol=1e-7)  # fmt: skip
