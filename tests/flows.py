"""Automations to test with: kinds of events, and a document that a test changes where it needs to."""

from collections.abc import Mapping
from typing import Any

CUSTOMER: Mapping[str, Any] = {
    "type": "object",
    "required": ["id", "email"],
    "properties": {
        "id": {"type": ["string", "integer"]},
        "email": {"type": "string"},
        "name": {"type": "string"},
        "zone": {"type": "string"},
        "locale": {"type": "string"},
        "vip": {"type": "boolean"},
    },
}


def kind(event: str, /, **more: Any) -> dict[str, Any]:
    """A kind of event that is about a customer."""
    properties = {"customer": CUSTOMER, **more}
    sample = {"customer": {"id": 1, "email": "a@example.com", "name": "Ada"}, "name": "Ada"}
    data = {"required": ["customer"], "properties": properties}
    return {"event": event, "data": data, "sample": {each: sample[each] for each in sample.keys() & properties.keys()}}


TOTAL = {"type": ["string", "number"], "format": "decimal"}
KINDS = [
    kind("registered"),
    kind("ordered", order={"type": "object", "properties": {"total": TOTAL}}),
    kind("shipped", name={"type": "string"}),
    kind("left"),
]


def automation(*steps: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Of these steps; each sends a mail with its name as the subject, unless it says otherwise."""
    found = [
        {"send": {"subject": each["step"], "text": "T"}, **each} if "send" not in each else dict(each) for each in steps
    ]
    return {
        "automation": "welcome",
        "trigger": {"event": "registered"},
        "key": "customer.id",
        "person": {"address": "customer.email", "zone": "customer.zone", "locale": "customer.locale"},
        "steps": [{name: value for name, value in each.items() if value is not None} for each in found],
        **fields,
    }


def customer(number: int = 7, **more: Any) -> dict[str, Any]:
    """The data of an event about them."""
    return {"customer": {"id": number, "email": f"c{number}@example.com", **more}}
