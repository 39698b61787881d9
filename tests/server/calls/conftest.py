"""What several modules here need."""

import pytest

from gateway_server.calls import ledger


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that tries again at once what could not be written."""
    monkeypatch.setattr(ledger, "AGAIN", 0.01)
