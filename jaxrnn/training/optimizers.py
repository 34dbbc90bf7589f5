"""Optimisers from optax, set to be those of torch.optim."""

import jax
import jax.numpy as jnp
import optax

from jaxrnn.settings.config import OptimizerConfig

TORCH_CLIP_EPSILON = 1e-6


def clip_grad_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales the gradient to a global norm of at most `max_norm`, as torch.nn.utils.clip_grad_norm_ does.

    It differs from `optax.clip_by_global_norm` in dividing by (norm + 1e-6).
    """

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple:
        del params
        norm = optax.tree.norm(updates)
        factor = jnp.minimum(1.0, max_norm / (norm + TORCH_CLIP_EPSILON))
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def learning_rate_schedule(config: OptimizerConfig, *, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step, counted from 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    rest = max(epochs * steps_per_epoch - warmup, 1)
    peak = config.learning_rate
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[config.schedule]
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def build_optimizer(config: OptimizerConfig, *, epochs: int, steps_per_epoch: int) -> optax.GradientTransformation:
    """Builds the optimiser: clipping, weight decay, then the update rule.

    Args:
      config: Which one, and its settings.
      epochs: Over which the schedule falls.
      steps_per_epoch: Batches of an epoch.
    """
    constant = config.schedule == "constant" and not config.warmup_epochs
    rate: optax.ScalarOrSchedule = (
        config.learning_rate
        if constant
        else learning_rate_schedule(config, epochs=epochs, steps_per_epoch=steps_per_epoch)
    )
    momentum = config.momentum or None
    rules = {
        "sgd": lambda: optax.sgd(rate, momentum=momentum),
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=config.weight_decay),
        # PyTorch's defaults: a decay of 0.99, and epsilon outside the root.
        "rmsprop": lambda: optax.rmsprop(rate, decay=0.99, eps=1e-8, eps_in_sqrt=False, momentum=momentum),
    }
    parts = []
    if config.clip_norm:
        parts.append(clip_grad_norm(config.clip_norm))
    if config.weight_decay and config.optimizer != "adamw":
        parts.append(optax.add_decayed_weights(config.weight_decay))
    return _after_stateless(parts, optax.chain(rules[config.optimizer]()))


def _after_stateless(
    parts: list[optax.GradientTransformation], rule: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Chains transformations that keep no state before one that does, whose state alone is that of the whole.

    So a run can go on with clipping or weight decay that it began without.
    """

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple:
        for part in parts:
            updates, _ = part.update(updates, optax.EmptyState(), params)
        return rule.update(updates, state, params)

    return optax.GradientTransformation(rule.init, update)
