"""A list of customers as a shop would export it: seeded, with the numbers that an import of it must come to."""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

HEADER = "Email", "First Name", "City", "Language", "Time zone", "Birthday", "Points", "VIP"
ZONES = (
    *("Asia/Shanghai", "Asia/Tokyo", "Asia/Kolkata", "Asia/Dubai", "Europe/Berlin", "Europe/London", "Europe/Lisbon"),
    *("America/New_York", "America/Los_Angeles", "America/Sao_Paulo", "Australia/Sydney", "Pacific/Auckland"),
)
TYPES = {"birthday": "date", "points": "number", "vip": "bool"}
BAD, SUPPRESSED, DOUBLED = 0.02, 0.01, 0.01
_CHINESE = ("李雷", "韩梅梅", "王小明", "张伟", "欧阳娜娜", "陈思远")
_LATIN = ("Anna", "José", "Łukasz", "Zoë", "Müller", "O'Brien")
_CITIES = {"zh-CN": ("上海", "北京", "成都"), "en": ("Berlin", "São Paulo", "New York, NY")}


@dataclass(frozen=True)
class Facts:
    """What there is in a file: ``rows`` = ``kept`` + ``bad`` + ``doubled``. ``bad_rows`` and ``doubled_rows`` by their
    lines; ``suppressed``: addresses among those kept that are not to be written to; ``zones``: members of each."""

    rows: int
    kept: int
    bad_rows: tuple[int, ...]
    doubled_rows: tuple[int, ...]
    suppressed: tuple[str, ...]
    zones: dict[str, int]

    @property
    def bad(self) -> int:
        return len(self.bad_rows)

    @property
    def doubled(self) -> int:
        return len(self.doubled_rows)


def write_csv(path: Path, rows: int, seed: int = 1) -> Facts:
    """Write so many rows below a header; the line of row n (from 0) is n + 2."""
    chosen = random.Random(seed)
    bad, doubled, suppressed = list[int](), list[int](), list[str]()
    zones = dict.fromkeys(ZONES, 0)
    earlier: list[str] = []  # some addresses to be doubled
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for n in range(rows):
            row = _row(n, chosen)
            kind = chosen.random()
            if kind < BAD:
                _spoil(row, chosen)
                bad.append(n + 2)
            elif kind < BAD + DOUBLED and earlier:
                row[0] = chosen.choice(earlier).upper()
                doubled.append(n + 2)
            else:
                zones[row[4]] += 1
                if chosen.random() < SUPPRESSED:
                    suppressed.append(row[0])
                if len(earlier) < 1000 or chosen.random() < 0.001:
                    earlier.append(row[0])
            writer.writerow(row)
    kept = rows - len(bad) - len(doubled)
    return Facts(rows, kept, tuple(bad), tuple(doubled), tuple(suppressed), zones)


def _row(n: int, chosen: random.Random) -> list[str]:
    chinese = chosen.random() < 0.5
    name = chosen.choice(_CHINESE if chinese else _LATIN)
    language = "zh-CN" if chinese else "en"
    return [
        f"{chosen.choice('abcdefghij')}{n * 7919 % 1_000_003}.{n}@{chosen.choice(('example.com', 'mail.example.org'))}",
        name,
        chosen.choice(_CITIES[language]),
        language,
        chosen.choice(ZONES),
        f"{chosen.randint(1940, 2005)}-{chosen.randint(1, 12):02}-{chosen.randint(1, 28):02}",
        str(chosen.randint(0, 5000)),
        chosen.choice(("yes", "no", "")),
    ]


def _spoil(row: list[str], chosen: random.Random) -> None:
    """Make it a row that cannot be a member, in one of the ways in which they are met."""
    place, value = chosen.choice(
        (
            (0, "nobody"),
            (0, ""),
            (0, "two@@example.com"),
            (4, "Mars/Olympus"),
            (5, "31.12.1990"),
            (6, "many"),
            (7, "si"),
        )
    )
    row[place] = value
