"""The report command once its arguments are parsed: read the runs, predict their test rows, write the page."""

import datetime
import os
import stat
from pathlib import Path

from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import printable, shorten
from jaxrnn.foundation.files import write_atomically
from jaxrnn.foundation.messages import say
from jaxrnn.foundation.versions import versions
from jaxrnn.pages.curve_sections import curves_section
from jaxrnn.pages.error_sections import errors_section
from jaxrnn.pages.predictions import predict_test_rows
from jaxrnn.pages.records import read_runs
from jaxrnn.pages.result_sections import MAX_LINE, ReportedRun, figures_section, head_section
from jaxrnn.pages.settings_sections import configuration_section, environment_section
from jaxrnn.pages.shell import GENERATOR, build_page

HEAD_BYTES = 512  # of a file, in which a report says that it is one


def report(paths: tuple[str, ...], out: Path) -> None:
    """Writes one page about some runs.

    Args:
      paths: Run directories.
      out: The page.

    Raises:
      UserError: None of them holds a run; or `out` cannot be written, or is a file that is no report.
    """
    records = read_runs(paths)
    _require_replaceable(out)
    runs = [ReportedRun(record, predict_test_rows(record)) for record in records]
    page = build_report(runs)
    try:
        write_atomically(out, page)
    except OSError as error:
        raise UserError(f"--out: cannot write to {out}: {error.strerror}; name another file") from error
    for record in records:
        for line in record.missing:
            say(f"{shorten(record.path)}: not shown: {shorten(line, MAX_LINE)}")
    num_shown = sum(record.is_run for record in records)
    print(f"wrote {printable(str(out))}: {_count(num_shown)}, {len(page.encode()) / 1024:,.0f} KiB")


def build_report(runs: list[ReportedRun]) -> str:
    """Returns the page about some runs."""
    title = f"Run {shorten(runs[0].record.path)}" if len(runs) == 1 else f"{len(runs)} runs side by side"
    middle = [figures_section(runs), curves_section(runs), errors_section(runs)]
    settings = [configuration_section(runs), environment_section(runs)]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    foot = f"Written {now} by jaxrnn {versions()['jaxrnn']}: python -m jaxrnn.report"
    # The head last: it lists what the others found missing.
    return build_page(title, [head_section(runs), *middle, *settings], foot)


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _require_replaceable(out: Path) -> None:
    """Refuses a path that is no file's, or that of a file that is no report."""
    try:
        status = os.stat(out)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"--out: {out} is no file; expected the name of a page, such as report.html")
        with out.open("rb") as file:
            is_report = f'name="generator" content="{GENERATOR}"'.encode() in file.read(HEAD_BYTES)
    except FileNotFoundError:
        is_report = True
        if not out.absolute().parent.is_dir():
            raise UserError(f"--out: {out.parent} is no directory; make it, or name another file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--out: {out}: {reason}; name another file") from error
    if not is_report:
        raise UserError(
            f"--out: {out} is there already and is no report, so it is not overwritten; name another file, or remove it"
        )
