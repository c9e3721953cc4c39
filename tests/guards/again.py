"""Guards of what comes again and again: schedules."""

from tests.guards.guard import Guard

SCHEDULES = (
    Guard(
        name="seen-until",
        file="dispatcher/adapters/sql/schedules.py",
        old="            schedules.c.seen_until == seen.seen_until,\n",
        new="",
        test="tests/contract/test_schedules.py::test_of_two_who_saw_the_same_the_second_enters_nothing[sqlite]",
        why="who comes second sets back what was looked at",
    ),
    Guard(
        name="occurrences-key",
        file="dispatcher/schedules.py",
        old="self._submit(document, PRODUCER, key_of(due)).id",
        new="self._submit(document, PRODUCER, str(__import__('time').monotonic_ns())).id",
        test="tests/unit/test_schedules.py::test_killed_between_submit_and_mark_it_adds_nothing_twice",
        why="whoever is killed between submit and mark leaves two mails",
    ),
)
