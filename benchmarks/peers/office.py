"""django-post_office at its best settings: mails rendered when they are queued, two processes with one thread each.

    python -m benchmarks.peers.office FOLDER PORT COUNT

Queues the mails in a SQLite ledger in the folder, says ``ready`` and the seconds that took, and sends with the line
that comes then.
"""

import logging
import sys
import time
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks.orders import SENDER, data, recipient, template

_CHUNK = 500


def configure(folder: Path, port: int) -> None:
    """Django by these settings; as fast as the documentation knows how."""
    settings.configure(
        INSTALLED_APPS=["post_office"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / "office.sqlite"),
                "OPTIONS": {
                    "timeout": 20,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        EMAIL_BACKEND="post_office.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=port,
        USE_TZ=True,
        LOGGING_CONFIG=None,
        POST_OFFICE={"BATCH_SIZE": 5000, "THREADS_PER_PROCESS": 1, "LOG_LEVEL": 1, "SENDING_ORDER": ["created"]},
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    )
    django.setup()


def queue(count: int) -> None:
    """Queue so many order confirmations."""
    from post_office import mail  # noqa: PLC0415 - Django must be configured first

    compiled = template()
    for first in range(0, count, _CHUNK):
        chunk = []
        for n in range(first, min(first + _CHUNK, count)):
            rendered = compiled.render("en", data(n))
            chunk.append(
                {
                    "sender": SENDER,
                    "recipients": [recipient(n)],
                    "subject": rendered.subject,
                    "message": rendered.text,
                    "html_message": rendered.html,
                }
            )
        mail.send_many(chunk)


def main(folder: Path, port: int, count: int) -> None:
    """Queue, wait for the word, send."""
    logging.disable(logging.INFO)
    configure(folder, port)
    call_command("migrate", verbosity=0)
    began = time.monotonic()
    queue(count)
    print("ready", time.monotonic() - began, flush=True)
    sys.stdin.readline()
    call_command("send_queued_mail", processes=2, lockfile=str(folder / "lock"), verbosity=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
