"""Tables, as wide as they are and fitted to a terminal."""

import re
from datetime import datetime, timedelta

import pytest

from gateway_server.cli import terminal
from gateway_server.cli.tables import lines

JOBS = ("job", "status", "user", "function", "took")
ID = "01a22319-c477-77a8-90ce-a9ddb3c06241"
JOB = (ID, "succeeded", "admin", "data-analyzer@1.0.0 analyze", "0.046 s")


def test_where_there_is_room_all_is_told():
    head, row = lines(JOBS, [JOB], width=100, optional=("user", "took"))
    assert head.split() == ["JOB", "STATUS", "USER", "FUNCTION", "TOOK"]
    assert row == f"{ID}  succeeded  admin  data-analyzer@1.0.0 analyze  0.046 s"


def test_optional_columns_make_room_and_nothing_else_is_cut():
    told = lines(JOBS, [JOB], width=80, optional=("user", "took"))
    assert list(told)[1] == f"{ID}  succeeded  data-analyzer@1.0.0 analyze"


def test_empty_columns_go_first():
    head, _ = lines(
        ("id", "user", "name", "revoked"), [("x" * 20, "ann", "tool", "")], width=34, optional=("user", "revoked")
    )
    assert head.split() == ["ID", "USER", "NAME"]


def test_the_last_column_is_wrapped_between_words():
    told = list(lines(("prefab", "functions"), [("echo@1.0.0", "first, second, third, fourth")], width=33))
    assert told[1:] == ["echo@1.0.0  first, second, third,", "            fourth"]


def test_a_word_that_is_too_long_stays_whole():
    url = "s3://agent-builder/agent-inputs/admin/2026/11/28/604fc1f77e917050-sales.csv"
    told = list(lines(("modified", "size", "file"), [("2026-11-28 17:00", "3", url)], width=80))
    assert told[1] == f"2026-11-28 17:00     3  {url}"


def test_columns_that_flow_share_the_room():
    row = ("echo@1.0.0", "one, two, three, four, five, six", "A description of all that it does, in many words.")
    told = list(lines(("prefab", "functions", "description"), [row], width=60, flowing=("functions", "description")))
    assert all(len(line) <= 60 for line in told)
    assert " ".join(" ".join(told[1:]).split()).startswith("echo@1.0.0 one, two,")


def test_without_a_terminal_everything_is_on_one_line():
    told = list(lines(("what", "found"), [("gateway", "none\nanswers " + "x " * 100)]))
    assert len(told) == 2


def test_moments_for_people(monkeypatch: pytest.MonkeyPatch):
    now = datetime.now().astimezone()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", terminal.moment(now.isoformat(), is_brief=True))
    assert terminal.timed("created") == "created"
    monkeypatch.setattr(terminal, "is_shown", lambda: True)
    assert terminal.moment(now.isoformat(), is_brief=True) in f"{now:%H:%M:%S}"
    before = now - timedelta(days=3)
    assert terminal.moment(before.isoformat(), is_brief=True) == f"{before.astimezone(now.tzinfo):%Y-%m-%d %H:%M}"
    assert terminal.timed("created") == f"created ({now.tzname()})"


def test_a_text_without_room_beside_the_others_stands_below_them():
    rows = [("2026-11-28 17:00", "key.create", "key_d34b6d67686afc44", "user=admin scopes=admin, call, publish")]
    told = list(lines(("at", "action", "target", "detail"), rows, width=60))
    assert told[1] == "    DETAIL"
    assert told[2:] == [
        "2026-11-28 17:00  key.create  key_d34b6d67686afc44",
        "    user=admin scopes=admin, call, publish",
    ]
