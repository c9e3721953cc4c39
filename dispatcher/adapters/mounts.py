"""Which kind of file system a folder is on."""

import re
from pathlib import Path

_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|gfs2?|glusterfs|gpfs|lustre|ncpfs|nfs\d?|ocfs2|pvfs2|smb\d?|smbfs"
    r"|fuse\.(cephfs|gcsfuse|glusterfs|juicefs|rclone|s3fs|sshfs)"
)
_MOUNTS = Path("/proc/self/mountinfo")


def network(folder: Path, mounts: str | None = None) -> str:
    """The kind of the network file system that a folder is (or will be) on; empty on a local one, and where that
    cannot be told. ``mounts``: the text of proc(5)'s mountinfo, this process' own unless given."""
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace") if _MOUNTS.exists() else ""
    path, longest, kind = folder.resolve(), -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(_unescaped(fields.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= longest:  # a later mount covers an earlier one
            longest, kind = len(point.parts), rest.split()[0]
    return kind if _NETWORK.fullmatch(kind) else ""


def _unescaped(field: str) -> str:
    """Blanks in a path stand as octal escapes."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field
