"""A recipient's mail as people and programs read it: where it stands, and every step on its way."""

from typing import Any

from dispatcher.cli.output import count, duration, line, plain, when
from dispatcher.delivery import WAITING
from dispatcher.records import AttemptRecord, DeliveryRecord


def timeline(record: DeliveryRecord) -> None:
    """Print what happened to one recipient's mail, oldest first."""
    line(f"{record.id} to {record.rcpt} ({record.kind})")
    line(
        f"  {record.state}, {count(record.attempts, 'attempt')}, lane {record.lane}, "
        f"accepted {when(record.accepted_at)}" + (f", due {when(record.due_at)}" if record.state in WAITING else "")
    )
    about = [("template", record.template), ("tags", ", ".join(record.tags)), ("Message-ID", record.message_id)]
    line("  " + ", ".join(f"{name} {value}" for name, value in about if value))
    for step in record.history:
        line(f"  {when(step.at)}  {_step(step)}")


def _step(step: AttemptRecord) -> str:
    said = reply(step.code, step.enhanced, step.text)
    if step.actor is not None:
        return f"{step.state} by {step.actor}" + (f": {step.text}" if step.text else "")
    if not step.attempted:
        return f"{step.state}: {said}" if said else f"{step.state}"
    place = f"{step.relay} at {step.phase}" if step.phase else f"{step.relay}"
    return f"{step.state} by {place} in {duration(step.seconds)}: {said}"


def reply(code: int | None, enhanced: str | None, text: str) -> str:
    """What the relay said, in one line."""
    return " ".join(filter(None, (str(code) if code else "", enhanced or "", text)))


def as_document(record: DeliveryRecord, *, history: bool = False) -> dict[str, Any]:
    """As JSON: the address under ``to``, the timeline as ``history`` if it is asked for."""
    found: dict[str, Any] = plain(record)
    steps = found.pop("history")
    found = {"to" if name == "rcpt" else name: value for name, value in found.items()}
    return found | {"history": steps} if history else found
