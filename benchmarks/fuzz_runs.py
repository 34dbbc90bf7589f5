"""Damages the files of runs at random and looks at what the commands make of them.

    python -m benchmarks.fuzz_runs --cases=2000 --workers=2

A finished and an interrupted run are made once. Each case damages a copy of one of them - a file is deleted, emptied,
cut, flipped, replaced by a directory, a pipe or another file, or its JSON is forged, the checkpoint's sums recomputed
or not - and calls train --resume, eval, predict and report on it. Every command has to end within 20 seconds, by an
exit code of its own and without a traceback, and no readable line of metrics.jsonl may be lost without a word.

Expected: 0 tracebacks, 0 silent losses, 0 hangs, 0 crashes. On 2 CPU cores about 1 case a second.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
HANG_SECONDS = 20
STUCK_SECONDS = 90  # after that a worker that no signal reaches is ended
CASES_OF_A_WORKER = 250  # then a new one goes on: a process grows by 1 to 2 MB with every program that it compiles anew
EPOCHS = 4
CODES = (0, 2, 3)
MAX_SHOWN = 1500  # characters of a problem
LEFT_ALONE = "rows.csv"
NASTY: list[Any] = [
    None, True, -1, 0, 7, 10_000, 2**31, 2**63, 10**400, 0.5, 1e308, "", "x", "x" * 100_000, "../../../etc/passwd",
    "\0", "\ud800", [], [[]], {}, {"a": 1}, float("nan"), float("inf"),
]  # fmt: skip


class Hang(BaseException):
    """A command took too long."""


def damage(path: Path, run_dir: Path, draw: random.Random) -> str:
    """Damages one file; returns in which way."""
    content = path.read_bytes()
    ways = ["delete", "empty", "cut", "flip", "directory", "other", "append", "pipe", "link"]
    if content[:1] == b"{":
        ways += ["forge"] * 6 + ["lines"] * 2
    way = draw.choice(ways)
    if way in ("delete", "directory", "pipe", "link"):
        path.unlink()
    if way == "empty":
        path.write_bytes(b"")
    elif way == "cut":
        path.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif way == "flip":
        changed = bytearray(content or b"\0")
        for _ in range(draw.choice([1, 1, 1, 2, 5])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        path.write_bytes(changed)
    elif way == "directory":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "link":
        path.symlink_to(path.name)
    elif way == "other":
        others = [other for other in files_of(run_dir) if other != path]
        path.write_bytes(draw.choice(others).read_bytes())
    elif way == "append":
        path.write_bytes(content + draw.choice([b"\n", b"{", b"\xff", b"\n{}\n", content]))
    elif way == "forge":
        path.write_bytes(forged(content, draw))
    elif way == "lines":
        lines = content.splitlines(keepends=True)
        place = draw.randrange(len(lines))
        draw.choice([lambda: lines.pop(place), lambda: draw.shuffle(lines), lambda: lines.insert(place, lines[0])])()
        path.write_bytes(b"".join(lines))
    return way


def forged(content: bytes, draw: random.Random) -> bytes:
    """Replaces, drops or adds one value somewhere in JSON, or in one of its lines."""
    lines = content.splitlines()
    number = draw.randrange(len(lines))
    try:
        parsed = json.loads(content)
        number = -1
    except ValueError:
        try:
            parsed = json.loads(lines[number])
        except ValueError:
            return content[::-1]
    node = parsed
    while isinstance(node, dict | list) and node:
        key = draw.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
        is_leaf = not isinstance(node[key], dict | list) or not node[key]
        if is_leaf or draw.random() < 0.3:
            value = draw.choice(NASTY)
            if draw.random() < 0.2:
                node.pop(key)
            else:
                node[key] = value
            break
        node = node[key]
    text = json.dumps(parsed).replace("Infinity", draw.choice(["Infinity", "1e999"])).encode()
    return text if number < 0 else b"\n".join([*lines[:number], text, *lines[number + 1 :]]) + b"\n"


def files_of(run_dir: Path) -> list[Path]:
    return sorted(path for path in run_dir.rglob("*") if path.is_file() and not path.is_symlink())


def intact_lines(run_dir: Path, pristine: set[bytes]) -> set[bytes]:
    """Returns the lines of the unbroken run that metrics.jsonl still holds."""
    try:
        path = run_dir / "metrics.jsonl"
        return pristine & set(path.read_bytes().split(b"\n")) if path.is_file() else set()
    except OSError:
        return set()


def epochs_of(run_dir: Path) -> set[int]:
    """Returns the epochs of the readable lines of metrics.jsonl."""
    from jaxrnn.runs.metrics_file import read_metrics
    from jaxrnn.runs.run_files import RunFileError

    try:
        return {line.epoch for line in read_metrics(run_dir / "metrics.jsonl").lines}
    except RunFileError:
        return set()


class Worker:
    """Runs cases one after the other in this process."""

    def __init__(self, directory: Path):
        sys.path.insert(0, str(REPOSITORY / "tests"))
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        from jaxrnn import eval as evaluation
        from jaxrnn import predict, report, train

        self.mains = {"train": train.main, "eval": evaluation.main, "predict": predict.main, "report": report.main}
        self.directory = directory
        self.rows = directory.parent / LEFT_ALONE
        self.finished = directory.parent / "finished"
        self.pristine = set((self.finished / "metrics.jsonl").read_bytes().split(b"\n")) - {b""}

    def call(self, name: str, *arguments: object) -> tuple[int | str, str]:
        """Runs a command; returns its exit code, or what went wrong, and what it said."""
        out, err = io.StringIO(), io.StringIO()
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        code: int | str
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = self.mains[name]([str(argument) for argument in arguments])
        except Hang:
            code = "hang: " + traceback.format_exc(limit=-4)
        except BaseException:
            code = "traceback: " + traceback.format_exc(limit=-6)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
        if code not in CODES and isinstance(code, int):
            code = f"traceback: exit code {code}"
        if "Traceback" in err.getvalue():
            code = f"traceback: {err.getvalue()}"
        return code, err.getvalue()

    def case(self, number: int) -> tuple[str, list[str], Counter[str]]:
        """Runs one case; returns what was damaged, the problems found, and the exit codes."""
        draw = random.Random(number)
        run_dir = self.directory / "run"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        goes_on = draw.random() < 0.25
        shutil.copytree(self.directory.parent / ("interrupted" if goes_on else "finished"), run_dir)
        named = []
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            own = [path for path in files_of(run_dir) if path.parent == run_dir]
            path = draw.choice(draw.choice([own, files_of(run_dir)]) or files_of(run_dir))
            named.append(f"{damage(path, run_dir, draw)} {path.relative_to(run_dir)}")
            step = next((parent for parent in path.parents if parent.parent.name == "checkpoints"), None)
            if step is not None and draw.random() < 0.7:
                named.append("sums")
                self.write_sums(step)
        what, problems, codes = ", ".join(named), [], Counter[str]()
        checked = [("eval", f"--checkpoint={run_dir}"), ("predict", f"--checkpoint={run_dir}", self.rows)]
        for name, *arguments in [*checked, ("report", run_dir, f"--out={self.directory / 'page.html'}")]:
            code, _ = self.call(name, *arguments)
            codes[f"{name} {str(code)[:9]}"] += 1
            if isinstance(code, str):
                problems.append(f"{name}: {code}")
        before = intact_lines(run_dir, self.pristine)
        code, err = self.call("train", "--resume", f"--run-dir={run_dir}")
        codes[f"train {str(code)[:9]}"] += 1
        if isinstance(code, str):
            problems.append(f"train: {code}")
        else:
            problems += self.losses(run_dir, before, code, err)
        return what, problems, codes

    def losses(self, run_dir: Path, before: set[bytes], code: int, err: str) -> list[str]:
        after = intact_lines(run_dir, self.pristine)
        kept = set()
        for path in run_dir.glob("metrics.jsonl.damaged*"):
            kept |= set(path.read_bytes().split(b"\n"))
        is_said = "metrics.jsonl" in err
        lost = before - after
        if lost and (lost - kept or not is_said):
            return [f"silent loss: {len(lost)} readable lines are gone; exit code {code}"]
        missing = set(range(1, EPOCHS + 1)) - epochs_of(run_dir)
        if code == 0 and missing and not is_said:
            return [f"silent loss: {len(missing)} epochs are missing and nothing was said"]
        return []

    def write_sums(self, step: Path) -> None:
        from jaxrnn.runs.step_files import MANIFEST_NAME, write_manifest

        path = step / MANIFEST_NAME
        if path.is_dir():
            path.rmdir()
        with contextlib.suppress(OSError):
            write_manifest(step)


def make_runs(directory: Path) -> None:
    """Trains the two runs: one to its end, one that a kill ended after its third epoch of four."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import kept_programs
    import small_runs

    rows = small_runs.write_rows(directory / LEFT_ALONE)
    with kept_programs.kept_programs(directory / "programs"):
        assert small_runs.train_small(directory / "finished", rows, epochs=EPOCHS).code == 0
    interrupted = Path(shutil.copytree(directory / "finished", directory / "interrupted"))
    for name in ("summary.json", "curves.png"):
        (interrupted / name).unlink()
    shutil.rmtree(small_runs.step_of(interrupted, -1))


def work(directory: Path, first: int, last: int) -> None:
    """Runs cases and prints a line of JSON for each."""

    def hang(number: int, frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    worker = Worker(directory / f"worker-{os.getpid()}")
    import kept_programs

    with kept_programs.kept_programs(directory / "programs"):
        for number in range(first, last):
            print(json.dumps({"begin": number}), flush=True)
            what, problems, codes = worker.case(number)
            print(json.dumps({"case": number, "what": what, "problems": problems, "codes": codes}), flush=True)
    shutil.rmtree(worker.directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(Path(arguments.work[0]), int(arguments.work[1]), int(arguments.work[2]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_runs(directory)
        return supervise(directory, arguments)


def supervise(directory: Path, arguments: argparse.Namespace) -> int:
    """Shares the cases among workers, starts anew what died, and reports."""
    deadline = time.monotonic() + arguments.minutes * 60
    share = -(-arguments.cases // arguments.workers)
    spans = [[arguments.first + i * share, arguments.first + (i + 1) * share] for i in range(arguments.workers)]
    running: dict[int, tuple[subprocess.Popen[str], Any]] = {}
    totals, codes = Counter[str](), Counter[str]()

    def start(i: int) -> None:
        log = (directory / f"log-{i}").open("w+")
        first, last = spans[i]
        span = map(str, (first, min(last, first + CASES_OF_A_WORKER)))
        command = [sys.executable, "-m", "benchmarks.fuzz_runs", "--work", str(directory), *span]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=log, text=True)
        running[i] = process, log
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]

    for i in range(arguments.workers):
        start(i)
    while running:
        time.sleep(0.2)
        for i, (process, log) in list(running.items()):
            is_over = process.poll() is not None
            for line in process.stdout or []:
                found = json.loads(line)
                if "begin" in found:
                    spans[i][0] = found["begin"] + 1
                    continue
                totals["cases"] += 1
                codes.update(found["codes"])
                for problem in found["problems"]:
                    kind = next(kind for kind in ("silent loss", "hang", "traceback") if kind in problem)
                    totals[kind] += 1
                    print(f"case {found['case']} ({found['what']}): {problem[-MAX_SHOWN:]}\n", flush=True)
            if is_over:
                log.seek(0)
                said = log.read()
                del running[i]
                if process.returncode != 0 and time.monotonic() < deadline:
                    totals["crashes"] += 1
                    print(
                        f"case {spans[i][0] - 1}: the process died ({process.returncode}): {said[-MAX_SHOWN:]}\n",
                        flush=True,
                    )
                    start(i)
                elif process.returncode == 0 and "Traceback" in said:
                    print(f"printed behind the commands: {said[-MAX_SHOWN:]}", flush=True)
                if process.returncode == 0 and spans[i][0] < spans[i][1] and time.monotonic() < deadline:
                    start(i)
            elif time.monotonic() > deadline:
                process.kill()
    print(dict(sorted(codes.items())))
    print(f"{totals['cases']} cases: {totals['traceback']} tracebacks, {totals['silent loss']} silent losses,"
          f" {totals['hang']} hangs, {totals['crashes']} crashes")  # fmt: skip
    return int(any(totals[kind] for kind in ("traceback", "silent loss", "hang", "crashes")))


if __name__ == "__main__":
    sys.exit(main())
