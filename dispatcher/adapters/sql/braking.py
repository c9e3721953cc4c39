"""The brake of a campaign: what relays say of its mails is told to it as they are settled, in the same transaction."""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, delete, select, update

from dispatcher.adapters.sql import pausing
from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.schema import campaign_brakes, campaigns
from dispatcher.adapters.sql.spoken import among
from dispatcher.brake import Brake, fed
from dispatcher.campaign import CampaignState
from dispatcher.delivery import Settlement
from dispatcher.ledger import BRAKE

_RUNNING = select(campaigns.c.id, campaigns.c.name, campaigns.c.submission_id, campaigns.c.submission).where(
    among(campaigns.c.submission_id), campaigns.c.state == CampaignState.RUNNING.value
)
_BRAKE = (
    select(campaign_brakes.c.replies, campaign_brakes.c.text, campaign_brakes.c.streak)
    .where(campaign_brakes.c.campaign_id == bindparam("number"))
    .with_for_update()
)


def feed(tx: Transaction, told: Mapping[int, Sequence[Settlement]]) -> None:
    """What was settled, by the number of its submission: a campaign among them that meets too much trouble pauses."""
    for number, name, submission, public_id in sorted(tx.rows(_RUNNING, among=sorted(told))):
        before = _brake(tx, number)
        after, reason = fed(before, told[submission])
        if after != before:
            changed = update(campaign_brakes).where(campaign_brakes.c.campaign_id == number)
            tx.execute(changed.values(replies=after.replies, text=after.text, streak=after.streak))
        if reason:
            _pause(tx, number, name, public_id, reason)


def loosen(tx: Transaction, number: int) -> None:
    """Begin anew: a person has looked into it."""
    tx.execute(delete(campaign_brakes).where(campaign_brakes.c.campaign_id == number))


def _brake(tx: Transaction, number: int) -> Brake:
    """As it stands; nobody else feeds it now."""
    new = {"campaign_id": number, "replies": "", "text": "", "streak": 0}
    while not (rows := tx.rows(_BRAKE, number=number)):  # a resume may take it away in between
        tx.execute(tx.insert(campaign_brakes).values(**new).on_conflict_do_nothing())
    return Brake(*rows[0])


def _pause(tx: Transaction, number: int, name: str, submission: str, reason: str) -> None:
    running = update(campaigns).where(campaigns.c.id == number, campaigns.c.state == CampaignState.RUNNING.value)
    paused = {"state": CampaignState.PAUSED.value, "reason": reason, "changed_at": tx.now, "actor": BRAKE}
    if not tx.execute(running.values(**paused)).rowcount:
        return
    pausing.hold(tx, "submission", submission, f"campaign {name}: {reason}", BRAKE)
