"""Training follows PyTorch's: 20 steps from the same weights on the same ragged batches, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.settings.config import OptimizerConfig
from jaxrnn.training.optimizers import build_optimizer

torch = pytest.importorskip("torch")

STEPS, BATCH, TIME, HIDDEN = 20, 6, 7, 5
RATE = 0.02
OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=RATE)),
    "momentum": ({"optimizer": "sgd", "momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9)),
    "adam": ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=RATE)),
    "adamw": ({"optimizer": "adamw", "weight_decay": 0.01}, lambda p: torch.optim.AdamW(p, lr=RATE)),
    "rmsprop": ({"optimizer": "rmsprop"}, lambda p: torch.optim.RMSprop(p, lr=RATE)),
}
KINDS = {
    "rnn": ("RNN", {}),
    "lstm": ("LSTM", {"num_layers": 2}),
    "lstm-proj": ("LSTM", {"proj_size": 3, "bidirectional": True}),
    "gru": ("GRU", {"bidirectional": True}),
}


class TorchModel(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        name, options = KINDS[kind]
        self.rnn = getattr(torch.nn, name)(1, HIDDEN, batch_first=True, **options)
        features = (options.get("proj_size") or HIDDEN) * (1 + options.get("bidirectional", False))
        self.linear = torch.nn.Linear(features, 1)

    def forward(self, values, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=TIME)
        return self.linear(outputs[torch.arange(len(lengths)), lengths - 1])[:, 0]


class OurModel(nnx.Module):
    def __init__(self, kind):
        name, options = KINDS[kind]
        rngs = nnx.Rngs(0)
        self.rnn = getattr(jaxrnn, name)(1, HIDDEN, param_dtype=jnp.float64, rngs=rngs, **options)
        features = self.rnn.output_size * self.rnn.num_directions
        self.linear = nnx.Linear(features, 1, param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, values, lengths):
        outputs, _ = self.rnn(values, lengths=lengths)
        return self.linear(outputs[jnp.arange(len(lengths)), lengths - 1])[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradients(graphdef, params, values, lengths, targets):
    """Is compiled once for all optimisers, as it would not be in one program with their updates."""

    def loss_of(params):
        return jnp.mean(jnp.square(nnx.merge(graphdef, params)(values, lengths) - targets))

    return jax.value_and_grad(loss_of)(params)


def batches():
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        lengths = generator.integers(1, TIME + 1, BATCH)
        values = generator.normal(size=(BATCH, TIME, 1))
        values[np.arange(TIME)[None] >= lengths[:, None]] = np.nan  # packing never reads it; nor may we
        yield values, lengths, generator.normal(size=BATCH)


def cases():
    """Everyday: every optimiser, and the layer with most options clipped; slow: all of both, clipped."""
    kinds = list(KINDS)
    chosen = [(optimizer, "rnn", 0.0) for optimizer in OPTIMIZERS] + [("adam", "lstm-proj", 0.3)]
    more = [(optimizer, kinds[(1 + number) % len(kinds)], 0.3) for number, optimizer in enumerate(OPTIMIZERS)]
    for case in [*chosen, *(case for case in more if case not in chosen)]:
        name = f"{case[0]}-{case[1]}-{'clipped' if case[2] else 'unclipped'}"
        yield pytest.param(*case, id=name, marks=() if case in chosen else pytest.mark.slow)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("optimizer", "kind", "clip_norm"), list(cases()))
def test_twenty_steps_are_torchs(kind, optimizer, clip_norm):
    torch.manual_seed(1)
    reference = TorchModel(kind).double()
    model = OurModel(kind)
    jaxrnn.load_torch_state_dict(model, {name: p.numpy() for name, p in reference.state_dict().items()})
    graphdef, params = nnx.split(model)
    settings, make_torch = OPTIMIZERS[optimizer]
    theirs = make_torch(reference.parameters())
    config = OptimizerConfig(learning_rate=RATE, schedule="constant", clip_norm=clip_norm, **settings)
    ours = build_optimizer(config, epochs=1, steps_per_epoch=STEPS)
    state = ours.init(params)

    @jax.jit
    def update(grads, state, params):
        updates, state = ours.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    start = jax.tree.map(np.array, params)
    for number, (values, lengths, targets) in enumerate(batches()):
        loss, grads = loss_and_gradients(graphdef, params, values, lengths, targets)
        params, state = update(grads, state, params)
        theirs.zero_grad()
        predicted = reference(torch.nan_to_num(torch.tensor(values)), torch.tensor(lengths))
        torch_loss = torch.mean((predicted - torch.tensor(targets)) ** 2)
        torch_loss.backward()
        if clip_norm:
            norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), clip_norm)
            assert number > 0 or norm > clip_norm, "the first step must clip to prove something"
        theirs.step()
        np.testing.assert_allclose(loss, torch_loss.item(), rtol=0, atol=1e-9, err_msg=f"loss of step {number}")
    nnx.update(model, params)
    for name, array in jaxrnn.to_torch_state_dict(model).items():
        expected = reference.state_dict()[name].numpy()
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-9, err_msg=name)
    moved = max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True))
    assert moved > 1e-3
