"""``dispatcher audiences``, as a marketer and as a script use it."""

import json
import sqlite3
import subprocess

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from tests.audiences import Facts, write_csv
from tests.commands import Cli
from tests.workbooks import write_workbook

KINDS = "--type", "birthday=date", "--type", "points=number", "--type", "vip=bool"


@pytest.fixture
def facts(cli: Cli) -> Facts:
    return write_csv(cli.folder / "customers.csv", 1000)


def imported(cli: Cli, *options: str, name: str = "customers") -> subprocess.CompletedProcess[str]:
    return cli("audiences", "import", name, "customers.csv", *KINDS, *options)


def test_a_preview_shows_the_mapping_and_keeps_nothing(cli: Cli, facts: Facts) -> None:
    done = cli("audiences", "preview", "customers.csv", *KINDS)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "customers.csv · encoding utf-8 · separator comma"
    assert lines[1].split("\t")[:3] == ["column", "attribute", "kind"]
    assert lines[6].split("\t")[:3] == ["Time zone", "time_zone", "zone"]
    assert lines[-1] == f"of the first 1,000 rows {facts.bad} are bad"
    assert cli.json("audiences", "list") == []
    found = cli.json("audiences", "preview", "customers.csv", *KINDS)
    assert found["details"] == {"encoding": "utf-8", "separator": "comma"}
    assert [column["kind"] for column in found["columns"]] == [
        *("address", "text", "text", "locale", "zone", "date", "number", "bool")
    ]
    assert len(found["columns"][0]["samples"]) == 3
    assert (found["rows"], found["good"], len(found["bad"])) == (1000, 1000 - facts.bad, facts.bad)


def test_an_import_says_what_became_of_every_row(cli: Cli, facts: Facts) -> None:
    done = imported(cli, "--rejects", "bad.jsonl")
    assert done.returncode == 1
    assert done.stdout == (
        f"customers version 1: 1,000 rows · kept {facts.kept:,} · bad {facts.bad} · doubled {facts.doubled}\n"
    )
    told = done.stderr.splitlines()
    assert told[0].startswith(f"customers.csv:{facts.bad_rows[0]}: ")
    assert len(told) == min(20, facts.bad) + (facts.bad > 20)
    kept = [json.loads(line) for line in (cli.folder / "bad.jsonl").read_text().splitlines()]
    assert [row["row"] for row in kept] == list(facts.bad_rows)
    assert kept[0].keys() == {"row", "field", "reason", "payload"}
    (listed,) = cli.json("audiences", "list")
    assert (listed["name"], listed["versions"], listed["current"]["kept"]) == ("customers", 1, facts.kept)
    rejects = cli.json("audiences", "rejects", "customers", "--limit", "1000")
    assert [row["row"] for row in rejects] == sorted(facts.bad_rows + facts.doubled_rows)
    assert [row["row"] for row in rejects if row["doubled"]] == list(facts.doubled_rows)


def test_all_good_is_exit_0_and_another_version_asks(cli: Cli) -> None:
    cli.lines("email,name", "a@example.com,Anna", name="a.csv")
    assert cli("audiences", "import", "staff", "a.csv").returncode == 0
    done = cli("audiences", "import", "staff", "a.csv")
    assert done.returncode == 2
    assert (
        "audience staff has version 1 with 1 member; a.csv becomes the current version; nobody is here" in done.stderr
    )
    done = cli("audiences", "import", "staff", "a.csv", "--yes", "--json")
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert (made["version"], made["kept"], made["columns"][1]) == (
        2,
        1,
        {"name": "name", "kind": "text", "source": "name"},
    )


def test_members_are_shown_and_chosen(cli: Cli, facts: Facts) -> None:
    imported(cli)
    found = cli.json("audiences", "show", "customers", "--where", "time_zone=Asia/Tokyo", "--values")
    assert (found["matched"], found["rows"], found["bad"]) == (facts.zones["Asia/Tokyo"], 1000, facts.bad)
    assert found["values"]["time_zone"] == {"Asia/Tokyo": facts.zones["Asia/Tokyo"]}
    assert "points" not in found["values"]
    rows = cli.json(
        "audiences", "members", "customers", "--where", "time_zone=Asia/Tokyo", "--where", "vip", "--limit", "3"
    )
    assert len(rows) == 3
    assert {row["attributes"]["vip"] for row in rows} == {True}
    shown = cli("audiences", "show", "customers", "--version", "1", "--where", "vip")
    assert shown.returncode == 0
    assert f"1,000 rows = kept {facts.kept} + bad {facts.bad} + doubled {facts.doubled}" in shown.stdout
    assert "members meant" in shown.stdout
    assert cli("audiences", "members", "customers", "--limit", "2").stdout.count("\n") == 2


def test_an_export_is_what_was_imported_and_calculates_nothing(cli: Cli) -> None:
    cli.lines("Email,Name,Note", "Li Lei <li@example.com>,李雷,=1+1", "b@example.com,Bob,", name="a.csv")
    cli("audiences", "import", "staff", "a.csv")
    done = cli("audiences", "export", "staff", "--out", "out.csv")
    assert done.stdout == "2 members in out.csv\n"
    lines = (cli.folder / "out.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines == ["email,name,note", '"""Li Lei"" <li@example.com>",李雷,\'=1+1', "b@example.com,Bob,"]
    assert cli("audiences", "export", "staff", "--out", "out.csv").returncode == 2
    assert cli.json("audiences", "export", "staff", "--out", "out.csv", "--yes", "--where", "!note")["members"] == 1


def test_a_workbook_and_json_lines_and_a_query_are_imported(cli: Cli) -> None:
    write_workbook(cli.folder / "a.xlsx", {"A": [["Mail", "Age"], ["a@example.com", 7]]})
    assert cli("audiences", "import", "x", "a.xlsx", "--sheet", "A").returncode == 0
    cli.lines({"邮箱": "b@example.com", "age": 7}, name="a.jsonl")
    assert cli("audiences", "import", "j", "a.jsonl").returncode == 0
    with sqlite3.connect(cli.folder / "shop.db") as shop:
        shop.execute("CREATE TABLE people (id INTEGER, email TEXT, age INTEGER)")
        shop.execute("INSERT INTO people VALUES (1, 'c@example.com', 7)")
    shop.close()
    url = f"sqlite:///{cli.folder / 'shop.db'}"
    query = "SELECT id, email, age FROM people"
    done = cli("audiences", "import", "q", "--sql", "env:SHOP", "--query", query, "--key", "id", SHOP=url)
    assert done.returncode == 0, done.stderr
    assert cli("audiences", "import", "t", "--sql", url, "--table", "people", "--key", "id").returncode == 0
    for name in "xjqt":
        ((row),) = cli.json("audiences", "members", name, "--where", "age>=7")
        assert row["attributes"]["age"] == 7


@pytest.mark.parametrize(
    ("lines", "options", "reason"),
    [
        (("email,name,name", "a@example.com,A,B"), (), "a.csv: columns 2 and 3 have the same name, 'name'"),
        (("name", "Anna"), (), "a.csv: no column is called email"),
        (("",), (), "a.csv: is empty"),
        (("email,",), (), "a.csv: column 2 has no name"),
        (("a@example.com,Anna",), (), "its first row has the address a@example.com"),
        (("email",), (), "a.csv: has no rows; nothing was changed"),
        (("email", "nobody"), (), "a.csv: none of its 1 rows could be kept; nothing was changed"),
        (("email", "a@example.com"), ("--type", "age=number"), "--type: there is no attribute age"),
        (("email", "a@example.com"), ("--type", "email=address"), "the kinds are text, number"),
        (("email", "a@example.com"), ("--map", "email"), "write NAME=VALUE"),
        (("email", "a@example.com"), ("--max-bad", "few"), "write a count or a share"),
        (("email", "a@example.com", "x"), ("--max-bad", "0"), "--max-bad: more than 0 rows are bad"),
        (("email", "a@example.com"), ("--encoding", "klingon"), "--encoding: 'klingon' is no encoding"),
        (("email", "a@example.com"), ("--key", "id"), "it goes with --sql"),
        (("email", "a@example.com"), ("--rejects", "a.csv"), "is the file that is imported"),
        (("email", "a@example.com"), ("--rejects", "no/where"), "--rejects: cannot write"),
        (("email", "a@example.com"), ("--sql", "sqlite:///x"), "name a file, or a database"),
    ],
)
def test_bad_input_has_one_clear_answer_and_changes_nothing(
    cli: Cli, lines: tuple[str, ...], options: tuple[str, ...], reason: str
) -> None:
    cli.lines(*lines, name="a.csv")
    done = cli("audiences", "import", "staff", "a.csv", *options)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())
    assert [each["current"] for each in cli.json("audiences", "list")] in ([], [None])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "goes with --query or with --table"),
        (("--query", "SELECT 1", "--table", "x"), "goes with --query or with --table"),
        (("--table", "people"), "name a column that is unique"),
        (("--table", "people", "--key", "id", "--sheet", "A"), "is for a file"),
        (("--table", "people", "--key", "id"), "--sql: "),
    ],
)
def test_a_query_that_is_not_whole_has_one_clear_answer(cli: Cli, options: tuple[str, ...], reason: str) -> None:
    done = cli("audiences", "preview", "--sql", "postgresql://u:secret@127.0.0.1:1/shop", *options)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())
    assert "secret" not in done.stderr


def test_a_name_or_a_filter_that_is_not_known_says_what_there_is(cli: Cli, facts: Facts) -> None:
    imported(cli)
    done = cli("audiences", "show", "custmers")
    assert (done.returncode, done.stderr) == (
        2,
        "dispatcher: no audience 'custmers' that is ready; did you mean customers?\n",
    )
    done = cli("audiences", "members", "customers", "--where", "planet=Mars")
    assert (done.returncode, done.stderr.startswith("dispatcher: filter 'planet=Mars': there is no attribute")) == (
        2,
        True,
    )
    assert cli("audiences", "show", "customers", "--version", "7").returncode == 2


def test_an_audience_is_dropped_with_its_rows(cli: Cli, facts: Facts) -> None:
    imported(cli)
    imported(cli, "--yes")
    assert cli("audiences", "drop", "customers").returncode == 2
    assert cli("audiences", "drop", "customers", "--version", "1", "--yes").stdout == "1 version dropped\n"
    assert cli("audiences", "show", "customers", "--version", "1").returncode == 2
    assert cli.json("audiences", "drop", "customers", "--yes", "--reason", "asked") == {"dropped": 1}
    assert cli.json("audiences", "list") == []
    with sqlite3.connect(cli.folder / "var" / "ledger.db") as ledger:
        for table in ("audiences", "audience_versions", "audience_members", "audience_rejects"):
            assert ledger.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    ledger.close()
    assert cli("audiences", "drop", "customers", "--yes").returncode == 2
    acts = [(act["act"], act["subject"]) for act in cli.json("acts")]
    assert acts[:2] == [("drop", "audience customers"), ("drop", "audience customers version 1")]


def test_an_audience_that_a_campaign_goes_by_is_not_dropped(cli: Cli) -> None:
    cli.lines("email", "a@example.com", name="a.csv")
    cli("audiences", "import", "staff", "a.csv")
    ledger = SqlLedger(f"sqlite:///{cli.folder / 'var' / 'ledger.db'}")
    version = ledger.audiences.current("staff").id
    ledger.close()

    def campaign(state: str) -> None:
        with sqlite3.connect(cli.folder / "var" / "ledger.db") as connection:
            connection.execute("DELETE FROM campaigns")
            connection.execute(
                'INSERT INTO campaigns (name, state, spec, version_id, "cursor", filtered, expanded, complete, reason, '
                "created_at, changed_at, actor) VALUES ('spring', ?, '{}', ?, 0, 0, 0, 0, '', 0, 0, '')",
                (state, version),
            )
        connection.close()

    campaign("running")
    done = cli("audiences", "drop", "staff", "--yes")
    assert done.returncode == 2
    assert "campaign spring is running and goes by it: cancel that first" in done.stderr
    assert cli("audiences", "show", "staff").returncode == 0
    campaign("finished")
    assert cli("audiences", "drop", "staff", "--yes").returncode == 0
    assert cli.json("audiences", "list") == []
