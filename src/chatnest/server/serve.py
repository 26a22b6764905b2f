"""``chatnest serve``: opens the socket, prints the addresses, runs uvicorn with its workers."""

import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import anyio
import msgspec
import uvicorn
from starlette.types import ASGIApp

from chatnest._util.addresses import is_loopback
from chatnest.app import ChatNestApp
from chatnest.config.build import LOG_KEY, access_log_of, build_chat, naming_keys, open_profiles
from chatnest.config.catalogue import facts_of
from chatnest.config.sections import Config
from chatnest.config.sources import PORT
from chatnest.config.thinking import reasoning_warnings
from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.server.announcement import Announcement
from chatnest.server.connections import backlog
from chatnest.server.metrics_page import MetricsPage
from chatnest.server.protocol import BoundedProtocol
from chatnest.server.shared_cells import SharedCells
from chatnest.server.site import CONFIG_VARIABLE, create_app, log_warnings, make_site
from chatnest.server.workers import Workers
from chatnest.stores.reasons import reason_of
from chatnest.telemetry.metrics import Metrics
from chatnest.telemetry.series import Layout, families_of

__all__ = ["serve"]

_SEND_BUFFER: Final = 32_768
"""Bytes of the kernel's send buffer per client: enough for a stream, little for 1,000 stalled ones.
"""

_GRACE_SECONDS: Final = 10
"""Seconds for uvicorn to close connections, after the drain has ended their streams."""


def serve(config: Config) -> None:
    """Serve until a signal. Raises ConfigurationError before a worker starts."""
    _check_workers(config)
    chat = build_chat(config)  # once before the workers, so that an error is reported once
    access_log_of(config)
    make_site(config, chat)
    with naming_keys(config):
        anyio.run(_check_ledger, chat)
    page = _metrics_page(config)
    listener = _listen(config)
    _print_start(config, listener, chat, page)
    for warning in reasoning_warnings(config):
        _note("warning: {}: {}: {}".format(*warning))
    os.environ[CONFIG_VARIABLE] = msgspec.json.encode(config).decode()
    os.environ.setdefault(LOG_KEY, secrets.token_hex(32))  # one key for all workers
    seconds = config.server.announce_seconds
    announcement = Announcement(seconds) if seconds else None
    with listener, listener.dup() as door:
        if config.server.workers > 1:
            cells = None if page is None else _share(config, chat, page)
            _run_workers(config, listener, door, announcement, cells)
        else:
            settings = _settings(config, partial(create_app, announcement, door, page))
            uvicorn.Server(settings).run(sockets=[listener])


def _run_workers(
    config: Config,
    listener: socket.socket,
    door: socket.socket,
    announcement: Announcement | None,
    cells: SharedCells | None,
) -> None:
    log_warnings()
    app = partial(create_app, announcement.to_workers() if announcement else None, door, cells)
    workers = Workers(_settings(config, app), [listener], door)  # installs its signal handlers
    with announcement.before_end() if announcement else nullcontext():
        workers.run()


def _metrics_page(config: Config) -> MetricsPage | None:
    port = config.server.metrics_port
    return None if port is None else MetricsPage(config.server.metrics_host, port)


def _share(config: Config, chat: ChatNestApp, page: MetricsPage) -> SharedCells:
    """Show the metrics of all workers, which they count in memory that they share."""
    layout = Layout(families_of(chat.known))
    cells = SharedCells(layout, workers=config.server.workers)
    page.show(Metrics(chat.known, cells))
    return cells


def _settings(config: Config, app: Callable[[], ASGIApp]) -> uvicorn.Config:
    http: Any = partial(  # uvicorn takes any callable with the class's arguments
        BoundedProtocol,
        head_seconds=config.server.head_seconds,
        rest_seconds=config.bounds.body_seconds,
    )
    return uvicorn.Config(
        app,
        factory=True,
        interface="asgi3",
        workers=config.server.workers,
        lifespan="on",
        http=http,
        backlog=backlog(),
        ws="none",  # a WebSocket request is served as plain HTTP
        log_level="warning",
        log_config=None,  # uvicorn's lines then have our format
        access_log=False,
        proxy_headers=False,  # chatnest's [identity] decides which proxies to trust
        server_header=False,
        timeout_keep_alive=config.server.idle_seconds,
        headers=[("keep-alive", f"timeout={config.server.idle_seconds}")],
        timeout_graceful_shutdown=int(config.server.drain_seconds) + _GRACE_SECONDS,
    )


def _check_workers(config: Config) -> None:
    workers, url = config.server.workers, config.ledger.url
    if workers > 1 and url.startswith("memory:"):
        raise ConfigurationError(
            f"ledger.url: expected a ledger that {workers} workers can share, got memory:. With it "
            f"they would allow {workers} times every limit. Use --ledger sqlite:chatnest.db or "
            "redis://HOST, or one worker."
        )
    if workers > 1 and url.startswith("sqlite:") and not SQLiteLedger.wal_is_safe:
        _note(
            "warning: ledger.url: this SQLite can, very rarely, damage a file that several "
            "processes write (fixed in 3.51.3). Prefer one worker."
        )


async def _check_ledger(chat: ChatNestApp) -> None:
    """Raise ConfigurationError if the ledger cannot work with this configuration.

    An unavailable ledger is only a warning: it may become available, and /readyz reports it.
    """
    try:
        await chat.check_books()
        if isinstance(chat.ledger, RedisLedger):
            await _check_eviction(chat.ledger)
    except LedgerUnavailable as exc:
        _note(f"warning: {chat.ledger!r} is unavailable: {reason_of(exc)}")
    finally:
        await chat.ledger.aclose()


async def _check_eviction(ledger: RedisLedger) -> None:
    """Raise ConfigurationError if the server may evict keys, because each key is a user's budget.

    A server that does not report its policy (some managed ones) gives a warning.
    """
    policies = await ledger.policies()
    for policy in policies.values():
        if policy != "noeviction":
            raise ConfigurationError(
                f"maxmemory-policy of {ledger!r}: expected noeviction, got {policy}. Set "
                "noeviction in the server's configuration: an evicted key is a forgotten budget."
            )
    if not policies:
        _note(
            f"warning: {ledger!r} does not report its maxmemory-policy. Check that it is "
            "noeviction: an evicted key is a forgotten budget."
        )


def _listen(config: Config) -> socket.socket:
    """Open the listening socket. Every accepted connection inherits its settings."""
    host, port = config.server.host, config.server.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=backlog())
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise ConfigurationError(
            f"server.port: expected an address to listen on, got {host} port {port}: {reason}. "
            "Choose another port or host."
        ) from exc
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    # Connections inherit this. asyncio sets it only on a socket that names its protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: drop a peer that acknowledges no data
        milliseconds = int(config.bounds.send_seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return listener


def _print_start(
    config: Config, listener: socket.socket, chat: ChatNestApp, page: MetricsPage | None
) -> None:
    host, port = listener.getsockname()[:2]
    host = "localhost" if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104  # a comparison
    base, path = f"http://{host}:{port}", config.chat.path
    lines = [
        f"chatnest {version('chatnest')}",
        f"  page      {base}/",
        f"  endpoint  POST {base}{path}",
        f"  limits    GET {base}{path}/limits",
        *_format_lines(config, base),
        *_model_lines(config, chat),
        f"  ledger    {chat.ledger!r}",
        *([] if page is None else [f"  metrics   GET {page.url}"]),
    ]
    if config.sources.get("server.port") == PORT:
        lines.append(f"  port      {port}, from {PORT}")
        if is_loopback(config.server.host):
            lines.append(
                f"            only on {config.server.host}; --host 0.0.0.0 listens on all addresses"
            )
    _note("\n".join([*lines, *_profile_lines(config), "Press Ctrl+C to stop."]))


def _format_lines(config: Config, base: str) -> Iterator[str]:
    """Yield a line for each address that a client of another format is given."""
    names = [name for name in config.chat.formats if name != config.chat.format]
    if {"openai-chat", "openai-responses"}.intersection(names):
        yield f"  openai    {base}/v1"
    for name in names:
        if name in {"ai-sdk", "ag-ui"}:
            yield f"  {name:<9} {base}{config.chat.path}/{name}"


def _model_lines(config: Config, chat: ChatNestApp) -> Iterator[str]:
    """Yield the line of the only model, or a line for each model of a catalogue."""
    if config.demo:
        yield "  model     none: --demo serves canned answers"
    elif not config.models:
        yield f"  model     {chat.provider.model}"
    else:
        for facts in facts_of(config, chat.models):
            yield f"  model     {facts.name}: {facts}"


def _profile_lines(config: Config) -> Iterator[str]:
    """Yield a line for each open profile with its limits, for each plan with its profiles, and one
    for the profiles that are closed to all.
    """
    names = [profile.name for profile in config.profiles]
    allowed = open_profiles(config)
    usual = config.chat.default_profile
    if usual not in allowed:
        usual = next(name for name in names if name in allowed)
    for profile in config.profiles:
        if profile.name in allowed:
            default = ", the default" if profile.name == usual else ""
            yield (
                f"  open      {profile.name}{default}: {profile.daily_token_limit:,} tokens a day, "
                f"{profile.max_tokens_per_request:,} a request, "
                f"{profile.requests_per_minute} requests a minute"
            )
    planned = [each for plan in config.plans.values() for each in plan.profiles or ()]
    for name, plan in config.plans.items():
        opened = ", ".join(plan.profiles or ()) or "the open profiles"
        default = ", the default" if name == config.chat.default_plan else ""
        yield f"  plan      {name}{default}: {opened}"
    for rule in config.limits:
        yield f"  limit     {rule.name}: {rule.describe(config.ledger.currency)}"
    if closed := [name for name in names if name not in {*allowed, *planned}]:
        yield f"  closed    {', '.join(closed)} (chat.allowed_profiles opens profiles)"


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
