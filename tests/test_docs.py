"""The pages under docs/ run from top to bottom and print what they show.

A block marked torch needs PyTorch; of one marked quiet no output is shown; the output of one marked roughly, stderr
included, is compared without its numbers. ``python tests/test_docs.py`` writes the output below every block anew, where
it is not alike.
"""

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from page_shell import run_shell
from shown_output import is_alike

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
BLOCK = re.compile(r"```(python|sh)( torch| quiet| roughly)?\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
# They train models, or compute by many single operations, each of which JAX compiles.
LONG_PAGES = {
    "data.md",
    "forecasting.md",
    "from-flax.md",
    "own-cells.md",
    "tasks.md",
    "training.md",
    "variational-dropout.md",
}
PAGES = [page.name for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]


def run_page(text: str, *, with_torch: bool) -> list[tuple[str, str, str]]:
    """Runs a page's blocks in one namespace, in a directory of their own; in this process, unlike those of README.md.

    Args:
      text: The page.
      with_torch: Whether to run the blocks that need PyTorch.

    Returns:
      Of each block its code, what the page shows, and what it printed; nothing of those marked quiet.
    """
    namespace: dict = {"__name__": "page"}
    done = []
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        os.symlink(REPOSITORY / "examples", "examples")  # as at the top of a clone
        for language, mark, code, shown in BLOCK.findall(text):
            if mark == " torch" and not with_torch:
                continue
            if language == "sh":
                printed = run_shell(code, with_stderr=mark == " roughly")
                if mark == " roughly" and is_alike(printed, shown):
                    printed = shown
                done.append((code, shown, "" if mark == " quiet" else printed))
                continue
            written = io.StringIO()
            with contextlib.redirect_stdout(written):
                exec(compile(code, "page", "exec"), namespace)
            done.append((code, shown, "" if mark == " quiet" else written.getvalue()))
    return done


# A float32 in all its digits: the last one depends on how the program was compiled.
ALL_DIGITS = re.compile(r"-?\d+\.\d{5,}")


def assert_same(printed: str, shown: str, code: str) -> None:
    """Compares texts to the letter, and in them numbers with many digits to the sixth."""
    assert ALL_DIGITS.sub("#", printed) == ALL_DIGITS.sub("#", shown), code
    found, wanted = (list(map(float, ALL_DIGITS.findall(text))) for text in (printed, shown))
    assert found == pytest.approx(wanted, rel=1e-6), code


PAGES_OF_TORCH = [page for page in PAGES if "```python torch" in (DOCS / page).read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_OF_TORCH)
def test_every_block_prints_what_the_page_shows(page):
    pytest.importorskip("torch")
    for code, shown, printed in run_page((DOCS / page).read_text(encoding="utf-8"), with_torch=True):
        assert_same(printed, shown, code)


# Where torch is installed the test above runs these blocks too, so those of its pages wait for where it is not.
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page in LONG_PAGES else ())
        for page in PAGES
        if page not in PAGES_OF_TORCH or not importlib.util.find_spec("torch")
    ],
)
def test_the_blocks_without_torch_run_alone(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for code, shown, printed in run_page(text, with_torch=False):
        assert_same(printed, shown, code)


def test_every_example_stands_on_the_page_of_examples():
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    for script in (REPOSITORY / "examples").glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) < 100, script
        assert f"`examples/{script.name}`" in page or script.stem in ("gallery", "make_data"), script


def test_links_between_pages_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def rewrite(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    outputs = iter(printed for _, _, printed in run_page(text, with_torch=True))

    def with_output(match: re.Match) -> str:
        printed = next(outputs)
        code = f"```{match[1]}{match[2] or ''}\n{match[3]}```\n"
        return code + (f"\n```text\n{printed}```\n" if printed else "")

    page.write_text(BLOCK.sub(with_output, text), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        rewrite(DOCS / name)
