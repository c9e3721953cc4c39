"""Template versions: kept under their content hash, and which of them new mail is rendered with."""

from collections.abc import Sequence

from sqlalchemy import select

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import AnyRow, Transaction
from dispatcher.adapters.sql.schema import publications, templates
from dispatcher.delivery import Actor
from dispatcher.errors import NotFound
from dispatcher.ledger import publishing, signature
from dispatcher.records import Publication
from dispatcher.template import TemplateVersion


def put_template(tx: Transaction, digest: str, name: str, files: dict[str, str]) -> None:
    """See interfaces.Ledger.put_template."""
    row = {"digest": digest, "name": name, "files": files, "published_at": tx.now}
    tx.execute(tx.insert(templates).on_conflict_do_nothing(), row)


def template(tx: Transaction, digest: str) -> tuple[str, dict[str, str]]:
    """See interfaces.Ledger.template."""
    row = tx.execute(select(templates).where(templates.c.digest == digest)).one_or_none()
    if row is None:
        raise NotFound(f"no template version {digest}")
    return row.name, row.files


def publish(tx: Transaction, versions: Sequence[TemplateVersion], actor: Actor) -> list[Publication]:
    """See interfaces.Ledger.publish. Sorted, so that two publishers wait for each other in one order."""
    ordered = sorted(versions, key=lambda version: version.name)
    for version in ordered:
        put_template(tx, version.digest, version.name, dict(version.files))
    return [made for version in ordered if (made := _publish(tx, version, actor))]


def _publish(tx: Transaction, version: TemplateVersion, actor: Actor) -> Publication | None:
    """Make this the published version of its name; None when it is already, by whom ever."""
    upsert = tx.insert(publications)
    changing = upsert.on_conflict_do_update(
        index_elements=["name"], set_=upsert.excluded, where=publications.c.digest != upsert.excluded.digest
    ).returning(publications)
    by = {"at": tx.now, "actor": signature(actor), "reason": actor.reason}
    row = tx.execute(changing, {"name": version.name, "digest": version.digest, **by}).one_or_none()
    if row is None:
        return None
    acting.record(tx, actor, "publish", publishing(version))
    return _record(row)


def listed(tx: Transaction) -> dict[str, Publication]:
    """See interfaces.Ledger.publications."""
    rows = tx.execute(select(publications).order_by(publications.c.name))
    return {row.name: _record(row) for row in rows}


def versions(tx: Transaction, name: str) -> list[tuple[str, float]]:
    """See interfaces.Ledger.template_versions."""
    query = select(templates.c.digest, templates.c.published_at).where(templates.c.name == name)
    newest = query.order_by(templates.c.published_at.desc(), templates.c.digest)
    return [(digest, at) for digest, at in tx.execute(newest)]


def _record(row: AnyRow) -> Publication:
    return Publication(row.name, row.digest, row.at, row.actor, row.reason)
