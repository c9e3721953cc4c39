"""The guards: what keeps the promise, one small patch each."""

from tests.guards.again import SCHEDULES
from tests.guards.campaigns import CAMPAIGNS
from tests.guards.inside import JOURNAL, LEASE, REPLAY
from tests.guards.outside import DOOR, LEDGER, REDIS, RELAY, WORKER

GUARDS = (*JOURNAL, *REPLAY, *LEASE, *LEDGER, *WORKER, *REDIS, *RELAY, *DOOR, *CAMPAIGNS, *SCHEDULES)
