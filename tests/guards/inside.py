"""Guards of the promise within a host: the journal, its replay, the lease."""

from tests.guards.guard import Guard

_STEPS = "tests/faults/test_worker_steps.py::"
_KILLED = "tests/faults/test_worker_killed.py::test_what_dies_leaves_at_most_its_open_connections_in_doubt"
_FROZEN, _POISON = "tests/faults/test_worker_frozen.py::", "tests/faults/test_poison.py::"
_FILE, _RULES = "tests/integration/test_journal_file.py::", "tests/contract/test_journal.py::"
_SQLITE, _POSTGRES = "[sqlite+valkey]", "[postgres+redis]"
_RESEND = f"{_STEPS}test_resend_sends_again_only_what_nobody_can_know{_SQLITE}"
_HOLD = f"{_STEPS}test_hold_keeps_what_nobody_can_know_for_a_person{_SQLITE}"

JOURNAL = (
    Guard(
        name="begin-before-body",
        file="dispatcher/adapters/smtp_session.py",
        old="        journal.begin(message, refused)\n",
        new="",
        test="tests/integration/test_smtp_connections.py::test_a_message_that_the_journal_cannot_begin_does_not_go_out",
        why="a body goes out that no journal knows of: after a kill it is sent again as if it had not been",
    ),
    Guard(
        name="begin-written",
        file="dispatcher/adapters/journal.py",
        old="            self._write(page, payload)\n",
        new="",
        test=_HOLD,
        why="what was begun is taken for unbegun: it goes back and is sent twice, and nobody was in doubt",
    ),
    Guard(
        name="reply-written",
        file="dispatcher/adapters/journal.py",
        old="            self._write(held.page, payload)\n",
        new="",
        test=_RESEND,
        why="a known 250 dies with its process, and is sent again",
    ),
    Guard(
        name="reply-before-outcome",
        file="dispatcher/adapters/smtp_session.py",
        old="        journal.reply(outcome)\n",
        new="",
        test=_RESEND,
        why="as above: the answer is noted nowhere before the ledger has it",
    ),
    Guard(
        name="record-checksum",
        file="dispatcher/adapters/journal_record.py",
        old=" or zlib.crc32(payload, turn) != checksum:",
        new=":",
        test=f"{_FILE}test_a_torn_record_ends_what_can_be_read",
        why="half a record, or one of an earlier turn, is believed",
    ),
    Guard(
        name="room-for-replies",
        file="dispatcher/adapters/journal.py",
        old=" + page.unanswered * journal_record.REPLY_ROOM <= page.end:",
        new=" <= page.end:",
        test=f"{_FILE}test_a_full_journal_refuses_a_begin_and_keeps_room_for_every_reply",
        why="a full journal cannot take the reply to what was begun in it",
    ),
    Guard(
        name="page-in-use",
        file="dispatcher/adapters/journal.py",
        old="        if other.open or other.start + wanted > other.end:",
        new="        if other.start + wanted > other.end:",
        test=f"{_FILE}test_a_full_journal_refuses_a_begin_and_keeps_room_for_every_reply",
        why="what the ledger has not taken yet is written over",
    ),
    Guard(
        name="fork-lets-go",
        file="dispatcher/adapters/journal.py",
        old="os.register_at_fork(after_in_child=_after_fork)\n",
        new="",
        test=f"{_FILE}test_a_process_that_is_forked_off_does_not_keep_the_lock",
        why="whatever a worker starts keeps its journal locked after its death: nobody replays it",
    ),
    Guard(
        name="dead-is-locked",
        file="dispatcher/adapters/journals.py",
        old="        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        if os.fstat",
        new="        if os.fstat",
        test=f"{_RULES}test_a_process_that_lives_is_not_among_the_dead[file]",
        why="the journal of a living process is replayed: what it is sending is sent twice",
    ),
)

REPLAY = (
    Guard(
        name="replay",
        file="dispatcher/sweeper.py",
        old="            self._replay.look()\n",
        new="            pass\n",
        test=f"{_KILLED}{_SQLITE}",
        why="what a dead process had leased waits until its host is taken for lost",
    ),
    Guard(
        name="begun-is-in-doubt",
        file="dispatcher/replay.py",
        old="        if entry is None and not dead.rebooted:\n",
        new="        if (entry is None or entry.result(delivery.id) is None) and not dead.rebooted:\n",
        test=_HOLD,
        why="what was begun and not answered goes back as if it were known to be unsent",
    ),
    Guard(
        name="held-in-doubt",
        file="dispatcher/verdict.py",
        old='State.IN_DOUBT if if_in_doubt == "hold" else State.QUEUED',
        new="State.QUEUED",
        test=_HOLD,
        why="what a producer wants to be held is sent again",
    ),
    Guard(
        name="late-250",
        file="dispatcher/replay.py",
        old="        return count + (self._settle_late(dead, entries) if late else 0)\n",
        new="        return count\n",
        test="tests/contract/test_replay.py::test_a_known_250_counts_although_its_lease_was_ended[memory]",
        why="a 250 of a lease that was swept is forgotten",
    ),
)

LEASE = (
    Guard(
        name="term-before-begin",
        file="dispatcher/adapters/journal.py",
        old='            if uptime() > held.until:\n                raise LeaseLost("the term of its lease is over")\n',
        new="",
        test=f"{_RULES}test_what_is_past_its_term_is_not_begun[file]",
        why="a process that wakes up sends what may be another's by now",
    ),
    Guard(
        name="stuck-is-ended",
        file="dispatcher/adapters/journals.py",
        old="                    os.kill(stuck.pid, signal.SIGKILL)\n",
        new="",
        test=f"{_FILE}test_one_that_stands_still_is_ended_although_it_holds_no_lease",
        why="a stopped worker keeps its leases for good, where no supervisor looks after it",
    ),
    Guard(
        name="frozen-is-ended",
        file="dispatcher/adapters/supervisor.py",
        old="        _kill_group(pid)\n",
        new="",
        test=f"{_FROZEN}test_a_frozen_worker_is_ended_by_the_supervisor{_SQLITE}",
        why="a stopped worker serves nobody, and nobody starts another",
    ),
    Guard(
        name="living-keeps-its-leases",
        file="dispatcher/sweeper.py",
        old="self._ledger.reclaim(self._replay.owners(), self._policy.host_grace)",
        new="self._ledger.reclaim((), 0.0)",
        test=f"{_FROZEN}test_a_host_that_stood_still_sends_nothing_under_a_lease_that_is_over{_SQLITE}",
        why="what a process of this host has under way is given to another",
    ),
    Guard(
        name="poison-is-counted",
        file="dispatcher/ledger.py",
        old="INVALID_AFTER = 4\n",
        new="INVALID_AFTER = 400\n",
        test=f"{_POISON}test_poison_is_invalid_after_four_deaths_and_all_others_are_sent{_POSTGRES}",
        why="a mail that ends its worker does so for ever",
    ),
    Guard(
        name="poison-is-alone",
        file="dispatcher/ledger.py",
        old="ALONE_AFTER = 2  #",
        new="ALONE_AFTER = 400  #",
        test=f"{_POISON}test_poison_is_invalid_after_four_deaths_and_all_others_are_sent{_POSTGRES}",
        why="a mail that ends its worker takes its whole batch with it",
    ),
)
