"""Charts as inline SVG, coloured by the page's style sheet, so that they follow light and dark mode."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrnn.data.series.date_ticks import as_numbers
from jaxrnn.pages.axes import Axis
from jaxrnn.pages.markup import Markup, element, join

# In units of the drawing, which a phone shows a little smaller and a wide screen a little larger.
WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 74, 388, 24, 226
WIDTH_OF_CHARACTER = 8.5  # of a wide sans-serif font at the size of the style sheet
NUM_COLORS = 8
MAX_POINTS_OF_LINE = 600
MAX_DOTS = 3000
BAND_HEIGHT, BAND_DISTANCE = 14, 22


@dataclasses.dataclass(frozen=True)
class Series:
    """Numbers of one colour.

    Attributes:
      x: (points,): numbers, of a line dates too.
      y: (points,); NaN is a gap. Where all of a chart are integers, so are its ticks.
      color: Number of a colour; beyond the last they begin anew.
      is_dashed: Whether a line is drawn dashed and thin.
      has_dots: Whether each point of a line has a dot.
    """

    x: np.ndarray
    y: np.ndarray
    color: int = 0
    is_dashed: bool = False
    has_dots: bool = False


@dataclasses.dataclass(frozen=True)
class Area:
    """What lies between two lines, faintly coloured.

    Attributes:
      x: (points,): numbers or dates.
      low: (points,).
      high: (points,); where one of both is not finite there is a gap.
      color: Number of a colour.
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    color: int = 0


@dataclasses.dataclass(frozen=True)
class Band:
    """A colour for every step, below a chart.

    Attributes:
      name: What stands before it, of up to five letters.
      x: (steps,), one apart.
      colors: (steps,) numbers of colours; a negative one is none.
      marks: (steps,): which steps have a line below them.
    """

    name: str
    x: np.ndarray
    colors: np.ndarray
    marks: np.ndarray


def line_chart(
    series: list[Series],
    *,
    x_label: str,
    y_label: str,
    description: str,
    is_log: bool = False,
    at_zero: bool = False,
    bands: Sequence[Band] = (),
    areas: Sequence[Area] = (),
    max_points: int = MAX_POINTS_OF_LINE,
) -> Markup:
    """Draws lines.

    Args:
      series: The lines.
      x_label: What stands below.
      y_label: What stands above the upright axis.
      description: What a person hears who does not see it.
      is_log: Whether the upright axis is logarithmic; values that are not positive are then gaps.
      at_zero: Whether a linear upright axis begins at 0.
      bands: Colours of the steps below the lines.
      areas: What lies behind the lines.
      max_points: How many of each line are drawn.
    """
    ends = [band.x + half for band in bands for half in (-0.5, 0.5)]
    x_axis = Axis.along(np.concatenate([*(line.x for line in series), *(area.x for area in areas), *ends]), LEFT, RIGHT)
    values = np.concatenate([*(line.y for line in series), *(y for area in areas for y in (area.low, area.high))])
    y_axis = Axis.around(values, BOTTOM, TOP, is_log=is_log, at_zero=at_zero)
    y_axis = y_axis._replace(is_whole=values.dtype.kind in "iu")
    drawn = []
    for area in areas:
        chosen = np.union1d(_thin_out(area.low, max_points), _thin_out(area.high, max_points))
        ends_of_y = (y_axis.place(y[chosen]) for y in (area.low, area.high))
        path = _outline(x_axis.place(as_numbers(area.x[chosen])), *ends_of_y)
        drawn.append(element("path", d=path, class_=f"area c{area.color % NUM_COLORS}"))
    for line in series:
        chosen = _thin_out(line.y, max_points)
        x, y = x_axis.place(as_numbers(line.x[chosen])), y_axis.place(line.y[chosen])
        kind = f"line c{line.color % NUM_COLORS}" + (" dashed" if line.is_dashed else "")
        drawn.append(element("path", d=_path(x, y), class_=kind))
        if line.has_dots or np.isfinite(y).sum() == 1:
            drawn.append(element("path", d=_dots(x, y), class_=f"dots large c{line.color % NUM_COLORS}"))
    for number, band in enumerate(bands):
        drawn += _draw_band(band, x_axis, BOTTOM + 6 + number * BAND_DISTANCE)
    return _chart(x_axis, y_axis, drawn, x_label, y_label, description, below=BAND_DISTANCE * len(bands))


def _draw_band(band: Band, x_axis: Axis, top: float) -> list[Markup]:
    """Draws neighbours of one colour as one piece."""
    drawn = [element("text", band.name, x=LEFT - 6, y=_number(top + BAND_HEIGHT - 2.5), text_anchor="end")]
    starts = np.flatnonzero(np.diff(band.colors, prepend=-2))
    for start, end in zip(starts, [*starts[1:], len(band.x)], strict=True):
        if band.colors[start] >= 0:
            left, right = x_axis.place(np.array([band.x[start] - 0.5, band.x[end - 1] + 0.5]))
            size = {"width": _number(right - left), "height": BAND_HEIGHT}
            kind = f"band c{int(band.colors[start]) % NUM_COLORS}"
            drawn.append(element("rect", x=_number(left), y=_number(top), **size, class_=kind))
    marked, y = band.x[band.marks], _number(top + BAND_HEIGHT + 2)
    lines = [
        f"M{_number(a)} {y}H{_number(b)}" for a, b in zip(*map(x_axis.place, (marked - 0.5, marked + 0.5)), strict=True)
    ]
    return [*drawn, element("path", d="".join(lines), class_="mark")] if lines else drawn


def scatter_chart(points: Series, *, x_label: str, y_label: str, description: str, line: str = "diagonal") -> Markup:
    """Draws dots.

    Args:
      points: Where they are; of many that fall together one is drawn.
      x_label: What stands below.
      y_label: What stands above the upright axis.
      description: What a person hears who does not see it.
      line: "diagonal" draws y = x and gives both axes the same range, "zero" draws y = 0.
    """
    if line == "diagonal":
        both = np.concatenate([points.x, points.y])
        x_axis, y_axis = Axis.around(both, LEFT, RIGHT), Axis.around(both, BOTTOM, TOP)
        ends = np.array([x_axis.low, x_axis.high])
        guide = _path(x_axis.place(ends), y_axis.place(ends))
    else:
        x_axis = Axis.around(points.x, LEFT, RIGHT)
        y_axis = Axis.around(np.append(points.y, 0.0), BOTTOM, TOP)
        guide = _path(np.array([LEFT, RIGHT]), y_axis.place(np.zeros(2)))
    places = np.stack([x_axis.place(points.x), y_axis.place(points.y)], axis=1)
    places = np.unique(np.round(places[np.isfinite(places).all(axis=1)] * 2) / 2, axis=0)
    if len(places) > MAX_DOTS:
        places = places[np.random.default_rng(0).choice(len(places), MAX_DOTS, replace=False)]
    drawn = [
        element("path", d=guide, class_="guide"),
        element("path", d=_dots(*places.T), class_=f"dots c{points.color % NUM_COLORS}"),
    ]
    return _chart(x_axis, y_axis, drawn, x_label, y_label, description)


def legend(entries: list[tuple[str, int, bool]], areas: Sequence[tuple[str, int]] = ()) -> Markup:
    """Returns the names of colours: (name, number of the colour, whether dashed), and those of areas behind them."""
    return element(
        "ul",
        *(
            element("li", element("span", class_=f"swatch c{color % NUM_COLORS}{' dashed' * dashed}"), name)
            for name, color, dashed in entries
        ),
        *(element("li", element("span", class_=f"swatch area c{color % NUM_COLORS}"), name) for name, color in areas),
        class_="legend",
    )


def _chart(
    x_axis: Axis, y_axis: Axis, drawn: list[Markup], x_label: str, y_label: str, description: str, *, below: int = 0
) -> Markup:
    grid, words = [], []
    taken = 0.0  # up to where words stand below the chart
    for value, text in x_axis.ticks():
        x, half = float(x_axis.place(np.array(value))), len(text) * WIDTH_OF_CHARACTER / 2
        grid.append(element("path", d=f"M{_number(x)} {TOP}V{BOTTOM}"))
        middle = min(x, WIDTH - half)
        if middle - half > taken:
            words.append(element("text", text, x=_number(middle), y=BOTTOM + below + 17, text_anchor="middle"))
            taken = middle + half + WIDTH_OF_CHARACTER / 2
    for value, text in y_axis.ticks():
        place = float(y_axis.place(np.array(value)))
        grid.append(element("path", d=f"M{LEFT} {_number(place)}H{RIGHT}"))
        words.append(element("text", text, x=LEFT - 6, y=_number(place + 4.5), text_anchor="end"))
    words.append(
        element("text", x_label, x=(LEFT + RIGHT) / 2, y=HEIGHT + below - 9, text_anchor="middle", class_="name")
    )
    words.append(element("text", y_label, x=4, y=13, class_="name"))
    return element(
        "svg",
        element("g", *grid, class_="grid"),
        *drawn,
        element("g", *words),
        viewBox=f"0 0 {WIDTH} {HEIGHT + below}",
        role="img",
        aria_label=description,
    )


def _thin_out(y: np.ndarray, max_points: int) -> np.ndarray:
    """Returns which points of a long line are drawn: the lowest and the highest of each stretch."""
    if len(y) <= max_points:
        return np.arange(len(y))
    chosen = [0, len(y) - 1]
    for stretch in np.array_split(np.arange(len(y)), max_points // 2):
        finite = stretch[np.isfinite(y[stretch])]
        chosen += [finite[np.argmin(y[finite])], finite[np.argmax(y[finite])]] if len(finite) else [stretch[0]]
    return np.unique(chosen)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    parts, is_open = [], False
    for a, b in zip(x, y, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            parts.append(f"{'L' if is_open else 'M'}{_number(a)} {_number(b)}")
        is_open = bool(np.isfinite(a) and np.isfinite(b))
    return "".join(parts)


def _outline(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    finite = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    pieces = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1) if len(finite) else []
    return "".join(
        _path(np.append(x[piece], x[piece][::-1]), np.append(high[piece], low[piece][::-1])) + "Z" for piece in pieces
    )


def _dots(x: np.ndarray, y: np.ndarray) -> str:
    finite = np.isfinite(x) & np.isfinite(y)
    # A line of no length with round ends is a dot.
    return "".join(f"M{_number(a)} {_number(b)}h0" for a, b in zip(x[finite], y[finite], strict=True))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def chart_box(title: str, chart: Markup, *below: object, level: int = 4) -> Markup:
    """Returns a chart with its heading, of a level from 2 to 6."""
    return element("figure", element(f"h{level}", title), chart, join(below))
