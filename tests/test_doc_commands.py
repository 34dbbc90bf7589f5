"""Every fenced block of every page is run by a test, or stands on the list below with the reason why not.

On the pages of docs/ blocks of python and sh are run, and what a text behind one shows is compared (test_docs.py).
Commands that are not run are bash, or console where somebody types at a prompt: they need what a test has not. Their
flags are parsed all the same, and the scripts for clusters run where one process stands for the cluster.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import free_port
from quick_flags import flags_of_child
from test_docs import BLOCK, DOCS, REPOSITORY
from test_readme import INSTALLING

from jaxrnn.__main__ import COMMANDS
from jaxrnn.console import command_line
from jaxrnn.console.flags import _flags_of

PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *(page for part in ("docs", "examples", "benchmarks") for page in sorted((REPOSITORY / part).rglob("*.md"))),
]
FENCE = re.compile(r"^```(.*)\n((?s:.*?))^```$", re.MULTILINE)
# The pages that test_readme.py runs, and those that test_docs.py does.
READMES = ("README.md", "README.zh.md")
MEASURED = "what a benchmark printed on the machine that the page names; one takes minutes to hours"
EXAMPLE = "a whole training, 10 to 21 seconds; test_examples.py runs it with 2 epochs and looks for its last line"
COMPILER = "a TPU's compiler; see tests/nn/test_accelerators.py"
# Blocks that no test runs: the page, the beginning of the block, and the reason.
NOT_RUN = [
    ("README.md", "python3 -m venv .venv && ", "it installs; `.ci/run` takes it from the page and runs it"),
    ("README.md", ". .venv/bin/activate && ", "it installs and runs these tests; `.ci/run` does"),
    ("README.zh.md", "python3 -m venv .venv && ", "as in README.md"),
    ("README.zh.md", ". .venv/bin/activate && ", "as in README.md"),
    ("docs/training.md", "$ python -m jaxrnn.predict", "it asks at a terminal; test_commands.py has TestPrompt"),
    ("docs/tasks.md", "python -m jaxrnn.train --task=classify --data=Japanese", "JapaneseVowels, of the package aeon"),
    ("docs/tasks.md", "                           loss", "JapaneseVowels, of the package aeon"),
    ("docs/scaling.md", "python -m jaxrnn.train --config=my.toml", "eight devices and four hosts; see tests/parallel"),
    ("docs/scaling.md", "python -m pip install -e '.[cuda]'", "GPUs, and CUDA's libraries"),
    ("docs/scaling.md", "#!/bin/bash\n#SBATCH", "Slurm; a test below runs it with an srun of one task"),
    ("docs/scaling.md", "apiVersion: v1\nkind: Service", "Kubernetes; a test below runs what its container does"),
    ("docs/scaling.md", "gcloud compute tpus", "a TPU pod; a test below runs what is run on its hosts"),
    ("docs/scaling.md", "python -m jaxrnn.train --cell=lstm --hidden-size=512", COMPILER),
    ("docs/scaling.md", "...\ntarget: tpu:v5e:16x16", COMPILER),
    ("docs/releasing.md", "python -m pip install build auditwheel", "it installs; test_package.py builds"),
    ("docs/examples.md", "training: Sequences(270", EXAMPLE),
    ("docs/examples.md", "Sequences(1040", EXAMPLE),
    ("docs/examples.md", "Sequences(80", EXAMPLE),
    ("docs/examples.md", "                     mase", EXAMPLE),
    ("docs/examples.md", "pandas columns:", EXAMPLE),
    ("benchmarks/README.md", "round  jaxrnn: process s", MEASURED),
    ("benchmarks/README.md", "seconds, median (minimum)", MEASURED),
    ("benchmarks/README.md", "                                   jaxrnn    PyTorch", MEASURED),
    ("benchmarks/README.md", "50,000,000 rows written", MEASURED),
    ("benchmarks/README.md", "1,000,000 rows, 3 rounds", MEASURED),
    ("benchmarks/README.md", "25,839 sequences", MEASURED),
    ("benchmarks/README.md", "as it is             median", MEASURED),
    ("benchmarks/README.md", "python3.11 -m venv peers", "it installs the peers and trains them for hours"),
    ("benchmarks/README.md", "LSTM, B 64 a core", MEASURED),
]


class Fence(NamedTuple):
    page: str
    kind: str
    text: str
    is_run: bool

    @property
    def where(self) -> str:
        return f"{self.page}: ```{self.kind}\n{self.text[:200]}"


def fences() -> list[Fence]:
    """Lists the fenced blocks of all pages, and of each whether a test runs it, or compares what it shows."""
    found = []
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(REPOSITORY))
        # From where to where a block, with what it shows, is run.
        spans = [match.span() for match in BLOCK.finditer(text)] if page.parent == DOCS else []
        for match in FENCE.finditer(text):
            kind, body = match.groups()
            is_run = any(begin <= match.start() < end for begin, end in spans)
            if name in READMES:
                is_run = kind in ("python", "sh", "text") and INSTALLING not in body
            found.append(Fence(name, kind, body, is_run))
    return found


def entries_of(fence: Fence) -> list[tuple[str, str, str]]:
    return [entry for entry in NOT_RUN if entry[0] == fence.page and fence.text.startswith(entry[1])]


def test_every_block_is_run_or_listed():
    found = fences()
    assert len(found) > 150
    for fence in found:
        assert len(entries_of(fence)) == (not fence.is_run), fence.where
    for entry in NOT_RUN:
        assert sum(entry in entries_of(fence) for fence in found) == 1, entry


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_stands_outside_a_fence(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, "a block that is not closed"
    outside = FENCE.sub("", text)
    assert not re.findall(r"^(?: {4}|\t)(?:\$ |python|pip|jaxrnn|git |cd |export ).*", outside, re.MULTILINE)
    assert not re.search(r"pip install (?:-\S+ )*'?jaxrnn", text), "a clone is installed: no registry has the package"
    assert "$ " not in "".join(fence.text for fence in fences() if fence.page == page.name and fence.kind == "sh")


def command_of(name: str) -> type:
    return getattr(importlib.import_module(f"jaxrnn.{name}"), f"{name.capitalize()}Command")


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """Finds the commands of a script: each one's name and what it is given, up to a pipe, a quote or a comment."""
    lines = text.replace("\\\n", " ")
    for variable, value in (('"$run"', "run"), ("$resume", ""), ("$JOB_COMPLETION_INDEX", "0")):
        lines = lines.replace(variable, value)
    found = re.findall(rf"-m jaxrnn\.({'|'.join(COMMANDS)}) ([^\n|<>#\"]*)", lines)
    return [(name, shlex.split(given)) for name, given in found]


def test_the_flags_of_what_is_not_run_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("epochs = 1\n", encoding="utf-8")
    checked = 0
    for fence in fences():
        for name, given in commands_in("" if fence.is_run else fence.text):
            flags = [flag.replace("/shared/", "") for flag in given]
            file = next((flag.partition("=")[2] for flag in flags if flag.startswith("--config=")), None)
            assert file in (None, "my.toml"), fence.where
            command = command_of(name)
            default = command(settings=command_line.load_config(None, file).config) if name == "train" else None
            command_line.parse(command, flags, program=name, default=default)
            checked += 1
    assert checked >= 10


# Flags of programs that are not commands of this package, on pages of docs/.
OTHER_FLAGS = {"help", "no-deps", "rounds", "real-flags", "check-annotations", "loop-only", "dist", "write"}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_flags_in_sentences_are_flags(page):
    known = {flag for name in COMMANDS for flag in _flags_of(command_of(name))}
    known |= {f"no-{flag}" for flag in known}
    named = re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
    found = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", " ".join(named)))
    assert found <= known | OTHER_FLAGS, found - known - OTHER_FLAGS


def test_benchmarks_take_the_flags_that_their_page_gives():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\\\n", " ")
    found = re.findall(r"python -m benchmarks\.(\w+)([^`\n]*)", pages)
    assert len(found) > 30
    for name, given in found:
        source = (REPOSITORY / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        for flag in re.findall(r" --([a-z-]+)", given):
            assert f'"--{flag}"' in source, (name, flag)


SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_JOB_ID=$RANDOM SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
exec "$@"
"""
# Creating a TPU and installing on it is let be; a command for all hosts is run here, as the one task of a cluster.
GCLOUD = """#!/bin/bash
for given in "$@"; do
  case $given in
    --command=*jaxrnn.train*) exec srun bash -c "${given#--command=}" ;;
  esac
done
"""


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["#SBATCH", "apiVersion", "gcloud"])
def test_scripts_for_clusters_train(cluster, tmp_path):
    (fence,) = (fence for fence in fences() if fence.page == "docs/scaling.md" and cluster in fence.text)
    script = fence.text
    if cluster == "apiVersion":
        lines = script.partition("- |\n")[2].partition("ports:")[0]
        script = lines.replace("--num-processes=4", "--num-processes=1")
        script = script.replace("jaxrnn-0.jaxrnn:7733", f"localhost:{free_port()}")
    shared, programs = tmp_path / "shared", tmp_path / "bin"
    for directory in (shared, programs):
        directory.mkdir()
    for name, text in (("srun", SRUN), ("gcloud", GCLOUD)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    (shared / "rows").write_text("1,3,5,7\n" * 5 + "2,4,6\n" * 5 + "9,7,5,3\n" * 5 + "0,3,6\n" * 5, encoding="utf-8")
    settings = 'cell = "rnn"\nhidden_size = 2\nepochs = 1\nsplit = "random"\n'
    (shared / "my.toml").write_text(settings, encoding="utf-8")
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    given = {"PATH": path, "PYTHONPATH": str(REPOSITORY), "SLURM_JOB_NAME": "run", "JOB_COMPLETION_INDEX": "0"}
    done = subprocess.run(
        ["bash", "-e"], input=script.replace("/shared", str(shared)), cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | given | flags_of_child(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(shared.glob("**/summary.json")), done.stderr
