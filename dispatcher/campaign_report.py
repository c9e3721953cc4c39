"""What is told of a campaign when it is over: a line for each recipient, and a mail to its owner."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dispatcher import ids
from dispatcher.campaign import Campaign, CampaignState
from dispatcher.cells import defused
from dispatcher.delivery import Selector, State
from dispatcher.interfaces import Ledger
from dispatcher.records import DeliveryRecord

TEMPLATE = "campaign_report"
COLUMNS = "row", "address", "state", "attempts", "code", "enhanced", "reply", "relay", "changed_at", "id"
_ATTACHED = 10_000  # rows of what was not sent that go along with the mail
_NOT_SENT = tuple(state for state in State if state is not State.SENT)


class CampaignReport:
    """Reads a campaign's deliveries."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def lines(
        self, campaign: Campaign, states: tuple[State, ...] = (), limit: int | None = None
    ) -> Iterator[list[str]]:
        """As CSV has them, in the order of COLUMNS; none for one that was not started, or whose retention is over."""
        if campaign.submission is None:
            return
        for record in self._ledger.find(Selector(ids=(campaign.submission,), states=states, limit=limit)):
            yield _line(record)

    def document(self, campaign: Campaign) -> Mapping[str, Any] | None:
        """The submission that tells its owner; None: nobody is to be told."""
        spec, sums = campaign.spec, dict(campaign.sums or {})
        if spec.owner is None or campaign.submission is None:
            return None
        counts = [{"state": state.value, "count": sums[state.value]} for state in State if sums.get(state.value)]
        data = {
            "campaign": campaign.name,
            "outcome": campaign.state.value,
            "audience": spec.audience,
            "rows": campaign.filtered + campaign.expanded,
            "filtered": campaign.filtered,
            "mails": campaign.expanded,
            "states": counts,
            "started_at": _iso(campaign.started_at),
            "finished_at": _iso(campaign.finished_at),
        }
        document: dict[str, Any] = {
            "template": TEMPLATE, "to": [spec.owner], "data": data, "tags": ["campaign-report"],
            "metadata": {"campaign": campaign.name},
            "idempotency_key": f"campaign/{campaign.id}/report/{campaign.finished_at}",
        }  # fmt: skip
        if spec.from_ is not None:
            document["from"] = spec.from_
        if text := self._not_sent(campaign):
            name = "not-finished" if campaign.state is CampaignState.CANCELLED else "not-sent"
            content = base64.b64encode(text.encode("utf-8-sig")).decode()
            document["attachments"] = [{"content": content, "filename": f"{name}.csv", "content_type": "text/csv"}]
        return document

    def _not_sent(self, campaign: Campaign) -> str:
        lines = list(self.lines(campaign, _NOT_SENT, _ATTACHED))
        if not lines:
            return ""
        file = io.StringIO(newline="")
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows(lines)
        return file.getvalue()


def _line(record: DeliveryRecord) -> list[str]:
    reference = ids.parse(record.message_id)
    values = (
        reference.n if reference else "", record.rcpt, record.state.value, record.attempts, record.code,
        record.enhanced, record.text, record.relay, _iso(record.changed_at), record.id,
    )  # fmt: skip
    return ["" if value is None else defused(str(value)) for value in values]


def _iso(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
