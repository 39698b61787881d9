"""What is new in a log that is read again and again."""

from gateway_server.calls.logs import Log, Masker
from gateway_server.cli.job import unseen


def read(log: Log) -> bytes:
    return log.read(Masker([]))


def test_only_what_is_new():
    assert unseen(b"", 0) == (b"", 0)
    assert unseen(b"one\ntwo\n", 4) == (b"two\n", 8)
    assert unseen(b"one\n", 4) == (b"", 4)


def test_nothing_is_lost_or_said_twice_where_a_log_grows_beyond_its_limit():
    log, printed, told, seen = Log(200), b"", b"", 0
    for number in range(100):
        line = b"line %d\n" % number
        log.write(line)
        printed += line
        new, seen = unseen(read(log), seen)
        told += new
    assert told == printed
    assert seen == len(printed)


def test_what_is_left_out_between_two_looks_is_said():
    log = Log(20)
    log.write(b"0123456789abcdefghij")
    _, seen = unseen(read(log), 0)
    log.write(b"x" * 25 + b"0123456789")
    assert unseen(read(log), seen) == (b"\n--- 25 bytes left out ---\n0123456789", 55)


def test_a_log_that_was_long_at_the_first_look_is_shown_as_it_is():
    log = Log(20)
    log.write(b"0123456789" * 5)
    whole = read(log)
    assert b"30 bytes left out" in whole
    assert unseen(whole, 0) == (whole, 50)
    assert unseen(whole, 5) == (whole[5:], 50)
    assert unseen(whole, 50) == (b"", 50)
