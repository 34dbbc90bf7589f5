"""The page around the sections: head, style sheet, foot. Nothing is loaded and nothing runs."""

from jaxrnn.pages.markup import Markup, element, escape, join

# By this a report is known, so that only a report is replaced by the next one.
GENERATOR = "jaxrnn.report"
HEAD = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta name="generator" content="{GENERATOR}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    # Even what would slip through the escaping could neither run nor load anything.
    '<meta http-equiv="Content-Security-Policy"'
    " content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
    '<link rel="icon" href="data:,">\n'
)
LIGHT = ("#0b6bcb", "#c2410c", "#15803d", "#9333ea", "#b91c1c", "#0f766e", "#8a5a00", "#475569")
DARK = ("#60a5fa", "#fb923c", "#4ade80", "#c084fc", "#f87171", "#2dd4bf", "#facc15", "#a3b1c2")
GROUND = ("#ffffff", "#14171a")
# Of how much of a colour a shade is made: the page's letters stay legible on the darkest.
DARKEST_SHADE = 0.5
NUM_SHADES = 6
# What is shaded in which colour.
SHADED = {"right": 0, "wrong": 1}
STYLE = """
:root { --ground: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d5dae0; --tint: #f4f6f8; --mark: #fff3c4;
  --warn: #fdecea; --edge: #c0392b; COLORS_LIGHT
  SHADES_LIGHT }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e9ec; --soft: #a5afba; --line: #3a424b;
  --tint: #1e2328; --mark: #4a3f12; --warn: #3a1d1b; --edge: #f0806f; COLORS_DARK
  SHADES_DARK } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.4rem 0 0.4rem; }
h4, h5, figure h3 { font-size: 0.95rem; margin: 0; font-weight: 600; }
p, ul { margin: 0.5rem 0; }
ul { padding-left: 1.3rem; }
.soft, figcaption { color: var(--soft); font-size: 0.9rem; }
.notice { background: var(--warn); border-left: 4px solid var(--edge); padding: 0.5rem 0.8rem; margin: 0.8rem 0; }
.notice ul { margin: 0.2rem 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); gap: 1.2rem; }
.charts.drawn { grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
section > h4 { margin: 1.1rem 0 0.3rem; }
figure { margin: 0; min-width: 0; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .grid path { stroke: var(--line); stroke-width: 1; }
svg .name { fill: var(--soft); }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
svg .line.dashed { stroke-dasharray: 4 3; stroke-width: 1.3; opacity: 0.8; }
svg .dots { fill: none; stroke: currentColor; stroke-width: 3.5; stroke-linecap: round; opacity: 0.65; }
svg .dots.large { stroke-width: 6; opacity: 1; }
svg .area { fill: currentColor; opacity: 0.22; }
svg .band { fill: currentColor; }
svg .mark { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .guide { fill: none; stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; }
CLASSES
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; font-size: 0.9rem; }
.swatch { display: inline-block; width: 1.6em; border-top: 3px solid currentColor; vertical-align: middle;
  margin-right: 0.45em; }
.swatch.area { border-top-width: 0.8em; opacity: 0.3; }
.swatch.dashed { border-top: 2px dashed currentColor; }
.box { overflow-x: auto; margin: 0.6rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.caption { margin: 0.8rem 0 0.2rem; }
.caption + .box { margin-top: 0; }
th, td { padding: 0.22rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  overflow-wrap: normal; vertical-align: top; }
th:first-child, .text th, .text td { text-align: left; }
tbody th { font-weight: 500; white-space: normal; }
@media (max-width: 40rem) { th, td { padding: 0.22rem 0.45rem; } }
thead th { background: var(--tint); }
.text td { white-space: normal; min-width: 7rem; max-width: 34rem; overflow-wrap: anywhere; }
tr.differs, td.differs { background: var(--mark); }
SHADES
.tokens { margin: 0.3rem 0; padding: 0.3rem 0.6rem; background: var(--tint); white-space: pre-wrap; }
summary { cursor: pointer; padding: 0.4rem 0; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.9rem; }
:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
"""


def build_page(title: str, sections: list[Markup], foot: str) -> str:
    """Returns the whole page.

    Args:
      title: Its heading.
      sections: What stands below, in order.
      foot: The last line.
    """
    classes = "\n".join(f".c{number} {{ color: var(--c{number}); }}" for number in range(len(LIGHT)))
    kinds = [f"{name}{number}" for name in SHADED for number in range(1, NUM_SHADES + 1)]
    shades = "\n".join(f"td.{kind} {{ background: var(--{kind}); }}" for kind in kinds)
    style = (
        STYLE.replace("COLORS_LIGHT", _variables(LIGHT))
        .replace("COLORS_DARK", _variables(DARK))
        .replace("CLASSES", classes)
        .replace("SHADES_LIGHT", _shades(LIGHT, GROUND[0]))
        .replace("SHADES_DARK", _shades(DARK, GROUND[1]))
        .replace("SHADES", shades)
    )
    body = element(
        "body", element("header", element("h1", title)), element("main", join(sections)), element("footer", foot)
    )
    return f"{HEAD}<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n{body}\n</html>\n"


def _variables(colors: tuple[str, ...]) -> str:
    return " ".join(f"--c{number}: {color};" for number, color in enumerate(colors))


def _shades(colors: tuple[str, ...], ground: str) -> str:
    """Mixes colours with the ground here: not every browser does."""
    return " ".join(
        f"--{name}{number}: {_mix(colors[color], ground, DARKEST_SHADE * number / NUM_SHADES)};"
        for name, color in SHADED.items()
        for number in range(1, NUM_SHADES + 1)
    )


def _mix(color: str, ground: str, share: float) -> str:
    channels = [(int(color[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in channels)
