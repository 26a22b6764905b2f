"""What a page of somebody else's can do through the browser of one who visits it: nothing."""

from pathlib import Path
from typing import Any

import pytest

from chatnest import ConfigurationError
from chatnest.config.build import build_chat
from chatnest.config.sections import Config, IdentitySection, LedgerSection, ServerSection
from chatnest.server.site import make_site
from chatnest.testing import Conversation
from tests.servers.support import Client, Process
from tests.streams.support import ask, serving

pytestmark = pytest.mark.anyio

PAGE = "https://www.example.com"
OTHERS = (
    *("https://evil.example", "https://www.example.com.evil.example", "http://www.example.com"),
    *("https://www.example.com:8443", "https://example.com", "https://a.www.example.com", "null"),
    *("HTTPS://WWW.EXAMPLE.COM", "https://www.example.com/", "https://wwwxexample.com", "*", ""),
)
REQUESTS: dict[str, dict[str, Any]] = {
    "an answer": {"json": ask()},
    "a refusal": {"json": {"messages": []}},
    "what is left": {"method": "GET", "path": "/api/chat/limits"},
    "a preflight": {
        "method": "OPTIONS",
        "headers": {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        },
    },
}


def site(server: ServerSection, identity: IdentitySection | None = None) -> Any:
    config = Config(
        server=server,
        identity=identity or IdentitySection(),
        ledger=LedgerSection(url="memory:"),
        demo=True,
    )
    chat = build_chat(config)
    chat.provider._pace = 0  # type: ignore[attr-defined]  # the demo's
    return make_site(config, chat)


async def exchange(app: Any, *, host: str = "localhost", **options: Any) -> Conversation:
    headers = {"host": host, **options.pop("headers", {})}
    async with Conversation(app, headers=headers, timeout=20, **options) as c:
        await c.read_all()
        await c.finished()
    return c


def cors(c: Conversation) -> dict[str, str]:
    return {name: value for name, value in c.headers.items() if name.startswith("access-control")}


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:8000"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_no_page_elsewhere_is_told_anything_by_default(upstream, name, origin):
    asked = REQUESTS[name]
    headers = {"origin": origin, **asked.get("headers", {})}
    async with serving(upstream) as app:
        for each in (app, site(ServerSection())):
            assert cors(await exchange(each, **{**asked, "headers": headers})) == {}


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_only_the_very_origin_is_let_in(name, origin):
    app, asked = site(ServerSection(allow_origins=[PAGE])), REQUESTS[name]
    c = await exchange(app, **{**asked, "headers": {"origin": origin, **asked.get("headers", {})}})
    assert "access-control-allow-origin" not in c.headers
    assert "origin" in c.headers["vary"].lower()
    assert "*" not in cors(c).values()


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_origin_that_is_named_is_let_in_by_its_name(name):
    app, asked = site(ServerSection(allow_origins=[PAGE, "https://b.example"])), REQUESTS[name]
    c = await exchange(app, **{**asked, "headers": {"origin": PAGE, **asked.get("headers", {})}})
    assert c.headers["access-control-allow-origin"] == PAGE
    assert c.headers["access-control-allow-credentials"] == "true"
    assert "origin" in c.headers["vary"].lower()


@pytest.mark.parametrize("origins", [["*"], [PAGE, "*"], ["null"], ["https://*.example.com"]])
async def test_everybody_is_no_origin(origins):
    with pytest.raises(ConfigurationError, match="expected an origin"):
        ServerSection(allow_origins=origins)


FORMS = {
    "text": "text/plain",
    "text in UTF-8": "text/plain;charset=UTF-8",
    "a form": "application/x-www-form-urlencoded",
    "a form with parts": "multipart/form-data; boundary=a",
    "nothing": "",
    "text that says JSON": "text/plain; application/json",
    "text, then JSON": "text/plain, application/json",
}


@pytest.mark.parametrize("origins", [[], [PAGE]])
@pytest.mark.parametrize("kind", FORMS)
async def test_a_form_cannot_ask(kind, origins):
    """What a browser sends without asking first: RFC 9110's JSON is not among it."""
    app = site(ServerSection(allow_origins=origins))
    headers = {"content-type": FORMS[kind], "origin": "https://evil.example", "cookie": "a=b"}
    c = await exchange(app, json=ask(), headers=headers)
    assert (c.status, c.problem()["code"]) == (415, "unsupported_media_type")


# ---------------------------------------------------------------- names that lead here

HERE = (
    *("localhost", "localhost:8000", "LOCALHOST", " localhost", "127.0.0.1", "127.0.0.1:80"),
    *("127.8.9.1", "[::1]", "[::1]:8000"),
)
ELSEWHERE = (
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("127.0.0.1.nip.io", "evil.localhost", "localhost.", "0.0.0.0", "10.0.0.1", "[::]"),
    *("[fe80::1]", "evil.example@localhost", "[::1].evil.example", "[::1]x", "::1", "", "0x7f.1"),
    *("2130706433", "localhost:80:evil.example", "localhost, evil.example", "localhost/evil"),
)
PATHS = ("/", "/settings.json", "/healthz", "/assets/app.js", "/api/chat/limits")


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_a_local_server_answers_pages_under_no_other_name(host):
    app = site(ServerSection())
    page = {"origin": "http://evil.example"}
    for path in PATHS:
        for headers in (page, {}):  # browsers send no Origin with a page's GET to its own host
            c = await exchange(app, host=host, method="GET", path=path, headers=headers)
            assert (c.status, c.problem()["code"]) == (421, "misdirected_request"), path
            assert "evil" not in c.received.decode()
        c = await exchange(app, host=host, method="HEAD", path=path)
        assert c.status == 421
    c = await exchange(app, host=host, json=ask(), headers=page)
    assert c.status == 421
    c = await exchange(app, host=host, method="OPTIONS", headers=page)
    assert c.status == 421
    # Browsers send Origin with every POST, so this is a proxy or a script.
    assert (await exchange(app, host=host, json=ask())).status == 200


@pytest.mark.parametrize("host", HERE)
async def test_a_local_server_answers_to_its_own_names(host):
    app = site(ServerSection())
    for path in PATHS:
        assert (await exchange(app, host=host, method="GET", path=path)).status == 200
    assert (await exchange(app, host=host, json=ask())).status == 200


@pytest.mark.parametrize(
    ("server", "identity", "host", "status"),
    [
        (ServerSection(host="0.0.0.0"), None, "chat.example", 200),
        *(
            (ServerSection(host=h), None, "chat.example", 421)
            for h in ("localhost", "::1", "127.1.1.1")
        ),
        (ServerSection(), IdentitySection(trusted_proxies=["127.0.0.1"]), "chat.example", 200),
        (ServerSection(allow_hosts=["chat.example"]), None, "Chat.Example:443", 200),
        (ServerSection(allow_hosts=["chat.example"]), None, "localhost", 200),
        (ServerSection(allow_hosts=["chat.example"]), None, "www.chat.example", 421),
        (ServerSection(host="0.0.0.0", allow_hosts=["chat.example"]), None, "evil.example", 421),
        (
            ServerSection(allow_hosts=["chat.example"]),
            IdentitySection(trusted_proxies=["127.0.0.1"]),
            "evil.example",
            421,
        ),
    ],
)
async def test_names_are_a_setting(server, identity, host, status):
    page = {"origin": "http://evil.example"}
    app = site(server, identity)
    c = await exchange(app, host=host, method="GET", path="/healthz", headers=page)
    assert c.status == status
    c = await exchange(app, host=host, method="GET", path="/healthz")
    assert c.status == status
    c = await exchange(app, host=host, json=ask())
    assert c.status == (status if server.allow_hosts else 200)


@pytest.mark.parametrize("host", ["http://a", "a:80", "A.example", "a/b", "*", "", "a b"])
async def test_a_host_is_a_name(host):
    with pytest.raises(ConfigurationError, match=r"allow_hosts: expected a host such as chat"):
        ServerSection(allow_hosts=[host])


@pytest.mark.process
def test_two_hosts_are_both_looked_at(tmp_path: Path):
    command = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    with Process(command, cwd=tmp_path) as process:
        port = process.ready()
        for hosts, status in ((["evil.example"], 421), (["localhost"], 200), ([], 200)):
            with Client(port) as client:
                names = [f"Host: {host}" for host in hosts]
                lines = ["GET / HTTP/1.0", *names, "Origin: http://evil.example", "", ""]
                client.socket.sendall("\r\n".join(lines).encode())
                assert client.reply().status == status
        with Client(port) as client:
            client.request(headers=["Host: evil.example", "Origin: http://evil.example"])
            assert client.reply().status in {400, 421}
