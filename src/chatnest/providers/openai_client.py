"""The one place that imports openai: makes its client, sends a request, names what went wrong.

Importing this costs most of a second, so it is imported when the first OpenAIProvider is made.
"""

import logging
from typing import Any, Final

import httpx2
import openai

from chatnest.errors import (
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
    UpstreamUnavailable,
)
from chatnest.providers.decode import error_for_code
from chatnest.providers.transport import BODY, REQUEST_SENT, make_http_client

__all__ = ["BODY", "REQUEST_SENT", "ask", "make_client"]

_log = logging.getLogger("chatnest.providers.openai")

_LONGEST_RETRY_AFTER: Final = 60.0
_DEFAULT_RETRY_AFTER: Final = 5.0
_HEADERS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


def make_client(
    *, api_key: str, base_url: str, organization: str | None, project: str | None
) -> openai.AsyncOpenAI:
    """An SDK client for the running event loop, without retries: they are a policy of ours."""
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        organization=organization,
        project=project,
        max_retries=0,
        http_client=make_http_client(secure=base_url.startswith("https:")),
    )


async def ask(client: openai.AsyncOpenAI, body: dict[str, Any]) -> httpx2.Response:
    """Send a chat completion request, and return its response as soon as its head is there.

    Raises an UpstreamError for everything that is not a 200 with an event stream. Its text is
    ours: what the upstream wrote may name accounts and keys.
    """
    try:
        response: Any = await client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=body,
            options={"headers": _HEADERS},
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
    except openai.APIStatusError as exc:
        raise _status_error(exc) from None  # its text is the upstream's
    except (openai.APIConnectionError, httpx2.HTTPError) as exc:
        cause = type(exc.__cause__ or exc).__name__  # a name alone: texts may have addresses
        _log.warning("the model's provider cannot be reached: %s", cause)
        raise UpstreamUnavailable from exc
    except openai.OpenAIError as exc:
        raise UpstreamAccount from exc
    except Exception as exc:  # noqa: BLE001  # whatever the SDK makes of an answer that is none
        _log.warning("the model's provider answered nonsense: %s", type(exc).__name__)
        raise UpstreamBadResponse from None
    return await _checked(response)


async def _checked(response: httpx2.Response) -> httpx2.Response:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code != httpx2.codes.OK or media_type != "text/event-stream":
        await response.aclose()
        raise UpstreamBadResponse
    return response


def _status_error(exc: openai.APIStatusError) -> UpstreamError:
    error = _error_for_status(exc)
    if isinstance(error, UpstreamAccount):
        _log.error("the model's provider refused this account: HTTP %d", exc.status_code)
    else:
        _log.warning("the model's provider answered HTTP %d", exc.status_code)
    return error


def _error_for_status(exc: openai.APIStatusError) -> UpstreamError:  # noqa: PLR0911  # a table
    status = exc.status_code
    named = error_for_code(_name(exc.code), _name(exc.type)) if status < 500 else None  # noqa: PLR2004  # RFC 9110
    retry_after = _retry_after(exc.response.headers)
    match status:
        case 401 | 403:
            return UpstreamAccount()
        case 429:
            if isinstance(named, UpstreamAccount):
                return named
            return UpstreamOverloaded(retry_after=retry_after)
        case 503 if retry_after is not None:
            return UpstreamOverloaded(retry_after=retry_after)
        case 408 | 409:
            return UpstreamServerError(retry_after=retry_after)
        case _ if status >= 500:  # noqa: PLR2004  # RFC 9110
            return UpstreamServerError(retry_after=retry_after)
        case _:
            return named or UpstreamRejected()


def _name(value: object) -> str:
    """A code or type as the SDK found it, which may be anything."""
    return str(value) if isinstance(value, str | int) else ""


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds, from the milliseconds that OpenAI adds or from RFC 9110's field, capped."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, _LONGEST_RETRY_AFTER)
    return _DEFAULT_RETRY_AFTER if "retry-after" in headers else None
