"""Takes the product's guards out, one at a time, and expects the test of each to turn red.

    make guards                       # all
    make guards ARGS="journal beat"   # those whose name has one of these in it
    make guards ARGS=--list

It works on a copy of this tree. Each test must be green there first: one that is red anyway proves nothing. Exit 1 when
a test stays green, a patch does not apply, or a test is not green before.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guards.guard import ROOT, Guard, Stale
from tests.guards.table import GUARDS

_LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "var", ".*_cache", ".hypothesis", "*.egg-info")
_SECONDS = 900.0  # pytest's own timeout of the test comes first
_RED, _GREEN = "red", "green"
_REASON = re.compile(r"^E\s+(.*)$|^SKIPPED .*?: (.*)$", re.MULTILINE)
_COUNTS = re.compile(r"(\d+) (passed|failed|error|skipped)")


def main() -> int:
    """Run, and print a line for each guard. The exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help="only those whose name has one of these in it")
    options.add_argument("--list", action="store_true", help="what there is, and run nothing")
    given = options.parse_args()
    chosen = [guard for guard in GUARDS if not given.names or any(name in guard.name for name in given.names)]
    if given.list or not chosen:
        for guard in chosen:
            say(f"{guard.name:28} {guard.test}\n{'':28} {guard.why}")
        return 0 if chosen else 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dispatcher-guards-") as folder:
        tree = Tree(Path(folder) / "tree")
        failed = sum(not told(tree, guard) for guard in chosen)
    say(f"{len(chosen) - failed} of {len(chosen)} guards are missed when they are gone; {_took(began)}")
    return 1 if failed else 0


class Tree:
    """A copy of this tree, and what its tests said before anything was taken out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, ignore=_LEFT_OUT)
        self._before: dict[str, tuple[str, str]] = {}
        self._environment = os.environ | {"PYTHONPATH": str(root), "DISPATCHER_TEST_KINDS": "all"}
        self._environment.pop("DISPATCHER_TEST_FULL", None)  # the short form is enough to turn red
        where = [sys.executable, "-c", "import dispatcher; print(dispatcher.__file__)"]
        found = subprocess.run(where, env=self._environment, cwd=root, capture_output=True, text=True, check=True)
        if not found.stdout.startswith(str(root)):
            raise SystemExit(f"the copy's tests would run the code of {found.stdout.strip()}")

    def before(self, test: str) -> tuple[str, str]:
        """What a test says with all guards in place."""
        if test not in self._before:
            self._before[test] = self.run(test)
        return self._before[test]

    def run(self, test: str) -> tuple[str, str]:
        """What one test says: red, green, or how it came to say nothing; and the reason in one line."""
        quiet = ("-q", "-x", "-rs", "-p", "no:cacheprovider", "-p", "no:randomly")
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", test, *quiet],
            cwd=self.root,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "hung", f"for {_SECONDS:g} s"
        last = text.strip().rpartition("\n")[2]
        counts = {what: int(number) for number, what in _COUNTS.findall(last)}
        reason = found[1] or found[2] if (found := _REASON.search(text)) else last
        if process.returncode == 0 and counts.get("passed") and not counts.get("skipped"):
            return _GREEN, reason
        # An error is one of a fixture: the test itself has said nothing then.
        return (_RED if counts.get("failed") else "broken"), reason

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """The tree without this guard, until the block ends. Raises Stale."""
        path = self.root / guard.file
        text = path.read_text(encoding="utf-8")
        changed = guard.without(text)
        try:
            _write(path, changed)
            yield
        finally:
            _write(path, text)


def told(tree: Tree, guard: Guard) -> bool:
    """Try one guard and print its line; whether it is as it should be."""
    began = time.monotonic()
    try:
        guard.check(tree.root)
        verdict, reason = tree.before(guard.test)
        if verdict != _GREEN:
            return _line(f"{verdict} with it", guard, reason, began)
        with tree.without(guard):
            verdict, reason = tree.run(guard.test)
    except (Stale, OSError) as error:
        return _line("stale", guard, str(error), began)
    return _line("STAYS GREEN" if verdict == _GREEN else verdict, guard, reason, began)


def _line(verdict: str, guard: Guard, reason: str, began: float) -> bool:
    say(f"{verdict:12} {guard.name:28} {_took(began):>6}  {guard.test.partition('::')[2]}")
    say(f"{'':12} {guard.why}\n{'':12} {reason[:200]}")
    return verdict == _RED


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _took(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def _write(path: Path, text: str) -> None:
    """Write it, and forget what was compiled of it: two changes within a second look alike to Python."""
    path.write_text(text, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
