"""The training command once its arguments are parsed: read, build, fit, report."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxrnn.commands.banner import print_devices
from jaxrnn.commands.figures import print_figures, spread_rows
from jaxrnn.console.tables import parameter_table
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.loading import load_hashed_rows
from jaxrnn.data.split import count_shared_rows
from jaxrnn.evaluation import plots
from jaxrnn.evaluation.trained_model import MAX_CHUNK_ROWS, Evaluation, TrainedModel
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.messages import say
from jaxrnn.parallel import hosts
from jaxrnn.runs.checkpoint import import_orbax, named_leaves
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_origin import check_same_data
from jaxrnn.runs.scalar_log import require_tensorboard
from jaxrnn.settings.config import Config
from jaxrnn.tasks.judgement import Judgement, leakage_warning
from jaxrnn.training.compilation import CompilationCounter
from jaxrnn.training.fitting import Fit, PreparedData, build_trainer, compile_epochs, prepare_data, restore_state
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
            description: dict[str, Any] = {"path": str(Path(config.data.data).absolute())}
            check = (lambda sha256: check_same_data(description | {"sha256": sha256}, run_dir)) if resume else None
            rows, sha256 = load_hashed_rows(config.data.data, config.reader, min_length=2, check=check)
            description |= {"sha256": sha256, "rows": len(rows), "values": rows.num_values}
        compilations = stack.enter_context(CompilationCounter())
        with hosts.all_or_none(), naming(config.data.data):
            data = prepare_data(config, rows)
            trainer = build_trainer(config, data)
        checkpointer = open_checkpoints(config, run_dir, stack, description, resume=resume)
        executor = stack.enter_context(_background())
        is_new = checkpointer.newest_good() is None  # a restored run may have nothing left to do
        compiled = executor.submit(compile_epochs, trainer, data) if is_new else None
        state = restore_state(trainer, checkpointer)
        fit = Fit(trainer, data, state, run_dir, description, compiled)
        if not may_train(fit, description, resume=resume):
            return
        shared_rows = count_shared_rows(rows, data.split)
        print_banner(config, rows, data, state.params, shared_rows)
        say(f"run directory: {escape(str(run_dir.path))}")
        if resume:
            say(f"going on after epoch {fit.epoch}")
        parts = {"validation": rows.take(data.split.validation), "test": rows.take(data.split.test)}
        untrained = fit.best_model()
        reported = parts if hosts.is_main() else {}
        with open_scalars(config, run_dir) as fit.scalars:
            fit.run(checkpointer, meanwhile=lambda: executor.submit(_prepare_report, untrained, reported))
        executor.shutdown()
        model = fit.best_model()  # its arrays come from all processes
        if hosts.is_main():
            _report(fit, model, parts, shared_rows, run_dir, compilations, begin=begin)


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


def _prepare_report(model: TrainedModel, parts: dict[str, Ragged]) -> None:
    """Imports and compiles what comes after training, in a thread, while the device computes."""
    import_orbax()
    plots.preload()
    for part in parts.values():
        if len(part) <= MAX_CHUNK_ROWS:  # of larger parts the time to evaluate them outweighs that to compile
            model.evaluate(part)


def print_banner(config: Config, rows: Ragged, data: PreparedData, params: Any, shared_rows: tuple[int, int]) -> None:
    """Says what is trained, on what and with what; warns of rows that stand in several parts."""
    print_devices(data.mesh)
    lengths = rows.lengths
    say(
        f"data: {escape(config.data.data)}: {len(rows):,} rows, {rows.group_ids().max() + 1:,} distinct,"
        f" {rows.num_values:,} values; lengths {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}; values"
        f" {rows.values.min():g} to {rows.values.max():g}"
    )
    split = data.split
    say(
        f"split: {config.data.split}: {len(split.training):,} training, {len(split.validation):,} validation,"
        f" {len(split.test):,} test; normalised by (x - {data.normalizer.offset:.6g}) / {data.normalizer.scale:.6g};"
        f" {'packed' if data.batching == 'pack' else 'padded'} to {', '.join(map(str, data.lengths))} steps,"
        f" {data.batch_rows:,} rows a batch"
    )
    warning = leakage_warning(*shared_rows)
    if warning:
        say(warning)
    say(parameter_table(named_leaves(params)))


def _report(
    fit: Fit,
    model: TrainedModel,
    parts: dict[str, Ragged],
    shared_rows: tuple[int, int],
    run_dir: RunDirectory,
    compilations: CompilationCounter,
    *,
    begin: float,
) -> None:
    """Evaluates the best parameters, and reports."""
    evaluations = {name: model.evaluate(part) for name, part in parts.items()}
    baselines = model.evaluate_baselines(parts["test"])
    judgement = model.judge(parts["test"], evaluations["test"], baselines)
    write_report(
        fit, evaluations, baselines, judgement, judgement.notes(), shared_rows, run_dir, compilations, begin=begin
    )


def write_report(
    fit: Fit,
    evaluations: dict[str, Evaluation],
    baselines: dict[str, dict[str, float]],
    judgement: Judgement,
    notes: list[str],
    shared_rows: tuple[int, int],
    run_dir: RunDirectory,
    compilations: CompilationCounter,
    *,
    begin: float,
) -> None:
    """Draws the curves, writes summary.json and prints the figures."""
    settings = fit.config.training
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
        "compilations": compilations.count,
        "seconds": seconds,
        **figures,
        "baselines": baselines,
        "test_mae_interval": judgement.interval,
        "against_baselines": judgement.against_baselines,
        "accuracy_near_zero": judgement.near_zero,
        "shared_rows": dict(zip(("validation", "test"), shared_rows, strict=True)),
    }
    if settings.ensemble > 1:
        summary["ensemble"] = fit.describe_members() | {
            name: {**evaluation.spread(), "members": evaluation.members} for name, evaluation in evaluations.items()
        }
        figures |= spread_rows("test", evaluations["test"].spread(), settings.ensemble)
    run_dir.write_json(run_dir.summary, summary)
    per_epoch = seconds["train"] / max(fit.epoch, 1)
    print(f"best epoch {fit.best_epoch} of {fit.epoch}; {per_epoch * 1e3:.2f} ms an epoch; seconds: "
          + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))  # fmt: skip
    print_figures(figures, baselines, accuracy_epsilon=settings.accuracy_epsilon, notes=notes)
    written = escape(str(run_dir.path))
    print(f"wrote {written}: try  python -m jaxrnn.predict --checkpoint={shlex.quote(written)}")
