"""Guards against what is around a worker: the ledger, the worker's own end, Redis, the relay."""

from tests.guards.guard import Guard

_AWAY, _STOPPED = "tests/faults/test_ledger_away.py::", "tests/faults/test_worker_stopped.py::"
_BELLS, _LOSS = "tests/faults/test_bells.py::", "tests/faults/test_redis_loss.py::"
_REDIS, _RELAY = "tests/faults/test_redis_away.py::", "tests/faults/test_relay_away.py::"
_SQLITE, _POSTGRES = "[sqlite+valkey]", "[postgres+redis]"

LEDGER = (
    Guard(
        name="settler-keeps",
        file="dispatcher/settler.py",
        old="                self._keep(group)\n",
        new="",
        test=f"{_AWAY}test_replies_wait_while_nothing_can_be_committed{_POSTGRES}",
        why="a known reply is forgotten while the ledger is away",
    ),
    Guard(
        name="known-when-killed",
        file="dispatcher/adapters/journal.py",
        old="            self._write(held.page, payload)\n",
        new="",
        test=f"{_AWAY}test_what_a_killed_worker_knew_counts_when_the_ledger_is_back{_SQLITE}",
        why="what it knew is gone: all of it is in doubt",
    ),
    Guard(
        name="strays",
        file="dispatcher/replay.py",
        old="            self.end_strays()\n",
        new="            pass\n",
        test=f"{_AWAY}test_commits_whose_answers_are_lost_count_once{_POSTGRES}",
        why="leases that nobody was told of are nobody's for good",
    ),
    Guard(
        name="told-again",
        file="dispatcher/replay.py",
        old="            self.end_strays()\n",
        new="            pass\n",
        test=f"{_AWAY}test_a_standby_that_takes_over_is_told_the_replies_that_it_never_saw",
        why="a ledger that failed over sends again what it has forgotten",
    ),
    Guard(
        name="ledgers-clock",
        file="dispatcher/adapters/sql/database.py",
        old="        return float(self.connection.exec_driver_sql(_NOW[self.dialect]).scalar_one())\n",
        new="        return __import__('time').time()\n",
        test="tests/faults/test_clock.py::test_the_clock_of_a_worker_changes_nothing",
        why="a worker whose clock is wrong sends what is not due, and ends what has time left",
    ),
)

WORKER = (
    Guard(
        name="drain",
        file="tasks/lifecycle.py",
        old="    _draining[0] = 1\n",
        new="    return\n",
        test=f"{_STOPPED}test_restarted_again_and_again_it_leaves_nothing_in_doubt{_POSTGRES}",
        why="a worker that is asked to stop goes on with its batch",
    ),
)

REDIS = (
    Guard(
        name="bells-ring-again",
        file="dispatcher/sweeper.py",
        old="        return sum(self._ring_due(lane, avoid) for lane in Lane)\n",
        new="        return 0\n",
        test=f"{_LOSS}test_bells_are_lost_and_no_mail_is[sqlite+valkey-flush]",
        why="mail whose bell was lost waits for the next mail",
    ),
    Guard(
        name="watermark",
        file="dispatcher/sweeper.py",
        old="        if depth is None or depth >= WATERMARK // 2:\n            return 0\n",
        new="        depth = 0\n",
        test=f"{_BELLS}test_a_backlog_lies_in_the_ledger_and_not_on_redis{_SQLITE}",
        why="each sweep rings for the whole backlog: Redis fills up with bells",
    ),
    Guard(
        name="leased-once",
        file="dispatcher/adapters/sql/leasing.py",
        old="_IS_WAITING = one_of(deliveries.c.state, [state.value for state in WAITING_STATES])\n",
        new="_IS_WAITING = one_of(deliveries.c.state, ['leased', *(state.value for state in WAITING_STATES)])\n",
        test=f"{_BELLS}test_the_same_bell_rings_fifty_times{_SQLITE}",
        why="two bells for a mail send it twice",
    ),
    Guard(
        name="bell-dies",
        file="dispatcher/sweeper.py",
        old="        return sum(self._ring_due(lane, avoid) for lane in Lane)\n",
        new="        return 0\n",
        test=f"{_BELLS}test_a_bell_dies_between_redis_and_the_worker{_SQLITE}",
        why="what Redis gave to a worker that died is gone",
    ),
    Guard(
        name="deaf-is-ended",
        file="tasks/lifecycle.py",
        old="    dog.start()\n",
        new="",
        test=f"{_BELLS}test_a_deaf_worker_ends_and_the_next_one_hears{_SQLITE}",
        why="a worker whose connection broke at a bad moment serves nobody for good",
    ),
    Guard(
        name="reconnecting-is-not-deaf",
        file="tasks/lifecycle.py",
        old="        if sender.broker_connection_retry_attempt:",
        new="        if False:",
        test=f"{_BELLS}test_a_worker_that_waits_to_connect_again_is_not_deaf{_SQLITE}",
        why="after an outage a worker is killed that would connect in a moment",
    ),
    Guard(
        name="sweep-without-beat",
        file="dispatcher/sweeper.py",
        old="            self._sweep_if_nobody_does()\n",
        new="",
        test=f"{_BELLS}test_without_a_beat_mail_goes_at_its_time{_SQLITE}",
        why="beat is a single point: without it nothing is retried, and nothing scheduled is sent",
    ),
    Guard(
        name="bell-is-silent",
        file="dispatcher/adapters/celery.py",
        old="time.monotonic() + _SILENT_SECONDS",
        new="time.monotonic()",
        test=f"{_REDIS}test_a_frozen_redis_holds_up_one_submission_and_no_other{_SQLITE}",
        why="while Redis is frozen every submission waits for its timeout",
    ),
)

RELAY = (
    Guard(
        name="relay-is-paused",
        file="dispatcher/batch.py",
        old="            self._found_ill(relay, ReplyClass.ACCOUNT if refused else ReplyClass.RELAY, trouble)\n",
        new="",
        test=f"{_RELAY}test_relays_that_are_away_cost_nothing_and_are_used_when_they_are_back",
        why="every mail that waits tries the relay that is down",
    ),
    Guard(
        name="silence-is-held",
        file="dispatcher/retry.py",
        old='        if result.phase is Phase.FINAL and if_in_doubt == "hold":\n',
        new="        if False:\n",
        test=f"{_RELAY}test_only_silence_after_the_final_dot_is_in_doubt",
        why="what was lost after the final dot is sent again, although a person is to decide",
    ),
    Guard(
        name="silence-is-in-doubt",
        file="dispatcher/verdict.py",
        old="        in_doubt=isinstance(result, NoReply) and result.phase is Phase.FINAL,\n",
        new="",
        test=f"{_RELAY}test_only_silence_after_the_final_dot_is_in_doubt",
        why="a mail that may be there twice does not say so",
    ),
)

_DOOR = "tests/integration/test_task_door.py::"
DOOR = (
    Guard(
        name="tasks-are-not-celerys",
        file="tasks/lifecycle.py",
        old="        queues.deselect([INTAKE])\n",
        new="",
        test="tests/faults/test_tasks_killed.py::test_a_task_whose_worker_is_killed_as_it_is_fetched_arrives_once",
        why="Celery fetches tasks, and one whose worker is killed just then is lost or late",
    ),
    Guard(
        name="what-cannot-be-written-goes-back",
        file="dispatcher/adapters/task_door.py",
        old="      redis.call('RPUSH', KEYS[n], task)\n",
        new="",
        test=f"{_DOOR}test_where_the_stream_should_be_is_something_else_nothing_leaves_the_queue",
        why="a task that is out of its queue and cannot be written is lost",
    ),
    Guard(
        name="the-stream-is-filled-before-it-is-asked",
        file="dispatcher/adapters/task_door.py",
        old="        with in_our_words():\n            self._move()\n        return super().next(seconds)\n",
        new="        return super().next(seconds)\n",
        test=f"{_DOOR}test_a_redis_whose_memory_is_full_is_emptied",
        why="a Redis that is full when the first worker starts is never emptied",
    ),
    Guard(
        name="what-celery-can-do-is-asked-first",
        file="dispatcher/adapters/task_door.py",
        old="redis.call('LLEN', KEYS[2])\n",
        new="",
        test=f"{_DOOR}test_what_celery_cannot_be_given_stays_and_the_others_go_on",
        why="a task is removed before it is known that it can be handed on",
    ),
)
