"""A short soak: a random mixture of faults under load, and the proof in the end; `make soak` is the long one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sizes import sized
from tests.soak.run import KINDS, soak


@pytest.mark.slow
@pytest.mark.timeout(sized(300, 1200))
@pytest.mark.parametrize("kind", sized(["sqlite"], ["sqlite", pytest.param("postgres", marks=pytest.mark.server)]))
def test_a_mixture_of_faults_loses_nothing_and_doubles_only_what_was_in_doubt(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert kind in KINDS
    report = soak(tmp_path, kind=kind, minutes=sized(0.25, 3.0), seed=4, processes=4)
    record_property("doubled", report.proof["doubled"])
    assert not list(report.broken()), "\n".join(report.table())
    assert report.struck
