"""Dependencies as packages may state them: a name, extras, versions, markers, and nothing that points elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gateway_server.prefabs.problems import is_plain, show

SDK = "agent-builder-gateway-sdk"
RUNTIME = "agent-builder-gateway-runtime"
#: Always provided by the gateway itself, whatever the package or the index says.
OWN = frozenset({SDK, RUNTIME})
MAX_REQUIREMENTS = 1000

_EXTRA = re.compile(r"""\bextra\b\s*(==|!=|in\b|not\b)|(==|!=|\bin)\s*extra\b""")


class RequirementRefused(ValueError):
    """A requirement that the gateway will not install; the text says which and why."""


def normalise(texts: Iterable[str]) -> tuple[str, ...]:
    """The requirements in one spelling, sorted, each once."""
    different = set(texts)
    if len(different) > MAX_REQUIREMENTS:
        raise RequirementRefused(f"more than {MAX_REQUIREMENTS} requirements")
    return tuple(sorted({_normalise(text) for text in different}))


def needs_extra(text: str) -> bool:
    """Whether a Requires-Dist holds only for somebody who asks for an extra."""
    return bool(_EXTRA.search(text.partition(";")[2]))


def name_of(requirement: str) -> str:
    """The name of the distribution that a requirement asks for, in its normal form."""
    return canonicalize_name(Requirement(requirement).name)


def _normalise(text: str) -> str:
    if len(text) > 1000 or not is_plain(text) or any(char in "$\\#" for char in text):
        raise RequirementRefused(f"the requirement {show(text)} holds characters that none needs")
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is nested too deeply"
        raise RequirementRefused(f"the requirement {show(text)} cannot be read: {reason}") from error
    requirement.name = canonicalize_name(requirement.name)
    if requirement.name in OWN:
        requirement.url = None
    if requirement.url:
        message = f"the requirement {show(text)} names an address; only names and versions from the index are allowed"
        raise RequirementRefused(message)
    return str(requirement)
