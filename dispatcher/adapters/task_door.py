"""The door at the Celery tasks ``mail.submit`` and ``mail.event``: it takes them from their queue itself.

Celery's way of fetching loses a task whose worker is killed in the wrong millisecond, since it takes it out of the
queue before it writes down that it has it. Here one script moves tasks from the queue to a stream, where they stay
until the ledger has them; and what waits there is taken in by many in one transaction.
See ``docs/decisions/0012-tasks-at-the-door.md``.
"""

from collections.abc import Sequence

from dispatcher.adapters.celery import EMIT, INTAKE, INTAKE_KEYS, ODD, SUBMIT
from dispatcher.adapters.stream import GROUP, IDLE_SECONDS, TASKS, Entry, Stream, in_our_words
from dispatcher.adapters.stream_door import StreamDoor
from dispatcher.adapters.task_message import TaskMessage
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import Dispatcher
from dispatcher.errors import SubmissionError
from dispatcher.handed import EVENT, FIELD, MAX_KILLED, TASK_DOOR, Handed, killer, of_task

_MOST, _BYTES = 500, 8 * 1024 * 1024
_AT_ONCE = 0.001
_LEAST_WAIT = 0.01  # Redis 6.2 takes less than a millisecond for no bound at all
_KINDS = {SUBMIT: FIELD, EMIT: EVENT}
# Removed before it is written: where memory is full, Redis refuses to begin a script with a write that takes more. An
# error ends a script and undoes nothing, so what cannot be written goes back to where it was.
_MOVE = """
local moved, bytes = 0, tonumber(ARGV[2])
for n = 2, #KEYS do
  while moved < tonumber(ARGV[1]) and bytes > 0 do
    local task = redis.call('RPOP', KEYS[n])
    if not task then break end
    if moved == 0 then redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[3], '0', 'MKSTREAM') end
    local written = redis.pcall('XADD', KEYS[1], '*', 'task', task)
    if type(written) == 'table' and written.err then
      redis.call('RPUSH', KEYS[n], task)
      return written
    end
    moved, bytes = moved + 1, bytes - #task
  end
end
return moved
"""
# In one step: a task is either here or there.
_HAND_ON = """
redis.call('LLEN', KEYS[2])
for n = 2, #ARGV, 2 do
  if redis.call('XDEL', KEYS[1], ARGV[n]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[n + 1]) end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[n])
end
"""


class TaskStream(Stream):
    """One worker process' share of the tasks."""

    key = TASKS

    def __init__(self, address: BrokerAddress, *, idle_seconds: float = IDLE_SECONDS) -> None:
        super().__init__(address, idle_seconds=idle_seconds)
        self._moving = self._redis.register_script(_MOVE)
        self._handing_on = self._redis.register_script(_HAND_ON)

    def next(self, seconds: float) -> list[Entry]:
        """As the other stream's; what waits in the queue is moved first, whatever else Redis refuses."""
        with in_our_words():
            self._move()
        return super().next(seconds)

    def _new(self, seconds: float) -> list[Entry]:
        if (found := super()._new(_AT_ONCE)) or not self._comes(seconds):
            return found
        self._move()
        return super()._new(_AT_ONCE)

    def _move(self) -> int:
        """Move to the stream what waits in the queue; how many."""
        return int(self._moving(keys=[self.key, *INTAKE_KEYS], args=[_MOST, _BYTES, GROUP]))

    def _comes(self, seconds: float) -> bool:
        """Wait for a task. It stays where it is: it is moved from the end of its queue to the same end."""
        wait = max(seconds, _LEAST_WAIT)
        return self._ask("BLMOVE", INTAKE, INTAKE, "RIGHT", "RIGHT", wait) is not None

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
        given = {each.id: _handed(each, fault) for each in entries}
        mails = [handed for what, handed in filter(None, given.values()) if what == FIELD]
        events = [handed for what, handed in filter(None, given.values()) if what == EVENT]
        answers = dispatcher.take_in_many(mails, door=TASK_DOOR) + dispatcher.take_in_events(events)
        if odd := [(each.id, _raw(each)) for each in entries if given[each.id] is None]:
            self._stream.hand_on(odd)
        return answers


def _raw(entry: Entry) -> bytes:
    return entry.pairs[0][1]


def _unread(entry: Entry, error: SubmissionError | None) -> tuple[str, Handed]:
    return FIELD, Handed(None, entry.id, payload=_raw(entry).decode("utf-8", "backslashreplace"), error=error)


def _handed(entry: Entry, fault: SubmissionError | None) -> tuple[str, Handed] | None:
    """What a task brings, and what that is; None for one that is Celery's."""
    if entry.killed > MAX_KILLED:  # at the time before it was to be kept under its own number: to read it may kill
        return _unread(entry, killer(entry.killed))
    try:
        task = TaskMessage.read(_raw(entry), _KINDS)
    except SubmissionError as error:
        return _unread(entry, error)
    if task is None:
        return None
    what = _KINDS[task.name]
    return what, of_task(what, task.id, task.args, task.kwargs, fault or killer(entry.killed))
