"""Attachments in the ledger's database, for servers that share no folder."""

import hashlib
from typing import BinaryIO

from sqlalchemy import delete, select, update

from dispatcher.adapters.blobs import checked
from dispatcher.adapters.sql.database import Database
from dispatcher.adapters.sql.schema import blobs
from dispatcher.errors import NotFound
from dispatcher.mail import Blob


class LedgerBlobs:
    """``interfaces.Blobs`` in the ``blobs`` table, by the database's clock. Whoever puts and whoever removes the same
    one wait for each other at its row, and the second sees what the first did."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, stream: BinaryIO) -> Blob:
        content = stream.read()
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        with self._database.writing() as tx:
            again = {"touched_at": tx.now}
            known = update(blobs).where(blobs.c.id == blob.id).values(again)
            if tx.execute(known).rowcount == 0:  # the bytes travel only if they are new
                new = tx.insert(blobs).values(id=blob.id, size=blob.size, content=content, **again)
                tx.execute(new.on_conflict_do_update(index_elements=["id"], set_=again))
        return blob

    def touch(self, blob: str) -> Blob:
        with self._database.writing() as tx:
            one = update(blobs).where(blobs.c.id == checked(blob)).values(touched_at=tx.now).returning(blobs.c.size)
            size = tx.execute(one).scalar_one_or_none()
        if size is None:
            raise NotFound(f"no stored attachment {blob}")
        return Blob(blob, size)

    def get(self, blob: str) -> bytes:
        with self._database.reading() as tx:
            content = tx.execute(select(blobs.c.content).where(blobs.c.id == checked(blob))).scalar_one_or_none()
        if content is None:
            raise NotFound(f"no stored attachment {blob}")
        return bytes(content)

    def old(self, seconds: float, *, after: str = "", limit: int = 500) -> list[str]:
        with self._database.reading() as tx:
            query = select(blobs.c.id).where(blobs.c.id > after, blobs.c.touched_at <= tx.now - seconds)
            return list(tx.execute(query.order_by(blobs.c.id).limit(limit)).scalars())

    def remove(self, blob: str, seconds: float) -> bool:
        with self._database.writing() as tx:
            tx.execute(delete(blobs).where(blobs.c.id == blob, blobs.c.touched_at <= tx.now - seconds))
            return tx.execute(select(blobs.c.id).where(blobs.c.id == blob)).first() is None
