"""Guards of campaigns: that nobody is skipped or doubled, and that trouble stops them."""

from tests.guards.guard import Guard

_STORE, _CONTRACT = "dispatcher/adapters/sql/campaigns.py", "tests/contract/test_campaigns.py::"
_KILLED = "tests/faults/test_campaigns.py::test_whoever_is_killed_everybody_of_the_list_is_accounted_for[sqlite+valkey]"

CAMPAIGNS = (
    Guard(
        name="cursor-compared",
        file=_STORE,
        old="                    campaigns.c.cursor == campaign.cursor,\n",
        new="",
        test=f"{_CONTRACT}test_whoever_saw_an_older_cursor_adds_nothing[sqlite]",
        why="two workers that expand the same rows write to everybody twice",
    ),
    Guard(
        name="cursor-with-rows",
        file=_STORE,
        old=(
            "            add_rows(tx, number, rows)\n"
            "            if complete:\n"
            "                tx.narrow()\n"
            "            return True\n"
        ),
        new=(
            "        with self._database.writing() as tx:\n"
            "            add_rows(tx, number, rows)\n"
            "        return True\n"
        ),
        test=_KILLED,
        why="a worker that is killed between the two skips a piece of the audience",
    ),
    Guard(
        name="campaign-brake",
        file="dispatcher/adapters/sql/settling.py",
        old="        braking.feed(tx, told)\n",
        new="        return\n",
        test="tests/integration/test_campaign_brake.py::test_fifty_that_are_deferred_with_the_same_words_pause_it",
        why="a campaign goes on against a relay that refuses all of it",
    ),
    Guard(
        name="pace-in-bursts",
        file="dispatcher/pacing.py",
        old='    return Rate.parse(texts, "rate").at_once()\n',
        new='    return Rate.parse(texts, "rate")\n',
        test="tests/unit/test_campaigns.py::test_a_rate_of_a_second_is_used_up_at_once",
        why="a rate of a second lets one mail go for each sweep",
    ),
)
