"""Which passwords are refused before anything is hashed."""

import pytest

from service.domain.errors import InputRefused
from service.domain.passwords import check_password, normal_form

NAMES = ["anna.schmidt@hospital-nord.org", "Anna Schmidt", "Hospital Nord"]


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "password1234",
        "P@ssw0rd2026!",
        "aaaaaaaaaaaaaaa",
        "123456789012",
        "qwertyuiopas",
        "abcabcabcabc",
        "anna.schmidt1",
        "HospitalNord2026",
        "kaima-operator-2026",
        "letmeinletmein",
        "iloveyou12345",
    ],
)
def test_an_obvious_password_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(InputRefused) as refusal:
        check_password(password, names=NAMES)
    assert password not in refusal.value.sentence


@pytest.mark.parametrize(
    "password",
    ["river copper lantern seven", "xkcd mouse piano 44", "7hGk29xQzLp4", "blauer Hund!"],
)
def test_unrelated_words_do(password: str) -> None:
    assert check_password(password, names=NAMES) == password


def test_one_password_typed_on_two_keyboards_is_the_same() -> None:
    assert normal_form("Schlu\u0308ssel-im-Schloss") == normal_form("Schl\u00fcssel-im-Schloss")
