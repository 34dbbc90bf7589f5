"""What the commands make of files that are not rows: one message with the place, exit code 2, nothing written.

The reader's own tests say the same of the function; these go through the commands' main().
"""

import contextlib
import gzip
import io
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from jaxrnn import eval as eval_command
from jaxrnn import predict, train
from tests.conftest import REPOSITORY

ERROR = re.compile(r"error: (?P<place>.+?): found (?P<found>.+); expected (?P<expected>.+?); (?P<remedy>.+)\n")
GOOD = b"1,2,3\n"

# content, flags, where, what was found, what the remedy must name
TABLE = {
    "blank line": (GOOD + b"\n" + GOOD, [], ":2:1", "a blank line", "--blank-lines=skip"),
    "white-space line": (GOOD + b" \t\n" + GOOD, [], ":2:1", "a blank line", "--blank-lines=skip"),
    "empty field": (b"1,,2\n", [], ":1:3", "an empty field", "write the missing value"),
    "trailing comma": (b"1,2,\n", [], ":1:5", "an empty field", "remove the ','"),
    "nan": (b"1,nan\n", [], ":1:3", "'nan'", "mend the value"),
    "inf": (b"-inf,1\n", [], ":1:1", "'-inf'", "mend the value"),
    "1e999": (b"1,1e999\n", [], ":1:3", "'1e999'", "rescale"),
    "beyond float32": (b"1,3.5e38\n", [], ":1:3", "'3.5e38'", "rescale"),
    "1_000": (b"1,1_000\n", [], ":1:3", "'1_000'", "in digits"),
    "0x10": (b"1,0x10\n", [], ":1:3", "'0x10'", "in digits"),
    "1d0": (b"1,1d0\n", [], ":1:3", "'1d0'", "in digits"),
    "full-width digits": ("1,\uff11\n".encode(), [], ":1:3", "'\uff11'", "ASCII digits"),
    "Arabic digits": ("1,\u0661\n".encode(), [], ":1:3", "'\u0661'", "ASCII digits"),
    "True": (b"1,True\n", [], ":1:3", "'True'", "in digits"),
    "formula": (b"1,=1+2\n", [], ":1:3", "'=1+2'", "digits"),
    "NUL": (b"1,\x00\n", [], ":1:3", r"'\x00'", "UTF-8"),
    "UTF-16": ("1,2\n".encode("utf-16"), [], ":1:1", r"'\xff\xfe'", "UTF-8"),
    "Latin-1": (b"1,\xe9\n", [], ":1:3", r"'\xe9'", "UTF-8"),
    "semicolons": (b"1;2\n", [], ":1:1", "'1;2'", "--delimiter=';'"),
    "tabs": (b"1\t2\n", [], ":1:1", r"'1\t2'", r"--delimiter='\t'"),
    "decimal commas": (b"1,5;2,5\n", [], ":1:3", "'5;2'", "--delimiter=';'"),
    "header": (b"a,b\n1,2\n", [], ":1:1", "'a'", "--header"),
    "comment": (GOOD + b"# 1,2\n", [], ":2:1", "'# 1'", "never dropped"),
    "empty file": (b"", [], "", "an empty file", "right file"),
    "all rows skipped": (b"\n\n", ["--blank-lines=skip"], "", "no rows, only 2 blank lines", "right file"),
    "row too long": (b"1,2\n1,2,3,4\n", ["--max-row-length=3"], ":2:7", "more than 3 values", "--max-row-length"),
    "file too large": (GOOD * 10, ["--max-bytes=50"], "", "more than 50 bytes", "--max-bytes"),
    "long text": (b"1," + b"x" * 99 + b"\n", [], ":1:3", f"'{'x' * 37}...'", "in digits"),
    "escape sequence": (b"1,\x1b[2J\n", [], ":1:3", r"'\x1b[2J'", "digits"),
    "damaged gzip": (gzip.compress(GOOD)[:-4], [], "", "data that cannot be read on", "fetch"),
    "damaged Parquet": (b"PAR1" + GOOD + b"PAR1", [], "", "a columnar file that cannot be read", "fetch"),
}  # fmt: skip
# Only training and evaluation need a value to predict.
TABLE_OF_TRAINING = {
    "a row of one value": (GOOD + b"4\n", [], ":2:1", "a row of 1 value, '4'", "remove the row"),
    "fewer rows than parts": (GOOD + b"4,5\n", [], "", "2 rows, 2 distinct, of which", "give more rows"),
}


class Refusal:
    """What a command said and did: place, what was found, what to do about it."""

    def __init__(self, command, *arguments: object, stdin: bytes = b"") -> None:  # type: ignore[no-untyped-def]
        before = set(Path().rglob("*"))
        out, err = io.StringIO(), io.StringIO()
        given, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = command.main([str(argument) for argument in arguments])
        finally:
            sys.stdin = given
        assert (code, out.getvalue()) == (2, "")
        assert set(Path().rglob("*")) == before
        match = ERROR.fullmatch(err.getvalue())
        assert match, err.getvalue()
        assert err.getvalue()[:-1].isprintable()
        self.place, self.found, self.remedy = match["place"], match["found"], match["remedy"]


def refused_by_training(*arguments: object) -> Refusal:
    return Refusal(train, "--config=smoke", *arguments)


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


ALL = {**TABLE, **TABLE_OF_TRAINING}


@pytest.mark.parametrize(("content", "flags", "place", "found", "remedy"), ALL.values(), ids=ALL)
def test_train(content, flags, place, found, remedy):
    Path("rows.csv").write_bytes(content)
    refusal = refused_by_training("--data=rows.csv", *flags)
    assert refusal.place == f"rows.csv{place}"
    assert refusal.found.startswith(found)
    assert remedy in refusal.remedy


@pytest.mark.parametrize(("content", "flags", "place", "found", "remedy"), TABLE.values(), ids=TABLE)
def test_predict_from_standard_input(content, flags, place, found, remedy):
    refusal = Refusal(predict, "--checkpoint=unused", "-", *flags, stdin=content)
    assert refusal.place == f"<stdin>{place}"
    assert refusal.found.startswith(found)
    assert remedy in refusal.remedy


def bomb() -> bytes:
    compressor = zlib.compressobj(wbits=31)
    return b"".join(compressor.compress(b"1,2\n" * (1 << 18)) for _ in range(20)) + compressor.flush()


def zstd_bomb() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"1,2\n" * (5 << 20))
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("make", [bomb, zstd_bomb])
def test_what_inflates_past_the_limit(make):
    content = make()
    assert len(content) < 200_000
    Path("rows.gz").write_bytes(content)
    for refusal in (
        refused_by_training("--data=rows.gz", "--max-bytes=1000000"),
        Refusal(predict, "--checkpoint=unused", "--max-bytes=1000000", stdin=content),
    ):
        assert refusal.found == "more than 1000000 bytes"
        assert "--max-bytes" in refusal.remedy


class TestPaths:
    """Every command that reads a file refuses a path that names none, and never waits."""

    @pytest.fixture(params=["train", "predict"])
    def refuse(self, request):
        if request.param == "train":
            return lambda path: refused_by_training(f"--data={path}")
        return lambda path: Refusal(predict, "--checkpoint=unused", path)

    def test_directory(self, refuse):
        Path("rows").mkdir()
        assert (refuse("rows").place, refuse("rows").found) == ("rows", "a directory")

    def test_fifo(self, refuse):
        os.mkfifo("pipe")
        assert (refuse("pipe").place, refuse("pipe").found) == ("pipe", "a named pipe")

    def test_link_to_a_fifo(self, refuse):
        os.mkfifo("pipe")
        Path("link").symlink_to("pipe")
        assert refuse("link").found == "a named pipe"

    def test_symlink_loop(self, refuse):
        Path("loop").symlink_to("loop")
        assert "too many levels of symbolic links" in refuse("loop").found

    def test_missing_file(self, refuse):
        assert (refuse("none.csv").place, refuse("none.csv").found) == ("none.csv", "no such file")

    def test_no_permission(self, refuse, monkeypatch):
        Path("rows.csv").write_bytes(GOOD)
        Path("rows.csv").chmod(0)
        if os.access("rows.csv", os.R_OK):  # the superuser reads everything
            real = os.open

            def refuse_rows(path, *rest, **named):
                if path == "rows.csv":
                    raise PermissionError(13, "Permission denied", path)
                return real(path, *rest, **named)

            monkeypatch.setattr(os, "open", refuse_rows)
        assert "permission denied" in refuse("rows.csv").found

    def test_name_that_would_steer_a_terminal(self, refuse):
        assert refuse("\x1b[2J\n\u202e.csv").place == r"\x1b[2J\n\u202e.csv"


def test_training_reads_no_standard_input(capsys):
    for path in ("-", ""):
        assert train.main(["--config=smoke", f"--data={path}"]) == 2
        assert "not standard input" in capsys.readouterr().err


def test_an_empty_path_is_not_standard_input():
    assert Refusal(predict, "--checkpoint=unused", "", stdin=GOOD).place == "''"


def test_a_run_that_is_not_there_is_named_beside_what_is_wrong_with_the_rows():
    Path("rows.csv").write_text("1,2,x\n")
    refusal = Refusal(predict, "--checkpoint=runs/none", "rows.csv")
    assert refusal.found == "'x'"
    assert "besides, runs/none: no such directory" in refusal.remedy


def test_a_run_that_is_not_there_is_named_before_a_header_that_its_model_may_read(capsys):
    Path("table.csv").write_text("shop,month,sales\na,2024-05,1\n")
    assert predict.main(["--checkpoint=runs/none", "table.csv"]) == 2
    assert re.match(r"error: runs/none: no such directory; .*; besides, table.csv:1:1: ", capsys.readouterr().err)


def test_evaluation_refuses_as_training_does(trained_run):
    Path("rows.csv").write_bytes(GOOD + b"4\n")
    refusal = Refusal(eval_command, f"--checkpoint={trained_run}", "--data=rows.csv")
    assert (refusal.place, refusal.found) == ("rows.csv:2:1", "a row of 1 value, '4'")


@pytest.mark.slow
def test_as_a_user_meets_it(command):
    Path("rows.csv").write_bytes(b"1,2,3\n4,\x1b[31mfive\n")
    done = command("jaxrnn.train", "--data=rows.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        r"error: rows.csv:2:3: found '\x1b[31mfive'; expected a decimal number;"
        " write it in digits, such as -1.5 or 2e3\n"
    )
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]


@pytest.mark.slow
def test_a_pipe_that_stays_open_is_waited_for_and_one_that_ends_is_read(trained_run):
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxrnn.predict", f"--checkpoint={trained_run}", "-"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = process.communicate(b"1,2\r\n7", timeout=120)
    assert process.returncode == 0
    assert len(out.splitlines()) == 2


def test_a_value_beyond_float32_in_a_test_row_is_refused_before_training(tmp_path):
    """Training rows of tiny values make a scale by which one test row is beyond float32."""
    from small_runs import call

    lines = [f"{number}e-9,{number + 1}e-9,{number + 3}e-9\n" for number in range(60)]
    for place in (0, 3, 6):  # training, validation and test, in blocks of three
        (tmp_path / "rows.csv").write_text("".join([*lines[:place], "1e36,2e36\n", *lines[place:]]))
        flags = [
            "--config=smoke",
            "--split=tutorial",
            "--split-block=3",
            "--epochs=1",
            f"--data={tmp_path / 'rows.csv'}",
        ]
        done = call("train", *flags, "--normalizer=divide", "--divisor=1e-9", f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert (
            "rows.csv: found a value of 2e+45 once normalised by (x - 0) / 1e-09; expected at most 3.4e+38" in done.err
        )
        assert not (tmp_path / "run").exists()
