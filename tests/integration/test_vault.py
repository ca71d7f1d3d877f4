"""The vault: what is sealed for one place opens there alone, and numbers have a keyed index."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from redis import Redis

from config.data_key import new_data_key
from config.settings import Settings, SettingsError, load_settings
from jobs.keys import Keys
from jobs.mending import Mending
from jobs.phone import PhoneNumber
from jobs.vault import ForgedError, UnknownKeyError, Vault, job_binding, key_id_of

PHONE = PhoneNumber("852", "5550100")
PLACE = job_binding("b-1", "batch", "")
K0, K1 = new_data_key("k0"), new_data_key("k1")


def vault_with(redis: Redis, settings: Settings, data_keys: str) -> Vault:
    return Vault(redis, Settings(**{**settings.model_dump(), "sendcode_data_keys": data_keys}))


@pytest.fixture
def vault(redis: Redis, settings: Settings) -> Vault:
    return Vault(redis, settings)


def test_a_number_is_opened_where_it_was_sealed_for(vault: Vault) -> None:
    token = vault.seal_number(PHONE, PLACE)

    assert vault.open_number("852", token, PLACE) == PHONE
    assert PHONE.phone_num not in token
    assert key_id_of(token) == "k1"


@pytest.mark.parametrize(
    "elsewhere",
    [
        job_binding("b-2", "batch", ""),
        job_binding("b-1", "event", ""),
        job_binding("b-1", "batch", "1"),
    ],
)
def test_a_number_that_was_moved_is_refused(vault: Vault, elsewhere: str) -> None:
    token = vault.seal_number(PHONE, PLACE)

    with pytest.raises(ForgedError):
        vault.open_number("852", token, elsewhere)


def test_a_number_is_refused_with_another_country_code_or_index(vault: Vault) -> None:
    token = vault.seal_number(PHONE, PLACE)
    index, envelope = token.split(":")
    other = vault.index("852", "5550101")

    with pytest.raises(ForgedError):
        vault.open_number("65", token, PLACE)
    with pytest.raises(ForgedError):
        vault.open_number("852", f"{other}:{envelope}", PLACE)
    assert index == vault.index("852", "5550100")


@pytest.mark.parametrize(
    "text", ["", "5550100", "v1", "v1.k1", "v1.k1.", "v1.k1.AAAA", "v2.k1.AAAA", "v1.k1.\0"]
)
def test_what_is_no_envelope_is_refused(vault: Vault, text: str) -> None:
    with pytest.raises(ForgedError):
        vault.open(text, PLACE)


def test_every_changed_sign_is_noticed(vault: Vault) -> None:
    envelope = vault.seal(b"x", PLACE)

    for at in range(len("v1.k1."), len(envelope)):
        changed = envelope[:at] + ("A" if envelope[at] != "A" else "B") + envelope[at + 1 :]
        with pytest.raises(ForgedError):
            vault.open(changed, PLACE)


def test_an_old_key_opens_and_the_first_one_seals(redis: Redis, settings: Settings) -> None:
    old = vault_with(redis, settings, K0).seal(b"x", PLACE)
    both = vault_with(redis, settings, f"{K1},{K0}")

    assert both.open(old, PLACE) == b"x"
    assert key_id_of(both.seal(b"x", PLACE)) == "k1"


def test_an_unknown_key_is_told_apart_from_a_forgery(redis: Redis, settings: Settings) -> None:
    old = vault_with(redis, settings, K0).seal(b"x", PLACE)

    with pytest.raises(UnknownKeyError, match="k0"):
        vault_with(redis, settings, K1).open(old, PLACE)


def test_the_index_outlives_the_key_that_it_was_made_of(redis: Redis, settings: Settings) -> None:
    sealed = vault_with(redis, settings, K0).seal_number(PhoneNumber("852", "5550100"), PLACE)
    index = sealed.partition(":")[0]

    assert vault_with(redis, settings, f"{K1},{K0}").index("852", "5550100") == index


def test_the_index_is_an_hmac_under_the_key_that_lies_in_the_ledger(
    vault: Vault, redis: Redis, keys: Keys
) -> None:
    vault.seal_number(PhoneNumber("852", "5550100"), PLACE)
    index_key = vault.open(str(redis.hget(keys.vault, "index")), "index")

    mac = hmac.digest(index_key, b"852-5550100", "sha256")[:16]

    assert vault.index("852", "5550100") == urlsafe_b64encode(mac).decode().rstrip("=")


def test_two_deployments_have_two_indexes(redis: Redis, settings: Settings, keys: Keys) -> None:
    index = vault_with(redis, settings, K0).index("852", "5550100")
    redis.delete(keys.vault)

    assert vault_with(redis, settings, K1).index("852", "5550100") != index


@pytest.mark.parametrize(
    "text",
    ["", "k1", "k1:AAAA", f"{K1},{K1}", K1.replace(":", " : "), f"!{K1}", f"{K1},"],
    ids=["empty", "no key", "short", "one id twice", "blanks", "odd id", "comma at its end"],
)
def test_wrong_data_keys_are_refused_without_being_shown(text: str, tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="SENDCODE_DATA_KEYS") as refused:
        load_settings(tmp_path / "none", sendcode_data_keys=text)

    assert not text or text not in str(refused.value)


def test_without_a_data_key_the_error_says_how_to_make_one() -> None:
    with pytest.raises(SettingsError, match="sendcode keys new"):
        _ = Settings().data_keys


def test_an_index_key_that_was_lost_is_put_back_by_whoever_knows_it(
    redis: Redis, settings: Settings, keys: Keys
) -> None:
    vault_with(redis, settings, K0).index("852", "5550100")
    both = Settings(**{**settings.model_dump(), "sendcode_data_keys": f"{K1},{K0}"})
    index = Vault(redis, both).index("852", "5550100")
    redis.hset(keys.totals, "sent", 1)
    redis.delete(keys.vault)

    assert Mending(redis, both).mend_what_does_not_fit() != []

    assert Vault(redis, both).index("852", "5550100") == index
    assert redis.hexists(keys.vault, "index")
