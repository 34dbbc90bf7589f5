"""The examples in the docstrings of the public layers and cells run, and print what they show."""

import doctest
import importlib
import inspect
from typing import Any

import pytest

import jaxrnn

MODULES = ["nn.equations", "nn.cells", "nn.layers"]
WITH_EXAMPLE = ["RNN", "LSTM", "GRU", "RecurrentLayer", "RNNCell", "LSTMCell", "GRUCell", "LSTMState", "Equation"]


def examples_of(name: str) -> list[doctest.DocTest]:
    module: Any = importlib.import_module(f"jaxrnn.{name}")
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(name: str) -> None:
    runner = doctest.DocTestRunner()
    said: list[str] = []
    for test in examples_of(name):
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_every_public_layer_and_cell_has_an_example() -> None:
    found = {test.name.split(".")[-1] for name in MODULES for test in examples_of(name)}
    assert found == set(WITH_EXAMPLE)
    public = {name for name in jaxrnn.__all__ if getattr(jaxrnn, name).__module__.removeprefix("jaxrnn.") in MODULES}
    assert public == {name for name in WITH_EXAMPLE if inspect.isclass(getattr(jaxrnn, name))}
