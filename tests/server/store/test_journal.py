"""What has been appended to the journal comes back as it was, whatever becomes of the process."""

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway_server.store.journal import LONGEST, Journal, Position

SIZE = 2048
HEAD = 8
"""Bytes before each record, and before the first of a half; and what the file begins with."""
HALF = (SIZE - HEAD) // 2


class Lives(RuleBasedStateMachine):
    """A journal through several lives of its process, beside a database that takes over what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.file = Path(self._folder.name) / "journal"
        self.records: list[tuple[bytes, Position]] = []
        """What was appended and may have to come back, and where each of them ended."""
        self.queued: list[Position] = []
        """Takings that are under way."""
        self.noted: Position | None = None
        """What the database says it has."""
        self.gone: list[bytes] = []
        """What must not stand in the file any more."""
        self.tags = iter(range(1 << 30))

    @initialize()
    def begin(self) -> None:
        self.journal = Journal(self.file, size=SIZE)
        assert self.journal.recover(None) == []
        self.journal.wipe()

    def teardown(self) -> None:
        self.journal.close()
        self._folder.cleanup()

    @rule(filler=st.binary(max_size=300))
    def append(self, filler: bytes) -> None:
        record = b"record %d " % next(self.tags) + filler
        before = self.journal.end
        if self.journal.append(record):
            self.records.append((record, self.journal.end))
        else:
            assert self.journal.end == before

    @rule()
    def append_nothing(self) -> None:
        assert not self.journal.append(b"")

    @rule()
    def fill(self) -> None:
        while self.journal.append(record := (b"full %d " % next(self.tags)).ljust(100, b"x")):
            self.records.append((record, self.journal.end))

    @rule()
    def turn(self) -> None:
        """The database is asked to take over what there is."""
        position = self.journal.turn()
        assert all(end <= position for _, end in self.records)
        self.queued.append(position)

    @precondition(lambda self: self.queued)
    @rule(hears=st.booleans())
    def commit(self, hears: bool) -> None:
        """It has; the gateway hears of it now, or not before the next."""
        self.noted = self.queued.pop(0)
        if hears:
            self.journal.take(self.noted)
        if hears and not self.queued:
            used = {end.epoch for _, end in self.records if end > self.noted}  # halves in which more stands
            self.gone += [record for record, end in self.records if end <= self.noted and end.epoch not in used]

    @rule()
    def kill(self) -> None:
        self._live_on()

    @precondition(lambda self: self.records and not self.queued)
    @rule(data=st.data())
    def tear(self, data: st.DataObject) -> None:
        """The last record was cut while it was written, or its page was lost."""
        record, end = self.records[-1]
        if self.noted is not None and end <= self.noted:
            return
        content = bytearray(self.file.read_bytes())
        at = data.draw(st.integers(end.offset - len(record) - HEAD, end.offset - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        with self.file.open("r+b") as file:
            file.write(content)
        self.records.pop()
        self._live_on()

    def _live_on(self) -> None:
        """Another life finds what the database does not have, has it taken over, and begins anew."""
        wanted = [record for record, end in self.records if self.noted is None or end > self.noted]
        for _ in range(2):  # one that is killed at once changes nothing
            self.journal.close()  # which is all that the system does for one
            self.journal = Journal(self.file, size=SIZE)
            assert self.journal.recover(self.noted) == wanted
        self.noted = self.journal.end
        self.journal.wipe()
        self.gone += [record for record, _ in self.records]
        self.records, self.queued = [], []

    @invariant()
    def what_was_taken_is_not_there(self) -> None:
        content = self.file.read_bytes()
        behind = {record for record, end in self.records if self.noted is None or end > self.noted}
        assert not any(record in content for record in self.gone if record not in behind)
        assert all(record in content for record in behind)
        assert len(content) == SIZE
        assert self.file.stat().st_mode & 0o777 == 0o600


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLives = Lives.TestCase


def reopened(file: Path, taken: Position | None = None) -> list[bytes]:
    with closing(Journal(file, size=SIZE)) as again:
        return again.recover(taken)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(file: Path) -> Journal:
    made = Journal(file, size=SIZE)
    assert made.recover(None) == []
    made.wipe()
    return made


def test_records_go_on_into_the_other_half_while_one_is_taken_over(journal: Journal, file: Path) -> None:
    for _ in range(20):  # far more than the file holds at a time
        while journal.append(b"x" * 100):
            pass
        position = journal.turn()
        assert journal.append(b"behind")
        journal.take(position)
        assert reopened(file, position) == [b"behind"]
        journal.take(journal.turn())


def test_a_half_is_not_taken_before_what_stands_in_it_is_safe(journal: Journal, file: Path) -> None:
    assert journal.append(b"one")
    first = journal.turn()
    assert journal.append(b"two")
    second = journal.turn()  # both halves are in use: what comes now stays behind the second
    assert journal.append(b"three")
    assert reopened(file) == [b"one", b"two", b"three"]
    journal.take(first)
    assert reopened(file, first) == [b"two", b"three"]
    journal.take(second)
    assert reopened(file, second) == [b"three"]


def test_a_clock_that_was_set_back_does_not_bring_old_records_back(
    journal: Journal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert journal.append(b"old")
    before = journal.turn()
    monkeypatch.setattr("gateway_server.store.journal.time.time_ns", lambda: 1)
    journal.take(before)
    assert journal.end > before
    assert reopened(file, before) == []


def test_a_position_from_an_earlier_epoch_takes_nothing_away(journal: Journal, file: Path) -> None:
    journal.append(b"first")
    before = journal.turn()
    journal.take(before)
    journal.append(b"one")
    journal.append(b"two")
    assert reopened(file, before) == [b"one", b"two"]


def test_a_file_that_is_shorter_is_made_longer_and_keeps_what_it_holds(journal: Journal, file: Path) -> None:
    journal.append(b"kept")
    content = file.read_bytes()
    file.write_bytes(content.rstrip(b"\0"))
    assert reopened(file) == [b"kept"]
    assert file.read_bytes() == content


def test_what_is_no_journal_at_all_holds_no_records(file: Path) -> None:
    for content in (b"", b"x" * 100, b"\xff" * SIZE, b"\x01" * SIZE, os.urandom(SIZE), os.urandom(SIZE * 2)):
        file.write_bytes(content)
        for position in (None, *(Position(0, offset) for offset in (0, HEAD, SIZE - 1, SIZE, SIZE * 2))):
            assert reopened(file, position) == []


def test_a_wipe_after_a_kill_also_takes_what_an_earlier_life_left(journal: Journal, file: Path) -> None:
    first = journal.end.offset
    while journal.append(b"words of ann" * 5):
        pass
    content = bytearray(file.read_bytes())
    content[first] ^= 1  # the first of the records is torn, so that none behind it is found
    file.write_bytes(content)
    with closing(Journal(file, size=SIZE)) as again:
        assert again.recover(None) == []
        again.wipe()
    assert b"ann" not in file.read_bytes()


def test_two_journals_are_known_by_different_ids(journal: Journal, file: Path, tmp_path: Path) -> None:
    with closing(Journal(file, size=SIZE)) as again, closing(Journal(tmp_path / "other", size=SIZE)) as other:
        assert journal.id == again.id != other.id


def test_a_record_is_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.recover(None)
    assert journal.append(b"x" * LONGEST)
    assert not journal.append(b"x" * (LONGEST + 1))
    journal.close()


def test_where_there_is_no_room_for_the_file_it_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Journal(file, size=SIZE)
    monkeypatch.undo()
    assert reopened(file) == []
