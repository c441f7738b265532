"""Templates: both languages, the fallback, and what must not be possible in them."""

from __future__ import annotations

import pytest

from services.notifications.core.channel import Message, mask
from services.notifications.core.templates.domain import Rendered
from services.notifications.core.templates.grammar import UnrenderableError
from services.notifications.core.texts import Texts, in_language


def rendered(texts, name, language, values):
    made = texts.compose(name, language, "sms", values)
    assert isinstance(made, Rendered)
    return made.text


VALUES = {"name": "Asha", "group": "Marhaura group", "link": "https://chat.whatsapp.com/abc"}


@pytest.mark.parametrize("language", ["hi", "en"])
def test_the_welcome_names_the_member_the_group_and_the_link_and_says_how_to_stop(language):
    text = rendered(Texts(), "welcome", language, VALUES)
    assert all(value in text for value in VALUES.values())
    assert "STOP" in text


@pytest.mark.parametrize("language", ["hi", "en"])
def test_a_welcome_without_a_link_says_that_the_invitation_follows(language):
    texts = Texts()
    named = rendered(texts, "welcome_no_invite", language, {"name": "Asha", "group": "Marhaura group"})
    bare = rendered(texts, "welcome_no_group", language, {"name": "Asha"})
    assert "Marhaura group" in named
    for text in (named, bare):
        assert {"hi": "निमंत्रण", "en": "invitation"}[language] in text
        assert "STOP" in text
    promised = rendered(texts, "promised_invite", language, VALUES)
    assert all(value in promised for value in VALUES.values())


def test_the_hindi_welcome_is_in_devanagari():
    assert "स्वागत" in rendered(Texts(), "welcome", "hi", VALUES)


@pytest.mark.parametrize(("spoken", "sent"), [("hi", "hi"), ("en", "en"), ("mai", "hi"), ("xx", "hi")])
def test_a_language_without_a_template_falls_back_to_hindi(spoken, sent):
    assert Texts().language_for("welcome", spoken) == sent


def test_a_missing_variable_is_an_error_that_says_nothing_personal():
    with pytest.raises(UnrenderableError) as raised:
        rendered(Texts(), "welcome", "en", {"name": "Asha"})
    assert "Asha" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_data_is_not_a_template():
    text = rendered(Texts(), "welcome", "en", {**VALUES, "name": "{{ 7 * 7 }}"})
    assert "{{ 7 * 7 }}" in text


def test_templates_run_in_the_sandbox(tmp_path):
    (tmp_path / "bad.hi.j2").write_text("{{ name.__class__.__mro__ }}")
    with pytest.raises(ValueError, match=r"bad\.hi"):
        Texts(directory=tmp_path)


def test_a_template_must_have_the_language_that_others_fall_back_to(tmp_path):
    (tmp_path / "only.en.j2").write_text("hello")
    with pytest.raises(ValueError, match="only"):
        Texts(directory=tmp_path)


def test_names_fall_back_to_hindi_then_to_any():
    assert in_language({"hi": "समूह", "en": "group"}, "en") == "group"
    assert in_language({"hi": "समूह", "en": "group"}, "mai") == "समूह"
    assert in_language({"en": "group"}, "hi") == "group"
    with pytest.raises(UnrenderableError):
        in_language({}, "hi")


@pytest.mark.parametrize("address", ["+919876543210", "asha@example.org", "12345", ""])
def test_a_masked_address_cannot_be_used(address):
    masked = mask(address)
    assert masked != address or not address
    assert address[3:-2] == "" or address[3:-2] not in masked


def test_a_message_does_not_show_its_text_or_address():
    shown = repr(Message("n", "m", "sms", "hi", "BR-A", "+919876543210", "नमस्ते"))
    assert "9876" not in shown
    assert "नमस्ते" not in shown
