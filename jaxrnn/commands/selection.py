"""The first of two trainings: it finds the best epoch, by validation steps that the second one trains on too."""

import contextlib
import dataclasses
from typing import NamedTuple

import numpy as np

from jaxrnn.commands.banner import print_banner
from jaxrnn.commands.part_results import measure_figures
from jaxrnn.commands.training_data import TrainingData
from jaxrnn.console.progress import Progress
from jaxrnn.console.signals import NoteSignal
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.value_evaluation import Evaluation
from jaxrnn.foundation.messages import say
from jaxrnn.parallel import hosts
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import Config
from jaxrnn.training.fit import Fit, build_trainer
from jaxrnn.training.restoring import restore_position


class Selection(NamedTuple):
    """What the first training found.

    Attributes:
      epochs: How many epochs the second one is to take.
      validation: The figures of the validation part, which the second one trains on.
    """

    epochs: int
    validation: Evaluation | SequenceEvaluation


def select_epochs(
    config: Config, data: TrainingData, run_dir: RunDirectory, stack: contextlib.ExitStack
) -> Selection | None:
    """Trains with the validation part held out, in a directory of its own, from where it stands there.

    Args:
      config: The run's configuration.
      data: The data, arranged.
      run_dir: The run's directory, which this process holds.
      stack: Holds the checkpoints.

    Returns:
      None where no steps of the data validate: then there are none to train on.

    Raises:
      DivergedError: A loss or gradient was not finite.
      InterruptedRun: A signal came.
    """
    shares = shares_of(config.data)
    if "validation" not in data.parts or not shares.validation:
        if "validation" in data.parts:
            say("refit is on: but the validation series have a file of their own, so there is one training")
        return None
    first = RunDirectory(run_dir.selection)
    first.is_written = run_dir.is_written
    hosts.from_main(lambda: first.create(config))
    with hosts.all_or_none():
        trainer = build_trainer(config, data.source)
    checkpointer = stack.enter_context(Checkpointer(first.checkpoints, warn=say))
    position, saved = restore_position(trainer, checkpointer)
    fit = Fit(trainer, data.source, position, first, data.description, saved)
    print_banner(data, position.state.params)
    if not fit.is_over():
        say("training twice, since refit is on: now to find the best epoch, by the validation steps")
        first.keep_metrics_until(fit.epoch)
        fit.run(checkpointer, watch=lambda: Progress(config.training.epochs, start=fit.epoch), interrupts=NoteSignal)
    epochs = best_epochs(fit)
    return Selection(epochs, measure_figures(fit.best_model(), data.parts["validation"], origins=1))


def best_epochs(fit: Fit) -> int:
    """Returns the best epoch of a run; of an ensemble the mean of its members'."""
    best = np.asarray(fit.state.best_epoch)
    return round(float(np.mean(np.where(best > 0, best, fit.config.training.epochs))))  # 0: no figure was finite


def of_second_training(config: Config, epochs: int) -> Config:
    """Returns a configuration that trains for so many epochs, without stopping early."""
    optimizer = dataclasses.replace(config.optimizer, warmup_epochs=min(config.optimizer.warmup_epochs, epochs - 1))
    training = dataclasses.replace(config.training, epochs=epochs, patience=0)
    return dataclasses.replace(config, optimizer=optimizer, training=training)
