"""The workers that listen, asked over Celery's remote control."""

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dispatcher.adapters.celery import INTAKE, ODD, configuration
from dispatcher.adapters.redis import Broker
from dispatcher.adapters.redis_fault import Fault
from dispatcher.broker import SETTING, BrokerAddress

ANSWER_SECONDS = 0.7  # after the last answer; a busy prefork parent answers at once


def serving(broker: BrokerAddress, seconds: float = ANSWER_SECONDS) -> dict[str, tuple[str, ...]] | None:
    """The queues that each worker serves, by its name; None when the broker is out of reach."""
    if _fault(broker) is not None:  # Celery would try for seconds
        return None
    app = Celery("dispatcher", set_as_current=False)
    app.conf.update(configuration(broker) | {"task_publish_retry": False})
    try:
        answers = app.control.broadcast("active_queues", reply=True, timeout=seconds) or []
    except (OperationalError, RedisError, OSError):
        return None
    finally:
        app.close()
    return {
        worker: tuple(sorted(INTAKE if queue["name"] == ODD else queue["name"] for queue in queues))
        for answer in answers
        for worker, queues in answer.items()
        if isinstance(queues, list)
    }


def why(broker: BrokerAddress) -> str:
    """Why nobody could be asked, in one line."""
    return str(_fault(broker) or f"{SETTING}: {broker.display} did not answer in time")


def _fault(broker: BrokerAddress) -> Fault | None:
    asked = Broker(broker)
    try:
        return asked.fault()
    finally:
        asked.close()
