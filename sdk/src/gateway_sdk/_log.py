"""Messages for those who look for what goes wrong: `logging.getLogger("gateway_sdk")`, at the level DEBUG."""

from __future__ import annotations

import sys

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_DEBUG = 10
_logger: logging.Logger | None = None


def listener() -> logging.Logger | None:
    """Where debug messages go; None where nobody listens.

    A program that has not imported logging has set no level, so importing it, which takes as long as a hundred calls,
    is left to those who have a use for it.
    """
    global _logger
    if _logger is None:
        get = getattr(sys.modules.get("logging"), "getLogger", None)
        if get is None:
            return None
        _logger = get("gateway_sdk")
    return _logger if _logger.isEnabledFor(_DEBUG) else None
