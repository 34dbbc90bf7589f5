"""The training command once its arguments are parsed: read, build, fit, report."""

import contextlib
import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxrnn import cpu_kernels, hosts, plots, reporting
from jaxrnn.checkpoint import Checkpointer, import_orbax, named_leaves
from jaxrnn.compilation import CompilationCounter
from jaxrnn.config import Config
from jaxrnn.config_files import read_toml
from jaxrnn.data.complaints import naming
from jaxrnn.data.loading import load_rows
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import count_shared_rows
from jaxrnn.devices import DATA_AXIS, MEMBER_AXIS, model_size
from jaxrnn.errors import UserError
from jaxrnn.escaping import escape
from jaxrnn.fitting import Fit, PreparedData, build_trainer, compile_epochs, prepare_data, restore_state
from jaxrnn.inference import MAX_CHUNK_ROWS, Evaluation, TrainedModel
from jaxrnn.judgement import Judgement, leakage_warning
from jaxrnn.reporting import say
from jaxrnn.run_directory import RunDirectory, describe_environment, hash_file, versions
from jaxrnn.run_lock import RunLock
from jaxrnn.scalar_log import ScalarLog, require_tensorboard

# A run may go on with these changed: what it computes does not depend on them, but for the last bits.
WITHOUT_EFFECT = {
    "checkpoint_seconds",
    "max_bytes",
    "max_row_length",
    "data",
    "devices",
    "mesh",
    "remat_steps",
    "tensorboard",
}
# With these changed it goes on another way than it began.
FROM_HERE_ON = {"epochs", "patience", "learning_rate", "clip_norm", "weight_decay"}


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
            hosts.from_main(lambda: lock(run_dir, stack))
            hosts.from_main(lambda: check_changes(config, run_dir))
        with hosts.all_or_none():
            rows = load_rows(config.data.data, config.reader, min_length=2)
            description = {
                "path": str(Path(config.data.data).absolute()),
                "sha256": hash_file(config.data.data),
                "rows": len(rows),
                "values": rows.num_values,
            }
            if resume:
                check_same_data(description, run_dir)
        compilations = stack.enter_context(CompilationCounter())
        with hosts.all_or_none(), naming(config.data.data):
            data = prepare_data(config, rows)
            trainer = build_trainer(config, data)
        environment = describe_environment([str(device) for device in jax.devices()], recurrence_here(), description)
        if resume:
            warn_of_another_recurrence(run_dir)
        else:
            run_dir.move(hosts.from_main(lambda: begin_run(run_dir, stack, config, environment)))
        checkpointer = stack.enter_context(Checkpointer(run_dir.checkpoints, warn=say))
        executor = stack.enter_context(_background())
        is_new = checkpointer.newest_good() is None  # a restored run may have nothing left to do
        compiled = executor.submit(compile_epochs, trainer, data) if is_new else None
        state = restore_state(trainer, checkpointer)
        fit = Fit(trainer, data, state, run_dir, description, compiled)
        if config.training.epochs < fit.epoch:
            text = f"--epochs: got {config.training.epochs}; expected at least {fit.epoch}, so many are done"
            raise hosts.agreed(UserError(text), same=True)
        if resume:
            if hosts.from_main(lambda: fit.is_over() and run_dir.is_reported(fit.epoch)):
                with open_scalars(config, run_dir):  # asked for late, they are written whole
                    say(f"this run is finished, after epoch {fit.epoch}: see {run_dir.summary}; it is left as it is")
                return
            hosts.from_main(lambda: run_dir.create(config, environment))
        run_dir.keep_metrics_until(fit.epoch)
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


def lock(run_dir: RunDirectory, stack: contextlib.ExitStack) -> None:
    """Takes the directory of a run that goes on."""
    stack.enter_context(RunLock(run_dir.path))
    run_dir.remove_leftovers()


def begin_run(run_dir: RunDirectory, stack: contextlib.ExitStack, config: Config, environment: dict[str, Any]) -> str:
    """Makes the directory of a new run; returns its path."""
    run_dir.claim()
    stack.enter_context(RunLock(run_dir.path))
    run_dir.require_empty()
    run_dir.remove_leftovers()
    run_dir.create(config, environment)
    return str(run_dir.path)


def open_scalars(config: Config, run_dir: RunDirectory) -> contextlib.AbstractContextManager[ScalarLog | None]:
    if not config.training.tensorboard or not run_dir.is_written:
        return contextlib.nullcontext()
    return ScalarLog(run_dir.tensorboard, run_dir.read_metrics())


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


def check_changes(config: Config, run_dir: RunDirectory) -> None:
    saved = Config().replace_flat(read_toml(run_dir.config)).to_flat()
    changed = {key: value for key, value in config.to_flat().items() if value != saved[key]}
    refused = changed.keys() - WITHOUT_EFFECT - FROM_HERE_ON
    lines = [
        f"  {key}: the run has {saved[key]!r}, got {value!r}" + ("" if key in refused else "; this may change")
        for key, value in changed.items()
    ]
    if refused:
        free = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(WITHOUT_EFFECT | FROM_HERE_ON))
        raise UserError(
            "--resume: a run cannot go on with another configuration:\n"
            + "\n".join(lines)
            + f"\nleave these flags out, or start a new run without --resume; what may change: {free}"
        )
    for key, value in changed.items():
        say(f"{key}: {saved[key]!r} until now, {value!r} from here on")


def check_same_data(description: dict[str, Any], run_dir: RunDirectory) -> None:
    try:
        environment = json.loads(run_dir.environment.read_text(encoding="utf-8"))
        before = environment["data"]
    except FileNotFoundError:  # interrupted before anything was computed
        return
    if before["sha256"] != description["sha256"]:
        raise UserError(
            f"--resume: {description['path']}: got other data than the run began with (SHA-256"
            f" {description['sha256'][:12]}..); expected that of {before['path']}, {before['rows']} rows with"
            f" {before['sha256'][:12]}..; give the file by --data, or start a new run without --resume"
        )
    now = versions()
    others = {name: old for name, old in environment["versions"].items() if now.get(name) != old}
    if others:
        listed = ", ".join(f"{name} {old} then, {now.get(name)} now" for name, old in others.items())
        say(f"warning: the run began with other versions: {listed}: its numbers may differ in the last bits")


def warn_of_another_recurrence(run_dir: RunDirectory) -> None:
    """Says so if a run goes on with another form of the recurrence; not before JAX may make its devices."""
    with contextlib.suppress(FileNotFoundError):  # interrupted before anything was computed
        before = json.loads(run_dir.environment.read_text(encoding="utf-8")).get("recurrence")
        here = recurrence_here()
        if before not in (None, here):
            change = f"the run began with {before} and goes on with {here}"
            say(f"warning: {change}: its numbers may differ in the last bits")


def recurrence_here() -> str:
    """Says which form of the recurrence this installation and device run."""
    is_compiled = jax.default_backend() == "cpu" and cpu_kernels.is_built()
    return "the compiled recurrence" if is_compiled else "JAX's loop"


def print_devices(mesh: Mesh | None) -> None:
    """Says which versions run on which devices."""
    found = versions()
    say("  ".join(f"{name} {found[name]}" for name in ("jaxrnn", "python", "jax", "jaxlib", "flax", "optax")))
    devices = jax.devices()
    used, shared = (1, DATA_AXIS) if mesh is None else (mesh.devices.size, mesh.axis_names[0])
    what = {DATA_AXIS: "a batch", MEMBER_AXIS: "the ensemble"}[shared]
    what += f", groups of {model_size(mesh)} the weights" if model_size(mesh) > 1 else ""
    what += f"; {jax.process_count()} processes" if hosts.is_distributed() else ""
    say(f"devices: {len(devices)} x {devices[0].device_kind} ({jax.default_backend()}); {used} share {what}")
    if jax.default_backend() == "cpu" and not cpu_kernels.is_built():
        say("the compiled recurrence is missing, training is slower: install a C++ compiler, then jaxrnn once more")
    warning = reporting.gpu_without_support(jax.default_backend())
    if warning:
        say(warning)


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
    say(reporting.parameter_table(named_leaves(params)))


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
        figures |= reporting.spread_rows("test", evaluations["test"].spread(), settings.ensemble)
    run_dir.write_json(run_dir.summary, summary)
    per_epoch = seconds["train"] / max(fit.epoch, 1)
    print(f"best epoch {fit.best_epoch} of {fit.epoch}; {per_epoch * 1e3:.2f} ms an epoch; seconds: "
          + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))  # fmt: skip
    reporting.print_figures(figures, baselines, accuracy_epsilon=settings.accuracy_epsilon, notes=notes)
    written = escape(str(run_dir.path))
    print(f"wrote {written}: try  python -m jaxrnn.predict --checkpoint={shlex.quote(written)}")
