"""What the package never does: run what a file says, change what is its caller's, leave its directories."""

import ast
import functools
import json
import os
import re
import stat
from pathlib import Path

import jax
import kept_programs
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn import train
from jaxrnn.foundation.errors import UserError
from jaxrnn.runs.checkpoint import Checkpointer, CheckpointError
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.settings.config import Config
from jaxrnn.training import compilation
from tests.conftest import REPOSITORY

SOURCES = [path for folder in ("jaxrnn", "benchmarks", ".ci") for path in sorted((REPOSITORY / folder).rglob("*.py"))]
RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
BUILTINS_THAT_RUN_CODE = {"eval", "exec", "compile", "__import__"}
# The names that a module looks up are its own: jaxrnn/__init__.py in its table, the fuzzer in a list.
MAY_IMPORT_BY_NAME = {"jaxrnn/__init__.py", "benchmarks/fuzz_reader.py"}


def dangers(tree: ast.AST, path: str = "x.py") -> list[str]:
    """Returns what in a file could run what data says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"import {name}" for name in names if name.split(".")[0] in RUNS_CODE]
        if not isinstance(node, ast.Call):
            continue
        called, named = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        last = called.rpartition(".")[2]
        if called in BUILTINS_THAT_RUN_CODE or last in ("read_pickle", "unsafe_load", "full_load"):
            found.append(called)
        if last == "import_module" and path not in MAY_IMPORT_BY_NAME:
            found.append(called)
        if named.get("allow_pickle", "False") != "False":
            found.append(f"{called} with allow_pickle")
        if called == "torch.load" and named.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if named.get("shell", "False") != "False" or called in ("os.system", "os.popen"):
            found.append(f"{called} of a shell")
    return found


class TestNothingIsRunThatAFileSays:
    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
    def test_source(self, path):
        name = str(path.relative_to(REPOSITORY))
        assert dangers(ast.parse(path.read_text(encoding="utf-8")), name) == []

    @pytest.mark.parametrize(
        "code",
        [
            "import pickle", "from pickle import loads", "import yaml.loader", "eval(text)", "exec(text)",
            "np.load(path, allow_pickle=True)", "torch.load(path)", "torch.load(path, weights_only=False)",
            "pd.read_pickle(path)", "importlib.import_module(name)", "os.system(text)", "run(text, shell=True)",
            "def f():\n    __import__(name)", "np.savez(path, allow_pickle=flag)",
        ],
    )  # fmt: skip
    def test_what_is_looked_for_is_found(self, code):
        assert dangers(ast.parse(code))

    @pytest.mark.parametrize("code", ["model.eval()", "torch.load(f, weights_only=True)", "np.load(f)", "x.compile()"])
    def test_what_is_harmless_is_not(self, code):
        assert not dangers(ast.parse(code))

    @pytest.mark.parametrize("key", ["cell", "optimizer", "loss", "schedule", "normalizer", "compute_dtype"])
    @pytest.mark.parametrize("name", ["os.system", "jaxrnn.nn.layers.LSTM", "__class__", ""])
    def test_names_are_of_closed_lists(self, key, name):
        with pytest.raises(UserError, match=f"{key}: got .*; expected one of"):
            Config().replace_flat({key: name})


# Filled by the test with what is done between two looks.
LOOK_BEFORE_AND_AFTER = """
import json, logging, os, random, signal, sys, tempfile, threading, warnings
import absl.logging, flax.nnx, jax, jax.numpy, matplotlib.figure, numpy, optax, orbax.checkpoint, pyarrow, tyro
from orbax.checkpoint.checkpoint_managers import preservation_policy

def look():
    root = logging.getLogger()
    named = [pair for pair in sorted(root.manager.loggerDict.items()) if isinstance(pair[1], logging.Logger)]
    loggers = {{name: [logger.level, logger.propagate, logger.disabled, list(map(repr, logger.handlers))]
               for name, logger in named}}
    return {{
        "loggers": {{name: state for name, state in loggers.items() if state != [0, True, False, []]}},
        "root": [root.level, list(map(repr, root.handlers)), list(map(repr, root.filters))],
        "logging": [logging.root.manager.disable, repr(logging.getLoggerClass()), logging.raiseExceptions],
        "warnings": [list(map(repr, warnings.filters)), repr(warnings.showwarning)],
        "jax": {{key: repr(value) for key, value in jax.config.values.items()}},
        "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "random": [repr(random.getstate()), repr(numpy.random.get_state())],
        "numpy": [numpy.geterr(), repr(numpy.get_printoptions())],
        "streams": [repr(sys.stdout), repr(sys.stderr), repr(sys.excepthook), repr(threading.excepthook)],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "umask": [os.umask(0o22), os.umask(0o22)][1],
    }}

logging.getLogger().handlers.clear()  # those of a caller who has set up no logging, whatever importing Orbax did
before = look()
{body}
after = look()
print(json.dumps({{key: [before[key], after[key]] for key in after if before[key] != after[key]}}))
"""

USE_AS_A_LIBRARY = """
import jax.numpy as jnp
from flax import nnx
import jaxrnn
from jaxrnn.runs.checkpoint import Checkpointer
from jaxrnn.evaluation.trained_model import TrainedModel

layer = jaxrnn.LSTM(1, 4, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
layer(jnp.ones((2, 3, 1)), lengths=jnp.array([2, 3]))
layer.eval()
jax.grad(lambda x: layer(x)[0].sum())(jnp.ones((2, 3, 1)))
with tempfile.TemporaryDirectory() as directory:
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, {{"a": jnp.ones(1000)}}, {{"x": 1}})
        checkpointer.save(2, {{"a": jnp.ones(1000)}}, {{"x": 2}})
        checkpointer.read_metadata(1)
    with Checkpointer(directory, read_only=True) as checkpointer:
        checkpointer.restore(2, {{"a": jnp.ones(1000)}})
rows = jaxrnn.read_sequences({data!r})
model = TrainedModel.load({run!r})
model.predict(rows.take([0, 1]))
model.evaluate(rows.take([0, 1]))
"""


class TestNothingOfTheCallersIsChanged:
    @pytest.mark.slow
    def test_by_layers_checkpoints_and_trained_models(self, trained_run, tmp_path, command):
        body = USE_AS_A_LIBRARY.format(data=str(REPOSITORY / "ball.csv"), run=str(trained_run))
        (tmp_path / "look.py").write_text(LOOK_BEFORE_AND_AFTER.format(body=body))
        done = command("look")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {}
        assert done.stderr == ""

    def test_the_callers_own_logging_still_works(self, tmp_path, command):
        (tmp_path / "use.py").write_text(
            "import logging\nfrom jaxrnn.runs.checkpoint import Checkpointer\n"
            "import numpy as np\n"
            "with Checkpointer('steps') as checkpointer:\n    checkpointer.save(1, {'a': np.ones(3)}, {})\n"
            "logging.basicConfig(level=logging.INFO, format='mine: %(message)s')\n"
            "logging.info('hello')\n"
        )
        assert command("use").stderr == "mine: hello\n"


def test_a_warning_of_a_layer_built_from_its_shapes_points_at_the_caller():
    build = functools.partial(jaxrnn.LSTM, 1, 2, dropout=0.5)
    with pytest.warns(UserWarning, match="has no effect with num_layers = 1") as caught:
        nnx.eval_shape(build, rngs=nnx.Rngs(0))
    assert [warning.filename for warning in caught] == [__file__]


OUR_LINES = [
    r"jaxrnn \S+  python \S+  jax \S+  jaxlib \S+  flax \S+  optax \S+",
    r"devices: \d+ x .+; (one is used|\d+ share a batch)",
    r"data: .+ball\.csv: 10,000 rows, .+",
    r"split: grouped: .+",
    r"parameter +shape +values",
    *[r"(linear|rnn)/\w+ +\(\d.*\) +[\d,]+"] * 6,
    r"total +[\d,]+",
    r"run directory: .+/run",
    r"epoch +\d+/20  training loss .+",
]


@pytest.mark.slow
def test_a_command_says_only_its_own_lines(trained_run, tmp_path, command):
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    said = (trained_run.parent / "stderr.txt").read_text()
    lines = said.splitlines()
    for number, line in enumerate(lines):
        pattern = OUR_LINES[min(number, len(OUR_LINES) - 1)]
        assert re.fullmatch(pattern, line), said
    assert len(lines) >= len(OUR_LINES)
    for name, *more in (["jaxrnn.eval"], ["jaxrnn.predict", "rows.csv"]):
        done = command(name, f"--checkpoint={trained_run}", *more)
        assert (done.returncode, done.stderr) == (0, "")


class TestCompilationCache:
    @pytest.fixture(autouse=True)
    def settings_come_back(self):
        names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
        before = {name: getattr(jax.config, name) for name in names}
        yield
        for name, value in before.items():
            jax.config.update(name, value)

    @pytest.mark.parametrize("there_with", [None, 0o777])
    def test_is_the_users_own_and_for_nobody_else(self, tmp_path, monkeypatch, there_with):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        if there_with:
            (tmp_path / "cache" / "jaxrnn").mkdir(parents=True)
            (tmp_path / "cache" / "jaxrnn").chmod(there_with)
        umask = os.umask(0)
        try:
            directory = compilation.keep_compilations()
        finally:
            os.umask(umask)
        assert directory == tmp_path / "cache" / "jaxrnn" / compilation.machine_name()
        assert jax.config.jax_compilation_cache_dir == str(directory)
        for own in (directory, directory.parent):
            assert stat.S_IMODE(own.stat().st_mode) == 0o700

    @pytest.mark.parametrize("given", ["", "relative/cache", "."])
    def test_no_relative_directory_is_taken(self, tmp_path, monkeypatch, given):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert compilation.keep_compilations().parent == tmp_path / "home" / ".cache" / "jaxrnn"

    def test_is_off_unless_asked_for(self):
        kept = kept_programs.kept_by_all()
        expected = str(kept) if kept else os.environ.get("JAX_COMPILATION_CACHE_DIR")
        assert jax.config.jax_compilation_cache_dir == expected


class TestNamesStayInside:
    @pytest.mark.parametrize("name", ["...toml", "..toml", ".toml", "....toml"])
    def test_of_runs(self, tmp_path, monkeypatch, name):
        chosen = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("jaxrnn.commands.train_run.train", lambda _, run_dir, **__: chosen.append(run_dir.path))
        Path(name).write_text("epochs = 3\n")
        assert train.main([f"--config={name}"]) == 0
        (path,) = chosen
        assert path.parent == Path("runs")
        assert path.name not in ("", ".", "..")

    def test_a_default_name_is_not_one_that_exists(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("runs/lstm").mkdir(parents=True)
        assert RunDirectory.choose(None, name="lstm", resume=False).path == Path("runs/lstm-2")

    @pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "arrays/../../../secret"])
    def test_of_the_files_of_a_checkpoint(self, tmp_path, name):
        with Checkpointer(tmp_path / "steps") as checkpointer:
            checkpointer.save(1, {"a": np.ones(3, np.float32)}, {})
            manifest = tmp_path / "steps" / "1" / "manifest.sha256.json"
            digests = json.loads(manifest.read_text())
            del digests[manifest.name]  # its own sum, which the files of earlier versions have not
            manifest.write_text(json.dumps({name: "0" * 64, **digests}))
            with pytest.raises(CheckpointError, match="names a file outside of the step"):
                checkpointer.read_metadata(1)
