"""The READMEs say what happens: what they show runs as typed, in a fresh clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kept_programs import lent_to_children
from shown_output import is_in

REPOSITORY = Path(__file__).resolve().parent.parent
README, CHINESE = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
# The two commands that install: `.ci/run` runs them.
INSTALLING = "pip install"


def blocks_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_every_command_and_every_block_runs_as_typed(tmp_path):
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        to = tmp_path / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).exists():
            shutil.copyfile(REPOSITORY / name, to)
    # As PATH and the package are once it is installed; what it was compiled to does not lie in the repository.
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(tmp_path),
    }
    for library in (REPOSITORY / "jaxrnn" / "nn" / "kernels").glob("*.so"):
        shutil.copyfile(library, tmp_path / library.relative_to(REPOSITORY))
    done = ""
    with lent_to_children(tmp_path / "programs") as of_programs:
        for language, code in blocks_of(README):
            if INSTALLING in code:
                continue
            command = ["bash", "-e"] if language == "sh" else [sys.executable, "-"]
            ended = subprocess.run(
                command, input=code, cwd=tmp_path, env=environment | of_programs, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert ended.returncode == 0, (code, ended.stderr)
            done += ended.stdout
            if language == "python":
                assert ended.stdout.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    printed = done + (tmp_path / "forecasts.csv").read_text(encoding="utf-8")
    for shown in re.findall(r"```text\n(.*?)```", README + CHINESE, re.DOTALL):
        assert is_in(printed, shown), shown
    assert '"accuracy"' in done
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000


def test_layers_print_what_their_comments_say(capsys):
    code = next(code for language, code in blocks_of(README) if language == "python" and "jaxrnn.LSTM" in code)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)


def test_the_chinese_page_has_the_same_commands_and_blocks():
    assert blocks_of(CHINESE) == blocks_of(README)


@pytest.mark.parametrize("marker", ["command-run", "command-test"])
def test_the_two_commands_stand_between_their_markers(marker):
    found = re.search(rf"<!-- {marker} -->\n```sh\n(.+)\n```\n<!-- end -->", README)
    assert found
    assert "\n" not in found.group(1), "one command each"


@pytest.mark.parametrize("page", [README, CHINESE, (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")])
def test_links_lead_somewhere(page):
    found = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page)
    assert len(found) > 5
    for target in found:
        assert (REPOSITORY / target).exists(), target


def test_the_page_is_short():
    assert len(README.splitlines()) <= 250


def test_flags_in_the_tables_are_flags():
    """What stands in the cells of tables cannot run; so that every flag there is one is looked up."""
    from jaxrnn.console.flags import _flags_of
    from jaxrnn.export import ExportCommand
    from jaxrnn.predict import PredictCommand
    from jaxrnn.prepare import PrepareCommand
    from jaxrnn.train import TrainCommand

    commands = (TrainCommand, PredictCommand, PrepareCommand, ExportCommand)
    known = {flag for command in commands for flag in _flags_of(command)}
    for page in (README, CHINESE):
        cells = "\n".join(line for line in page.splitlines() if line.startswith("|"))
        found = set(re.findall(r"--([a-z][a-z-]+)", cells))
        assert len(found) > 10
        assert found <= known, found - known
