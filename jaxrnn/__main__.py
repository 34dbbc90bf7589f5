"""Recurrent networks on sequences of any lengths: the commands, as ``jaxrnn COMMAND`` or ``python -m jaxrnn.COMMAND``.

jaxrnn train --cell=lstm
jaxrnn eval --checkpoint=runs/lstm
jaxrnn predict --checkpoint=runs/lstm rows.csv
"""

import ast
import difflib
import runpy
import sys
from pathlib import Path

from jaxrnn.foundation.versions import versions

COMMANDS = ("train", "eval", "predict", "report", "prepare", "export", "convert")


def main() -> None:
    """Runs the command that the process's first argument names, as ``python -m`` would."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help") and not rest:
        print(describe())
    elif name in ("-V", "--version"):
        print(f"jaxrnn {versions()['jaxrnn']}")
    elif name in COMMANDS:
        sys.argv = [f"jaxrnn {name}", *rest]
        runpy.run_module(f"jaxrnn.{name}", run_name="__main__", alter_sys=True)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        print(f"error: {ascii(name)[:80]}: is no command; {hint}", file=sys.stderr)
        sys.exit(2)


def describe() -> str:
    """Returns the list of commands: the first sentence that each module says of itself, which is not imported."""
    lines = [f"  {name:9}{_first_line(name)}" for name in COMMANDS]
    first, _, examples = (__doc__ or "").partition("\n\n")
    return f"{first}\n\n{chr(10).join(lines)}\n\n{examples.rstrip()}\n\njaxrnn COMMAND --help lists a command's flags."


def _first_line(name: str) -> str:
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    main()
