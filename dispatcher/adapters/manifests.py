"""Manifests that workers read by themselves: files that they may read, or what a program of the operator writes."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dispatcher.adapters.renderers import of_this_machine, run
from dispatcher.adapters.report_files import ReportFolder
from dispatcher.adapters.rows.file import of_file
from dispatcher.errors import RenderError
from dispatcher.interfaces import Rows
from dispatcher.naming import argument


class Manifests:
    """``interfaces.ManifestSource``. A program writes CSV, XLSX or JSON Lines to stdout; ``{name}`` and ``{at}``
    in its arguments are the schedule's name and the occurrence's time."""

    def __init__(
        self, folder: ReportFolder, programs: Mapping[str, Sequence[str]], *, seconds: float, max_bytes: int
    ) -> None:
        self._folder, self._programs, self._seconds, self._max = folder, programs, seconds, max_bytes

    @property
    def names(self) -> Collection[str]:
        return self._programs.keys()

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[Rows, str]]:
        path = self._folder.confined(None, name)
        yield of_file(path), str(path)

    @contextmanager
    def made(self, program: str, values: Mapping[str, Any]) -> Iterator[tuple[Rows, str]]:
        where = f"manifest {program}"
        try:
            command = [argument(each, values) for each in self._programs[program]]
        except (KeyError, ValueError) as error:
            why = str(error) if isinstance(error, ValueError) else "is not in [reports] manifests of this worker"
            raise RenderError(where, why) from None
        with tempfile.TemporaryDirectory(prefix="manifest-") as folder:
            path = Path(folder) / "manifest"
            with of_this_machine(where), path.open("wb") as output:
                run(
                    where, command, values, folder,
                    seconds=self._seconds, max_bytes=self._max, output=output,
                )  # fmt: skip
            yield of_file(path), str(path)
