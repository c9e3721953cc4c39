"""The door at the Celery tasks ``mail.submit`` and ``mail.event``: it takes them from their queue itself.

Celery's way of fetching loses a task whose worker is killed in the wrong millisecond, since it takes it out of the
queue before it writes down that it has it. Here one script moves tasks from the queue to a stream, where they stay
until the ledger has them; and what waits there is taken in by many in one transaction.
See ``docs/decisions/0012-tasks-at-the-door.md``.
"""

from collections.abc import Sequence

from dispatcher.adapters.celery import EMIT, INTAKE, ODD, SUBMIT
from dispatcher.adapters.stream import GROUP, TASKS, Entry, Stream, in_our_words
from dispatcher.adapters.stream_door import StreamDoor
from dispatcher.adapters.task_message import TaskMessage
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import Dispatcher
from dispatcher.errors import SubmissionError
from dispatcher.handed import EVENT, FIELD, TASK_DOOR, killer, of_task

# Celery's keys of a queue, by priority: the first is where nearly all tasks are.
_QUEUES = (INTAKE, *(f"{INTAKE}\x06\x16{priority}" for priority in (3, 6, 9)))
_MOST, _BYTES = 500, 8 * 1024 * 1024
_AT_ONCE = 0.001
_KINDS = {SUBMIT: FIELD, EMIT: EVENT}
# Removed before it is written: where memory is full, Redis refuses to begin a script with a write that takes more.
_MOVE = """
local moved, bytes = 0, tonumber(ARGV[2])
redis.call('XLEN', KEYS[1]) -- an error ends a script and undoes nothing: what is no stream must be known before
for n = 2, #KEYS do
  while moved < tonumber(ARGV[1]) and bytes > 0 do
    local task = redis.call('RPOP', KEYS[n])
    if not task then break end
    redis.call('XADD', KEYS[1], '*', 'task', task)
    moved, bytes = moved + 1, bytes - #task
  end
end
return moved
"""
# In one step: a task is either here or there.
_HAND_ON = """
for n = 2, #ARGV, 2 do
  if redis.call('XDEL', KEYS[1], ARGV[n]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[n + 1]) end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[n])
end
"""


class TaskStream(Stream):
    """One worker process' share of the tasks."""

    key = TASKS

    def __init__(self, address: BrokerAddress, **options: float) -> None:
        super().__init__(address, **options)
        self._moving = self._redis.register_script(_MOVE)
        self._handing_on = self._redis.register_script(_HAND_ON)

    def _new(self, seconds: float) -> list[Entry]:
        self._move()
        if (found := super()._new(_AT_ONCE)) or not self._comes(seconds):
            return found
        self._move()
        return super()._new(_AT_ONCE)

    def _move(self) -> int:
        """Move to the stream what waits in the queue; how many."""
        return int(self._moving(keys=[self.key, *_QUEUES], args=[_MOST, _BYTES]))

    def _comes(self, seconds: float) -> bool:
        """Wait for a task. It stays where it is: it is moved from the end of its queue to the same end."""
        return self._ask("BLMOVE", INTAKE, INTAKE, "RIGHT", "RIGHT", seconds) is not None

    def hand_on(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Leave these, by number, to Celery, as they came."""
        with in_our_words():
            self._handing_on(keys=[self.key, ODD], args=[GROUP, *(part for each in entries for part in each)])


class TaskDoor(StreamDoor):
    """As the stream's."""

    _stream: TaskStream

    def take_in(
        self, dispatcher: Dispatcher, entries: Sequence[Entry], fault: SubmissionError | None = None
    ) -> list[str]:
        read = [(each, TaskMessage.read(each.pairs[0][1], _KINDS)) for each in entries]
        if odd := [(each.id, each.pairs[0][1]) for each, task in read if task is None]:
            self._stream.hand_on(odd)
        answers = {each.id: "" for each in entries}
        for name, what in _KINDS.items():
            mine = [(each, task) for each, task in read if task is not None and task.name == name]
            handed = [
                of_task(what, task.id, task.args, task.kwargs, fault or killer(each.killed)) for each, task in mine
            ]
            if what == EVENT:
                found = dispatcher.take_in_events(handed)
            else:
                found = dispatcher.take_in_many(handed, door=TASK_DOOR)
            answers |= zip([each.id for each, _ in mine], found, strict=True)
        return list(answers.values())
