"""Attachments on their way into mails: fetched and encoded once for thousands of mails, within bounds."""

import base64
from collections import Counter

from dispatcher import compose
from dispatcher.compose import Sources
from dispatcher.render import Template


def no_template(_: str) -> Template:
    raise AssertionError("no mail here has a template")


class Store:
    """Attachments of a size by name; it counts how often each is fetched."""

    def __init__(self, size: int) -> None:
        self.size, self.fetched = size, Counter[str]()

    def get(self, blob: str) -> bytes:
        self.fetched[blob] += 1
        return blob.encode() * self.size


def test_what_was_fetched_once_is_kept() -> None:
    store = Store(1000)
    sources = Sources(template=no_template, blob=store.get)
    for _ in range(3):
        for blob in "ab":
            assert base64.b64decode(sources.encoded(blob)) == blob.encode() * 1000
    assert store.fetched == {"a": 1, "b": 1}


def test_what_was_not_asked_for_longest_gives_way() -> None:
    store = Store(compose.KEPT_BYTES // 5)
    sources = Sources(template=no_template, blob=store.get)
    for blob in "abcad":  # three have room; d takes the place of b
        sources.encoded(blob)
    assert sum(map(len, sources._kept.values())) <= compose.KEPT_BYTES
    for blob in "acdb":
        sources.encoded(blob)
    assert store.fetched == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_what_is_larger_than_all_that_is_kept_comes_all_the_same() -> None:
    store = Store(compose.KEPT_BYTES)
    sources = Sources(template=no_template, blob=store.get)
    assert len(sources.encoded("a")) > compose.KEPT_BYTES
    assert sources._kept == {}


def test_what_all_have_is_encoded_once_beside_what_each_has_of_their_own() -> None:
    store = Store(compose.KEPT_BYTES // 6)
    sources = Sources(template=no_template, blob=store.get)
    for n in range(8):
        sources.encoded("a")
        sources.encoded(str(n))
    assert store.fetched["a"] == 1
    assert sum(store.fetched.values()) == 9
