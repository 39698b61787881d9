"""Ids of jobs are made on any thread, and each is another."""

import sys
import threading
import uuid

from gateway_server.calls.jobs import new_id

THREADS, EACH = 4, 20_000


def test_threads_make_ids_at_the_same_time():
    made, failed, interval = list[str](), list[BaseException](), sys.getswitchinterval()

    def make() -> None:
        try:
            made.extend([new_id() for _ in range(EACH)])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(THREADS)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed
    assert len(set(made)) == THREADS * EACH


def test_an_id_is_a_uuid_that_sorts_by_its_moment():
    ids = [uuid.UUID(new_id()) for _ in range(1000)]
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    moments = [made.int >> 80 for made in ids]
    assert moments == sorted(moments)
