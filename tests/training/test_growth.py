"""What stays in a process that trains again and again."""

import gc
import weakref

import numpy as np

from jaxrnn.data.ragged import Ragged
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position
from jaxrnn.training.trainer import Trainer

ROWS = Ragged.from_rows([np.arange(5.0) + start for start in range(30)])


def prepare(seed: int) -> Trainer:
    config = Config().replace_flat({"cell": "rnn", "hidden_size": 3, "batching": "pad", "seed": seed, "epochs": 2})
    source = MemorySource(config, ROWS)
    trainer = build_trainer(config, source)
    source.trace(trainer)()
    restore_position(trainer, None)
    return trainer


def test_a_trainer_is_let_go():
    left = [weakref.ref(prepare(seed)) for seed in range(4)]
    gc.collect()
    alive = sum(trainer() is not None for trainer in left)
    assert alive <= 1, "JAX keeps the first of equal trainers with the program that it is compiled for"
