"""Bodies are read within their bounds, paths below their mount, errors told as problems."""

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.asgi.http import (
    Document,
    encode_headers,
    header,
    headers_named,
    local_path,
    read_json_body,
    respond,
    respond_json,
)
from chatnest.errors import (
    BodyTooLarge,
    ChatNestError,
    ClientGone,
    ForbiddenProfile,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    LimitExceeded,
    MethodNotAllowed,
    NotFound,
    ServerShutdown,
    SlowBody,
    Unauthenticated,
    UnsupportedMediaType,
    UpstreamAccount,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from chatnest.streams.open_streams import OpenStreams
from chatnest.testing.protocol import ResponseRules
from chatnest.wire.native import problem_response

JSON = ("content-type", "application/json")
GONE = {"type": "http.disconnect"}


def scope(*headers, method="POST", **more):
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": method, "path": "/", "headers": pairs, **more}


def part(body: bytes, *, more: bool = False):
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """Hands out its messages, then nothing for ever."""

    def __init__(self, *messages):
        self.messages = list(messages)

    async def __call__(self):
        if not self.messages:
            await anyio.sleep_forever()
        return self.messages.pop(0)


async def read(*messages, headers=(JSON,), max_bytes=10):
    with anyio.fail_after(20):
        head = dict(reversed(scope(*headers)["headers"]))
        return await read_json_body(head, Client(*messages), max_bytes=max_bytes)


# ---------------------------------------------------------------- the body


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([part(b"{}")], b"{}"),
        ([part(b"")], b""),
        ([part(b"{", more=True), part(b"}")], b"{}"),
        ([part(b"{", more=True), part(b"", more=True), part(b"}", more=True), part(b"")], b"{}"),
        ([part(bytes([c]), more=True) for c in b"0123456789"] + [part(b"")], b"0123456789"),
        ([{"type": "http.request"}], b""),
        ([{"type": "http.request", "body": b"x"}], b"x"),
        ([part(b"{}"), GONE], b"{}"),
    ],
)
async def test_a_body_is_read_to_its_end_and_no_further(messages, body):
    assert await read(*messages) == body


@pytest.mark.anyio
@pytest.mark.parametrize(
    "messages",
    [
        [part(b"0123456789x")],
        [part(b"01234", more=True), part(b"56789x")],
        [part(b"0123456789", more=True), part(b"x", more=True)],
        [part(b"x" * 10_000, more=True)],
    ],
)
async def test_a_body_is_too_large_as_soon_as_that_is_known(messages):
    with pytest.raises(BodyTooLarge) as caught:
        await read(*messages)

    assert caught.value.detail == "The request body is larger than 10 bytes."


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["11", "1000000", "9" * 19])
async def test_a_declared_length_that_is_too_large_is_refused_unread(length):
    with pytest.raises(BodyTooLarge):
        await read(headers=(JSON, ("content-length", length)))


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["10", "2", "0", "", "-1", "x", "1e9", "9" * 5_000, "\xb2\xb2"])
async def test_a_declared_length_is_only_a_hint(length):
    assert await read(part(b"{}"), headers=(JSON, ("content-length", length))) == b"{}"
    with pytest.raises(BodyTooLarge):
        await read(part(b"0123456789x"), headers=(JSON, ("content-length", length)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "messages", [[], [part(b"{", more=True)], [part(b"", more=True), part(b"{", more=True)]]
)
async def test_a_body_that_does_not_come_is_a_408(messages):
    with pytest.raises(SlowBody) as caught, OpenStreams(settle_seconds=1).receiving(0.01):
        await read(*messages)

    assert caught.value.detail == "The request body did not arrive within 0.01 seconds."
    assert (caught.value.status, caught.value.retryable) == (408, True)


@pytest.mark.anyio
@pytest.mark.parametrize("messages", [[GONE], [part(b"{", more=True), GONE]])
async def test_a_client_that_leaves_is_gone(messages):
    with pytest.raises(ClientGone):
        await read(*messages)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "application/json")],
        [("content-type", "Application/JSON")],
        [("content-type", "application/json; charset=utf-8")],
        [("content-type", "application/json;charset=UTF-8")],
        [("content-type", 'application/json ; charset="utf-8"')],
        [("content-type", "application/json;")],
        [JSON, ("content-encoding", "identity")],
        [JSON, ("content-encoding", "")],
    ],
)
async def test_json_in_utf_8_is_read(headers):
    assert await read(part(b"{}"), headers=headers) == b"{}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", "")],
        [("content-type", "text/plain")],
        [("content-type", "text/json")],
        [("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "multipart/form-data; boundary=application/json")],
        [("content-type", "application/problem+json")],
        [("content-type", "application/jsonx")],
        [("content-type", "application/json, text/plain")],
        [("content-type", "text/plain; application/json")],
        [("content-type", "application/json; charset=latin-1")],
        [("content-type", "application/json; charset=utf-16")],
        [("content-type", "application/json; x=y")],
        [("content-type", "text/plain"), JSON],
        [JSON, ("content-encoding", "gzip")],
        [JSON, ("content-encoding", "br")],
        [JSON, ("content-encoding", "identity, gzip")],
    ],
)
async def test_anything_else_is_a_415_unread(headers):
    with pytest.raises(UnsupportedMediaType) as caught:
        await read(headers=headers)

    assert caught.value.status == 415


# ---------------------------------------------------------------- paths and headers


@pytest.mark.parametrize(
    ("path", "root_path", "local"),
    [
        ("/api/chat", "", "/api/chat"),
        ("/v1/api/chat", "/v1", "/api/chat"),
        ("/v1/api/chat", "/v1/", "/api/chat"),
        ("/api/chat", "/v1", "/api/chat"),
        ("/v1", "/v1", "/"),
        ("/v1/", "/v1", "/"),
        ("/v1", "/v1/", "/"),
        ("/v10/api", "/v1", "/v10/api"),
        ("/v1/v1/api", "/v1", "/v1/api"),
        ("/a/b/c", "/a/b", "/c"),
        ("/api/chat", "/", "/api/chat"),
        ("/", "/", "/"),
        ("", "", ""),
        ("/grüße/chat", "/grüße", "/chat"),
    ],
)
def test_a_path_is_the_one_below_the_mount_however_the_server_tells_it(path, root_path, local):
    assert local_path(scope(path=path, root_path=root_path) | {"path": path}) == local


def test_a_scope_without_root_path_has_none():
    assert local_path({"path": "/a"}) == "/a"


@given(st.text(), st.text())
def test_a_path_below_any_root_is_a_path(root, path):
    local = local_path({"path": f"/{root}/{path}", "root_path": f"/{root}"})

    assert f"/{root}/{path}".endswith(local)
    assert local.startswith("/")


def test_header_fields_are_found_by_name_in_their_order():
    s = scope(("x-a", "1"), ("x-b", "J\xfc"), ("x-a", "2"))

    assert headers_named(s, b"x-a") == ["1", "2"]
    assert headers_named(s, b"x-c") == []
    assert header(s, b"x-a") == "1"
    assert header(s, b"x-b") == "J\xfc"
    assert header(s, b"x-c") == ""


def test_header_fields_are_lower_case_bytes():
    assert encode_headers({"Retry-After": "5", "X-Name": "J\xfc"}) == [
        (b"retry-after", b"5"),
        (b"x-name", b"J\xfc"),
    ]


# ---------------------------------------------------------------- responses


class Server:
    """Takes what is sent, and checks that ASGI allows it."""

    def __init__(self, *, head=False):
        self.messages = []
        self.rules = ResponseRules(head=head)

    async def __call__(self, message):
        self.rules.check(message)
        self.messages.append(message)

    def response(self):
        self.rules.returned()
        start, body = self.messages
        return start["status"], dict(start["headers"]), body["body"]


async def problem(error: ChatNestError, *, method="POST"):
    server = Server(head=method == "HEAD")
    problem = problem_response(error, request_id="r" * 32)
    await respond(scope(method=method), server, problem)
    return server.response()


@pytest.mark.anyio
async def test_a_document_has_its_type_its_length_and_is_not_kept():
    server = Server()

    document = Document(status=201, media_type="text/plain", body=b"{}", headers={"X-A": "1"})
    await respond(scope(), server, document)

    assert server.response() == (
        201,
        {
            b"content-type": b"text/plain",
            b"content-length": b"2",
            b"cache-control": b"no-store",
            b"x-content-type-options": b"nosniff",
            b"x-a": b"1",
        },
        b"{}",
    )


@pytest.mark.anyio
async def test_head_gets_the_head_alone():
    server = Server(head=True)
    await respond_json(scope(method="HEAD"), server, {"a": [1]})
    status, headers, body = server.response()
    assert (status, headers[b"content-length"], body) == (200, b"9", b"")

    status, headers, body = await problem(NotFound(), method="HEAD")
    assert (status, body) == (404, b"")
    assert int(headers[b"content-length"]) > 0


QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PROBLEMS = [
    (
        InvalidRequest("messages: no."),
        {
            "type": "about:blank",
            "title": "Invalid request",
            "status": 400,
            "detail": "messages: no.",
            "code": "invalid_request",
            "retryable": False,
        },
        {},
    ),
    (
        MethodNotAllowed("GET", "HEAD"),
        {
            "type": "about:blank",
            "title": "Method not allowed",
            "status": 405,
            "detail": "This path takes GET, HEAD.",
            "code": "method_not_allowed",
            "retryable": False,
        },
        {b"allow": b"GET, HEAD"},
    ),
    (
        LimitExceeded(
            "requests",
            unit="requests",
            window=60,
            wait=11.2,
            amount=2,
            headers={"RateLimit": "x"},
        ),
        {
            "type": QUOTA,
            "title": "Limit reached",
            "status": 429,
            "detail": "The limit of requests in 60 seconds is 2.",
            "code": "rate_limited",
            "retryable": True,
            "retry_after": 12,
            "limit": "requests",
        },
        {b"ratelimit": b"x", b"retry-after": b"12"},
    ),
    (
        LimitExceeded("streams", unit="streams", window=None, wait=None, amount=1),
        {
            "type": QUOTA,
            "title": "Limit reached",
            "status": 429,
            "detail": "The limit of answers at the same time is 1.",
            "code": "too_many_streams",
            "retryable": False,
            "limit": "streams",
        },
        {},
    ),
    (
        UpstreamOverloaded(retry_after=0.01),
        {
            "type": "about:blank",
            "title": "The model is overloaded",
            "status": 503,
            "detail": "The model is overloaded.",
            "code": "upstream_overloaded",
            "retryable": True,
            "retry_after": 1,
        },
        {b"retry-after": b"1"},
    ),
    (
        InternalError(),
        {
            "type": "about:blank",
            "title": "Internal error",
            "status": 500,
            "detail": "Something went wrong on the server.",
            "code": "internal_error",
            "retryable": False,
        },
        {},
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("error", "document", "fields"), PROBLEMS)
async def test_an_error_is_a_problem_document_with_its_header_fields(error, document, fields):
    status, headers, body = await problem(error)

    assert json.loads(body) == {
        **document,
        "request_id": "r" * 32,
        "error": document["detail"],
    }
    assert status == document["status"]
    assert headers == {
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body)).encode(),
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        **fields,
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        Unauthenticated(),
        ServerShutdown(),
        LedgerUnavailable(),
        UpstreamAccount(),
        UpstreamTimeout(),
        ForbiddenProfile([f"profile-{n}" for n in range(1_000)]),
        *(InvalidRequest(c * 5_000) for c in ("a", "é", "中", "😀", "\x00", '"', "\u2028")),
    ],
)
async def test_a_problem_document_has_at_most_2_kib(error):
    _, _, body = await problem(error)

    assert len(body) <= 2_048
    document = json.loads(body)
    assert document["detail"] == document["error"]
    assert error.detail.startswith(document["detail"])


@pytest.mark.anyio
async def test_an_ordinary_detail_is_told_whole():
    _, _, body = await problem(InvalidRequest("é" * 300))

    assert json.loads(body)["detail"] == "é" * 300
