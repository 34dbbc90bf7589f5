"""The README says what happens."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_python_blocks_print_what_their_comments_say(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
        expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("marker", ["command-run", "command-test"])
def test_the_two_commands_stand_between_their_markers(marker):
    found = re.search(rf"<!-- {marker} -->\n```sh\n(.+)\n```\n<!-- end -->", README)
    assert found
    assert "\n" not in found.group(1), "one command each"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target
