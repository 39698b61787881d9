"""What has been appended to the journal comes back as it was, whatever becomes of the process."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway_server.store.journal import LONGEST, Journal, Position

SIZE = 2048
HEAD = 8
"""Bytes before each record, and before the first."""
_tags = iter(range(1 << 30))


class Lives(RuleBasedStateMachine):
    """A journal through several lives of its process; the database is what `noted` says and `taken` holds."""

    positions = Bundle("positions")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.file = Path(self._folder.name) / "journal"
        self.records: list[bytes] = []
        """Of this epoch, and where each of them ended."""
        self.ends: list[Position] = []
        self.noted: Position | None = None
        self.past: list[bytes] = []
        """What was appended before this epoch."""
        self.gone: list[bytes] = []
        """What must not stand in the file any more."""
        self.can_append = True

    @initialize()
    def begin(self) -> None:
        self.journal = Journal(self.file, size=SIZE)
        assert self.journal.recover(None) == []

    def teardown(self) -> None:
        self.journal.close()
        self._folder.cleanup()

    @precondition(lambda self: self.can_append)
    @rule(filler=st.binary(max_size=300))
    def append(self, filler: bytes) -> None:
        record = b"record %d " % next(_tags) + filler
        before = self.journal.end
        fits = before.offset + HEAD + len(record) <= SIZE
        assert self.journal.append(record) == fits
        if fits:
            self.records.append(record)
            self.ends.append(self.journal.end)
        else:
            assert self.journal.end == before

    @rule()
    def append_nothing(self) -> None:
        assert not self.journal.append(b"")

    @precondition(lambda self: self.can_append)
    @rule()
    def fill(self) -> None:
        while (left := SIZE - self.journal.end.offset - HEAD) > 0:
            record = (b"full %d " % next(_tags)).ljust(left, b"x")[: min(left, 400)]
            assert self.journal.append(record)
            self.records.append(record)
            self.ends.append(self.journal.end)
        assert not self.journal.append(b"x")

    @rule(data=st.data())
    def note(self, data: st.DataObject) -> None:
        """The database takes over what there is up to some record."""
        self.noted = data.draw(st.sampled_from([*self.ends, self.journal.end]))

    @rule()
    def restart(self) -> None:
        epoch = self.journal.end.epoch
        self.journal.restart()
        assert self.journal.end.epoch > epoch
        self._forget()

    @rule()
    def scrub(self) -> None:
        self.journal.scrub()
        self._forget()
        self.gone, self.past = self.gone + self.past, []
        assert self.file.read_bytes()[HEAD:] == bytes(SIZE - HEAD)

    def _forget(self) -> None:
        self.past += self.records
        self.records, self.ends = [], []
        self.can_append = True

    @rule()
    def kill(self) -> None:
        self.journal = Journal(self.file, size=SIZE)
        self._recover()

    @precondition(lambda self: self.records and self.can_append)
    @rule(data=st.data())
    def tear(self, data: st.DataObject) -> None:
        """The last record was cut while it was written, or its page was lost."""
        start = self.ends[-2].offset if len(self.ends) > 1 else HEAD
        at = data.draw(st.integers(start, self.ends[-1].offset - 1))
        content = bytearray(self.file.read_bytes())
        whole = bytes(content)
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            content[at : self.ends[-1].offset] = bytes(self.ends[-1].offset - at)
        if content == whole:
            return
        with self.file.open("r+b") as file:
            file.write(content)
        lost, end = self.records.pop(), self.ends.pop()
        if self.noted == end:
            self.noted = self.ends[-1] if self.ends else Position(end.epoch, HEAD)
        self.journal = Journal(self.file, size=SIZE)
        self._recover()
        assert lost not in self.records
        # A life begins with what is left being taken over, and the journal anew; nothing is appended before.
        self.can_append = False

    def _recover(self) -> None:
        taken = 0
        if self.noted is not None and self.noted.epoch == self.journal.end.epoch:
            taken = sum(end.offset <= self.noted.offset for end in self.ends)
        assert self.journal.recover(self.noted) == self.records[taken:]
        assert self.journal.end.offset == (self.ends[-1].offset if self.ends else HEAD)

    @invariant()
    def what_was_scrubbed_is_not_there(self) -> None:
        if self.gone:
            content = self.file.read_bytes()
            assert not any(record in content for record in self.gone)

    @invariant()
    def the_file_stays_as_long_as_it_is(self) -> None:
        assert self.file.stat().st_size == SIZE
        assert self.file.stat().st_mode & 0o777 == 0o600


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLives = Lives.TestCase


def reopened(file: Path, taken: Position | None = None) -> list[bytes]:
    return Journal(file, size=SIZE).recover(taken)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(file: Path) -> Journal:
    made = Journal(file, size=SIZE)
    assert made.recover(None) == []
    return made


def test_nothing_of_an_epoch_before_comes_back_behind_records_of_the_same_length(journal: Journal, file: Path) -> None:
    for number in range(10):
        assert journal.append(b"old %d" % number)
    journal.restart()
    for number in range(3):
        assert journal.append(b"new %d" % number)
    assert reopened(file) == [b"new 0", b"new 1", b"new 2"]


def test_a_clock_that_was_set_back_does_not_bring_old_records_back(
    journal: Journal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.restart()
    assert journal.append(b"old")
    before = journal.end
    monkeypatch.setattr("gateway_server.store.journal.time.time_ns", lambda: 1)
    journal.restart()
    assert journal.end.epoch > before.epoch
    assert reopened(file) == reopened(file, before) == []


def test_a_position_of_another_epoch_takes_nothing_away(journal: Journal, file: Path) -> None:
    journal.append(b"first")
    before = journal.end
    journal.restart()
    journal.append(b"one")
    journal.append(b"two")
    assert reopened(file, before) == [b"one", b"two"]


def test_a_file_of_another_length_is_begun_anew(file: Path) -> None:
    for left in (b"", b"x" * 100, os.urandom(SIZE * 2)):
        file.write_bytes(left)
        assert reopened(file) == []
        assert file.read_bytes() == bytes(SIZE)


def test_what_is_no_journal_at_all_holds_no_records(file: Path) -> None:
    for content in (b"\xff" * SIZE, b"\x01" * SIZE, os.urandom(SIZE)):
        file.write_bytes(content)
        assert reopened(file) == []
        for offset in (0, 8, SIZE - 8, SIZE - 1, SIZE, SIZE * 2):
            assert reopened(file, Position(int.from_bytes(content[:8], "little"), offset)) == []


def test_a_scrub_after_a_kill_also_takes_what_an_earlier_life_left(journal: Journal, file: Path) -> None:
    while journal.append(b"words of ann" * 5):
        pass
    journal.restart()
    journal.append(b"short")
    again = Journal(file, size=SIZE)
    assert again.recover(None) == [b"short"]
    again.scrub()
    assert b"ann" not in file.read_bytes()
    assert file.read_bytes()[HEAD:] == bytes(SIZE - HEAD)


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
