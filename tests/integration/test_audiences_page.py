"""The page for marketers cannot lie: its commands run, one after the other, on its file; and so does its Python."""

import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.commands import Cli

PAGE = (Path(__file__).parents[2] / "docs" / "audiences.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_commands_do_what_it_says(cli: Cli) -> None:
    (cli.folder / "customers.csv").write_text(blocks("csv")[0], encoding="utf-8")
    with sqlite3.connect(cli.folder / "shop.db") as shop:
        shop.execute("CREATE TABLE customers (id INTEGER, email TEXT, city TEXT, news BOOLEAN)")
        shop.execute("INSERT INTO customers VALUES (1, 'li@example.com', '上海', 1), (2, 'x@example.com', '', 0)")
    shop.close()
    database = f"sqlite:///{cli.folder / 'shop.db'}"
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    done = {line: cli(*shlex.split(line)[1:], SHOP_DATABASE=database) for line in lines}
    assert len(lines) == 9
    assert [each.returncode for each in done.values()] == [1, 1, 0, 0, 0, 0, 0, 0, 0], done
    shown = [each for each in done.values() if each.returncode]
    assert shown[1].stderr.splitlines() + shown[1].stdout.splitlines() == [
        line.strip() for line in PAGE.splitlines() if line.startswith("    customers")
    ]
    assert done[lines[2]].stdout == "buyers version 1: 1 row · kept 1 · bad 0 · doubled 0\n"
    assert (
        (cli.folder / "others.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith("anna@example.com,Anna")
    )


def test_the_pages_python_runs(cli: Cli) -> None:
    (cli.folder / "customers.csv").write_text(blocks("csv")[0], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[0]],
        cwd=cli.folder,
        env=cli.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "1 2 2 1"
