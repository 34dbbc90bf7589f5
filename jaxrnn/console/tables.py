"""Tables of text: columns, and the parameters of a model."""

from typing import Any


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lays out columns, the first to the left and the others to the right."""
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = []
    for line in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def parameter_table(named: dict[str, Any]) -> str:
    """Lays out the parameters' names, shapes and sizes."""
    rows = [[name, str(tuple(leaf.shape)), f"{leaf.size:,}"] for name, leaf in named.items()]
    total = sum(leaf.size for leaf in named.values())
    return table(["parameter", "shape", "values"], [*rows, ["total", "", f"{total:,}"]])
