"""Documents for reports: files that nobody has twice, whose they are, and what a recording says arrived."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

from dispatcher.servers.recording import Received

TERMS = "terms.pdf"


class Documents(NamedTuple):
    """A folder of files and its manifest; ``digests`` by address: the SHA-256 of the files that are theirs."""

    folder: Path
    manifest: Path
    terms: Path
    digests: dict[str, set[str]]


def pdf(number: int, size: int) -> bytes:
    """So many bytes that no other number has."""
    head = f"%PDF-1.4 {number}\n".encode()
    return head + random.Random(number).randbytes(max(0, size - len(head)))


def write(folder: Path, count: int, size: int, shared: int) -> Documents:
    """A file for each of so many people, and one for all."""
    out = folder / "out"
    out.mkdir(parents=True)
    terms = folder / TERMS
    terms.write_bytes(pdf(-1, shared))
    digests: dict[str, set[str]] = {}
    rows = []
    for n in range(count):
        content, address = pdf(n, size), f"customer-{n}@example.com"
        (out / f"{n}.pdf").write_bytes(content)
        digests[address] = {hashlib.sha256(each).hexdigest() for each in (content, terms.read_bytes())}
        rows.append(json.dumps({"recipient": address, "customer": str(n)}))
    manifest = folder / "customers.jsonl"
    manifest.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return Documents(out, manifest, terms, digests)


def arrived(mails: Iterator[Received] | Sequence[Received]) -> Iterator[tuple[str, set[str]]]:
    """Of each mail the one recipient, and the SHA-256 of each file in it."""
    for mail in mails:
        (address,) = mail.rcpt_to
        parts = [part for part in message_from_bytes(mail.content).walk() if part.get_filename()]
        yield address, {hashlib.sha256(part.get_payload(decode=True)).hexdigest() for part in parts}  # type: ignore[arg-type]  # a file is bytes
