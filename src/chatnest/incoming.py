"""Incoming: reads a chat request into one frozen value, IncomingChat, before anything is sent."""

import math
import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
from anyio import move_on_after
from starlette.types import Receive, Scope

from chatnest._util.threads import in_thread
from chatnest.asgi.body_room import BodyRoom, BodyShare
from chatnest.asgi.data_urls import SMALL_BODY, DataUrls
from chatnest.asgi.heads import Headers, query_value
from chatnest.asgi.http import headers_named, is_gone, read_json_body
from chatnest.asgi.resumption import idempotency_key
from chatnest.bounds import ResolvedBounds
from chatnest.conversation import Message
from chatnest.errors import BodyTooLarge, ClientGone, InvalidRequest
from chatnest.hooks import EarlyIdentity, Hooks
from chatnest.identity.access import Access, Wait
from chatnest.identity.base import Identity
from chatnest.models import Candidate, Catalogue
from chatnest.permissions import check_permissions
from chatnest.profiles import Profile
from chatnest.requests import (
    MAX_CONVERSATION,
    NO_QUESTION,
    ChatRequest,
    EventKind,
    is_conversation,
)
from chatnest.streams.open_streams import OpenStreams
from chatnest.turn import Turn
from chatnest.wire.base import WireFormat

__all__ = ["ClientSystemPrompt", "Incoming", "IncomingChat"]

ClientSystemPrompt = Literal["ignore", "refuse", "allow"]
"""How a client's system prompt is treated."""

_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_CONVERSATION: Final = b"chatnest-conversation-id"
_EVENT_KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
_GONE_SECONDS: Final = 1.0
"""Maximum seconds to wait for a server to report a disconnect that the kernel already has."""
_LEAST_PING: Final = 0.2
"""Minimum seconds between pings. A ping costs less than a token, and tokens come more often."""


class IncomingChat(msgspec.Struct, frozen=True, kw_only=True):
    """A valid chat request, with its identity, its profile and the model that it is for.

    ``system`` opens the conversation. ``key`` is the Idempotency-Key, or the format's own;
    ``replays`` is whether it leads to an answer that has ended. ``usage_event`` is whether
    the client gets the cost, and ``events`` the kinds of additional events. ``headers`` are None
    unless a policy needs them.
    """

    id: str
    identity: Identity
    request: ChatRequest
    profile: Profile
    model: Candidate
    system: tuple[Message, ...]
    key: str | None
    replays: bool
    ping_seconds: float
    usage_event: bool
    events: frozenset[EventKind]
    headers: Headers | None

    @property
    def has_key_of_format(self) -> bool:
        """Whether the key is the format's own. Only such a key has a NUL."""
        return self.key is not None and "\0" in self.key

    def turn(self, turn_id: str) -> Turn:
        """A new turn for this request."""
        return Turn(
            turn_id=turn_id,
            principal=self.identity.principal,
            groups=self.identity.groups,
            plan=self.identity.plan,
            headers=self.headers,
            request=self.request,
            profile=self.profile,
            model=self.model.name,
            counter=self.model.counter,
            context_window=self.model.context_window,
            least_output=self.model.least_output,
            added_tokens=self.model.added_tokens,
            prices=self.model.prices,
            system=self.system,
        )


class Incoming:
    """Reads chat requests: body, key, identity, plan, profile, in this order. The identity
    comes first if the body has not arrived yet, so that unauthenticated requests use no memory for
    bodies.
    """

    def __init__(
        self,
        access: Access,
        models: Catalogue,
        bounds: ResolvedBounds,
        streams: OpenStreams,
        *,
        system_prompt: str,
        client_system_prompt: ClientSystemPrompt,
        usage_event: bool,
        events: frozenset[EventKind],
        ping_seconds: float,
        keep_headers: bool,
        deduplicates: bool,
    ) -> None:
        self._access = access
        self._models = models
        self._bounds = bounds
        self._streams = streams
        self._system = (Message.of("system", system_prompt),) if system_prompt else ()
        self._client_system_prompt = client_system_prompt
        self._events: frozenset[EventKind] = events
        if usage_event:
            usage: EventKind = "usage"
            self._events = events.union((usage,))
        self._max_body = bounds.body_bytes
        if any(_takes_images(profile, models) for profile in access.ever_open):
            self._max_body = max(bounds.body_bytes, bounds.image_body_bytes)
        self.room: BodyRoom = BodyRoom(bounds.bodies_in_flight_bytes)
        """Room for bodies; see ``read``."""
        self._ping_seconds = ping_seconds
        self._keep_headers = keep_headers
        self._deduplicates = deduplicates

    async def read(
        self,
        scope: Scope,
        receive: Receive,
        head: Mapping[bytes, bytes],
        *,
        format: WireFormat,  # noqa: A002  # the field's word
        request_id: str,
        share: BodyShare,
    ) -> IncomingChat:
        """Read and check a chat request. A shutdown ends the wait for it. A large body keeps its
        ``share``: its images live as long as its answer.

        Raises the error of a request that is refused, or ClientGone.
        """
        bounds = self._bounds
        with self._streams.receiving(bounds.body_seconds) as arrival:
            hooks = Hooks(receive, arrival, bounds.stream_seconds)
            early = EarlyIdentity(self._access, scope, hooks)
            body = await read_json_body(
                head, receive, max_bytes=self._max_body, take=share.take, admit=early.find
            )
            if is_gone(scope):
                await _wait_until_gone(receive)
            key = idempotency_key(scope) if b"idempotency-key" in head else None
            ping_seconds = self._ping_seconds
            if scope.get("query_string"):
                ping_seconds = self.ping_seconds(scope)
            found = early.found or await self._access.identity(scope, hooks.watched)
            has_plan = found.plan is not None or self._access.finds_plans
            identity = await self._access.with_plan(found, hooks.watched) if has_plan else found
            if len(body) > bounds.body_bytes:
                share.take(len(body) - share.size)
            if len(body) > min(SMALL_BODY, bounds.body_bytes):
                request = await in_thread(self._parse_large, format, body, head)
            else:
                request = format.parse(body, head)
            if share.size and len(body) <= bounds.body_bytes:
                share.give_back()
            del body
            if request.conversation is None and _CONVERSATION in head:
                request = msgspec.structs.replace(request, conversation=_conversation(scope))
            if not request.messages:
                raise InvalidRequest(NO_QUESTION, field="messages")
            replays = True
            if key is None and (request.linger is not None or request.submission.key is not None):
                key, replays = self._own_key(request, format)
            if request.model is None:
                profile = await self._access.profile(identity, request.profile, hooks.watched)
                models = (
                    self._models.by_profile[profile.name]
                    if identity.models is None
                    else self._models.permitted(profile, identity.models)
                )
                model = models[0]
            else:
                profile, model = await self._chosen(identity, request, request.model, hooks.watched)
            check_permissions(request, profile, model)
            events = request.events | self._events if self._events else request.events
            return IncomingChat(
                id=request_id,
                identity=identity,
                request=request,
                profile=profile,
                model=model,
                system=self._opening(request) if request.system_prompt else self._system,
                key=key,
                replays=replays,
                ping_seconds=ping_seconds,
                usage_event=request.usage_event or "usage" in events,
                events=events,
                headers=self.headers(scope),
            )

    def _own_key(
        self,
        request: ChatRequest,
        format: WireFormat,  # noqa: A002  # as above
    ) -> tuple[str | None, bool]:
        """The key that a format has made of a request without an Idempotency-Key, which is never
        equal to one, and whether it leads to an answer that has ended.
        """
        submission = request.submission
        if submission.key is not None:
            if self._deduplicates:
                return f"{format.path}\0{submission.key}", submission.replays
        elif request.linger is not None:
            raise InvalidRequest("needs an Idempotency-Key for the resumption.", field="linger")
        return None, True

    def _parse_large(
        self,
        format: WireFormat,  # noqa: A002  # as above
        body: bytes,
        head: Mapping[bytes, bytes],
    ) -> ChatRequest:
        """Parse a large body, of which only images may exceed ``body_bytes``. Blocks."""
        most = self._bounds.body_bytes
        if len(body) > most and len(DataUrls(body).rest) > most:
            raise BodyTooLarge(most)
        return format.parse(body, head)

    async def _chosen(
        self, identity: Identity, request: ChatRequest, name: str, wait: Wait
    ) -> tuple[Profile, Candidate]:
        """The profile and the model of a request that names one, which is looked for in the default
        profile before all others. See Catalogue.chosen.

        Raises InvalidRequest, ForbiddenProfile or UnknownModel.
        """
        access = self._access
        if request.profile is not None:
            profiles = [await access.profile(identity, request.profile, wait)]
        else:
            profiles = await access.open_profiles(identity, wait)
        return self._models.chosen(name, profiles, identity.models)

    def headers(self, scope: Scope) -> Headers | None:
        """The header fields of a request, or None if no policy needs them."""
        return Headers(scope) if self._keep_headers else None

    def ping_seconds(self, scope: Scope) -> float:
        """Seconds between pings. A client may ask for a shorter time. Raises InvalidRequest."""
        return min(self._ping_seconds, _ping_seconds(scope))

    def events(self, scope: Scope) -> frozenset[EventKind]:
        """The kinds of additional events for a client that resumes a run: the operator's, and those
        in ``?events=reasoning,tools``. Raises InvalidRequest.
        """
        value = query_value(scope, "events")
        if value is None:
            return self._events
        named = value.split(",")
        asked = [kind for kind in _EVENT_KINDS if kind in named]
        if not set(named).issubset(asked):
            raise InvalidRequest(f"events: must be some of {', '.join(_EVENT_KINDS)}, with commas.")
        return self._events.union(asked)

    def _opening(self, request: ChatRequest) -> tuple[Message, ...]:
        prompt = request.system_prompt
        if prompt is None or self._client_system_prompt == "ignore":
            return self._system
        if self._client_system_prompt == "refuse":
            raise InvalidRequest("This server does not accept a system prompt from clients.")
        most = self._bounds.client_system_prompt_bytes
        if len(prompt.encode()) > most:
            raise InvalidRequest(
                f"must have at most {most:,} bytes of system prompt.", field="systemPrompt"
            )
        return (*self._system, Message.of("system", prompt))


def _takes_images(profile: Profile, models: Catalogue) -> bool:
    """Whether a client can send images under this profile."""
    return profile.images and any(model.takes_images for model in models.by_profile[profile.name])


async def _wait_until_gone(receive: Receive) -> None:
    """Wait until the server reports the disconnect, and raise ClientGone. Without the wait, the
    server would complain about an application that returns without a response.
    """
    with move_on_after(_GONE_SECONDS):
        while (await receive())["type"] != "http.disconnect":
            pass
    raise ClientGone


def _conversation(scope: Scope) -> str:
    """The conversation's id in a header field. Raises InvalidRequest.

    The id is ASCII: other bytes of a field have no agreed meaning (RFC 9110, section 5.5).
    """
    values = headers_named(scope, _CONVERSATION)
    value = values[0].strip(" \t")
    if len(values) != 1 or not value.isascii() or not is_conversation(value):
        raise InvalidRequest(
            f"ChatNest-Conversation-Id: must be one field of 1 to {MAX_CONVERSATION} printable "
            "ASCII characters."
        )
    return value


def _ping_seconds(scope: Scope) -> float:
    """Seconds between pings that the client asks for, by ``?ping=SECONDS``, or infinity. Raises
    InvalidRequest.
    """
    value = query_value(scope, "ping")
    if value is None:
        return math.inf
    if not _SECONDS.fullmatch(value) or float(value) < _LEAST_PING:
        raise InvalidRequest(
            f"ping: must be from {_LEAST_PING:g} to 9999.999 seconds, with at most 3 decimals."
        )
    return float(value)
