"""The package as a whole: who may import whom, what importing it changes (nothing), and what it shows."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrnn

PACKAGE = Path(jaxrnn.__file__).resolve().parent
MAX_LINES = 350

# From the top to the bottom. A module imports only what stands below its own line.
LAYERS = """
train eval predict convert report prepare
dry_run stream_runner
runner prediction conversion run_report
pages.error_sections pages.settings_sections
pages.result_sections
pages.predictions pages.charts pages.shell
evaluation pages.axes pages.markup pages.records
stream_evaluation stream_fitting run_opening
fitting plots
restoring
inference device_memory stream_training
training streaming
optimizers stream_order step_sizes
batch_order
objective state_sharding
shared_rows
devices truncation train_state
model_state
interop.flax interop.flax_cell interop.torch interop.weight_files models
layers
recurrent_layer
sequential
cell_stack
cells layer_options
equations
equation_checks parameters recurrence shared_units
checks
closed cpu_kernels masks
loops
forms
platforms
partitioning
judgement command_line data.loading data.ball data.layout preparation step_metadata
data.part_writer
data.dataset
data.shards
flags
compilation checkpoint
step_files
run_directory
run_lock hosts
reporting signals metrics bootstrap scalar_log
data.arranging
data.batching data.packing data.normalizer data.split data.reader
data.columnar_reader data.text_reader data.moments
data.exact_parser data.sources data.listed data.ragged data.short_integers data.columnar_sizes
data.complaints data.options
config_files
config
settings
errors _typing escaping quiet
"""
LAYER_OF = {name: number for number, line in enumerate(LAYERS.split("\n")) for name in line.split()}
# They re-export, or hold nothing.
WITHOUT_LAYER = {"", "data", "interop", "pages"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def resolve(dotted: str) -> str:
    """Returns the longest module that a dotted name such as ``jaxrnn.config.Config`` lies in."""
    parts = dotted.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(tree: ast.AST) -> set[tuple[str, int]]:
    """Returns the modules of the package that a file imports anywhere, with their lines."""
    found: set[tuple[str, int]] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if is_for_type_checkers(node):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        found |= {(resolve(name), node.lineno) for name in names if name.split(".")[0] == "jaxrnn"}
        waiting.extend(ast.iter_child_nodes(node))
    return found


def test_every_module_has_a_layer():
    assert set(MODULES) - WITHOUT_LAYER == set(LAYER_OF)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_down(name):
    for imported, line in imports_of(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if name in WITHOUT_LAYER:
            pytest.fail(f"{MODULES[name]}:{line}: {imported} is imported where names are only to be looked up lazily")
        assert imported not in WITHOUT_LAYER, f"{MODULES[name]}:{line}: import from the module that defines the name"
        assert LAYER_OF[imported] > LAYER_OF[name], f"{MODULES[name]}:{line}: {name} must not import {imported}"


def test_imports_of_sees_every_form():
    source = """
import jaxrnn.config
import os, jaxrnn.errors as e
from jaxrnn import metrics, cells
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from jaxrnn import layers
else:
    from jaxrnn.data.reader import read_sequences
def function():
    if True:
        from jaxrnn.interop import torch
"""
    names = {name for name, _ in imports_of(ast.parse(source))}
    assert names == {"config", "errors", "metrics", "cells", "data.reader", "interop.torch"}


LEAN = [
    "errors",
    "escaping",
    "config",
    "reporting",
    "run_directory",
    "signals",
    "command_line",
    "train",
    "eval",
    "predict",
    "report",
    "prepare",
]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_changes_nothing_global():
    """Compared with a process that has imported what jaxrnn imports, so that only jaxrnn's own doings are seen."""
    code = f"""
import importlib, json, logging, random, signal, sys, threading, warnings
import flax.nnx, jax, matplotlib.figure, numpy, optax, orbax.checkpoint, pyarrow, tyro, jaxtyping, jax.monitoring

def look():
    root = logging.getLogger()
    loggers = {{
        f"logger {{name}}": (logger.level, logger.propagate, logger.disabled, list(map(repr, logger.handlers)))
        for name, logger in sorted(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and not name.startswith("jaxrnn")
    }}
    return loggers | {{
        "jax": {{key: repr(value) for key, value in jax.config.values.items()}},
        "root logger": (root.level, list(map(repr, root.handlers))),
        "logging.disable": logging.root.manager.disable,
        "signals": [repr(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "random": repr(random.getstate()),
        "numpy": repr(numpy.random.get_state()),
        "numpy errors": numpy.geterr(),
        "numpy print": repr(numpy.get_printoptions()),
        "warnings": list(map(repr, warnings.filters)),
        "threads": threading.active_count(),
        "recursion": sys.getrecursionlimit(),
        "hooks": [repr(sys.excepthook), repr(sys.displayhook)],
        "path": sys.path,
        "matplotlib": repr(dict(matplotlib.rcParams)),
        "matplotlib backend": matplotlib.rcParams._get_backend_or_none(),
        "environment": dict(__import__("os").environ),
        "pyplot": "matplotlib.pyplot" in sys.modules,
    }}

before = look()
import jaxrnn
for name in {sorted(MODULES)!r}:
    importlib.import_module("jaxrnn." + name if name else "jaxrnn")
for name in jaxrnn.__all__:
    getattr(jaxrnn, name)
after = look()
# A logger that is made without a setting changes nothing.
made = (0, True, False, [])
print(json.dumps({{key: [repr(before.get(key, made)), repr(after[key])] for key in after
                   if before.get(key, made) != after[key]}}))
"""
    assert json.loads(run_python(code)) == {}


def test_importing_the_package_or_a_door_loads_neither_jax_nor_numpy():
    code = f"""
import importlib, json, sys
import jaxrnn
for name in {LEAN!r}:
    importlib.import_module("jaxrnn." + name)
print(json.dumps([name for name in ("jax", "numpy", "pyarrow", "flax", "matplotlib", "orbax") if name in sys.modules]))
"""
    assert json.loads(run_python(code)) == []


class TestPublicNames:
    def test_all_can_be_imported_and_are_listed(self):
        assert sorted(set(jaxrnn.__all__)) == sorted(jaxrnn.__all__)
        shown = dir(jaxrnn)
        for name in jaxrnn.__all__:
            assert getattr(jaxrnn, name) is not None
            assert name in shown
        namespace: dict = {}
        exec("from jaxrnn import *", namespace)
        assert set(jaxrnn.__all__) <= set(namespace)

    def test_dir_and_all_are_complete_before_anything_was_imported(self):
        listed, exported = json.loads(
            run_python("import json, jaxrnn; print(json.dumps([dir(jaxrnn), jaxrnn.__all__]))")
        )
        assert set(exported) <= set(listed)
        assert sorted(exported) == sorted(jaxrnn.__all__)

    def test_type_checkers_see_the_same_names(self):
        tree = ast.parse(MODULES[""].read_text(encoding="utf-8"))
        block = next(node for node in tree.body if is_for_type_checkers(node))
        homes = {
            alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        assert sorted(homes) == sorted(jaxrnn.__all__)
        assert {name: f"jaxrnn.{home}" for name, home in jaxrnn._HOMES.items()} == homes

    def test_unknown_name(self):
        with pytest.raises(AttributeError, match="module 'jaxrnn' has no attribute 'LSTMM'"):
            _ = jaxrnn.LSTMM

    def test_version_is_the_projects(self):
        text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
        assert f'version = "{jaxrnn.__version__}"' in text


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_file_is_too_long(name):
    num_lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"{MODULES[name]} has {num_lines} lines: it is two files"
