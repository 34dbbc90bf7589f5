"""A run from rows to a trained model: the host's side of training. It logs, saves and stops, and knows no console."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import jax
import numpy as np

from jaxrnn.evaluation.loading import choose_best
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import InterruptedRun
from jaxrnn.foundation.versions import versions
from jaxrnn.parallel import hosts
from jaxrnn.parallel.device_memory import require_memory, tree_bytes
from jaxrnn.parallel.devices import to_host
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.scalar_log import ScalarLog
from jaxrnn.settings.config import Config
from jaxrnn.training.plan import Plan
from jaxrnn.training.restoring import as_tree, describe_divergence, restore_position
from jaxrnn.training.train_state import DIVERGED, MAX_EPOCHS_PER_CALL, RUNNING, Position, Trained
from jaxrnn.training.trainer import Trainer

# One jitted call should last about this long: long enough to hide the host's work, short enough to show progress
# and to answer a signal.
SECONDS_PER_CALL = 0.4


class Source(Protocol):
    """Where batches come from.

    Attributes:
      plan: How an epoch goes.
      keeps_copy: Whether what a step changes is held twice, so that an epoch that diverges can be undone.
    """

    plan: Plan
    keeps_copy: bool

    def trace(self, trainer: Trainer) -> Callable[[], Any]:
        """Traces the program that trains, from shapes alone; returns what compiles it, for a thread beside Python's."""
        ...

    def advance(self, trainer: Trainer, position: Position, *, epochs: int) -> tuple[Position, list[dict[str, Any]]]:
        """Goes on by one call of the device; returns the new position, and the lines of the epochs that it finished."""
        ...

    def close(self) -> None:
        """Ends what reads."""
        ...


class Watcher(Protocol):
    """Who sees how a run goes."""

    def update(self, epoch: dict[str, Any], *, final: bool) -> None:
        """Shows the figures of the latest epoch."""
        ...

    def within(self, epoch: int, share: float, num_rows: int) -> None:
        """Shows how far a long epoch is."""
        ...


@dataclasses.dataclass
class Interrupts:
    """Whether a run is to stop.

    Attributes:
      received: The number of the signal that came; None if none has.
      unsaved: Whether there is something to save before the process may end.
    """

    received: int | None = None
    unsaved: bool = False


def build_trainer(config: Config, source: Source) -> Trainer:
    """Builds what does not change in training.

    Raises:
      UserError: A device cannot hold the model and what its training keeps.
    """
    plan = source.plan
    trainer = Trainer(config, plan.batch_rows, plan.mesh, plan.steps_per_epoch, plan.sizes)
    shapes = trainer.state_shapes()
    copy = tree_bytes(Trained(shapes.params, shapes.other, shapes.opt_state)) if source.keeps_copy else 0
    require_memory(
        tree_bytes(shapes) + tree_bytes(shapes.params) + copy,
        f"hidden_size = {config.model.hidden_size}: parameters, the best ones, gradient and optimiser state",
        "use a smaller --hidden-size, --num-layers or --ensemble",
        devices=() if plan.mesh is None else list(plan.mesh.devices.flat),
    )
    return trainer


@dataclasses.dataclass
class Fit:
    """One run, from its initial or restored position to its end.

    Attributes:
      trainer: What does not change.
      source: Where batches come from.
      position: Where the run is.
      run_dir: The directory that it writes; None to write nothing.
      data_description: Path and hash of the data, for the checkpoint.
      saved: The number of the latest checkpoint, and the key of its position; None where none was saved.
      compiling: The compilation of the source's program, on its way in a thread; None to compile when the run begins.
      scalars: Where the figures go for TensorBoard; None for nowhere.
      on_epochs: Called with the lines of the epochs that were finished.
      seconds: How long it has trained.
    """

    trainer: Trainer
    source: Source
    position: Position
    run_dir: RunDirectory | None = None
    data_description: dict[str, Any] | None = None
    saved: tuple[int, tuple[int, int]] | None = None
    compiling: Future[Any] | None = None
    scalars: ScalarLog | None = None
    on_epochs: Callable[[list[dict[str, Any]]], object] = lambda lines: None
    seconds: float = 0.0

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.trainer.config

    @property
    def plan(self) -> Plan:
        """How an epoch goes."""
        return self.source.plan

    @property
    def state(self) -> Any:
        """The state after the last epoch that was finished."""
        return self.position.state

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.position.epoch

    def run(
        self,
        checkpointer: Checkpointer | None = None,
        *,
        watch: Callable[[], contextlib.AbstractContextManager[Watcher]] | None = None,
        interrupts: Callable[[], contextlib.AbstractContextManager[Interrupts]] | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Trains until the last epoch, an early stop, a divergence or a signal; saves on all of them.

        Args:
          checkpointer: Where checkpoints go; None to save nothing.
          watch: Opens who sees how the run goes; None for nobody.
          interrupts: Opens what tells of signals; None if nothing does.
          meanwhile: Called once, when the device is about to compute and leaves the host with nothing to do.

        Raises:
          DivergedError: A loss or gradient was not finite; the state before that epoch is saved.
          InterruptedRun: A signal came; the position is saved.
        """
        begin = time.perf_counter()
        with contextlib.closing(self.source), _opened(watch, None) as watcher:
            if self._may_go_on():  # a signal ends this at once: there is nothing to save
                with hosts.all_or_none():
                    self.compiling.result() if self.compiling else self.source.trace(self.trainer)()
                meanwhile()
            with _opened(interrupts, Interrupts()) as asked:
                begin = time.perf_counter()
                interrupted = self._loop(checkpointer, watcher, asked)
                diverged = self._settle(checkpointer)
                if self._is_unsaved:
                    self.save(checkpointer)
                if interrupted is not None and self._may_go_on():
                    hosts.leave()  # now, while the signal does not end this process before the others
        self.seconds += time.perf_counter() - begin
        if diverged:
            raise hosts.agreed(diverged)
        if interrupted is not None and self._may_go_on():
            share = self.position.batches / self.plan.num_batches
            within = f", in the middle of the next ({share:.0%})" * bool(self.position.batches)
            text = f"interrupted after epoch {self.epoch}{within}"
            raise hosts.agreed(InterruptedRun(text, signal_number=interrupted))

    def _loop(self, checkpointer: Checkpointer | None, watcher: Watcher | None, asked: Interrupts) -> int | None:
        """Trains; returns the number of the signal that ended it, if one did."""
        saved_at, interrupted, num_epochs = time.monotonic(), None, 1
        # One of several processes does not end alone: the others would wait for it.
        asked.unsaved = hosts.is_distributed()
        while self._may_go_on() and interrupted is None:
            called, left = time.perf_counter(), self.config.training.epochs - self.epoch
            self.position, lines = self.source.advance(self.trainer, self.position, epochs=min(num_epochs, left))
            asked.unsaved = hosts.is_distributed() or self._is_unsaved
            per_epoch = (time.perf_counter() - called) / max(len(lines), 1)
            num_epochs = int(np.clip(SECONDS_PER_CALL / per_epoch, 1, MAX_EPOCHS_PER_CALL))
            self._tell(lines, watcher)
            due = time.monotonic() - saved_at >= self.config.training.checkpoint_seconds
            if hosts.is_distributed():  # agreeing is a collective too: it must not overtake those of the call
                jax.block_until_ready(self.position[:2])
            agreed = hosts.agree(asked.received, num_epochs, is_due=due)
            num_epochs = agreed.num_epochs
            if agreed.is_due and self._is_unsaved:
                self.position = self.position.settled()
                if not self.position.has(DIVERGED):  # an epoch, or a member: what is saved then is decided at the end
                    self.save(checkpointer)
                    saved_at = time.monotonic()
                    asked.unsaved = hosts.is_distributed()
            interrupted = agreed.signal if hosts.is_distributed() else asked.received
        return interrupted

    def _tell(self, lines: list[dict[str, Any]], watcher: Watcher | None) -> None:
        if self.run_dir is not None:
            self.run_dir.append_metrics(lines)
        if self.scalars is not None:
            self.scalars.add(lines)
        self.on_epochs(lines)
        if watcher is None:
            return
        if lines:
            watcher.update(lines[-1], final=not self._may_go_on())
        elif self.position.batches:
            share = self.position.batches / self.plan.num_batches
            watcher.within(self.epoch + 1, share, round(self.plan.num_sequences * share))

    def _settle(self, checkpointer: Checkpointer | None) -> Exception | None:
        """Goes back to before an epoch that diverged; returns what is said of it, None if none did."""
        self.position = self.position.settled()
        if not self.position.has(DIVERGED):
            return None
        diverged = describe_divergence(self.trainer, self.state)
        if self.trainer.is_ensemble and not self.source.keeps_copy:
            self._rewind(checkpointer)
        return diverged

    @property
    def _is_unsaved(self) -> bool:
        return self.position.key != (self.saved[1] if self.saved else (0, 0))

    def is_over(self) -> bool:
        """Whether there is nothing left to train: the last epoch is done, or training has stopped early."""
        return not self._may_go_on() and not self.position.has(DIVERGED)

    @property
    def best_epoch(self) -> int:
        """The best epoch so far; of an ensemble that of its best member."""
        best = np.argmax(np.atleast_1d(self.state.best_score))
        return int(np.atleast_1d(self.state.best_epoch)[best])

    def describe_members(self) -> dict[str, list[int]]:
        """Returns the seeds of an ensemble's members, their best epochs, and the epochs that they ran."""
        state = self.state
        named = {"seeds": state.seed, "best_epochs": state.best_epoch, "epochs_run": state.epoch}
        return {name: np.asarray(leaf).tolist() for name, leaf in named.items()}

    def _may_go_on(self) -> bool:
        is_short = self.epoch < self.config.training.epochs
        return is_short and self.position.has(RUNNING) and not self.position.has(DIVERGED)

    def save(self, checkpointer: Checkpointer | None) -> None:
        """Writes a checkpoint of the position, under the number after the latest one."""
        if checkpointer is None:
            return
        position, key = self.position, self.position.key
        metadata = {
            "config": self.config.to_flat(),
            "normalizer": dataclasses.asdict(self.plan.normalizer),
            "encoding": None if self.plan.encoding is None else self.plan.encoding.to_json(),
            "data": self.data_description,
            "versions": versions(),
            "epoch": position.epoch,
            "batch": position.batches,
            "best_epoch": np.asarray(position.state.best_epoch).tolist(),
        }
        if position.has(DIVERGED):  # found out again on resuming, perhaps with other settings
            status = np.asarray(position.state.status)
            again = np.where(status == DIVERGED, RUNNING, status).astype(np.int32)
            state = position.state._replace(status=again, bad_batch=np.zeros_like(again))
            position = position._replace(state=state)
        if self.run_dir is not None:
            self.run_dir.sync_metrics()
        step = self.saved[0] + 1 if self.saved else 1
        checkpointer.save(step, as_tree(position), metadata)
        self.saved = (step, key)

    def best_model(self) -> TrainedModel:
        """Returns the model with the best parameters; with the last ones where no validation was finite."""
        state = self.state
        params = choose_best(np.asarray(state.best_epoch) > 0, to_host(state.best_params), to_host(state.params))
        given = (self.config, self.plan.normalizer, params, to_host(state.other))
        return TrainedModel(*given, encoding=self.plan.encoding)

    def _rewind(self, checkpointer: Checkpointer | None) -> None:
        """Computes once more, from the latest checkpoint on, an ensemble before the epoch in which a member diverged.

        The members do not wait for each other: within a call of the device the others have gone on.
        """
        state = jax.device_get(self.state)
        last_good = int(np.min(state.epoch[state.status == DIVERGED]))
        self.position = restore_position(self.trainer, checkpointer)[0]
        for _ in range(self.epoch, last_good):
            self.position, _ = self.source.advance(self.trainer, self.position, epochs=1)
        if self.run_dir is not None:
            self.run_dir.keep_metrics_until(last_good)


def _opened(make: Callable[[], Any] | None, default: Any) -> contextlib.AbstractContextManager[Any]:
    return make() if make is not None else contextlib.nullcontext(default)
