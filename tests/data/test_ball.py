"""The tutorial's data set: the file in the repository, the distribution, and the command."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from jaxrnn.data import ball
from jaxrnn.data.readers.reader import read_sequences
from jaxrnn.foundation.errors import UserError

BALL_CSV = Path(__file__).resolve().parents[2] / "ball.csv"


def test_the_committed_file_is_what_the_command_writes(tmp_path: Path) -> None:
    out = tmp_path / "ball.csv"
    assert ball.main([f"--out={out}"]) == 0
    assert out.read_bytes() == BALL_CSV.read_bytes()


def test_the_committed_file_holds_every_distinct_row() -> None:
    rows = read_sequences(BALL_CSV)
    assert len(rows) == 10_000
    assert len(rows.unique_rows()) == 1_260


def test_rows_follow_the_distribution() -> None:
    rows = ball.generate(60_000, seed=1)
    assert {step for row in rows for step in map(lambda a, b: b - a, row, row[1:])} == {
        -5, -4, -3, -2, -1, 1, 2, 3, 4, 5,
    }  # fmt: skip
    assert all(len({b - a for a, b in pairwise(row)}) == 1 for row in rows)
    for counts, choices in (
        (Counter(len(row) for row in rows), range(5, 11)),
        (Counter(row[0] for row in rows), range(-10, 11)),
        (Counter(row[1] - row[0] for row in rows), [*range(-5, 0), *range(1, 6)]),
    ):
        assert set(counts) == set(choices)
        expected = len(rows) / len(choices)
        # Five standard deviations of a count.
        assert max(abs(count - expected) for count in counts.values()) < 5 * expected**0.5


def test_a_seed_gives_the_same_rows_and_another_others() -> None:
    assert ball.generate(3, seed=0) == ball.generate(5, seed=0)[:3]
    assert ball.generate(3, seed=0) != ball.generate(3, seed=1)
    # Written down once: no Python version may change it.
    assert ball.generate(2, seed=0) == [[5, 4, 3, 2, 1, 0, -1, -2, -3, -4], [0, -1, -2, -3, -4, -5]]


def test_another_file_is_replaced_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ball.csv"
    out.write_text("mine\n")
    assert ball.main([f"--out={out}", "--rows=3"]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine\n"
    assert ball.main([f"--out={out}", "--rows=3", "--force"]) == 0
    assert len(read_sequences(out)) == 3


def test_the_same_file_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "ball.csv"
    assert ball.main([f"--out={out}", "--rows=3"]) == 0
    os.utime(out, ns=(1, 1))
    assert ball.main([f"--out={out}", "--rows=3"]) == 0
    assert out.stat().st_mtime_ns == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "ball.csv"
    out.write_text("mine\n")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left on device"):
        ball.write(out, [[1, 2]], force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ball.csv"]
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize("out", [".", "missing/ball.csv"])
def test_a_place_that_cannot_be_written_is_named(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ball.main([f"--out={out}"]) == 2
    assert capsys.readouterr().err.startswith(f"{out}: ")


def test_no_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        ball.main(["--rows=0"])
    assert exit_info.value.code == 2
    assert "expected at least 1" in capsys.readouterr().err


def test_the_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    out = tmp_path / "ball.csv"
    previous = os.umask(0o027)
    try:
        ball.main([f"--out={out}", "--rows=1"])
    finally:
        os.umask(previous)
    assert out.stat().st_mode & 0o777 == 0o640
