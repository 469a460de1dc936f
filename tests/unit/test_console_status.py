from __future__ import annotations

from tests.console_kit import house


async def test_what_fails_is_counted_and_says_what_to_do() -> None:
    async with house() as built:
        person = await built.person("desk1")
        text = (await person.open("/status")).text
        assert "1 check fails" in text
        assert "The PACS does not answer C-ECHO. Check its address" in text
        assert "Relay The relay answers." in text
        assert text.index("The PACS does not answer") < text.index("The relay answers."), (
            "what fails comes first"
        )


async def test_checks_that_take_too_long_are_an_answer_too() -> None:
    async with house() as built:
        built.engine.fails["checks"] = TimeoutError()
        person = await built.person("desk1")
        text = (await person.open("/status")).text
        assert person.status == 503
        assert "longer than 20 seconds" in text
