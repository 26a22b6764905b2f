"""How a server is reached: proxies and trust, by settings and by the environment."""

import pytest

from chatnest._util.addresses import is_local
from chatnest.errors import ConfigurationError
from chatnest.providers.http.network import ServerSettings, find_route
from chatnest.providers.openai.request import split_query

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def route(url="https://model.example/v1", **settings):
    return find_route(url, ServerSettings(**settings))


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://model.example/v1", ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://model.example/v1", "proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, "https://model.example/v1", "proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://model.example/v1", "proxy:3128"),
        ({"HTTPS_PROXY": "http://ann:secret@proxy:3128"}, "https://m.example/v1", "proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://model.example/v1", ""),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://model.example/v1", "proxy:3128"),
        ({"ALL_PROXY": "http://proxy:3128"}, "https://model.example/v1", "proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://localhost/v1", ""),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://127.0.0.1:1/v1", ""),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://[::1]:1/v1", ""),
        ({"HTTPS_PROXY": ""}, "https://model.example/v1", ""),
    ],
)
def test_a_proxy_of_the_environment_is_obeyed(monkeypatch, environ, url, proxy):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = route(url)
    assert found.proxy_shown == proxy
    assert "secret" not in repr(found)
    assert not route(url, trust_env=False).proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "bypassed"),
    [
        ("model.example", "https://model.example/v1", True),
        ("example", "https://model.example/v1", True),
        (".example", "https://model.example/v1", True),
        ("*.example", "https://model.example/v1", True),
        ("MODEL.EXAMPLE", "https://model.example/v1", True),
        (" other, model.example ", "https://model.example/v1", True),
        ("*", "https://model.example/v1", True),
        ("model.example:443", "https://model.example/v1", True),
        ("model.example:8443", "https://model.example/v1", False),
        ("ample", "https://model.example/v1", False),
        ("other.example", "https://model.example/v1", False),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.1.2.3", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("fd00::/8", "https://[fd00::1]/v1", True),
        ("", "https://model.example/v1", False),
        (",", "https://model.example/v1", False),
    ],
)
def test_no_proxy_names_hosts_and_networks(monkeypatch, no_proxy, url, bypassed):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (route(url).proxy is None) is bypassed


def test_a_setting_names_the_proxy_whatever_the_environment(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://other:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    found = route(proxy="http://ann:secret@proxy:3128")
    assert (found.proxy_shown, found.proxy_from) == ("proxy:3128", "proxy")


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://proxy:1080",
        "socks5h://ann:secret@proxy",
        "ftp://secret",
        "http://",
        "http://a:b:c",
    ],
)
def test_a_proxy_that_cannot_work_is_refused_without_its_address(monkeypatch, proxy):
    with pytest.raises(ConfigurationError, match=r"^proxy: expected a proxy") as refused:
        route(proxy=proxy)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY: expected a proxy"):
        route()


def test_the_environment_replaces_the_trust_and_a_file_adds_to_it(monkeypatch, tmp_path):
    import trustme

    first, second = trustme.CA(), trustme.CA()
    for ca, name in ((first, "first.pem"), (second, "second.pem")):
        ca.cert_pem.write_to_path(tmp_path / name)
    assert route().tls is None
    assert route("http://model.example").trust == ""

    added = route(ca_file=str(tmp_path / "first.pem"))
    assert added.tls is not None
    assert added.trust == "the operating system and ca_file"

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "first.pem"))
    replaced = route()
    assert replaced.tls is not None
    assert (replaced.trust, len(replaced.tls.get_ca_certs())) == ("SSL_CERT_FILE", 1)
    both = route(ca_file=str(tmp_path / "second.pem"))
    assert both.tls is not None
    assert len(both.tls.get_ca_certs()) == 2
    assert route(trust_env=False).tls is None


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_trust_that_is_not_there_is_refused(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match=rf"^{name}: expected a"):
        route()


def test_a_file_without_certificates_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "empty.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"^ca_file: expected a file of certificates"):
        route(ca_file=str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match=r"^SSL_CERT_FILE: expected certificates"):
        route()


@pytest.mark.parametrize("name", ["Content-Length", "host", "a b", "", "x:y"])
def test_a_header_field_that_is_not_a_gateways_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"^headers"):
        ServerSettings(headers={name: "secret"})


@pytest.mark.parametrize("value", ["a\nb", "é", "\x00"])
def test_a_header_field_has_one_line_of_ascii_and_is_not_repeated(value):
    with pytest.raises(ConfigurationError, match=r"^headers") as refused:
        ServerSettings(headers={"api-key": f"secret{value}"})
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(ServerSettings(headers={"api-key": "secret"}))


@pytest.mark.parametrize(
    ("base_url", "query", "expected"),
    [
        ("http://a/v1", {}, ("http://a/v1", "")),
        ("http://a/v1/", {}, ("http://a/v1", "")),
        ("http://a/v1/chat/completions", {}, ("http://a/v1", "")),
        ("http://a/v1/chat/completions/?x=1", {}, ("http://a/v1", "x=1")),
        ("http://a/d?api-version=1", {"b": "c d"}, ("http://a/d", "api-version=1&b=c+d")),
    ],
)
def test_an_address_is_taken_as_people_copy_it(base_url, query, expected):
    assert split_query(base_url, query) == expected


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "10.0.0.5", "192.168.1.9", "fd00::5", "ollama", "m.local"],
)
def test_a_server_of_ones_own_network_is_local(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["api.openai.com", "8.8.8.8", "2606:4700::1111"])
def test_others_are_not(host):
    assert not is_local(host)
