"""How long what is settled is kept: by tag, else by lane, else by default."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dispatcher.delivery import Lane


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds from the last change of a submission's last delivery until it may be removed."""

    default: float = 90 * 86400.0
    lanes: Mapping[Lane, float] = field(default_factory=dict)
    tags: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, lane: Lane, tags: Iterable[str]) -> float:
        """Of several tags with a retention of their own, the longest counts."""
        own = [self.tags[tag] for tag in tags if tag in self.tags]
        return max(own) if own else self.lanes.get(lane, self.default)

    @property
    def shortest(self) -> float:
        """No submission is removed sooner than this."""
        return min((self.default, *self.lanes.values(), *self.tags.values()))
