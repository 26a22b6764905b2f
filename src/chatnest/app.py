"""ChatNestApp: an LLM chat as a raw ASGI callable. It routes requests to endpoints/.

incoming.py reads a chat request, answering.py answers it. parts.py puts the parts of an application
together, lifespan.py starts and ends them.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from os import PathLike
from typing import Any, Final, assert_never

from starlette.types import Receive, Scope, Send

from chatnest._util.identifiers import new_request_id
from chatnest.accounting.local_books import WhenAway
from chatnest.alerts.warning import OnWarning
from chatnest.asgi.heads import check_head
from chatnest.asgi.http import bounded, local_path, respond, respond_json
from chatnest.asgi.upgrades import closing, warn_of_server
from chatnest.bounds import Bounds
from chatnest.endings import cause_of
from chatnest.endpoints.base import Exchange
from chatnest.errors import ClientGone, InternalError, MethodNotAllowed, NotFound
from chatnest.identity.access import AllowedProfiles
from chatnest.identity.base import Identify
from chatnest.identity.plan_lookup import PlanOf
from chatnest.identity.plans import Plan
from chatnest.incoming import ClientSystemPrompt
from chatnest.ledger.base import Ledger
from chatnest.lifespan import lifespan_of, serve_lifespan
from chatnest.models import Catalogue, Model
from chatnest.parts import Parts
from chatnest.policies import Policy
from chatnest.prices import PricesGiven
from chatnest.profiles import DEFAULT_PROFILES, HARD_CAPS, HardCaps, Profile
from chatnest.providers import Provider
from chatnest.runs import RunLog, RunSettings
from chatnest.streams.intake import Intake
from chatnest.telemetry import Observer
from chatnest.telemetry.metrics import Cells, Metrics
from chatnest.telemetry.series import Known
from chatnest.wire import FormatName, Formats, Route, WireFormat
from chatnest.wire.openapi import openapi_document

__all__ = ["ChatNestApp"]

_LIMITS: Final = "/limits"
_OPENAPI: Final = "/openapi.json"
_USAGE: Final = "/usage"
_OTHERS: Final = (_LIMITS, _USAGE, _OPENAPI)

_log = logging.getLogger("chatnest.app")


class ChatNestApp:
    """An LLM chat behind your own endpoint: ``POST`` streams an answer, ``GET .../limits`` returns
    the remaining limits. The same object works as a route, as a mounted application and alone.

    Every argument has a default: OpenAI with the key from the environment, the three profiles of
    chat-nest, the standard policies, and a ledger in memory for a single worker. The principal is
    the user that the framework has authenticated, or else the client's address.

    - ``models``: the models that clients may ask for, by name, in place of ``provider``. The first
      one answers requests without a model.
    - ``prices``: prices of the provider's model, in the form in which a Model has its own.
      ``currency`` is the code of the currency of all prices and limits of money.
    - ``allowed_profiles``: the profiles that a principal may use. Default: ``default_profile`` and
      all profiles without a bound above its own.
    - ``plans``: the plans by name. The plan of a principal replaces ``allowed_profiles`` for it. It
      is the one of its Identity, or else of ``plan_of``, or else ``default_plan``, or none.
    - ``plan_of``: an async function from an Identity to the name of its plan, or None. Its results
      are kept for ``plan_seconds`` in each worker. If it fails, the last known plan counts.
    - ``system_prompt`` opens every conversation.
    - ``client_system_prompt``: ``"ignore"`` a client's system prompt, ``"refuse"`` its request, or
      ``"allow"`` the prompt after yours. Default: ``"ignore"``. The older
      ``allow_client_system_prompt=True`` is the same as ``"allow"``.
    - ``usage_event`` sends the cost to all clients, before ``done``. ``events`` sends more kinds of
      events to all clients: ``reasoning``, ``tools``, ``sources``, ``usage``.
    - ``charge_unanswered`` charges the input of a call that the model accepted and never answered.
      Default: yes, except after a timeout of a local server, which may have been loading the model.
    - ``when_away``: the turns to admit while the ledger is unavailable. Default: turns without a
      budget.
    - ``runs`` and ``run_log``: settings and storage of answers that clients can resume. Default:
      the storage of the ledger.
    - ``drain_at_signal``: seconds that open answers get after SIGTERM, for a server that would wait
      for them without a limit.
    - ``ping_interval``: seconds between pings.
    - ``on_warning``: an async function that gets a BudgetWarning when a limit with ``warn_at``
      reaches a threshold, such as a Webhook. It is called within ``tended``, at least once for each
      warning, and again if it raises or takes more than 5 s.
    - ``formats``: the wire formats, each at its own path: names such as ``"ai-sdk"``, or formats.
      Default: ``["native"]``.

    Raises ConfigurationError if an argument is invalid.
    """

    def __init__(
        self,
        *,
        provider: Provider | None = None,
        models: Mapping[str, Model] | None = None,
        prices: PricesGiven | None = None,
        currency: str = "USD",
        profiles: Iterable[Profile] = DEFAULT_PROFILES,
        hard_caps: HardCaps = HARD_CAPS,
        default_profile: str = "balanced",
        allowed_profiles: AllowedProfiles | None = None,
        plans: Mapping[str, Plan] | None = None,
        default_plan: str | None = None,
        plan_of: PlanOf | None = None,
        plan_seconds: float = 60.0,
        policies: Sequence[Policy] | None = None,
        ledger: Ledger | None = None,
        identify: Identify | None = None,
        system_prompt: str = "",
        client_system_prompt: ClientSystemPrompt | None = None,
        allow_client_system_prompt: bool | None = None,
        usage_event: bool = False,
        events: Collection[str] = (),
        charge_unanswered: bool | None = None,
        when_away: WhenAway | None = None,
        ping_interval: float = 15.0,
        bounds: Bounds | None = None,
        runs: RunSettings | None = None,
        run_log: RunLog | None = None,
        drain_at_signal: float | None = None,
        formats: Sequence[WireFormat | FormatName] = (),
        observers: Sequence[Observer] = (),
        on_warning: OnWarning | None = None,
    ) -> None:
        parts = Parts(
            provider=provider,
            models=models,
            prices=prices,
            currency=currency,
            profiles=profiles,
            hard_caps=hard_caps,
            default_profile=default_profile,
            allowed_profiles=allowed_profiles,
            plans=plans,
            default_plan=default_plan,
            plan_of=plan_of,
            plan_seconds=plan_seconds,
            policies=policies,
            ledger=ledger,
            identify=identify,
            system_prompt=system_prompt,
            client_system_prompt=client_system_prompt,
            allow_client_system_prompt=allow_client_system_prompt,
            usage_event=usage_event,
            events=events,
            charge_unanswered=charge_unanswered,
            when_away=when_away,
            ping_interval=ping_interval,
            bounds=bounds,
            runs=runs,
            run_log=run_log,
            drain_at_signal=drain_at_signal,
            formats=formats,
            observers=observers,
            on_warning=on_warning,
        )
        self.profiles: dict[str, Profile] = parts.profiles
        self.provider: Provider = parts.provider
        self.models: Catalogue = parts.models
        self.ledger: Ledger = parts.ledger
        self.intake: Intake = parts.intake
        self.formats: Formats = parts.formats
        self._accounts = parts.accounts
        self._bounds = parts.bounds
        self._chat = parts.chat
        self._known = parts.known
        self._metrics: Metrics | None = None
        self._observers = parts.observers
        self._lifetime = parts.lifetime
        self._limits = parts.limits
        self._models = parts.model_list
        self._run = parts.run
        self._usage = parts.usage
        self._streams = parts.streams
        self._has_keys = parts.has_keys
        self._knows_server = False

    @staticmethod
    def from_config(path: str | PathLike[str]) -> "ChatNestApp":
        """Load the TOML file at ``path`` and the environment, and build the chat that ``chatnest
        serve --config`` would serve. Raises ConfigurationError.
        """
        # Imported here, since config/ imports this module.
        from chatnest.config.build import load_chat  # noqa: PLC0415

        return load_chat(path)

    def __repr__(self) -> str:
        return f"ChatNestApp(provider={self.provider!r}, ledger={self.ledger!r})"

    def openapi(self, path: str = "") -> dict[str, Any]:
        """The OpenAPI document (3.1.0) of the chat, as a dict of JSON values. ``path`` is where the
        chat is mounted, such as ``/api/chat``.
        """
        return openapi_document(
            self.formats.all,
            prefix=path,
            title="chatnest",
            version=version("chatnest"),
            has_keys=self._has_keys,
        )

    # ------------------------------------------------ metrics

    @property
    def metrics(self) -> Metrics:
        """The metrics of this worker: a collector for a registry of prometheus-client. They count
        from the first use of this attribute on.
        """
        return self._metrics if self._metrics is not None else self.measure(None)

    def measure(self, cells: Cells | None) -> Metrics:
        """Count the metrics in ``cells``, which workers may share. Call it before requests."""
        metrics = self._metrics = Metrics(self._known, cells)
        self._observers.add(metrics)
        self._accounts.watch(metrics)
        self._lifetime.metrics = metrics
        return metrics

    @property
    def known(self) -> Known:
        """The names of the configuration that may become labels of metrics."""
        return self._known

    # ------------------------------------------------ start and end

    async def ready(self) -> None:
        """Raise LedgerUnavailable if the ledger fails, or ServerShutdown during a drain."""
        await self._lifetime.ready()

    async def check_books(self) -> None:
        """Raise ConfigurationError if the ledger can never work with these policies, or
        LedgerUnavailable if it does not answer.
        """
        await self._lifetime.check_books()

    async def start(self) -> None:
        """Load everything that would delay the first request, and try the ledger. See
        Lifetime.start.
        """
        await self._lifetime.start()

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, give open answers ``seconds`` to finish, then end them."""
        await self._lifetime.drain(seconds)

    def when_draining(self, act: Callable[[], object]) -> None:
        """Call ``act`` when a drain begins, in the event loop of the drain."""
        self._lifetime.when_draining(act)

    async def aclose(self) -> None:
        """End and settle open answers, then close the providers and the ledger."""
        await self._lifetime.aclose()

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """``start``, ``tended`` and ``aclose``, for use within a host's own lifespan."""
        return lifespan_of(self)

    def tended(self) -> AbstractAsyncContextManager[None]:
        """Within this block, pending settlements are written, old runs are deleted, and warnings
        are delivered. See Lifetime.tended.
        """
        return self._lifetime.tended()

    async def serve_lifespan(self, receive: Receive, send: Send) -> None:
        """Serve the ASGI lifespan protocol, for an application that runs alone."""
        await serve_lifespan(self, receive, send)

    # ------------------------------------------------ requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application. Serves http and lifespan, and closes websockets."""
        if scope["type"] == "http":
            if not self._knows_server:
                self._knows_server = True
                warn_of_server(scope)
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.serve_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        head = dict(reversed(scope["headers"]))  # the first value of each field
        if b"upgrade" in head:
            send = closing(send)
        path = local_path(scope).rstrip("/")  # Litestar ends the path of a mount with one
        route = self.formats.find(path)
        is_other = path.endswith(_OTHERS) and (route is None or route.actions is None)
        format_ = self.formats.default if route is None else route.format
        try:
            check_head(scope)
            exchange = Exchange(
                scope=scope, receive=receive, send=send, id=request_id, head=head, format=format_
            )
            served = self._other(exchange, path) if is_other else self._routed(exchange, route)
            del head, exchange  # they need not live as long as a stream
            await served
        except ClientGone:
            pass
        except Exception as exc:  # noqa: BLE001  # such as from a hook of yours; logged in full
            error = cause_of(exc) or InternalError()
            if error is not exc:
                _log.exception("request failed: request=%s", request_id)
            problem = format_.problem(error, request_id=request_id, charged=False)
            await respond(scope, bounded(send, self._bounds.send_seconds), problem)

    def _other(self, exchange: Exchange, path: str) -> Awaitable[None]:
        """Serve a path that belongs to no format."""
        if path.endswith(_LIMITS):
            return self._limits.serve(exchange)
        if path.endswith(_USAGE):
            return self._usage.serve(exchange)
        if exchange.scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed("GET", "HEAD")
        mounted_at = exchange.scope.get("root_path", "") + path.removesuffix(_OPENAPI)
        send = bounded(exchange.send, self._bounds.send_seconds)
        return respond_json(exchange.scope, send, self.openapi(mounted_at))

    def _routed(self, exchange: Exchange, route: Route | None) -> Awaitable[None]:
        if route is None or route.is_missing:
            raise NotFound
        method = exchange.scope["method"]
        if route.actions is None:
            if method == "POST":
                return self._chat.serve(exchange)
            if "/runs/" in local_path(exchange.scope):  # without a valid id, at a chat's own path
                raise NotFound
            raise MethodNotAllowed("POST")
        match route.actions.get(method):
            case None:
                raise MethodNotAllowed(*route.actions)
            case "models":
                return self._models.serve(exchange, route.model)
            case "resume" | "cancel" as action:
                return self._run.serve(exchange, route, action)
            case unknown:
                assert_never(unknown)
