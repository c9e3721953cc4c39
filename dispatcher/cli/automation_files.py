"""Files of automations and events, read with the line of every place."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatcher.cli.opening import read_text
from dispatcher.errors import AutomationError, ConfigurationError

if TYPE_CHECKING:
    from dispatcher.adapters.yaml import Document
    from dispatcher.automation_check import Fault


class Placed(NamedTuple):
    """A document, and the file that it stands in."""

    file: str
    document: "Document"

    def where(self, fault: "Fault") -> str:
        """``welcome.yaml:12``."""
        return f"{self.file}:{self.document.line(fault.place)}"


def read_files(paths: Sequence[str]) -> list[Placed]:
    """The documents of these files, and of the YAML files in these folders. Raises AutomationError naming file and
    line, ConfigurationError for a path that cannot be read."""
    from dispatcher.adapters.yaml import read  # noqa: PLC0415 - --help needs none of it

    files = [file for path in paths for file in _files(path)]
    found = [Placed(file, document) for file in files for document in read(read_text(file, "FILE"), file)]
    if not found:
        raise ConfigurationError("FILE", f"there is no automation and no event in {', '.join(paths)}")
    return found


def _files(path: str) -> list[str]:
    if not Path(path).is_dir():
        return [path]
    return sorted(str(each) for each in Path(path).iterdir() if each.suffix in (".yaml", ".yml"))


def refuse(placed: Sequence[Placed], faults: Sequence[Sequence["Fault"]]) -> None:
    """Raise AutomationError for the first fault, naming file and line."""
    for each, found in zip(placed, faults, strict=True):
        for fault in found:
            raise AutomationError(each.where(fault), said(fault))


def said(fault: "Fault") -> str:
    """``steps[0].send: ...``."""
    return f"{fault.place}: {fault.reason}" if fault.place else fault.reason


def values(placed: Sequence[Placed]) -> list[Any]:
    """The documents themselves."""
    return [each.document.value for each in placed]
