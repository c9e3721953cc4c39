"""The workers that listen, asked over Celery's remote control."""

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dispatcher.adapters.celery import configuration

ANSWER_SECONDS = 0.7  # after the last answer; a busy prefork parent answers at once


def serving(url: str, seconds: float = ANSWER_SECONDS) -> dict[str, tuple[str, ...]] | None:
    """The queues that each worker serves, by its name; None when the broker is out of reach."""
    app = Celery("dispatcher", set_as_current=False)
    app.conf.update(configuration(url) | {"task_publish_retry": False})
    try:
        answers = app.control.broadcast("active_queues", reply=True, timeout=seconds) or []
    except (OperationalError, RedisError, OSError):
        return None
    finally:
        app.close()
    return {
        worker: tuple(sorted(queue["name"] for queue in queues))
        for answer in answers
        for worker, queues in answer.items()
        if isinstance(queues, list)
    }
