"""The training command once its arguments are parsed: read, build, fit, report."""

import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxrnn.commands.banner import print_banner
from jaxrnn.commands.part_results import PartResult, Rows, measure_figures, measure_part, print_figures, spread_rows
from jaxrnn.commands.selection import Selection, of_second_training, select_epochs
from jaxrnn.commands.training_data import TrainingData, open_training_data
from jaxrnn.console.progress import Progress
from jaxrnn.console.signals import NoteSignal
from jaxrnn.data.store.dataset import EXACT_VALUES
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.evaluation.pictures import plots
from jaxrnn.evaluation.sequence_evaluation import MAX_CHUNK_ROWS
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.messages import say
from jaxrnn.parallel import hosts
from jaxrnn.runs.checkpoint import import_orbax
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_origin import check_same_data
from jaxrnn.runs.scalar_log import require_tensorboard
from jaxrnn.settings.config import Config
from jaxrnn.training.compilation import CompilationCounter
from jaxrnn.training.fit import Fit, build_trainer
from jaxrnn.training.restoring import restore_position
from jaxrnn.training.run_opening import may_train, open_checkpoints, open_scalars, take_over


def train(config: Config, run_dir: RunDirectory, *, resume: bool, begin: float) -> None:
    """Trains a model and writes its run directory.

    Args:
      config: The whole configuration.
      run_dir: Where to write.
      resume: Whether to go on with the run that is there.
      begin: `time.perf_counter()` when the command began.

    Raises:
      UserError: Bad data, or a changed configuration on resuming.
      DivergedError: A loss or gradient was not finite.
      InterruptedRun: A signal came.
    """
    if config.training.tensorboard:
        require_tensorboard()
    run_dir.is_written = hosts.is_main()
    with hosts.session(), contextlib.ExitStack() as stack:
        if resume:
            take_over(config, run_dir, stack)
        with hosts.all_or_none():
            check = (lambda described: check_same_data(described, run_dir)) if resume else None
            data = open_training_data(config, check)
        config = data.config
        compilations = stack.enter_context(CompilationCounter())
        with hosts.all_or_none():
            data.arrange()
            trainer = build_trainer(config, data.source)
        checkpointer = open_checkpoints(config, run_dir, stack, data.description, resume=resume)
        selected, asked = select_epochs(config, data, run_dir, stack) if config.task.refit else None, config
        if selected is not None:
            config = of_second_training(config, selected.epochs)
            with hosts.all_or_none():
                data.arrange(refit=True)
                trainer = build_trainer(config, data.source)
        executor = stack.enter_context(_background())
        is_new = checkpointer.newest_good() is None  # a restored run may have nothing left to do
        # Traced here: beside the tracing of what follows it would take as long as both.
        compiling = executor.submit(data.source.trace(trainer)) if is_new else None
        position, saved = restore_position(trainer, checkpointer)
        fit = Fit(trainer, data.source, position, run_dir, data.description, saved, compiling)
        if not may_train(fit, run_dir, asked, data.description, resume=resume):
            return
        if selected is not None:
            say(f"the best epoch is {selected.epochs}: now to train for so many on all but the test steps")
        if selected is None:  # else it stands above the first training
            print_banner(data, position.state.params)
        say(f"run directory: {escape(str(run_dir.path))}")
        if resume:
            within = f" and {position.batches / fit.plan.num_batches:.0%} of the next" * bool(position.batches)
            say(f"going on after epoch {fit.epoch}{within}")
        untrained = fit.best_model()
        reported = data.parts if hosts.is_main() else {}
        with open_scalars(config, run_dir) as fit.scalars:
            fit.run(
                checkpointer,
                watch=lambda: Progress(config.training.epochs, start=fit.epoch),
                interrupts=NoteSignal,
                meanwhile=lambda: executor.submit(_prepare_report, untrained, reported),
            )
        executor.shutdown()
        model = fit.best_model()  # its arrays come from all processes
        if hosts.is_main():
            _report(fit, model, data, run_dir, compilations, begin=begin, selected=selected)


@contextlib.contextmanager
def _background() -> Iterator[ThreadPoolExecutor]:
    """Holds a thread to compile in; who leaves by an exception does not wait for it."""
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _prepare_report(model: TrainedModel, parts: Mapping[str, Rows]) -> None:
    """Imports and compiles what comes after training, in a thread, while the device computes."""
    import_orbax()
    plots.preload()
    for part in parts.values():
        is_large = isinstance(part, ShardedRows | ShardedSequences) and part.num_values > EXACT_VALUES
        if len(part) <= MAX_CHUNK_ROWS and not is_large:  # the time to evaluate more of them outweighs that to compile
            measure_figures(model, part)


def _report(
    fit: Fit,
    model: TrainedModel,
    data: TrainingData,
    run_dir: RunDirectory,
    compilations: CompilationCounter,
    *,
    begin: float,
    selected: Selection | None,
) -> None:
    """Evaluates the best parameters, draws the curves, writes summary.json and prints the figures."""
    settings = fit.config.training
    test = measure_part(model, data.parts["test"]) if "test" in data.parts else None
    held_out: dict[str, Any] = {} if selected is None else {"validation": selected.validation}
    evaluations = held_out | {
        name: test.evaluation if name == "test" and test else measure_figures(model, part)
        for name, part in data.parts.items()
    }
    plots.plot_curves(run_dir.read_metrics(), fit.best_epoch, run_dir.curves)
    seconds = {
        "compile": round(compilations.seconds, 3),
        "train": round(fit.seconds, 3),
        "total": round(time.perf_counter() - begin, 3),
    }
    figures = {name: evaluation.figures for name, evaluation in evaluations.items()}
    summary = {
        "best_epoch": fit.best_epoch,
        "epochs_run": fit.epoch,
        **({} if selected is None else {"selected_epochs": selected.epochs}),
        "compilations": compilations.count,
        "seconds": seconds,
        **{name: {} for name in ("validation", "test")},
        **figures,
        "baselines": test.baselines if test else {},
        **_entries(test, model),
        "shared_rows": dict(zip(("validation", "test"), data.shared_rows, strict=True)),
    }
    if model.encoding is not None:
        summary["overlapping_rows"] = dict(zip(("validation", "test"), data.overlapping, strict=True))
    if settings.ensemble > 1:
        summary["ensemble"] = fit.describe_members() | {
            name: {**evaluation.spread(), "members": evaluation.members} for name, evaluation in evaluations.items()
        }
        if test:
            figures |= spread_rows("test", test.evaluation.spread(), settings.ensemble)
    run_dir.write_json(run_dir.summary, summary)
    per_epoch = seconds["train"] / max(fit.epoch, 1)
    print(f"best epoch {fit.best_epoch} of {fit.epoch}; {per_epoch * 1e3:.2f} ms an epoch; seconds: "
          + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))  # fmt: skip
    if figures:
        print_figures(figures, test.baselines if test else {}, test.notes if test else [])
    written = escape(str(run_dir.path))
    file = "" if model.encoding is None else " FILE"
    print(f"wrote {written}: try  python -m jaxrnn.predict --checkpoint={shlex.quote(written)}{file}")


def _entries(test: PartResult | None, model: TrainedModel) -> dict[str, Any]:
    """Returns what summary.json holds of the test rows besides figures."""
    if test is None:
        return {}
    entries = dict(test.entries)
    name = "test_mae_interval" if model.config.task.task == "next" else "test_interval"
    return {name: entries.pop("interval"), **entries}
