"""That what is under benchmarks/ still starts: no other test notices when the package changes under it."""

import importlib
import json
import platform
import subprocess
import sys

import jax
import pytest

from benchmarks import kernel_rates, page, sanitize
from hatch_build import VARIANTS

pytestmark = pytest.mark.slow
COMMANDS = sorted(
    path.stem
    for path in kernel_rates.SOURCE.parent.glob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_how_it_is_used(name, monkeypatch, capsys):
    try:
        module = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("jaxrnn", "benchmarks"):
            raise
        pytest.skip(f"{error.name} is not installed")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("usage: ")


PRINTED = {
    "forecasts": "| method | MASE | a second |\n|---|---|---|\n"
    "| jaxrnn | 0.8 | 0.8 | 7.6 | 80% | 112.2 | 6.99 | 121.2 | 59,892,300 | 533,577 | 60 epochs |\n"
    "| darts RNNModel, LSTM | - | - | - | - | - | - | - | - | 100,000 | training cut |\n"
    "| neuralforecast LSTM | 0.9 | 0.9 | 8.6 | 78% | 13.1 | 0.19 | 22.8 | 64,000 | 5,000 |  |",
    "tutorial": "whole process: 33.0 times faster (median; minimum 32.3); an epoch: 56.9 times (minimum 55.6)",
    "reading": "median   ratio 26.0\nminimum  ratio 27.5",
    "long tables": "pandas' time over ours: 0.75 (0.67 to 0.75)",
    "classify": "epoch of 27,000 sequences, PyTorch, packed  median 11295 ms, least 11100; of jaxrnn's time 11.73 (11",
    "inference": "\n".join(
        f"{cell}, {what}    7.720 ms  10.625 ms   1.38 (1.36, 1.40)"
        for cell in ("lstm", "gru", "tanh") for what in ("whole batch", "one step of one stream")
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tutorial", [33.0, 56.9]), ("reading", [26.0]), ("long tables", [0.75]), ("classify", [11.73]),
     ("inference", [1.38] * 6), ("forecasts", [533577 / 100_000, 533577 / 5000])],
)  # fmt: skip
def test_the_page_reads_what_commands_print(name, expected):
    assert list(page.JOBS[name].read(PRINTED[name], None).values()) == expected
    with pytest.raises(ValueError, match=r"no line has|not all of"):
        page.JOBS[name].read("nothing", None)


def test_the_page_takes_the_best_peer_of_a_step_and_both_ways_of_an_epoch():
    ratios = {"jaxrnn": [1.0], "torch-padded": [2.0, 3.0, 4.0], "torch-packed": [5.0], "keras": [2.5], "other": [0.1]}
    results = [{"workload": name, "ratios": ratios, "notes": {"other": {"marked": "another loss"}}}
               for name in ("lstm-T100-H128", "lognormal-T500-H128")]  # fmt: skip
    found = page.JOBS["steps"].read("", {"results": results})
    assert [(row.workload, value) for row, value in found.items()] == [
        ("a step, lstm-T100-H128", 2.5), ("ragged epoch, lognormal-T500-H128", 3.0),
        ("ragged epoch, lognormal-T500-H128", 5.0),
    ]  # fmt: skip


def test_the_page_goes_on_where_it_was_broken_off(tmp_path, monkeypatch, capsys):
    measured = []

    def measure(name, vowels):
        measured.append(name)
        return [] if name == "gru" else [[["reading", "csv", 20], float(len(measured))]]

    monkeypatch.setattr(page, "measure", measure)
    flags = ["--only=reading,gru", f"--out={tmp_path / 'page.json'}"]
    assert page.main([*flags, "--runs=1"]) == 0
    assert page.main([*flags, "--runs=2"]) == 0
    assert measured == ["reading", "gru", "gru", "reading", "gru"], "what failed is tried again"
    assert "| reading | csv | 20 | 2.50 | 1.00, 4.00 | 2 |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "page.json").read_text())
    (tmp_path / "page.json").write_text(json.dumps(kept | {"machine": "another"}))
    for wrong in (flags, ["--only=read"]):
        with pytest.raises(SystemExit):
            page.main(wrong)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="one machine is enough")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variants are those of x86-64")
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_rates_of_the_kernels_compile(variant):
    """They call what the kernels hide from everybody else."""
    if (compiler := sanitize.find_compiler()) is None:
        pytest.skip("there is no C++ compiler here")
    command = [*kernel_rates.compile_command(compiler, variant), "-fsyntax-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
