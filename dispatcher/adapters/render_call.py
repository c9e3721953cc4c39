"""Calls a Python function that makes a file, in a process of its own: ``python -m ... module:function OUT``."""

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    """The values are JSON on stdin. What goes wrong is one line on stderr."""
    module, _, name = sys.argv[1].partition(":")
    try:
        getattr(importlib.import_module(module), name)(json.load(sys.stdin), Path(sys.argv[2]))
    except Exception as error:  # noqa: BLE001 - whatever the function meets
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
