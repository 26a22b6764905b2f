"""OpenAIServer: the address, account and connections of an OpenAI-compatible server."""

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from chatnest._util.addresses import is_local
from chatnest._util.arguments import check_kinds
from chatnest.errors import ConfigurationError, UpstreamError, UpstreamUnavailable
from chatnest.providers.dialect import OF_FIELDS
from chatnest.providers.http.answer_stream import Decoder
from chatnest.providers.http.asking import GOOD, closed_unless, note_late
from chatnest.providers.http.bodies import check_coding, read_document
from chatnest.providers.http.network import (
    Route,
    ServerSettings,
    fault_of_address,
    find_route,
    without_user,
)
from chatnest.providers.http.pool import LoopTransports
from chatnest.providers.http.transport import Response, Transport, TransportError
from chatnest.providers.openai.models import unsupported_field
from chatnest.providers.openai.request import account_of
from chatnest.providers.refusals.error_documents import Refusal, read_refusal
from chatnest.providers.refusals.faults import error_for
from chatnest.turn import ModelCall

__all__ = ["DEFAULT_BASE_URL", "Adjustable", "CheckRefusal", "OpenAIServer"]

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"

_encoder: Final = msgspec.json.Encoder()


CheckRefusal = Callable[[Refusal, int, UpstreamError], None]
"""Called with a refusal, its status and its error. It may raise another exception."""


class Adjustable(Protocol):
    """The fields that a model takes, as far as they are known."""

    def without(self, field: str, /) -> Self:
        """The same for a model that rejects ``field``."""
        ...


P = TypeVar("P", bound=Adjustable)


class OpenAIServer:
    """A server, and the requests to one ``path`` of it, such as ``/chat/completions``.

    ``shown`` is the address for the log. The arguments are those of OpenAIProvider. Raises
    ConfigurationError.
    """

    def __init__(
        self,
        path: str,
        *,
        api_key: str | None,
        base_url: str | None,
        organization: str | None,
        project: str | None,
        server: ServerSettings | None,
        client: Any,
    ) -> None:
        self._path = path
        self.base_url: str = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        self.shown: str = without_user(self.base_url)
        self._sdk = _import_sdk()
        if wrong := fault_of_address(self.base_url):
            raise ConfigurationError(f"base_url: {wrong}, got {self.shown!r}.")
        check_kinds(server=(server, ServerSettings))
        self._settings = server if server is not None else ServerSettings()
        self.route: Route = find_route(self.base_url, self._settings)
        self._account = account_of(
            api_key=api_key,
            organization=organization,
            project=project,
            is_needed=client is None and self.base_url == DEFAULT_BASE_URL,
        )
        address = self.base_url if client is None else str(client.base_url)
        self.host: str = urlsplit(address).hostname or ""
        self.trace: bool = self._settings.trace
        self.is_local: bool = is_local(self.host)
        # Retries are a policy of chatnest, also with the user's client.
        self._own_client = None if client is None else client.with_options(max_retries=0)
        self._transports = LoopTransports(self._make_transport)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transports.aclose()

    async def ask(
        self,
        call: ModelCall,
        decoder: Decoder,
        parameters: P,
        body: Callable[[P], tuple[dict[str, Any], Collection[str]]],
    ) -> tuple[Response, P, str]:
        """Return the response, the parameters that the server accepted, and the field that it
        rejected, or "".

        ``body`` makes the request from parameters, and names its fields that may be left out. If a
        refusal names one of them, one more request is sent without it. Raises UpstreamError.
        """
        try:
            request, added = body(parameters)
            response = await self.post(call, decoder, request, partial(_check_fields, added))
        except _UnsupportedField as exc:
            field = exc.field
        else:
            return response, parameters, ""
        call.sent = False  # a refusal costs nothing
        changed = parameters.without(field)
        try:
            request, added = body(changed)
            response = await self.post(call, decoder, request, partial(_check_fields, added))
        except _UnsupportedField as exc:
            raise exc.error from None
        return response, changed, field

    async def post(
        self, call: ModelCall, decoder: Decoder, request: Mapping[str, Any], check: CheckRefusal
    ) -> Response:
        """Send one request, and return the response once its head has arrived. Raises an
        UpstreamError unless the status is 2xx and the body can be read. ``check`` may raise another
        exception for a refusal.
        """
        call.place = self.shown
        try:
            if self._own_client is None:
                transport = await self._transports.get()
                late = partial(note_late, call, decoder)
                response = await transport.post(_encoder.encode(request), call, late)
            else:
                call.sent = True  # the client does not report it
                plain = msgspec.json.decode(_encoder.encode(request))  # schemas are raw
                response = await self._sdk.ask(self._own_client, self._path, plain, call.headers)
        except TransportError as exc:
            cause = type(exc.__cause__).__name__  # its text may contain addresses
            raise UpstreamUnavailable(facts={"cause": cause}) from exc
        except self._sdk.StatusError as exc:
            call.status, call.content_type = exc.status, exc.content_type
            check(exc.refusal, exc.status, exc.error)
            raise exc.error from None
        call.sent = True
        call.status = response.status
        call.content_type = response.headers.get("content-type", "")
        if response.status not in GOOD or "content-encoding" in response.headers:
            async with closed_unless(response):
                await _check(response, check)
        return response

    async def _make_transport(self) -> Transport:
        head = await self._sdk.request_head(
            self._account, base_url=self.base_url, path=self._path, server=self._settings
        )
        transport: Transport = self._sdk.make_transport(head, self.route)
        return transport


async def _check(response: Response, check: CheckRefusal) -> None:
    """Raise an UpstreamError unless the status is 2xx and the body can be inflated."""
    if response.status not in GOOD:
        refusal = read_refusal(await read_document(response))
        error = error_for(refusal, status=response.status, headers=response.headers)
        check(refusal, response.status, error)
        raise error
    check_coding(response)


class _UnsupportedField(Exception):
    """The server rejected ``field``, which chatnest adds; ``error`` is the refusal otherwise."""

    def __init__(self, field: str, error: UpstreamError) -> None:
        super().__init__(field)
        self.field = field
        self.error = error


def _check_fields(
    added: Collection[str], refusal: Refusal, status: int, error: UpstreamError
) -> None:
    """Raise _UnsupportedField if a refusal names one of the fields that were added."""
    if status in OF_FIELDS and (field := unsupported_field(refusal, added)):
        raise _UnsupportedField(field, error) from None


def _import_sdk() -> ModuleType:
    from chatnest.providers.openai import sdk as openai_client  # noqa: PLC0415  # takes most of a second

    return openai_client
