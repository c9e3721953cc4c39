"""Whether a file is what its name says, by how it begins."""

from pathlib import PurePath

HEAD_BYTES = 1024
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = (b"\xd0\xcf\x11\xe0",)
_BEGINS: dict[str, tuple[bytes, ...]] = {
    **dict.fromkeys((".zip", ".xlsx", ".xlsm", ".docx", ".pptx", ".odt", ".ods"), _ZIP),
    **dict.fromkeys((".xls", ".doc", ".ppt"), _OLE),
    **dict.fromkeys((".jpg", ".jpeg"), (b"\xff\xd8\xff",)),
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".gif": (b"GIF87a", b"GIF89a"),
    ".gz": (b"\x1f\x8b",),
}
_TEXTS = frozenset({".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".md"})
_UTF16 = b"\xff\xfe", b"\xfe\xff"


def misnamed(name: str, head: bytes) -> str:
    """Why a file that begins with ``head`` is not what its name says; empty when it is, or when that cannot be told."""
    suffix = PurePath(name).suffix.lower()
    if not head:
        return "is empty"
    if suffix == ".pdf" and b"%PDF-" not in head:  # what stands before it is allowed, within the first 1,024 bytes
        return "is no PDF"
    if suffix in _BEGINS and not head.startswith(_BEGINS[suffix]):
        return f"is no {suffix[1:].upper()} file"
    if suffix in _TEXTS and b"\0" in head and not head.startswith(_UTF16):
        return "is no text"
    return ""
