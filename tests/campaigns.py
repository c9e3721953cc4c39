"""A campaign on fakes: an audience, a template for it, and the ways to let it go."""

from typing import Any

from dispatcher.audience import AudienceVersion, Column, Kind, Member
from dispatcher.campaign import Campaign, CampaignSpec
from dispatcher.delivery import Lane, Selector, State
from tests.stage import ANNA, Stage

META = """
description = "x"
[schema]
type = "object"
required = ["title", "name"]
[sample]
title = "T"
name = "N"
"""
LINK = '<a href="{{ unsubscribe_url }}">x</a>'
FILES = {
    "meta.toml": META,
    "subject.txt": "{{ title }} for {{ name }}",
    "subject.zh.txt": "{{ title }} - {{ name }}",
    "body.html": "<p>Hi {{ name }}{% if city is defined %} in {{ city }}{% endif %}</p>" + LINK,
    "body.txt": "Hi {{ name }}\n{{ unsubscribe_url }}",
    "body.zh.html": "<p>{{ name }}</p>" + LINK,
    "body.zh.txt": "{{ name }}\n{{ unsubscribe_url }}",
}
COLUMNS = (
    Column("email", Kind.ADDRESS, "Mail"),
    Column("name", Kind.TEXT, "Name"),
    Column("city", Kind.TEXT, "City"),
    Column("country", Kind.TEXT, "Country"),
    Column("age", Kind.NUMBER, "Age"),
    Column("locale", Kind.LOCALE, "Language"),
    Column("zone", Kind.ZONE, "Zone"),
)
SPEC = CampaignSpec("newsletter", "people", "news", data={"title": "Spring"})


class Show(Stage):
    """A stage with an audience ``people``, each given as the attributes of its row."""

    def __init__(self, *people: dict[str, Any], **options: Any) -> None:
        super().__init__(secret_keys=("k" * 16,), public_url="https://mail.example", **options)
        self.files = FILES
        self.people(*(people or ({"name": "Ann"}, {"name": "Bob"})))

    def people(self, *people: dict[str, Any]) -> AudienceVersion:
        """Another version of the audience; the first row has number 2, as in a file with a header."""
        audiences = self.ledger.audiences
        version = audiences.begin("people", "people.csv", COLUMNS, ANNA)
        made = [Member(n, f"p{n}@example.com", f"P{n}@example.com", dict(row)) for n, row in enumerate(people, 2)]
        audiences.add(version.id, made, [])
        return audiences.ready(version.id, ANNA)

    def draft(self, spec: CampaignSpec = SPEC) -> Campaign:
        return self.dispatcher.campaigns.create("spring", spec, ANNA)

    def checked(self, spec: CampaignSpec = SPEC, **options: Any) -> Campaign:
        self.draft(spec)
        return self.dispatcher.campaigns.check("spring", ANNA, **options)

    def findings(self, spec: CampaignSpec = SPEC, **options: Any) -> list[tuple[str, str, str]]:
        """What a check finds: level, what, text."""
        found = self.checked(spec, **options).checked or {}
        return [(each["level"], each["what"], each["text"]) for each in found["findings"]]

    def started(self, spec: CampaignSpec = SPEC, **options: Any) -> Campaign:
        self.checked(spec, **options)
        return self.dispatcher.campaigns.start("spring", ANNA)

    def advance(self) -> bool:
        return self.dispatcher.advance(10.0, again=True)

    @property
    def campaign(self) -> Campaign:
        return self.dispatcher.campaigns.get("spring")

    def send(self) -> list[str]:
        """Send what is due in bulk; the addresses to which it went, in order."""
        before = len(self.transport.sent)
        self.dispatcher.deliver(Lane.BULK)
        return [message.rcpt_to[0][1] for message in self.transport.sent[before:]]

    def mails(self) -> dict[str, State]:
        found = self.ledger.find(Selector(ids=(self.campaign.submission or "",)))
        return {record.rcpt: record.state for record in found}
