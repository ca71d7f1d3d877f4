"""Settings: where they come from, and how wrong ones are told without showing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.settings import (
    CREDENTIALS,
    Settings,
    SettingsError,
    ignored_settings,
    load_settings,
    misspelt,
)

KEY = "a-secret-key-that-must-not-be-seen"


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def faults_of(**overrides: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value).splitlines()


def test_nothing_has_to_be_set_to_have_the_contract_s_defaults() -> None:
    settings = load_settings()

    assert settings.sendcode_endpoint == "https://intlpartnersmgt.tencentcloudapi.com"
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert (settings.sendcode_rate_limit, settings.sendcode_phone_interval) == (20, 60)
    assert (settings.sendcode_http_timeout, settings.sendcode_max_attempts) == (5, 5)
    assert settings.sendcode_key_prefix == "sendcode"


@pytest.mark.parametrize("prefix", ["{}", "{sendcode", "sendcode}", "{a}b", "{a:b}"])
def test_a_prefix_is_a_name_or_a_name_in_braces(prefix: str) -> None:
    assert load_settings(sendcode_key_prefix="{sendcode}").sendcode_key_prefix == "{sendcode}"
    with pytest.raises(SettingsError, match="SENDCODE_KEY_PREFIX"):
        load_settings(sendcode_key_prefix=prefix)


def test_every_fault_is_told_at_once_by_name_and_never_by_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {
        "TENCENTCLOUD_SECRET_ID": " AKIDWITHBLANK",
        "SENDCODE_ENDPOINT": "http://user-facing.example",
        "SENDCODE_REDIS_URL": "http://:redispassword@nowhere",
        "SENDCODE_RATE_LIMIT": "twenty",
        "SENDCODE_PHONE_INTERVAL": "-61",
        "SENDCODE_HTTP_TIMEOUT": "nan",
        "SENDCODE_MAX_ATTEMPTS": "-17",
        "SENDCODE_KEY_PREFIX": "no:colon",
        "SENDCODE_AMBIGUOUS": "guess",
        "SENDCODE_CONCURRENCY": "1.5",
        "SENDCODE_LOG_FORMAT": "xml",
        "TENCENTCLOUD_SECRET_KEY_FILE": "/nonexistent/of-mine",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)

    faults = faults_of()

    assert sorted(fault.partition(":")[0] for fault in faults) == sorted(wrong)
    text = "\n".join(faults)
    shown = [value for value in (*wrong.values(), "redispassword") if f" {value}" in text]
    assert shown == []


@pytest.mark.parametrize(
    "url",
    [
        "intlpartnersmgt.tencentcloudapi.com",
        "ftp://intlpartnersmgt.tencentcloudapi.com",
        "http://intlpartnersmgt.tencentcloudapi.com",
        "http://127.0.0.1.example.com",
        "https://intlpartnersmgt.tencentcloudapi.com/v3",
        "https://intlpartnersmgt.tencentcloudapi.com?a=b",
        "https://someone@intlpartnersmgt.tencentcloudapi.com",
        "https://intlpartnersmgt.tencentcloudapi.com:port",
        "https://intlpartnersmgt.tencentcloudapi.com:99999",
        "https://[::1",
        "https://\u2100.example",
        "https://intlpartnersmgt.tencentcloudapi.com\u200b",
        "https://",
    ],
)
def test_an_endpoint_that_is_no_base_url_is_refused(url: str) -> None:
    assert [fault[:18] for fault in faults_of(sendcode_endpoint=url)] == ["SENDCODE_ENDPOINT:"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.tencentcloudapi.com/", "https://api.tencentcloudapi.com"),
        ("https://api.tencentcloudapi.com:8443", "https://api.tencentcloudapi.com:8443"),
        ("http://127.1.0.2:8080", "http://127.1.0.2:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_endpoint_is_kept_without_its_slash(given: str, kept: str) -> None:
    assert load_settings(sendcode_endpoint=given).sendcode_endpoint == kept


@pytest.mark.parametrize(
    "host",
    [
        "api.example",
        "tencentcloudapi.com",
        "nottencentcloudapi.com",
        "intlpartnersmgt.tencentcloudapi.com.api.example",
        "127.0.0.1.example",
        "10.0.0.1",
    ],
)
def test_an_endpoint_at_another_s_host_is_refused_unless_it_is_named(host: str) -> None:
    (fault,) = faults_of(sendcode_endpoint=f"https://{host}:8443")

    allowed = load_settings(
        sendcode_endpoint=f"https://{host}:8443",
        sendcode_endpoint_allowed=f"gateway.example, {host.upper()}",
    )
    assert fault.startswith("SENDCODE_ENDPOINT: ")
    assert "SENDCODE_ENDPOINT_ALLOWED" in fault
    assert allowed.sendcode_endpoint == f"https://{host}:8443"


@pytest.mark.parametrize("hosts", ["*.example", "https://api.example", "api.example:443", ","])
def test_allowed_hosts_are_host_names(hosts: str) -> None:
    (fault,) = faults_of(sendcode_endpoint_allowed=hosts)

    assert fault.startswith("SENDCODE_ENDPOINT_ALLOWED: must be host names")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "unix:///tmp/redis.sock",
        "redis://",
        "redis://localhost:port/0",
        "redis://localhost:99999/0",
        "redis://localhost/first",
        "redis://[::1/0",
        "redis://:password@\u2100/0",
        "sentinel://localhost:26379",
        "sentinel://localhost:26379/service/first",
        "sentinel://localhost:26379/service/0?ssl_cert_reqs=required",
        " redis://localhost/0",
        "REDIS://localhost/0",
        "redis://localhost/0?password=secret",
        "redis://localhost/0?socket_timeout=abc",
        "rediss://localhost/0?db=1",
        "rediss://localhost/0?ssl_ca_certs=/nonexistent/ca.pem",
        "rediss://localhost/0?ssl_cert_reqs=none",
        "rediss://localhost/0?ssl_cert_reqs=none&ssl_cert_reqs=required",
        "redis://localhost/0?protocol=2",
        "redis://localhost/0?",
        "redis://localhost/0/",
        "redis://localhost//0",
        "redis://localhost/\u0663",
        "redis://localhost:/0",
        "redis://localhost:0/0",
        "redis://[localhost]/0",
        "redis://:%ff@localhost/0",
        "sentinel://one,,two/service/0",
        "sentinel://one/service/0?sentinel_username=user",
        "sentinel://one/service/0?sentinel_password=a&sentinel_password=b",
        "redis://one/0?sentinel_password=a",
    ],
)
def test_a_redis_url_that_cannot_work_is_refused(url: str) -> None:
    assert [fault[:19] for fault in faults_of(sendcode_redis_url=url)] == ["SENDCODE_REDIS_URL:"]


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:pa;ss@localhost:6379/0", "%3B"),
        ("redis://:pa ss@localhost:6379/0", "%20"),
        ("redis://:pa#ss@localhost:6379/0", "%23"),
        ("redis://:pa\tss@localhost:6379/0", "unprintable"),
        ("redis://password@localhost:6379/0", "redis://:password@host"),
        ("redis://user:@localhost:6379/0", "empty password"),
        ("redis://one:6379,two:6379/0", "sentinel://one:26379,two:26379/service/0"),
        ("redis://localhost/0/", "no slash after it"),
        ("sentinel://one:26379/0", "sentinel://one:26379,two:26379/service/0"),
        ("sentinel://one:26379/0;sentinel://two:26379/0", "sentinel://one:26379,two:26379/"),
        ("sentinel://one:26379, two:26379/service/0", "commas alone"),
        ("sentinel://one/service?ssl_ca_certs=/ca.pem", "sentinels://"),
    ],
)
def test_a_redis_url_that_could_be_read_in_two_ways_is_refused_with_the_remedy(
    url: str, remedy: str
) -> None:
    (fault,) = faults_of(sendcode_redis_url=url)

    assert remedy in fault


def test_the_parts_of_a_redis_url_are_what_is_written_there() -> None:
    url = "redis://us%65r:a%3Bb%2Fc+d:e%40f@[::1]:6380/3"

    address = load_settings(sendcode_redis_url=url).redis

    assert address.hosts == (("::1", 6380),)
    assert (address.username, address.password) == ("user", "a;b/c+d:e@f")
    assert address.database == 3
    assert address.place == "redis://[::1]:6380/3"


def test_sentinels_have_a_login_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    url = (
        "sentinels://user:p,w@[::1]:26380,two,three:1/ma%20in/2"
        f"?sentinel_username=watch&sentinel_password=a%26b&ssl_ca_certs={tmp_path}/ca.pem"
    )

    address = load_settings(sendcode_redis_url=url).redis

    assert address.hosts == (("::1", 26380), ("two", 26379), ("three", 1))
    assert (address.service, address.database) == ("ma in", 2)
    assert (address.username, address.password) == ("user", "p,w")
    assert (address.sentinel_username, address.sentinel_password) == ("watch", "a&b")
    assert address.tls == {"ssl_cert_reqs": "required", "ssl_ca_certs": f"{tmp_path}/ca.pem"}
    assert "p,w" not in repr(address)
    assert "a&b" not in f"{address!r} {address.place}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379/15",
        "rediss://user:password@redis.example:6380/1",
        "redis://:pass%2Fword@[::1]:6379/0",
        "sentinel://:password@one:26379,two:26379,three/service/2",
        "sentinel://one/service",
        "sentinels://[::1]:26379,[::2]:26379/service/0",
    ],
)
def test_redis_urls_of_every_scheme_are_accepted(url: str) -> None:
    assert load_settings(sendcode_redis_url=url).redis_url == url


def test_a_key_of_tls_without_its_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()

    (fault,) = faults_of(sendcode_redis_url=f"rediss://localhost/0?ssl_keyfile={tmp_path}/key.pem")

    assert "no ssl_certfile" in fault


def test_the_files_of_tls_may_be_named_in_the_redis_url(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    url = f"rediss://localhost/0?ssl_ca_certs={tmp_path}/ca.pem&ssl_cert_reqs=required"

    assert load_settings(sendcode_redis_url=url).redis_url == url


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa#ss", "/", "?x=1"])
def test_a_redis_password_that_breaks_the_url_is_told_as_that(password: str) -> None:
    (fault,) = faults_of(sendcode_redis_url=f"redis://:{password}@localhost:6379/0")

    assert "percent-encoded" in fault


def test_a_person_sees_where_redis_is_but_not_its_password() -> None:
    settings = load_settings(sendcode_redis_url="rediss://user:password@redis.example:6380/1")

    assert settings.redis.place == "rediss://redis.example:6380/1"


def test_secrets_are_in_no_representation_of_the_settings() -> None:
    settings = load_settings(
        tencentcloud_secret_id="AKIDUNSEEN",
        tencentcloud_secret_key=KEY,
        tencentcloud_token="token-unseen",
        sendcode_redis_url="redis://:unseen@127.0.0.1/0",
        sendcode_flower_password="flower-unseen",
    )
    assert settings.redis_url  # what it is made of may not make it visible

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    for secret in ("AKIDUNSEEN", KEY, "unseen"):
        assert secret not in shown


def test_missing_credentials_are_both_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings().credentials()
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")
    with pytest.raises(SettingsError) as caught_half:
        load_settings().credentials()

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "TENCENTCLOUD_SECRET_ID",
        "TENCENTCLOUD_SECRET_KEY",
    ]
    assert str(caught_half.value).startswith("TENCENTCLOUD_SECRET_KEY: missing")


def test_what_is_missing_and_what_is_wrong_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENDCODE_RATE_LIMIT", "abc")
    monkeypatch.setenv("SENDCODE_LEASE", "100")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", "/nonexistent")

    faults = faults_of(required=CREDENTIALS)

    assert sorted(fault.partition(":")[0].partition(",")[0] for fault in faults) == [
        "SENDCODE_LEASE",
        "SENDCODE_RATE_LIMIT",
        "TENCENTCLOUD_SECRET_ID",
        "TENCENTCLOUD_SECRET_KEY_FILE",
    ]


def test_a_guard_that_cannot_be_judged_yet_is_not_complained_about() -> None:
    (fault,) = faults_of(sendcode_lease="2 s", sendcode_phone_interval=8, sendcode_http_timeout=1)

    assert fault.startswith("SENDCODE_LEASE:")


def test_a_secret_is_read_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", str(tmp_path / "key"))

    assert load_settings().credentials() == ("AKIDEXAMPLE", KEY, None)


def test_a_byte_order_mark_in_a_secret_s_file_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", str(tmp_path / "key"))

    assert load_settings().credentials()[1] == KEY


@pytest.mark.parametrize(
    "wrong",
    [
        *(f'"{KEY}"', f"'{KEY}'", f"\u201c{KEY}\u201d", f"\ufeff{KEY}", f"{KEY}\u200b"),
        *(f"{KEY} x", f"AKID\n{KEY}", f"{KEY}\u00e9", f"{KEY}\u0430"),
    ],
)
@pytest.mark.parametrize(
    "name", ["TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_TOKEN"]
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_credential_that_cannot_be_right_is_refused_before_the_api_does(
    wrong: str, name: str, in_a_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" * in_a_file + wrong.encode())
    if in_a_file:
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    else:
        monkeypatch.setenv(name, wrong)

    (fault,) = faults_of()

    assert fault.startswith(f"{name}: has a character that no credential has")
    assert KEY not in fault


def test_a_value_in_the_env_file_is_read_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("x", "of-the-environment")
    (tmp_path / ".env").write_text(
        "TENCENTCLOUD_SECRET_ID=a${x}b\nTENCENTCLOUD_SECRET_KEY='$x-${x:-y}'\n", "utf-8"
    )

    assert load_settings().credentials()[:2] == ("a${x}b", "$x-${x:-y}")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_file_without_a_secret_is_a_fault(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", str(tmp_path / "key"))

    (fault,) = faults_of()

    assert fault.startswith("TENCENTCLOUD_SECRET_KEY")


def test_the_environment_comes_before_the_env_file_and_overrides_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "SENDCODE_RATE_LIMIT=1\nSENDCODE_MAX_ATTEMPTS=2\nsendcode_concurrency=3\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("SENDCODE_MAX_ATTEMPTS", "4")
    monkeypatch.setenv("SENDCODE_CONCURRENCY", "5")

    settings = load_settings(sendcode_concurrency=6)

    assert settings.sendcode_rate_limit == 1
    assert settings.sendcode_max_attempts == 4
    assert settings.sendcode_concurrency == 6


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"SENDCODE_RATE_LIMIT=\xe9\n", ".env: is not UTF-8 text"),
        (b"SENDCODE_RATE_LIMIT=1\n= 5\n", ".env, line 2: is not NAME=value"),
        (b"SENDCODE_RATE_LIMIT='1\n", ".env, line 1: is not NAME=value"),
    ],
)
def test_a_broken_env_file_is_told_with_its_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)

    (fault,) = faults_of()

    assert fault.startswith(told)


def test_a_folder_named_as_the_env_file_is_somebody_else_s(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    assert load_settings().model_dump() == load_settings(None).model_dump()


def test_what_a_broken_env_file_may_hold_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TENCENTCLOUD_SECRET_ID=AKIDEXAMPLE\n\n= 5\n", "utf-8")

    assert faults_of(required=CREDENTIALS) == [".env, line 3: is not NAME=value"]


def test_an_env_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfSENDCODE_RATE_LIMIT=7\r\nX=\r\n")

    assert load_settings().sendcode_rate_limit == 7


def test_a_file_that_the_environment_names_comes_before_a_value_in_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TENCENTCLOUD_SECRET_KEY=of-a-developer\n", encoding="utf-8")
    (tmp_path / "key").write_text(KEY, encoding="utf-8")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY_FILE", str(tmp_path / "key"))

    assert load_settings().credentials()[1] == KEY


def test_a_value_in_the_environment_comes_before_a_file_that_the_env_file_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TENCENTCLOUD_SECRET_KEY_FILE=/nonexistent\n", encoding="utf-8")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", KEY)

    assert load_settings().credentials()[1] == KEY


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDCODE_RATE_LIMIT", "")
    monkeypatch.setenv("TENCENTCLOUD_TOKEN", "")

    settings = load_settings()

    assert settings.sendcode_rate_limit == 20
    assert settings.tencentcloud_token is None


def test_an_empty_token_file_is_that_of_lasting_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").touch()
    monkeypatch.setenv("TENCENTCLOUD_TOKEN_FILE", str(tmp_path / "token"))

    assert load_settings().tencentcloud_token is None


def test_settings_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDCODE_SOMETHING_ELSE", "x")

    assert load_settings().model_dump() == load_settings(None).model_dump()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("SENDCODE_RATE_LIMT", "SENDCODE_RATE_LIMIT"),
        ("SENDCODE_AMBIGOUS", "SENDCODE_AMBIGUOUS"),
        ("SENDCODE_RATELIMIT", "SENDCODE_RATE_LIMIT"),
        ("SENDCODE_REDIS_URL_FIEL", "SENDCODE_REDIS_URL_FILE"),
        ("SEND_CODE_REDIS_URL", "SENDCODE_REDIS_URL"),
        ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRET_ID"),
        ("TENCENT_CLOUD_SECRET_KEY", "TENCENTCLOUD_SECRET_KEY"),
    ],
)
@pytest.mark.parametrize("in_the_file", [False, True])
def test_a_misspelt_variable_is_named_with_the_nearest_that_exists(
    name: str, near: str, in_the_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if in_the_file:
        (tmp_path / ".env").write_text(f"{name}=x\n", "utf-8")
    else:
        monkeypatch.setenv(name, "x")

    assert misspelt() == {name: f"did you mean {near}?"}


def test_a_variable_of_ours_that_resembles_none_is_named_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENDCODE_SOMETHING_ELSE", "x")

    assert list(misspelt()) == ["SENDCODE_SOMETHING_ELSE"]


@pytest.mark.parametrize(
    "name",
    [
        *("SENDCODE_TRACEBACK", "SENDCODE_REDIS_IMAGE", "SENDCODE_REDIS_PORT"),
        *("SENDCODE_REDIS_MEMORY", "SENDCODE_PYTHON_IMAGE", "SENDCODE_IMAGE"),
        *("SENDCODE_RATE_LIMIT_FILE", "sendcode_rate_limit", "TENCENTCLOUD_REGION", "PATH"),
        *("SENDCODE_SERVICE_HOST", "SENDCODE_SERVICE_PORT", "SENDCODE_PORT"),
        *("SENDCODE_REDIS_PORT_6379_TCP_ADDR", "SENDCODE_REDIS_SERVICE_PORT_REDIS"),
    ],
)
def test_what_is_right_or_somebody_else_s_is_not_called_misspelt(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")

    assert misspelt() == {}


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        *(([name], "SENDCODE_PROXY") for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")),
        *(([name], "SENDCODE_CA_BUNDLE") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")),
        (["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"], "SENDCODE_CA_BUNDLE"),
    ],
)
def test_a_proxy_or_bundle_for_other_programs_is_named_where_ours_is_not_set(
    names: list[str], ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        monkeypatch.setenv(name, "http://proxy.example:3128")

    told = {", ".join(names): f"if the way to the API needs it, set {ours}"}
    assert ignored_settings(load_settings()) == told
    assert ignored_settings(load_settings(sendcode_endpoint="http://127.0.0.1:8020")) == {}
    if ours == "SENDCODE_PROXY":
        assert ignored_settings(load_settings(sendcode_proxy="http://proxy.example:3128")) == {}


@pytest.mark.parametrize(
    "url",
    [
        *("https://proxy.example:3128", "socks5://proxy.example:1080", "proxy.example:3128"),
        *("http://proxy.example:99999", "http://:pass/word@proxy.example", "http://", "http://a/b"),
    ],
)
def test_a_proxy_that_cannot_tunnel_is_refused_without_its_password(url: str) -> None:
    (fault,) = faults_of(sendcode_proxy=url)

    assert fault.startswith("SENDCODE_PROXY: ")
    assert "word" not in fault.replace("password", "")


def test_a_proxy_s_password_is_not_seen() -> None:
    settings = load_settings(sendcode_proxy="http://user:unseen%40@proxy.example:3128")

    assert settings.proxy_url == "http://user:unseen%40@proxy.example:3128"
    assert "unseen" not in f"{settings!r} {settings.model_dump()}"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_without_certificates_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)

    (fault,) = faults_of(sendcode_ca_bundle=str(tmp_path / "ca.pem"))

    assert fault.startswith("SENDCODE_CA_BUNDLE: names a file ")


def test_a_recovery_too_slow_for_the_guard_names_the_settings_to_change() -> None:
    (fault,) = faults_of(sendcode_phone_interval=20)

    for name in ("SENDCODE_LEASE", "SENDCODE_SWEEP_INTERVAL", "SENDCODE_HTTP_TIMEOUT"):
        assert name in fault


def test_a_call_killed_at_its_end_can_still_be_probed_inside_the_interval() -> None:
    """5 s of the call, 12.5 s until its next attempt, 10 s until that has arrived, 1 s of slack."""
    assert faults_of(sendcode_phone_interval=28.5)
    assert load_settings(sendcode_phone_interval=28.6).sendcode_phone_interval == 28.6


def test_a_killed_worker_s_job_is_tried_again_within_20_seconds_by_default() -> None:
    assert load_settings().recovery_s < 20
