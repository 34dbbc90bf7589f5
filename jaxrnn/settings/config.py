"""The configuration: frozen dataclasses, the only place where a field, its default or its range is written.

Every field is a key of the TOML files and a flag of the command line by the same name, with dashes:
``hidden_size = 32`` and ``--hidden-size=32``. Names are unique across the classes, so files are flat.
Precedence: the defaults here < the recipes of the cell and the task < ``--config`` < flags.
"""

import dataclasses
import difflib
import re
import typing
from typing import Any, Literal, NamedTuple

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.settings.checking import check_value, require
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.data_config import DataConfig, ReaderConfig
from jaxrnn.settings.limits import MAX_COUNT, MAX_FLOAT, MAX_LAYERS, MIN_FLOAT, POSITIVE
from jaxrnn.settings.task_config import Metric, TaskConfig

Cell = Literal["rnn", "lstm", "gru"]
CELLS: tuple[str, ...] = typing.get_args(Cell)


class MeshSizes(NamedTuple):
    """The axes of a mesh of devices: `data` share the rows of a batch, `model` the layers' weights."""

    data: int = 1
    model: int = 1

    @classmethod
    def parse(cls, text: str) -> "MeshSizes | None":
        """Reads ``data:4,model:2``; of an axis left out the size is 1. Returns None where it is not of this form."""
        axes = [part.split(":") for part in text.replace(" ", "").split(",")]
        is_plain = all(
            len(axis) == 2 and axis[0] in cls._fields and re.fullmatch("[1-9][0-9]{0,8}", axis[1]) for axis in axes
        )
        if not is_plain or len({axis[0] for axis in axes}) < len(axes):
            return None
        return cls(**{name: int(size) for name, size in axes})

    def __str__(self) -> str:
        return f"data:{self.data},model:{self.model}"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    cell: Cell = "lstm"
    """Recurrent layer: rnn, lstm or gru."""
    hidden_size: int = 32
    """Hidden units of a layer."""
    num_layers: int = 1
    """Layers stacked."""
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    """Activation of cell = rnn."""
    bias: bool = True
    """Whether the recurrent layers have biases."""
    dropout: float = 0.0
    """Between layers, and to forecast behind the last one; at training only."""
    proj_size: int = 0
    """Size that an LSTM's hidden state is projected to; 0 for none."""

    def __post_init__(self) -> None:
        require(1 <= self.hidden_size <= MAX_COUNT, "hidden_size", self.hidden_size, f"1 to {MAX_COUNT}")
        require(1 <= self.num_layers <= MAX_LAYERS, "num_layers", self.num_layers, f"1 to {MAX_LAYERS}")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more, less than 1")
        if self.cell == "lstm":
            limit, expected = self.hidden_size, f"0 or more, less than hidden_size = {self.hidden_size}"
        else:
            limit, expected = 1, "0: only lstm projects"
        require(0 <= self.proj_size < limit, "proj_size", self.proj_size, expected)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adam"
    """As torch.optim defines them."""
    learning_rate: float = 0.01
    """At the start, after any warm-up."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """How the learning rate falls to 0 over the epochs."""
    warmup_epochs: int = 0
    """Epochs over which the learning rate rises from 0."""
    momentum: float = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: float = 0.0
    """adamw: decoupled (PyTorch's default is 0.01); others: added to the gradient."""
    clip_norm: float = 0.0
    """Largest global norm of the gradient; 0 for no clipping."""

    def __post_init__(self) -> None:
        require(MIN_FLOAT <= self.learning_rate <= MAX_FLOAT, "learning_rate", self.learning_rate, POSITIVE)
        require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "0 or more")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "0 or more, less than 1")
        for key in ("weight_decay", "clip_norm"):
            value = getattr(self, key)
            require(value == 0 or MIN_FLOAT <= value <= MAX_FLOAT, key, value, f"0 or more: 0, or {POSITIVE}")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, on which batches and towards what."""

    epochs: int = 300
    """At most this many."""
    batch_size: int = 100
    """Rows of a batch; the last, short one counts by its rows."""
    target: Literal["last", "every"] = "last"
    """Learn the last value of a row, or every step's next value."""
    loss: Literal["mse", "mae", "huber", "pinball"] = "mse"
    """Loss of the normalised values; pinball is that of quantiles."""
    shuffle: bool = True
    """Draw the batches afresh every epoch."""
    batching: Literal["auto", "pad", "bucket", "pack"] = "auto"
    """pad: rows to the longest; bucket: to a few lengths; pack: several in one row; auto: by the rows' lengths."""
    num_buckets: int = 4
    """Padded lengths at most, with batching = bucket and auto."""
    remat_steps: int = 0
    """Keep the states of every so many steps only and compute the others again, to save memory; 0 keeps all."""
    tbptt: int = 0
    """Truncate backpropagation through time: the gradient goes back this many steps, the state on; 0 for all steps."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the operands of the recurrent layers' matmuls; states and sums are float32."""
    backend: Literal["auto", "scan"] = "auto"
    """How layers run: auto compiled ahead for CPUs where that serves; scan by JAX's loop."""
    devices: int = 0
    """Devices that share a batch, or the members of an ensemble; 0: all of them, where a step is large enough."""
    mesh: str = ""
    """Devices in two axes, as data:4,model:2: data share a batch, model the layers' weights; none if empty."""
    patience: int = 0
    """Stop once the best epoch is more than this many epochs ago; 0 for never."""
    monitor: Metric = "loss"
    """Validation figure that says which epoch is best."""
    accuracy_epsilon: float = 0.005
    """In 1 - |y - p| / (|y| + epsilon), in the data's units: 0.0001 of the tutorial's 50."""
    seed: int = 0
    """Seed of the split, the initial parameters, the batches and dropout."""
    ensemble: int = 1
    """Models trained together, on the same split, from seed, seed + 1, ...; their mean predicts."""
    checkpoint_seconds: float = 10.0
    """Save a checkpoint when this much time has passed, and at the end."""
    tensorboard: bool = False
    """Write the figures of every epoch for TensorBoard too, into RUN/tensorboard; needs the extra [tensorboard]."""

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("batch_size", 1), ("num_buckets", 1), ("patience", 0),
                           ("remat_steps", 0), ("tbptt", 0), ("devices", 0), ("ensemble", 1)):  # fmt: skip
            value = getattr(self, key)
            require(least <= value <= MAX_COUNT, key, value, f"{least} to {MAX_COUNT}")
        sizes = MeshSizes.parse(self.mesh) if self.mesh else None
        require(not self.mesh or sizes is not None, "mesh", self.mesh, "data:N,model:M, both 1 or more")
        expected = f"devices = {self.devices} in all, or no number of devices"
        require(self.devices in (0, self.num_devices), "mesh", self.mesh, expected)
        require(sizes is None or self.ensemble == 1, "mesh", self.mesh, f"none with ensemble = {self.ensemble}")
        expected = f"auto, bucket or pad with tbptt = {self.tbptt}: packed rows hold no state from window to window"
        require(not self.tbptt or self.batching != "pack", "batching", self.batching, expected)
        seconds = self.checkpoint_seconds
        require(0 <= seconds < float("inf"), "checkpoint_seconds", seconds, "0 or more")
        epsilon = self.accuracy_epsilon
        require(MIN_FLOAT <= epsilon <= MAX_FLOAT, "accuracy_epsilon", epsilon, POSITIVE)
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        last = self.seed + self.ensemble - 1
        require(last < 2**32, "ensemble", self.ensemble, f"a last seed of at most 4294967295, not {last}")

    @property
    def num_devices(self) -> int:
        """How many devices `mesh` or `devices` ask for; 0 for as many as there are."""
        sizes = self.mesh_sizes
        return sizes.data * sizes.model if sizes else self.devices

    @property
    def mesh_sizes(self) -> MeshSizes | None:
        """What `mesh` says; None where it says nothing."""
        return MeshSizes.parse(self.mesh)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run.

    Attributes:
      model: Which network.
      data: Which rows train, validate and test, and in which units the network sees them.
      reader: How the data file is read.
      columns: What the columns of a table are; several names are joined by commas.
      task: Which question, and how the network answers it.
      optimizer: How parameters are updated.
      training: How long, on which batches and towards what.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    columns: ColumnsConfig = dataclasses.field(default_factory=ColumnsConfig)
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        require(
            self.optimizer.warmup_epochs < self.training.epochs or self.optimizer.warmup_epochs == 0,
            "warmup_epochs",
            self.optimizer.warmup_epochs,
            f"less than epochs = {self.training.epochs}",
        )
        task, figures = self.task.task, self.task.figures
        monitor = self.training.monitor
        require(monitor in figures, "monitor", monitor, f"one of {', '.join(figures)} with task = {task}")
        data = self.data
        # A target is never missing: reading refuses it. An input may be, and with it a mark that is no next value.
        is_masked, has_targets = self.columns.missing == "mask", bool(self.columns.target_columns)
        expected = "error or forward with task = next, or target_columns: what is missing is no next value"
        require(task != "next" or not is_masked or has_targets, "missing", "mask", expected)
        if task != "next":
            require(self.training.tbptt == 0, "tbptt", self.training.tbptt, f"0 with task = {task}")
            require(self.training.target == "last", "target", self.training.target, f"last with task = {task}")
        is_forecast, loss = task == "forecast", self.training.loss
        require(is_forecast or loss != "pinball", "loss", loss, f"mse, mae or huber with task = {task}")
        require(not is_forecast or loss != "huber", "loss", loss, "pinball, mae or mse with task = forecast")
        require(is_forecast or data.split != "time", "split", data.split, "another one but with task = forecast")
        known, expected = self.columns.known_columns, f"none with task = {task}: they are inputs, for --input-columns"
        require(is_forecast or not known, "known_columns", known, expected)
        if task in ("classify", "tag"):
            require(self.training.loss == "mse", "loss", self.training.loss, f"none with task = {task}: cross-entropy")
        sizes = self.training.mesh_sizes
        for key in ("hidden_size", "proj_size"):
            size, expected = getattr(self.model, key), f"a model axis that divides {key} = {getattr(self.model, key)}"
            require(sizes is None or size % sizes.model == 0, "mesh", self.training.mesh, expected)

    @property
    def split_seed(self) -> int:
        """The seed of the split: `data.split_seed`, or the run's."""
        return self.training.seed if self.data.split_seed is None else self.data.split_seed

    def to_flat(self) -> dict[str, Any]:
        """Returns every field by its name, with plain values that JSON and TOML can hold."""
        flat: dict[str, Any] = {}
        for section in dataclasses.fields(self):
            flat |= dataclasses.asdict(getattr(self, section.name))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}

    def replace_flat(self, values: dict[str, Any]) -> "Config":
        """Returns a copy with some fields set, by name.

        Raises:
          UserError: An unknown name, with the nearest known one; a wrong type; a value out of range.
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            if key not in FIELD_TYPES:
                raise UserError(f"{escape(key[:80])}: unknown key{suggest_key(key)}")
            section, hint = FIELD_TYPES[key]
            sections.setdefault(section, {})[key] = check_value(key, value, hint)
        parts = {name: dataclasses.replace(getattr(self, name), **part) for name, part in sections.items()}
        return dataclasses.replace(self, **parts)


def _collect_field_types() -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for section, section_class in typing.get_type_hints(Config).items():
        for key, hint in typing.get_type_hints(section_class).items():
            assert key not in found, f"two sections have a field {key}"
            found[key] = (section, hint)
    return found


FIELD_TYPES = _collect_field_types()
"""Every key: the section it belongs to and its type."""


def suggest_key(key: str) -> str:
    """Returns the end of a message about an unknown key: the nearest known one, or all."""
    near = difflib.get_close_matches(key[:80].replace("-", "_"), FIELD_TYPES, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(FIELD_TYPES)}"
