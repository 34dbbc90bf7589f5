"""The examples in the docstrings of everything public run, and print what they show."""

import contextlib
import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import jaxrnn

HOMES = sorted({*jaxrnn._HOMES.values(), "sklearn"})


def examples_of(home: str) -> list[doctest.DocTest]:
    module: Any = importlib.import_module(f"jaxrnn.{home}")
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize(
    "home", [pytest.param(home, marks=pytest.mark.slow if home == "sklearn" else ()) for home in HOMES]
)
def test_examples_print_what_they_show(home: str, tmp_path: Path, trained_run: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "lstm").symlink_to(trained_run)  # what README's first command leaves
    runner = doctest.DocTestRunner()
    said: list[str] = []
    with contextlib.chdir(tmp_path):
        for test in examples_of(home):
            runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_everything_public_has_an_example() -> None:
    with_example = {test.name.split(".")[-1] for home in HOMES for test in examples_of(home)}
    assert {*jaxrnn.__all__, "SequenceClassifier", "SequenceRegressor"} - with_example == set()
    assert all(inspect.getdoc(getattr(jaxrnn, name)) for name in jaxrnn.__all__)
