"""Errors say what, where and what to do, and survive the way through Celery."""

import inspect
import pickle

import pytest

from dispatcher import errors

SAMPLES: dict[type[errors.DispatcherError], tuple[object, ...]] = {
    errors.DispatcherError: ("something",),
    errors.ConfigurationError: ("DISPATCHER_RELAY_URL", "unknown scheme"),
    errors.LimitReached: ("main", "all 5 connections are in use", 2.0),
    errors.IdempotencyConflict: ("SO-1", "abc", ("to", "data")),
    errors.EventConflict: ("order-1001",),
    errors.FileFault: ("missing", "1001.pdf", "is not there"),
}
for _kind in vars(errors).values():
    if inspect.isclass(_kind) and issubclass(_kind, errors.DispatcherError):
        SAMPLES.setdefault(_kind, ("one thing",) if issubclass(_kind, errors.LedgerError) else ("field", "reason"))


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_all_it_carries(kind: type[errors.DispatcherError]) -> None:
    error = kind(*SAMPLES[kind])  # type: ignore[arg-type]  # one shape per kind
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_only_relay_and_ledger_trouble_is_temporary() -> None:
    temporary = {kind for kind in SAMPLES if kind.temporary}
    assert temporary == {
        errors.TransportError,
        errors.ConnectFailed,
        errors.TlsFailed,
        errors.AuthFailed,
        errors.PoolTimeout,
        errors.LimitReached,
        errors.LedgerError,
        errors.LedgerUnavailable,
        errors.LeaseLost,
        errors.JournalFull,
    }


def test_a_conflict_names_the_first_submission_and_what_differs() -> None:
    error = errors.IdempotencyConflict("SO-1/confirmation", "k3j5", ("data", "to"))
    assert str(error) == (
        "idempotency_key: 'SO-1/confirmation' already belongs to submission k3j5, whose content differs in: data, to"
    )
