"""Tokens say who was meant when they were made: signed ones wherever they come from, those of calls while these run."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.test_signing import ADMIN, gateway, opened

from gateway_server.errors import Unauthenticated
from gateway_server.identity.tokens import ALGORITHM, OF_CALL, Tokens, _Claims, _key_id
from gateway_server.models import Principal, Scope

pytestmark = pytest.mark.anyio

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
maybe = st.none() | names
principals = st.builds(
    Principal,
    user=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True),
    agent=maybe,
    prefabs=st.none() | st.frozensets(names, max_size=4),
    key_id=maybe,
    made_by=maybe,
    job_id=maybe,
    root_job_id=maybe,
    tree_id=maybe,
    depth=st.integers(0, 100),
    deadline=st.none() | st.floats(0, 4e9),
)


class Anybody:
    """Users of whom every one may call."""

    def check_principal(self, _principal: Principal) -> None: ...


class OneKey:
    """Signing keys in memory."""

    def __init__(self) -> None:
        self.keys = {"first": b"k" * 32}
        self.signer = "first", self.keys["first"]

    def find(self, key_id: str) -> bytes | None:
        return self.keys.get(key_id)


def made() -> tuple[Tokens, OneKey]:
    keys = OneKey()
    return Tokens(None, keys, Anybody()), keys  # type: ignore[arg-type]


def read(token: str, keys: OneKey) -> dict[str, Any]:
    options: Any = {"require": ["exp", "sub"], "verify_iat": True}
    return jwt.decode(token, keys.signer[1], [ALGORITHM], options=options)


def expected(principal: Principal, **claims: Any) -> dict[str, Any]:
    told = {
        "sub": principal.user,
        "agent": principal.agent,
        "key": principal.key_id,
        "prefabs": None if principal.prefabs is None else sorted(principal.prefabs),
        "by": principal.made_by,
        "job": principal.job_id,
        "root": principal.root_job_id,
        "tree": principal.tree_id,
        "depth": principal.depth or None,
        "deadline": principal.deadline,
    } | claims
    return {name: value for name, value in told.items() if value is not None}


@given(principals, st.floats(1, 1e6))
def test_the_library_reads_what_was_minted(principal: Principal, life: float) -> None:
    tokens, keys = made()
    before = time.time()
    expires_at = before + life
    claims = read(tokens.mint(principal, expires_at=expires_at), keys)
    assert before <= claims.pop("iat") <= time.time()
    assert claims.pop("exp") == int(expires_at) + 1
    assert claims == expected(principal)


@given(principals, names.filter(bool), st.floats(0, 4e9))
def test_a_token_of_a_call_says_where_it_stands(caller: Principal, job_id: str, deadline: float) -> None:
    tokens, _ = made()
    before = time.time()
    token = tokens.mint_for_call(caller, job_id, deadline=deadline)
    told = tokens.verify(token)
    assert told == tokens.verify(token) == tokens.recall(token)
    assert before <= told.issued_at <= time.time()
    assert told == replace(
        caller,
        scopes=frozenset({Scope.CALL}),
        prefabs=None,
        issued_at=told.issued_at,
        job_id=job_id,
        root_job_id=caller.root_job_id or job_id,
        depth=caller.depth + 1,
        deadline=deadline,
        signing_key="first",
    )


def test_a_token_of_a_call_ends_with_it_and_is_that_of_no_other() -> None:
    tokens, _ = made()
    ann, bob = (tokens.mint_for_call(Principal(user=user), "job", deadline=1.0) for user in ("ann", "bob"))
    tokens.verify(ann)
    tokens.end_call(ann)
    assert tokens.recall(ann) is None
    for token in (ann, bob[:-1], bob + "0", bob.upper(), bob.replace(OF_CALL, ""), OF_CALL, f" {bob}"):
        with pytest.raises(Unauthenticated):
            tokens.verify(token)
    assert tokens.verify(bob).user == "bob"
    others, _ = made()
    with pytest.raises(Unauthenticated):
        others.verify(bob)


def test_tokens_of_calls_cannot_be_guessed_from_others() -> None:
    tokens, _ = made()
    some = {tokens.mint_for_call(Principal(user="ann"), "job", deadline=1.0) for _ in range(1000)}
    assert len({token[len(OF_CALL) :][:16] for token in some}) == len({token[-16:] for token in some}) == 1000


def test_a_token_of_a_call_counts_no_longer_than_the_key_and_the_user_behind_it() -> None:
    tokens, _ = made()
    token = tokens.mint_for_call(Principal(user="ann", key_id="key_1"), "job", deadline=1.0)
    tokens.verify(token)
    tokens.revoked.add("key_1")
    for ask in (tokens.verify, tokens.recall):
        with pytest.raises(Unauthenticated):
            ask(token)


@given(principals)
def test_whom_a_token_was_minted_for_is_whom_it_stands_for(principal: Principal) -> None:
    tokens, _ = made()
    told = tokens.verify(tokens.mint(principal, expires_at=time.time() + 60))
    issued_at = told.issued_at
    assert abs(issued_at - time.time()) < 10
    assert told == Principal(
        **{name: getattr(principal, name) for name in Principal.__dataclass_fields__ if name != "issued_at"}
        | {"scopes": frozenset({Scope.CALL}), "issued_at": issued_at, "signing_key": "first"}
    )


@given(principals)
def test_what_the_library_signs_is_accepted(principal: Principal) -> None:
    tokens, keys = made()
    claims = expected(principal, iat=time.time(), exp=int(time.time()) + 60)
    for told in (claims, {name: value for name, value in (claims | {"nbf": 0}).items()}):
        token = jwt.encode(told, keys.signer[1], ALGORITHM, headers={"kid": keys.signer[0]})
        assert tokens.verify(token).user == principal.user
        assert tokens.verify(token).depth == principal.depth


@given(principals)
def test_the_head_and_the_signature_are_those_of_the_library(principal: Principal) -> None:
    tokens, keys = made()
    token = tokens.mint(principal, expires_at=time.time() + 60)
    assert set("".join(token.split("."))) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert jwt.get_unverified_header(token) == {"alg": ALGORITHM, "typ": "JWT", "kid": keys.signer[0]}
    assert _key_id(token) == keys.signer[0]
    text, _, signature = token.rpartition(".")
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    assert base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)) == algorithm.sign(
        text.encode(), keys.signer[1]
    )


@given(principals, st.floats(0, 1, exclude_max=True), st.integers(1, 12))
def test_a_token_with_any_character_changed_is_refused(principal: Principal, where: float, shift: int) -> None:
    tokens, _ = made()
    token = tokens.mint(principal, expires_at=time.time() + 60)
    at = int(where * (len(token) - 1))  # of the last one some bits mean nothing
    letters = "abzAZ019-_.Qx"
    other = letters[(letters.find(token[at]) + shift) % len(letters)]
    with pytest.raises(Unauthenticated):
        tokens.verify(token[:at] + other + token[at + 1 :])


def test_the_signature_of_one_token_says_nothing_about_the_next() -> None:
    tokens, keys = made()
    ann, bob = (tokens.mint(Principal(user=user), expires_at=time.time() + 60) for user in ("ann", "bob"))
    for token in (ann, bob, ann):
        read(token, keys)
    mixed = ".".join((*bob.split(".")[:2], ann.split(".")[2]))
    with pytest.raises(Unauthenticated):
        tokens.verify(mixed)


def test_another_key_signs_from_the_next_token_on() -> None:
    tokens, keys = made()
    before = tokens.mint(Principal(user="ann"), expires_at=time.time() + 60)
    of_call = tokens.mint_for_call(Principal(user="ann"), "job", deadline=1.0)
    keys.keys["second"] = b"s" * 32
    keys.signer = "second", keys.keys["second"]
    after = tokens.mint(Principal(user="ann"), expires_at=time.time() + 60)
    assert (_key_id(before), _key_id(after)) == ("first", "second")
    for token in (before, after, of_call):
        assert tokens.verify(token).user == "ann"
    del keys.keys["first"]
    for token in (before, of_call):
        with pytest.raises(Unauthenticated):
            tokens.verify(token)
        assert tokens.recall(token) is None
    recalled = tokens.recall(after)
    assert recalled is not None
    assert recalled.user == "ann"


async def test_a_rotation_counts_for_the_next_token_and_a_revocation_for_what_is_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        seen: list[str] = []
        for round_ in range(4):
            token = tokens.mint(Principal(user="ann"), expires_at=time.time() + 60)
            assert _key_id(token) == keys.signer[0] not in seen
            seen.append(keys.signer[0])
            assert tokens.verify(token).user == "ann"
            assert tokens.recall(token) is not None
            of_call = tokens.mint_for_call(Principal(user="ann"), "job", deadline=time.time())
            await keys.rotate(ADMIN, revoke_old=round_ % 2 == 1)
            assert (tokens.recall(token) is None) == (round_ % 2 == 1)
            assert (tokens.recall(of_call) is None) == (round_ % 2 == 1)


def test_an_expired_token_is_not_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, _ = made()
    token = tokens.mint(Principal(user="ann"), expires_at=time.time() + 5)
    assert tokens.recall(token) is None, "it has not been verified"
    tokens.verify(token)
    assert tokens.recall(token) is not None
    moment = time.time()
    monkeypatch.setattr("gateway_server.identity.tokens.time.time", lambda: moment + 7)
    assert tokens.recall(token) is None
    with pytest.raises(Unauthenticated):
        tokens.verify(token)


def test_claims_are_written_without_those_that_say_nothing() -> None:
    tokens, _ = made()
    token = tokens.mint(Principal(user="ann"), expires_at=1.0)
    claims = token.split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert sorted(told) == ["exp", "iat", "sub"]
    assert {field for field in _Claims.__struct_fields__} >= set(told)
