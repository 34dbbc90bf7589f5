"""``jaxrnn COMMAND``: one door to all commands."""

import contextlib
import gc
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxrnn import __main__, __version__
from jaxrnn.console import command_line

REPOSITORY = Path(__file__).resolve().parents[2]


def call(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["jaxrnn", *arguments])
    __main__.main()


class TestList:
    @pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
    def test_every_command_stands_in_it_with_a_sentence(self, monkeypatch, capsys, arguments):
        call(monkeypatch, *arguments)
        lines = capsys.readouterr().out.splitlines()
        listed = {
            line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ") and line[2] != " "
        }
        assert tuple(listed) == __main__.COMMANDS
        assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in listed.values())

    def test_commands_are_the_modules_that_parse_flags(self):
        modules = {
            path.stem
            for path in (REPOSITORY / "jaxrnn").glob("*.py")
            if "command_line.parse(" in path.read_text("utf-8")
        }
        assert modules == set(__main__.COMMANDS)

    def test_version(self, monkeypatch, capsys):
        call(monkeypatch, "--version")
        assert capsys.readouterr().out == f"jaxrnn {__version__}\n"


class TestCommands:
    def test_the_console_script_is_this(self):
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["scripts"] == {"jaxrnn": "jaxrnn.__main__:main"}
        assert project["version"] == __version__

    def test_a_command_gets_its_own_arguments(self, monkeypatch, capsys):
        monkeypatch.setattr(__main__.runpy, "run_module", lambda name, **_: print(name, sys.argv))
        call(monkeypatch, "eval", "--checkpoint=x", "--json")
        assert capsys.readouterr().out == "jaxrnn.eval ['jaxrnn eval', '--checkpoint=x', '--json']\n"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("tran", "did you mean train?"),
            ("x\x1b[2J", "expected one of train, eval"),
            ("--cell=lstm", "expected one of"),
        ],
    )
    def test_what_is_no_command_is_refused(self, monkeypatch, capsys, name, hint):
        with pytest.raises(SystemExit) as left:
            call(monkeypatch, name)
        assert left.value.code == 2
        error = capsys.readouterr().err
        assert hint in error
        assert "\x1b" not in error

    @pytest.mark.slow
    def test_it_ends_as_python_m_does(self):
        done = [
            subprocess.run(
                [sys.executable, "-m", *command, "--checkpoint=nowhere", "rows.csv"],
                capture_output=True, text=True, check=False, cwd=REPOSITORY,
            )
            for command in (["jaxrnn", "predict"], ["jaxrnn.predict"])
        ]  # fmt: skip
        assert [one.returncode for one in done] == [2, 2]
        assert done[0].stderr == done[1].stderr
        assert "nowhere: no such directory" in done[0].stderr


class TestHelp:
    @pytest.mark.parametrize("name", __main__.COMMANDS)
    def test_it_begins_with_examples_and_speaks_to_people(self, name, capsys):
        module = __import__(f"jaxrnn.{name}", fromlist=["main"])
        with pytest.raises(SystemExit):
            module.main(["--help"])
        text = capsys.readouterr().out
        assert text.count(f"python -m jaxrnn.{name} ") >= 2
        assert "STR" not in text
        assert "{None" not in text
        assert "(default: None)" not in text


def test_a_process_that_ends_looks_for_no_cycles(monkeypatch):
    monkeypatch.setattr(command_line, "end_at_once_on_signal", lambda code: None)
    before = gc.get_freeze_count()
    try:
        with pytest.raises(SystemExit) as raised:
            command_line.leave(0)
        assert (raised.value.code, gc.get_freeze_count() > before) == (0, True)
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("own_process", [False, True])
def test_only_a_process_of_its_own_collects_more_rarely(own_process, monkeypatch):
    monkeypatch.setattr(command_line, "EndOnSignal", lambda words: contextlib.nullcontext())
    before, seen = gc.get_threshold(), []
    assert command_line.run(lambda: seen.append(gc.get_threshold()), own_process=own_process) == 0
    assert (seen[0][0] > before[0]) == own_process
    assert seen[0][1:] == before[1:]
    assert gc.get_threshold() == before
