"""The JSON Schema of an automation's file, for editors and for ``automations check``. Each document of a file is an
automation or an event."""

from collections.abc import Mapping
from typing import Any

_NAME = r"^\w[\w .:+-]{0,99}$"
_TEXT = {"type": "string", "minLength": 1}
_NAMES = {"type": "array", "items": _TEXT, "minItems": 1}
_LENGTH = r"^\d{1,7}(\.\d{1,6})?\s*(s|m|h)$|^\d{1,4}(\.\d{1,6})?\s*d$"  # no longer than a calendar goes
_DURATION = {"type": "string", "pattern": _LENGTH, "description": "90s, 5m, 36h or 3d"}
_DAYS = {"type": "string", "pattern": r"^\d{1,3}d$", "description": "Whole days, such as 7d"}
_TIME = {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "description": "A time of day, such as 09:00"}
_PATH = {"type": "string", "pattern": r"^\w+(\.\w+)*$", "description": "A place in the data, such as order.customer.id"}
_CONDITIONS = {**_NAMES, "description": "All must hold: order.total>=100, customer.country=CN,HK, customer.vip"}
_SHARED: Mapping[str, Any] = {
    "list": {**_TEXT, "description": "What recipients unsubscribe from; without it, it is no marketing"},
    "lane": {"enum": ["transactional", "bulk"]},
    "relay": _TEXT,
    "from": _TEXT,
    "mail_from": _TEXT,
    "reply_to": _NAMES,
    "headers": {"type": "object"},
    "tags": _NAMES,
    "if_in_doubt": {"enum": ["resend", "hold"]},
}
_SEND = {
    "type": "object",
    "description": "The mail, as a submission has it",
    "additionalProperties": False,
    "properties": {
        "template": _TEXT,
        "subject": _TEXT,
        "text": _TEXT,
        "html": _TEXT,
        "locale": _TEXT,
        "data": {"type": "object", "description": "What the data has beside what the person brings"},
        **_SHARED,
    },
}
_STEP = {
    "type": "object",
    "required": ["step"],
    "additionalProperties": False,
    "properties": {
        "step": {"type": "string", "pattern": _NAME, "description": "Its name, once in the automation"},
        "wait_for": {**_TEXT, "description": "An event that must come first"},
        "within": {**_DURATION, "description": "How long it waits for that, such as 30d; else as long as it takes"},
        "after": {
            **_DURATION,
            "description": "How long after the step before, such as 36h or 3d; in days, by the person's clock",
        },
        "at": _TIME,
        "unless": {**_NAMES, "description": "Passed over when one of these events was"},
        "if": _CONDITIONS,
        "send": _SEND,
        "then": {**_TEXT, "description": "The step behind it, or end; the next one by default"},
        "otherwise": {**_TEXT, "description": "Where it goes on when it is passed over, or waited in vain"},
    },
}
_TRIGGER = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "event": {**_TEXT, "description": "Whoever this event is about is taken in"},
        "date": {**_TEXT, "description": "An attribute of an audience that holds a date"},
        "audience": _TEXT,
        "each": {"enum": ["year", "once"]},
        "before": {**_DAYS, "description": "So many whole days before the date, such as 7d"},
        "at": _TIME,
        "february_29": {"enum": ["02-28", "03-01", "skip"], "description": "In a year that has none"},
        "where": _CONDITIONS,
    },
}
AUTOMATION: Mapping[str, Any] = {
    "type": "object",
    "required": ["automation", "trigger", "steps"],
    "additionalProperties": False,
    "properties": {
        "automation": {"type": "string", "pattern": _NAME, "description": "Its name"},
        "about": _TEXT,
        "trigger": _TRIGGER,
        "key": {
            "type": ["string", "object"],
            "description": "Where what is enrolled once is named in the data of its events, such as order.id; "
            "or such a place for each event",
        },
        "person": {
            "type": "object",
            "description": "Where the trigger's data has the address, the name, the locale and the zone",
            "additionalProperties": False,
            "properties": dict.fromkeys(("address", "name", "locale", "zone"), _PATH),
        },
        "under": {"type": "string", "pattern": r"^[^\W\d]\w*$", "description": "Where a row stands in the data"},
        "zone": {**_TEXT, "description": "The clock of who has none, such as Asia/Shanghai; UTC by default"},
        "hours": {**_TEXT, "description": "When mail may go, such as mon-fri 09:00-18:00, by the person's clock"},
        "rate": {**_NAMES, "description": "At most so much of it, such as 500/min"},
        "late": {
            **_DURATION,
            "description": "A step that is later than this, such as 2h, is passed over; 12h for dates, else never",
        },
        "exit": {**_NAMES, "description": "Events that end it for whom they are about"},
        "steps": {"type": "array", "minItems": 1, "items": _STEP},
        **_SHARED,
    },
}
EVENT: Mapping[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "additionalProperties": False,
    "properties": {
        "event": {"type": "string", "pattern": _NAME, "description": "Its name, such as order.created"},
        "about": _TEXT,
        "data": {"type": "object", "description": "The JSON Schema of its data"},
        "sample": {"type": "object", "description": "Data by which automations are checked"},
    },
}
DOCUMENT: Mapping[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "An automation, or an event, of the mail dispatcher",
    "oneOf": [AUTOMATION, EVENT],
}
