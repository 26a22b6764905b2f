"""The only module that imports openai: the SDK's request head, and calls of the user's client.

Importing it takes most of a second, so it is imported when the first OpenAIProvider is made.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import openai

from chatnest.errors import UpstreamAccount, UpstreamBadResponse, UpstreamError
from chatnest.providers.http.connections import make_transport
from chatnest.providers.http.httpx2 import Httpx2Response
from chatnest.providers.http.network import ServerSettings
from chatnest.providers.http.transport import RequestHead, TransportError
from chatnest.providers.openai.request import Account, split_query
from chatnest.providers.refusals.error_documents import Refusal, read_refusal
from chatnest.providers.refusals.faults import error_for

__all__ = ["ERROR_BYTES", "StatusError", "ask", "make_transport", "request_head"]

_HEADERS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
ERROR_BYTES: Final = 65_536
"""Maximum bytes that are read of an error document."""
_OF_THE_BODY: Final = {"content-length", "host", "connection"}
"""Header fields that differ for each request."""


class StatusError(Exception):
    """The upstream answered with a status other than 200."""

    def __init__(
        self, status: int, content_type: str, refusal: Refusal, error: UpstreamError
    ) -> None:
        super().__init__(status)
        self.refusal: Refusal = refusal
        self.status: int = status
        self.content_type: str = content_type
        self.error: UpstreamError = error


async def request_head(
    account: Account, *, base_url: str, path: str, server: ServerSettings
) -> RequestHead:
    """The head of the SDK's requests to ``path``: the address, the authentication, the SDK's
    version. Header fields of ``server`` replace fields of the same names.

    The head is the same for all requests and takes the SDK most of a millisecond, so it is made
    once. Raises openai.OpenAIError.
    """
    recorder = _Recorder()
    base_url, query = split_query(base_url, server.query)
    async with httpx2.AsyncClient(transport=recorder, trust_env=False) as http:
        client = openai.AsyncOpenAI(
            api_key=account.api_key,
            base_url=base_url,
            organization=account.organization,
            project=account.project,
            max_retries=0,
            http_client=http,
        )
        await _post(client, path, {}, {})
    head = recorder.head
    added = {name.lower() for name in server.headers}
    kept = [field for field in head.fields if field[0].lower() not in added]
    url = f"{head.url}?{query}" if query else head.url
    return RequestHead(url, (*kept, *server.headers.items()))


class _Recorder(httpx2.AsyncBaseTransport):
    """Keeps the head of a request instead of sending it."""

    head: RequestHead

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fields = request.headers.multi_items()
        kept = tuple((key, value) for key, value in fields if key.lower() not in _OF_THE_BODY)
        self.head = RequestHead(str(request.url), kept)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, request=request)


async def _post(
    client: openai.AsyncOpenAI, path: str, body: dict[str, Any], headers: Mapping[str, str]
) -> Any:
    return await client.post(
        path,
        cast_to=httpx2.Response,
        body=body,
        options={"headers": {**_HEADERS, **headers}},
        stream=True,
        stream_cls=openai.AsyncStream[Any],
    )


async def ask(
    client: openai.AsyncOpenAI, path: str, body: dict[str, Any], more: Mapping[str, str]
) -> Httpx2Response:
    """Send a request to ``path`` with the user's client, and with ``more`` header fields.

    Raises StatusError, TransportError, UpstreamError.
    """
    try:
        response = await _post(client, path, body, more)
    except openai.APIStatusError as exc:
        headers: Mapping[str, str] = exc.response.headers
        refusal = read_refusal(exc.response.content[:ERROR_BYTES])
        error = error_for(refusal, status=exc.status_code, headers=headers)
        content_type = headers.get("content-type", "")
        # The SDK's error has text of the upstream.
        raise StatusError(exc.status_code, content_type, refusal, error) from None
    except (openai.APIConnectionError, httpx2.HTTPError) as exc:
        raise TransportError from exc.__cause__ or exc
    except openai.OpenAIError as exc:
        raise UpstreamAccount from exc
    except Exception:  # noqa: BLE001  # the SDK raises anything for an invalid response
        raise UpstreamBadResponse from None
    return Httpx2Response(response)
