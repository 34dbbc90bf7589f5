"""Standard streams that are closed, and names that look like flags."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from jaxrnn import eval as evaluation
from jaxrnn import predict, prepare, report, train
from jaxrnn.console import flags
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.messages import say

COMMANDS = {
    "predict": (predict.main, ["--checkpoint=run", "rows.csv"]),
    "eval": (evaluation.main, ["--checkpoint=run"]),
    "report": (report.main, ["run"]),
    "prepare": (prepare.main, ["rows.csv", "--out=set"]),
    "print-config": (train.main, ["--print-config"]),
    "help": (train.main, ["--help"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_closed_output_is_refused_before_anything_is_done(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    main, arguments = COMMANDS[name]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        code = main(arguments)
    assert code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: standard output: found it closed; expected an open one")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_said_with_stderr_closed_does_not_land_in_the_output(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        say("a warning")
    assert capsys.readouterr().out == ""


def test_of_a_process_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys; from jaxrnn.console import command_line\n"
        "def body():\n    print(os.open('file', os.O_CREAT | os.O_WRONLY), sys.stderr.isatty())\n"
        "command_line.leave(command_line.run(body, own_process=True))"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- 2>&-', sys.executable, code],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    number, is_terminal = done.stdout.split()
    assert int(number) > 2
    assert is_terminal == "False"


class TestNamesThatLookLikeFlags:
    @pytest.mark.parametrize("given", [["--", "-a"], ["--out=x", "--", "-a", "--out"], ["b", "--", "--help"]])
    def test_behind_a_bare_dash_dash_all_are_names(self, given):
        assert not flags.asks_for_help(given)
        flags.check_flags(report.ReportCommand, given)

    def test_elsewhere_they_are_refused_with_what_to_do(self):
        with pytest.raises(UserError, match=r"'-a': unexpected; .* a name that begins with a dash goes behind"):
            flags.check_flags(report.ReportCommand, ["-a"])
        with pytest.raises(UserError, match="'--': unexpected"):
            flags.check_flags(train.TrainCommand, ["--", "x"])

    def test_the_command_takes_them(self, monkeypatch, capsys, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert report.main(["--", "-dash"]) == 2
        assert "error: -dash: no such directory; expected a run directory" in capsys.readouterr().err
        Path("-dash").mkdir()
        assert report.main(["--", "-dash"]) == 2
        assert "error: -dash: holds no run" in capsys.readouterr().err
