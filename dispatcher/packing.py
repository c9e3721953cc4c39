"""Several files in one archive."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import BinaryIO

_CHUNK = 1 << 20
HEAD_BYTES = 1 << 16
_WORTH = 0.9
_DATED = 1980, 1, 1, 0, 0, 0  # the first that ZIP knows
_MODE = stat.S_IFREG | 0o644


def pack(files: Iterable[tuple[str, BinaryIO]], to: BinaryIO) -> None:
    """Write a ZIP archive of these, in their order, a piece at a time. The same files make the same bytes: what they
    are dated is left out. Of files with the same name each has one of its own: ``a.pdf``, ``a (2).pdf``."""
    names: set[str] = set()
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files:
            entry = zipfile.ZipInfo(_free(name, names), _DATED)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _MODE << 16
            with archive.open(entry, "w", force_zip64=True) as out:
                shutil.copyfileobj(file, out, _CHUNK)
            names.add(entry.filename)


def shrinks(heads: Iterable[bytes]) -> bool:
    """Whether files that begin so are worth the work: what is compressed already becomes no smaller."""
    whole = b"".join(heads)
    return len(zlib.compress(whole, 1)) < _WORTH * len(whole)


def _free(name: str, names: set[str]) -> str:
    path, n, found = PurePath(name), 1, name
    while found in names:
        n += 1
        found = f"{path.stem} ({n}){path.suffix}"
    return found
