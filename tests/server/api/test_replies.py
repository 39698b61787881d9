"""Answers to runs as JSON."""

import json

from gateway_server.api import replies


def test_a_batch_that_was_cut_before_its_first_call_has_an_answer():
    told = json.loads(replies.batch("one", [], 0).body)
    assert told == {"job_id": "one", "status": "FAILED", "results": []}
