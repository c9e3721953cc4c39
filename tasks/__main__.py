"""``python -m tasks worker ...`` and ``python -m tasks beat ...``: Celery's own commands with Celery's own options.

The ``celery`` program loads every plug-in of every command, Flower's web server among them; this does not, which spares
13 MB in each of a stack's processes.
"""

import sys

from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from .app import app

COMMANDS = {"worker": worker, "beat": beat}


def main() -> None:
    """Run the command that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:  # noqa: PLR2004 - the program and the command
        sys.exit(f"usage: python -m {__package__} {'|'.join(COMMANDS)} [option ...]")
    context = CLIContext(app=app, no_color=True, workdir=None)
    COMMANDS[sys.argv[1]].main(args=sys.argv[2:], prog_name=f"{__package__} {sys.argv[1]}", obj=context)


if __name__ == "__main__":
    main()
