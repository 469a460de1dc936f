from __future__ import annotations

import asyncio

import pytest

from clients.gateway.console.staff import (
    MAX_NAME,
    PasswordError,
    SignInBusyError,
    Staff,
    hash_password,
    normal_name,
    verify,
)
from tests.fake_engine import PASSWORD, FakeEngine, hashed_password


def test_a_password_fits_only_its_own_hash_and_two_hashes_of_it_differ() -> None:
    first, second = hash_password("correct horse battery"), hash_password("correct horse battery")
    assert first.startswith("$argon2id$v=19$m=65536,t=2,p=1$")
    assert first != second
    assert verify(first, "correct horse battery")
    assert verify(second, "correct horse battery")
    assert not verify(first, "correct horse batterY")
    assert not verify(first, "")


def test_the_same_characters_typed_on_another_keyboard_are_the_same_password() -> None:
    composed, apart = "Sch\u00f6ne gr\u00fcne Wiese", "Scho\u0308ne gru\u0308ne Wiese"
    assert composed != apart
    assert verify(hash_password(composed), apart)


@pytest.mark.parametrize(
    "password",
    [
        "eleven char",
        "",
        "a" * 12,
        "abababababab",
        "abcabcabcabc",
        "abcdefghijkl",
        "zyxwvutsrqpo",
        "0123456789012",
        "123456789012",
        "qwertyuiopas",
        "Password1234",
        "passwordpassword",
        "Trauma-Transfer!",
        "hospital 2026",
        "x" * 1100,
        "é" * 600,
    ],
)
def test_what_a_guesser_tries_first_is_refused(password: str) -> None:
    with pytest.raises(PasswordError) as why:
        hash_password(password)
    assert why.value.code == "password"
    if password:
        assert password not in str(why.value)


@pytest.mark.parametrize(
    "password", ["four unrelated words", "twelve chars", "ÄÖÜäöü ßéèêñç", "my hospital has a red door"]
)
def test_there_is_no_rule_about_kinds_of_characters(password: str) -> None:
    assert verify(hash_password(password), password)


@pytest.mark.parametrize(
    "stored", ["", "x", "$argon2id$", "$argon2id$v=19$m=1,t=1,p=1$AA$AA", "$2b$12$" + "a" * 53, "\u00e9"]
)
def test_a_string_that_is_no_hash_matches_nothing(stored: str) -> None:
    assert not verify(stored, PASSWORD)


def test_a_password_longer_than_any_that_was_accepted_costs_no_hash() -> None:
    assert not verify(hashed_password(), "x" * 100_000)


def test_names_are_found_however_they_are_typed() -> None:
    assert normal_name("  desk1 ") == "desk1"
    assert normal_name("Jose\u0301") == "Jos\u00e9"
    assert len(normal_name("x" * 500)) == MAX_NAME


async def test_the_role_of_a_right_password_and_nothing_for_all_others() -> None:
    engine = FakeEngine()
    engine.put_user("desk1", "clerk")
    staff = Staff(engine)
    try:
        assert await staff.role_of("desk1", PASSWORD) == "clerk"
        assert await staff.role_of("desk1", "wrong words here") == ""
        assert await staff.role_of("nobody", PASSWORD) == ""
        assert await staff.knows("desk1")
        assert not await staff.knows("nobody")
        engine.disable("desk1")
        assert await staff.role_of("desk1", PASSWORD) == ""
        assert not await staff.knows("desk1")
    finally:
        staff.close()


async def test_the_password_that_unknown_names_are_checked_against_opens_nothing() -> None:
    class Careless(FakeEngine):
        async def user_hash(self, name: str) -> tuple[str, str]:
            return "", "pacs-admin"

    staff = Staff(Careless())
    try:
        assert await staff.role_of("nobody", "") == ""
        assert await staff.role_of("nobody", PASSWORD) == ""
    finally:
        staff.close()


async def test_a_flood_is_told_to_wait_and_the_others_are_served() -> None:
    engine = FakeEngine()
    engine.put_user("desk1", "clerk")
    staff = Staff(engine, threads=1, waiting=1)
    try:
        answers = await asyncio.gather(
            *(staff.role_of("desk1", PASSWORD) for _ in range(5)), return_exceptions=True
        )
        assert answers.count("clerk") == 2
        assert sum(isinstance(a, SignInBusyError) for a in answers) == 3
        assert await staff.role_of("desk1", PASSWORD) == "clerk"
    finally:
        staff.close()
