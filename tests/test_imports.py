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

# Which folders the modules of a folder may import from, beside their own; "" holds the commands at the top. The same
# table stands in docs/design.md, with the reasons.
LOWER = ["foundation", "settings"]
DATA = ["data", "data.readers", "data.series", "data.store", "data.tables"]
MODELS = [*LOWER, *DATA, "nn", "nn.engine", "parallel", "tasks"]
TOP = [*LOWER, "console", "data", "data.store", "data.tables", "runs", "parallel", "evaluation", "training"]
MAY_IMPORT = {
    "foundation": [],
    "settings": ["foundation"],
    "console": LOWER,
    "nn.engine": ["foundation"],
    "nn": ["foundation", "nn.engine"],
    "data": LOWER,
    "data.readers.native": LOWER,
    "data.readers": [*LOWER, "data", "data.readers.native"],
    "data.series": [*LOWER, "data"],
    "data.store": [*LOWER, "data", "data.readers", "data.series"],
    "data.tables": [*LOWER, "data", "data.readers", "data.series"],
    "parallel": [*LOWER, "nn"],
    "tasks": [*LOWER, "data", "data.series"],
    "models": MODELS,
    "runs": [*LOWER, "parallel"],
    "evaluation": [*MODELS, "models", "runs"],
    "evaluation.pictures": [*LOWER, "data", "data.series", "tasks", "evaluation"],
    "training": [*MODELS, "models", "runs", "evaluation"],
    "interop": [*LOWER, "nn", "nn.engine", "models", "runs", "evaluation"],
    "interop.exporting": [*LOWER, "data", "data.series", "nn", "nn.engine", "models", "evaluation", "interop"],
    "pages": [*LOWER, "data", "data.series", "tasks", "runs", "evaluation"],
    "commands": [
        *MODELS,
        "console",
        "models",
        "runs",
        "evaluation",
        "evaluation.pictures",
        "training",
        "interop",
        "interop.exporting",
        "pages",
    ],
    "commands.rehearsals": [*LOWER, "console", "nn.engine", "parallel", "runs", "training", "commands"],
    "": [*TOP, "commands", "commands.rehearsals"],
}
# They hold nothing, or, at the top, names to be looked up lazily.
PACKAGES = {"", *MAY_IMPORT}
MAX_MODULES, MAX_MODULES_AT_TOP = 16, 14


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def resolve(dotted: str) -> str:
    """Returns the longest module that a dotted name such as ``jaxrnn.settings.config.Config`` lies in."""
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


def folder_of(name: str) -> str:
    return name.rpartition(".")[0]


IMPORTS = {name: imports_of(ast.parse(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}


def test_every_folder_has_a_place():
    assert {folder_of(name) for name in MODULES if name not in PACKAGES} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_no_folder_holds_too_much(folder):
    held = [name for name in MODULES if name not in PACKAGES and folder_of(name) == folder]
    assert len(held) <= (MAX_MODULES if folder else MAX_MODULES_AT_TOP), held


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_follow_the_table(name):
    for imported, line in IMPORTS[name]:
        place = f"{MODULES[name]}:{line}"
        assert name not in PACKAGES, f"{place}: {imported} is imported where names are only to be looked up lazily"
        assert imported not in PACKAGES, f"{place}: import from the module that defines the name"
        allowed = [folder_of(name), *MAY_IMPORT[folder_of(name)]]
        assert folder_of(imported) in allowed, f"{place}: {name} must not import {imported}"


def test_no_circle_of_modules():
    waiting = {name: {imported for imported, _ in found} for name, found in IMPORTS.items()}
    while waiting:
        free = [name for name, found in waiting.items() if not found & waiting.keys()]
        assert free, f"these import each other: {sorted(waiting)}"
        for name in free:
            del waiting[name]


def test_imports_of_sees_every_form():
    source = """
import jaxrnn.settings.config
import os, jaxrnn.foundation.errors as e
from jaxrnn.tasks import metrics, bootstrap
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from jaxrnn.nn import layers
else:
    from jaxrnn.data.readers.reader import read_sequences
def function():
    if True:
        from jaxrnn.interop import torch
"""
    names = {name for name, _ in imports_of(ast.parse(source))}
    expected = {"settings.config", "foundation.errors", "tasks.metrics", "tasks.bootstrap", "data.readers.reader"}
    assert names == expected | {"interop.torch"}


LEAN = [
    "foundation.errors",
    "foundation.escaping",
    "foundation.files",
    "foundation.messages",
    "settings.config",
    "console.tables",
    "console.progress",
    "console.signals",
    "console.command_line",
    "runs.run_directory",
    "train",
    "eval",
    "predict",
    "export",
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


@pytest.mark.slow
def test_importing_changes_nothing_global():
    """Compared with a process that has imported what jaxrnn imports, so that only jaxrnn's own doings are seen."""
    code = f"""
import importlib, json, logging, random, signal, sys, threading, warnings
import flax.nnx, jax, matplotlib.figure, numpy, optax, orbax.checkpoint, pyarrow, tyro, jaxtyping, jax.monitoring
import sklearn.metrics, sklearn.utils.validation

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
heavy = ("jax", "numpy", "pyarrow", "flax", "matplotlib", "orbax", "sklearn")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    assert json.loads(run_python(code)) == []


@pytest.mark.slow
def test_scikit_learn_is_imported_for_its_estimators_alone():
    code = f"""
import importlib, json, sys
import jaxrnn
for name in {sorted(set(MODULES) - {"sklearn"})!r}:
    importlib.import_module("jaxrnn." + name if name else "jaxrnn")
print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "sklearn"]))
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
