"""The same job by every peer: the loss of a recurrent layer over padded rows, and its gradient by the parameters.

A peer is a function ``build(job) -> step``; ``step(x, lengths)`` computes loss and gradients for one batch and returns
the loss, ready to be read. All get the same weights, so that losses can be compared before anything is timed. The loss
is the mean square of the outputs at valid steps; right padding does not change these, so peers without lengths can do
it too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxrnn
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.parallel.devices import replicate, share_rows

Step = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Job:
    """What is computed.

    Attributes:
      kind: "lstm", "gru" or "tanh".
      input_size: Features of a step.
      hidden_size: Hidden units.
      weights: By PyTorch's names.
      mesh: The devices that share a batch, for every peer in JAX.
    """

    kind: str
    input_size: int
    hidden_size: int
    weights: dict[str, np.ndarray]
    mesh: Any


class CannotDo(Exception):
    """A peer that cannot compute this job; says why."""


def draw_weights(kind: str, input_size: int, hidden_size: int) -> dict[str, np.ndarray]:
    """Draws weights from PyTorch's distribution."""
    return jaxrnn.to_torch_state_dict(new_layer(kind, input_size, hidden_size))


def new_layer(kind: str, input_size: int, hidden_size: int) -> Any:
    """Builds a layer of this project."""
    layers = {"lstm": jaxrnn.LSTM, "gru": jaxrnn.GRU, "tanh": jaxrnn.RNN}
    return layers[kind](input_size, hidden_size, rngs=nnx.Rngs(0))


def _mean_square(outputs: Any, valid: Any) -> Any:
    return jnp.sum(jnp.where(valid[:, :, None], outputs, 0) ** 2) / outputs.size


def _within(x: Any, lengths: Any) -> Any:
    return jnp.arange(x.shape[1])[None] < lengths[:, None]


def _jax_step(
    job: Job,
    params: Any,
    outputs_of: Callable[[Any, Any, Any], Any],
    valid_of: Callable[[Any, Any], Any] = _within,
) -> Step:
    """Jits loss and gradient; the batch is shared by all devices."""

    @jax.jit
    def run(params: Any, x: Any, lengths: Any) -> Any:
        def loss(params: Any) -> Any:
            shared = share_rows((x, lengths), job.mesh)
            return _mean_square(outputs_of(params, *shared), valid_of(*shared))

        return jax.value_and_grad(loss)(params)

    params = replicate(params, job.mesh)

    def step(x: np.ndarray, lengths: np.ndarray) -> float:
        value, gradients = run(params, x, lengths)
        jax.block_until_ready(gradients)
        return float(value)

    return step


def _jaxrnn_layer(job: Job, backend: str) -> tuple[Job, Any, Any]:
    """Returns the job, with devices to share a batch only where the recurrence does not use all cores by itself."""
    layer = new_layer(job.kind, job.input_size, job.hidden_size)
    jaxrnn.load_torch_state_dict(layer, job.weights)
    layer.backend = backend
    threaded = backend == "auto" and jax.default_backend() == "cpu" and cpu_kernels.is_built()
    return dataclasses.replace(job, mesh=None) if threaded else job, *nnx.split(layer)


def build_jaxrnn(job: Job, backend: str = "auto") -> Step:
    """This project, with lengths."""
    job, graphdef, params = _jaxrnn_layer(job, backend)
    return _jax_step(job, params, lambda p, x, lengths: nnx.merge(graphdef, p)(x, lengths=lengths)[0])


def build_jaxrnn_scan(job: Job) -> Step:
    """This project's loop in JAX, which serves where nothing was compiled ahead, and on other platforms."""
    return build_jaxrnn(job, "scan")


def build_jaxrnn_packed(job: Job, backend: str = "auto") -> Step:
    """This project on packed rows: `lengths` are segment ids here."""
    job, graphdef, params = _jaxrnn_layer(job, backend)
    return _jax_step(
        job, params, lambda p, x, ids: nnx.merge(graphdef, p)(x, segment_ids=ids)[0], lambda x, ids: ids > 0
    )


def torch_layer(job: Job) -> Any:
    import torch

    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "tanh": torch.nn.RNN}
    layer = kinds[job.kind](job.input_size, job.hidden_size, batch_first=True)
    layer.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in job.weights.items()})
    return layer


def _torch_step(layer: Any, outputs_of: Callable[[Any, Any], Any]) -> Step:
    import torch

    def step(x: np.ndarray, lengths: np.ndarray) -> float:
        layer.zero_grad()
        outputs = outputs_of(torch.from_numpy(x), torch.from_numpy(lengths))
        valid = torch.arange(x.shape[1])[None] < torch.from_numpy(lengths)[:, None]
        loss = ((outputs * valid[:, :, None]) ** 2).sum() / outputs.numel()
        loss.backward()
        return loss.item()

    return step


def build_torch_padded(job: Job) -> Step:
    """PyTorch on padded rows, its fast path; the state runs on through the padding."""
    layer = torch_layer(job)
    return _torch_step(layer, lambda x, lengths: layer(x)[0])


def build_torch_packed(job: Job) -> Step:
    """PyTorch on packed sequences, as the tutorial does it."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    layer = torch_layer(job)

    def outputs_of(x: Any, lengths: Any) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    return _torch_step(layer, outputs_of)


def build_torch_compile(job: Job) -> Step:
    """torch.compile around the padded layer."""
    import torch

    layer = torch_layer(job)
    compiled = torch.compile(layer)
    return _torch_step(layer, lambda x, lengths: compiled(x)[0])


def build_nnx(job: Job) -> Step:
    """flax.nnx.RNN over Flax's own cells."""
    w, rngs = job.weights, nnx.Rngs(0)
    if job.kind == "gru":
        raise CannotDo("nnx.GRUCell has no bias b_hn")
    cell: Any = {"lstm": nnx.OptimizedLSTMCell, "tanh": nnx.SimpleCell}[job.kind](
        job.input_size, job.hidden_size, rngs=rngs
    )
    cell.dense_i.kernel.set_value(jnp.asarray(w["weight_ih_l0"].T))
    cell.dense_h.kernel.set_value(jnp.asarray(w["weight_hh_l0"].T))
    bias = jnp.asarray(w["bias_ih_l0"] + w["bias_hh_l0"])  # Flax has one
    (cell.dense_h if job.kind == "lstm" else cell.dense_i).bias.set_value(bias)
    graphdef, params, rest = nnx.split(nnx.RNN(cell, rngs=rngs), nnx.Param, ...)  # type: ignore[misc]

    def outputs_of(params: Any, x: Any, lengths: Any) -> Any:
        return nnx.merge(graphdef, params, rest, copy=True)(x, seq_lengths=lengths)

    return _jax_step(job, params, outputs_of)


def build_equinox(job: Job) -> Step:
    """Equinox's cells in lax.scan, vmapped over rows, as its documentation shows."""
    import equinox as eqx

    if job.kind == "tanh":
        raise CannotDo("Equinox has no plain RNN cell")
    w = {name: jnp.asarray(value) for name, value in job.weights.items()}
    cell: Any = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[job.kind](
        job.input_size, job.hidden_size, key=jax.random.key(0)
    )
    bias = w["bias_ih_l0"] + w["bias_hh_l0"]
    if job.kind == "gru":  # of the new gate, the hidden bias stands apart
        first = 2 * job.hidden_size
        bias = bias.at[first:].set(w["bias_ih_l0"][first:])
        cell = eqx.tree_at(lambda c: c.bias_n, cell, w["bias_hh_l0"][first:])
    cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, (w["weight_ih_l0"], w["weight_hh_l0"], bias))
    params, static = eqx.partition(cell, eqx.is_array)

    def outputs_of(params: Any, x: Any, lengths: Any) -> Any:
        cell = eqx.combine(params, static)
        zeros = jnp.zeros(job.hidden_size)

        def one(row: Any) -> Any:
            def advance(state: Any, inputs: Any) -> Any:
                state = cell(inputs, state)
                return state, state[0] if job.kind == "lstm" else state

            return jax.lax.scan(advance, (zeros, zeros) if job.kind == "lstm" else zeros, row)[1]

        return jax.vmap(one)(x)

    return _jax_step(job, params, outputs_of)


def build_keras(job: Job) -> Step:
    """Keras 3 on its JAX backend, with a mask."""
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise CannotDo("Keras runs on another backend here")
    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "tanh": keras.layers.SimpleRNN}
    layer = kinds[job.kind](job.hidden_size, return_sequences=True)
    layer.build((None, None, job.input_size))
    w = job.weights
    kernel, recurrent, b_ih, b_hh = (w[f"{n}_l0"].T for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    bias = b_ih + b_hh
    if job.kind == "gru":  # Keras orders z, r, h, and keeps two biases
        swap = lambda a: np.concatenate([np.split(a, 3, -1)[i] for i in (1, 0, 2)], -1)  # noqa: E731
        kernel, recurrent, bias = swap(kernel), swap(recurrent), np.stack([swap(b_ih), swap(b_hh)])
    layer.set_weights([kernel, recurrent, bias])
    trainable = [jnp.asarray(v.value) for v in layer.trainable_variables]
    others = [jnp.asarray(v.value) for v in layer.non_trainable_variables]

    def outputs_of(params: Any, x: Any, lengths: Any) -> Any:
        mask = jnp.arange(x.shape[1])[None] < lengths[:, None]
        return layer.stateless_call(params, others, x, mask=mask)[0]

    return _jax_step(job, trainable, outputs_of)


def build_memax(job: Job) -> Step:
    """memax: start flags in place of padding; its LSTM and GRU are other equations, so only its time is compared."""
    import equinox as eqx
    from memax.equinox.set_actions import elman, gru, lstm

    kinds = {"lstm": lstm.LSTM, "gru": gru.GRU, "tanh": elman.Elman}
    try:
        layer: Any = kinds[job.kind](job.hidden_size, key=jax.random.key(0))
    except TypeError as error:
        raise CannotDo(str(error)) from error
    embed = jnp.asarray(job.weights["weight_ih_l0"][: job.hidden_size].T)
    params, static = eqx.partition((layer, embed), eqx.is_inexact_array)

    def outputs_of(params: Any, x: Any, lengths: Any) -> Any:
        layer, embed = eqx.combine(params, static)

        def one(row: Any) -> Any:
            start = jnp.zeros(row.shape[0], bool).at[0].set(True)
            return layer(layer.initialize_carry(), (row @ embed, start))[1]

        return jax.vmap(one)(x)

    return _jax_step(job, params, outputs_of)


PEERS: dict[str, Callable[[Job], Step]] = {
    "jaxrnn-scan": build_jaxrnn_scan,
    "torch-padded": build_torch_padded,
    "torch-packed": build_torch_packed,
    "torch-compile": build_torch_compile,
    "nnx": build_nnx,
    "keras": build_keras,
    "equinox": build_equinox,
    "memax": build_memax,
}
# What a peer computes that is not the job; it is timed all the same.
OTHER_EQUATION = {"memax"}
