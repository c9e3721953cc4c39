"""The report of a schedule's occurrence: made by a worker, of files that it may read, under a name of its own."""

from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.delivery import Actor
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.interfaces import ManifestSource
from dispatcher.report_job import Report, ReportSpec, ReportState
from dispatcher.reports import Reports

_MANIFEST = "manifest", "manifest_command"


class RecurringReports:
    """Its JSON is that of a report, with a ``manifest`` (a file) or a ``manifest_command`` (a name of the settings)."""

    def __init__(self, reports: Reports, manifests: ManifestSource) -> None:
        self._reports, self._manifests = reports, manifests

    def check(self, document: Mapping[str, Any]) -> None:
        """What can be seen to be wrong before its time. Raises SubmissionError."""
        self._spec(document)
        file, command = (document.get(name) for name in _MANIFEST)
        if (file is None) == (command is None):
            raise SubmissionError("manifest", "give either a manifest or a manifest_command")
        for name, value in zip(_MANIFEST, (file, command), strict=True):
            if value is not None and not isinstance(value, str):
                raise SubmissionError(name, "must be a text")
        if command is not None and command not in self._manifests.names:
            known = ", ".join(sorted(self._manifests.names)) or "none"
            raise SubmissionError("manifest_command", f"[reports] manifests has no {command!r}; there is {known}")

    def started(self, name: str) -> bool:
        """Whether the report of this name has been taken in."""
        try:
            return self._reports.get(name).state is not ReportState.TAKING
        except NotFound:
            return False

    def start(
        self, name: str, document: Mapping[str, Any], values: Mapping[str, Any], actor: Actor,
        progress: Callable[[int], None],
    ) -> Report:  # fmt: skip
        """Check it, and let it go; one that was being taken in is gone on with. Raises DispatcherError."""
        spec = self._spec(document)
        source = self._manifests
        file = document.get("manifest")
        rows = source.made(str(document["manifest_command"]), values) if file is None else source.file(str(file))
        with rows as (manifest, path):
            checked = self._reports.check(spec, manifest, progress=progress, ignored={path})
        if not checked.ok:
            said = "; ".join(f"{each.what}: {', '.join(each.where[:3])}" for each in checked.findings if not each.ok)
            raise SubmissionError(name, f"its check has failed: {said or 'nobody gets anything'}")
        return self._reports.send(name, spec, checked, actor, progress=progress)

    def _spec(self, document: Mapping[str, Any]) -> ReportSpec:
        spec = ReportSpec.parse({name: value for name, value in document.items() if name not in _MANIFEST})
        self._reports.check_spec(spec)
        return spec
