"""HTML from Python: whatever comes from data, files or flags goes through `escape` here, and nowhere around it."""

import html
from collections.abc import Iterable, Sequence

from jaxrnn.foundation.escaping import printable


class Markup(str):
    """Text that is HTML already; everything else is escaped where it is put into a page."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Returns a value as HTML text: `Markup` as it is, anything else escaped, control characters made visible."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(printable(str(value)), quote=True))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """Returns an element.

    Args:
      tag: Its name.
      *content: What stands in it, escaped.
      **attributes: Escaped too; ``class_`` is class, an underscore is a dash, None leaves an attribute out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{written}>{join(content)}</{tag}>")


def join(parts: Iterable[object]) -> Markup:
    """Puts parts one behind the other, each escaped."""
    return Markup("".join(map(escape, parts)))


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    row_classes: Sequence[str | None] | None = None,
    cell_classes: Sequence[Sequence[str | None]] | None = None,
    is_text: bool = False,
) -> Markup:
    """Returns a table in a box of its own that scrolls, so that the page does not.

    Args:
      header: The columns' names.
      rows: The first cell of each is its heading.
      caption: What it shows.
      row_classes: A class for each row, or None.
      cell_classes: A class, or None, for each cell behind a row's heading.
      is_text: Whether its cells are words, which stand to the left.
    """
    body = []
    for number, (first, *cells) in enumerate(rows):
        row_class = row_classes[number] if row_classes else None
        heading = element("th", first, scope="row")
        classes = cell_classes[number] if cell_classes else [None] * len(cells)
        data = [element("td", cell, class_=kind) for cell, kind in zip(cells, classes, strict=True)]
        body.append(element("tr", heading, *data, class_=row_class))
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in header)))
    whole = element("table", head, element("tbody", *body), class_="text" if is_text else None, aria_label=caption)
    # Not a <caption>: that would be as wide as the table, and scroll out of a phone's sight with it.
    box = element("div", whole, class_="box", role="region", aria_label=caption, tabindex="0")
    return join([paragraph(caption, class_="caption soft"), box])


def paragraph(*content: object, class_: str | None = None) -> Markup:
    """Returns a paragraph."""
    return element("p", *content, class_=class_)


def bullets(lines: Iterable[object], class_: str | None = None) -> Markup:
    """Returns a list."""
    return element("ul", *(element("li", line) for line in lines), class_=class_)


def folded(summary: str, *content: object) -> Markup:
    """Returns what is shown once its summary is clicked."""
    return element("details", element("summary", summary), *content)
