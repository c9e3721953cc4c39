"""Kills something every five seconds while mail is sent, and proves in the end that nothing was lost.

    make soak MINUTES=20 SEED=7 KIND=postgres
    python -m tests.soak --minutes 20 --seed 7 --kind postgres

The relay is a sink that holds each final dot for up to 0.3 s, so that there are always bodies under way. For each
worker process that is killed: what is in doubt by it is at most the connections that it had open. Exit 0 only if every
mail was sent, the proof of `dispatcher verify` holds, and mails are there twice only where they had been in doubt.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.soak.run import KINDS, soak


def main() -> int:
    """Run, and print what came of it. The exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=20)
    options.add_argument("--seed", type=int, default=1, help="of the faults; what they meet is never twice the same")
    options.add_argument(
        "--kind", choices=list(KINDS), default="sqlite", help="sqlite with the embedded broker, or ..."
    )
    options.add_argument("--processes", type=int, default=12, help="worker processes that send")
    options.add_argument("--json", type=Path, metavar="FILE", help="what it showed, as JSON")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="run in this folder, which is empty, and keep it")
    given = options.parse_args()
    for name in [name for name in os.environ if name.startswith("DISPATCHER_") and "_TEST_" not in name]:
        del os.environ[name]  # the settings of an installation
    with tempfile.TemporaryDirectory(prefix="dispatcher-soak-") as passing:
        folder = given.keep or Path(passing)
        folder.mkdir(exist_ok=True)
        try:
            report = soak(
                folder, kind=given.kind, minutes=given.minutes, seed=given.seed, processes=given.processes, say=say
            )
        except (pytest.skip.Exception, pytest.fail.Exception) as error:  # a server that is not here
            say(str(error))
            return 2
    say("\n".join(["", *report.table(), "", report.printed]))
    if given.json:
        given.json.write_text(json.dumps(report.document(), indent=1))
    broken = list(report.broken())
    say(
        "\n".join([f"BROKEN: {each}" for each in broken] or ["kept: nothing lost, nothing twice but what was in doubt"])
    )
    return 1 if broken else 0


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
