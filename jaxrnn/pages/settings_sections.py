"""Sections of the page about how the runs were made: configuration and environment."""

from typing import Any

from jaxrnn.foundation.escaping import shorten
from jaxrnn.pages import markup
from jaxrnn.pages.markup import Markup, element, paragraph
from jaxrnn.pages.result_sections import ReportedRun
from jaxrnn.settings.config import Config

ABSENT = "-"
MAX_VALUE, MAX_VERSIONS = 300, 50  # what comes from a run's files may be of any length


def configuration_section(runs: list[ReportedRun]) -> Markup:
    """Returns every key's values, those first in which the runs differ; of a single run, those that are no defaults."""
    heading = element("h2", "Configuration")
    configs = [run.record.config for run in runs]
    known = [config for config in configs if config is not None]
    if not known:
        return element("section", heading, paragraph("No config.toml could be read."))
    names = [run.record.name for run in runs]
    defaults = Config().to_flat()
    if len(runs) > 1:
        marked = [key for key in defaults if any(config[key] != known[0][key] for config in known)]
        what, rest = "differ between the runs", "The same in all runs"
    else:
        marked = [key for key in defaults if known[0][key] != defaults[key]]
        what, rest = "are not the defaults", "Defaults"
    parts: list[object] = [heading]
    if marked:
        parts.append(
            _settings_table(marked, names, configs, defaults, f"Keys that {what}: {len(marked)}", is_marked=True)
        )
    else:
        parts.append(paragraph(f"There are no keys that {what}."))
    others = [key for key in defaults if key not in marked]
    parts.append(markup.folded(f"{rest}: {len(others)} keys", _settings_table(others, names, configs, defaults, rest)))
    return element("section", *parts)


def _settings_table(
    keys: list[str],
    names: list[str],
    configs: list[dict[str, Any] | None],
    defaults: dict[str, Any],
    caption: str,
    *,
    is_marked: bool = False,
) -> Markup:
    rows = [
        [key, *[_write(config[key]) if config else ABSENT for config in configs], _write(defaults[key])] for key in keys
    ]
    classes = ["differs" if is_marked else None] * len(rows)
    return markup.table(["key", *names, "default"], rows, caption=caption, row_classes=classes, is_text=True)


def environment_section(runs: list[ReportedRun]) -> Markup:
    """Returns versions, machine, devices, data and command of every run."""
    described = [_describe(run.record.environment) for run in runs]
    keys = list(dict.fromkeys(key for one in described for key in one))
    heading = element("h2", "Environment")
    if not keys:
        return element("section", heading, paragraph("No environment.json could be read."))
    rows = [[key, *[one.get(key, ABSENT) for one in described]] for key in keys]
    several = len(runs) > 1
    classes = ["differs" if several and len(set(row[1:])) > 1 else None for row in rows]
    caption = "What the runs were made with" + ("; what differs is marked" if several else "")
    header = ["", *[run.record.name for run in runs]]
    return element("section", heading, markup.table(header, rows, caption=caption, row_classes=classes, is_text=True))


def _describe(environment: dict[str, Any] | None) -> dict[str, str]:
    if environment is None:
        return {}
    listed = list(environment["versions"].items())[:MAX_VERSIONS]
    described = {shorten(name, 60): shorten(version, 60) for name, version in listed}
    data = environment["data"]
    described |= {f"data: {key}": _write(data[key]) for key in ("path", "sha256", "rows", "values") if key in data}
    for key in ("platform", "cpu_count", "devices", "command"):
        if key in environment:
            described[key] = _write(environment[key])
    return described


def _write(value: Any) -> str:
    return shorten(_as_text(value), MAX_VALUE)


def _as_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
