"""Checks of the service's settings: identity, proxies, timeouts, protocol. No I/O."""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from chatnest._util.addresses import is_local, is_loopback
from chatnest.config.keys import KeySection
from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, warn
from chatnest.stores.survey import RedisSurvey, SQLiteSurvey

__all__ = ["SERVICE_CHECKS"]

_PROXY_SECONDS: Final = 60
"""Seconds of silence after which nginx and most load balancers close a connection."""

_KILL_SECONDS: Final = 30
"""Seconds between SIGTERM and SIGKILL in Kubernetes; Docker waits 10."""


def _proxies(findings: Findings) -> Check:
    name, identity = "identity.trusted_proxies", findings.config.identity
    named = identity.trusted_proxies
    unlimited = [each for each in named if each != "unix" and _is_every_address(each)]
    if unlimited:
        return fail(
            name,
            f"{unlimited[0]} is every address: any client can claim any identity",
            "list only your own proxies",
        )
    if named:
        return ok(name, ", ".join(named))
    local = is_loopback(findings.config.server.host)
    if local and not identity.header and not identity.keys:
        return warn(
            name,
            "none, on a loopback address: behind a proxy, all users share one address",
            "add the proxy's address, such as 127.0.0.1",
        )
    if not local and identity.header:
        return warn(
            name,
            "none: the header counts only from this machine; other requests get a 401",
            "add the proxy's address",
        )
    return ok(name, "none")


def _identity(findings: Findings) -> Check:
    name, config = "identity", findings.config
    header, host = config.identity.header, config.server.host
    if header:
        return ok(name, f"by the header {header}; listens on {host}")
    if keys := config.identity.keys:
        expires = {each: key.expires for each, key in keys.items() if isinstance(key, KeySection)}
        now = datetime.now(UTC)
        if expired := [each for each, at in expires.items() if at is not None and at < now]:
            return warn(
                name,
                f"the keys of {', '.join(expired)} have expired, and get a 401",
                "remove them, or set a later expires",
            )
        return ok(name, f"by bearer keys, users: {len(keys)}; listens on {host}")
    return ok(name, f"by client address; listens on {host}")


def _ping(findings: Findings) -> Check:
    name, seconds = "chat.ping_interval", findings.config.chat.ping_interval
    if seconds >= _PROXY_SECONDS:
        return warn(
            name,
            f"{seconds:g} s: proxies close a connection after {_PROXY_SECONDS} s of silence",
            "choose less, such as 15",
        )
    return ok(name, f"{seconds:g} s")


def _times(findings: Findings) -> Check:
    """Compare each timeout with the one around it, which must be longer."""
    host = urlsplit(findings.base_url).hostname or ""
    name, bounds = "bounds", findings.config.bounds.resolved(local=bool(host) and is_local(host))
    around = (
        ("chat.ping_interval", findings.config.chat.ping_interval, "bounds.idle_seconds"),
        ("bounds.early_start_seconds", bounds.early_start_seconds, "bounds.first_byte_seconds"),
        ("bounds.first_byte_seconds", bounds.first_byte_seconds, "bounds.stream_seconds"),
        ("bounds.idle_seconds", bounds.idle_seconds, "bounds.stream_seconds"),
        (*_patience(findings), "bounds.ledger_seconds"),
        ("bounds.ledger_seconds", bounds.ledger_seconds, "bounds.settle_seconds"),
    )
    for inner, seconds, outer in around:
        limit = getattr(bounds, outer.partition(".")[2])
        if seconds >= limit:
            return warn(
                name,
                f"{inner} ({seconds:g} s) must be shorter than {outer} ({limit:g} s)",
                "lower the first, or raise the second",
            )
    return ok(name, f"consistent; a stream takes at most {bounds.stream_seconds:g} s")


def _patience(findings: Findings) -> tuple[str, float]:
    ledger = findings.config.ledger
    match findings.survey:
        case RedisSurvey():  # one wait for a connection, one for the reply
            return "twice ledger.timeout", 2 * ledger.timeout
        case SQLiteSurvey():
            return "ledger.busy_timeout", ledger.busy_timeout
    return "memory", 0.0


def _drain(findings: Findings) -> Check:
    name, server, bounds = "server.drain_seconds", findings.config.server, findings.config.bounds
    longest = server.announce_seconds + server.drain_seconds + bounds.settle_seconds
    shown = f"{server.drain_seconds:g} s, and {bounds.settle_seconds:g} s to settle"
    if server.announce_seconds:
        shown = f"{shown}, after {server.announce_seconds:g} s of server.announce_seconds"
    if longest >= _KILL_SECONDS:
        return warn(
            name,
            f"{shown}: many supervisors kill a process after {_KILL_SECONDS} s",
            "choose less, or let your supervisor wait longer",
        )
    return ok(name, shown)


def _protocol(_: Findings) -> Check:
    """Report the option for uvicorn. The server of a mounted chat is unknown here."""
    return ok(
        "server.protocol",
        "chatnest serve uses its own; other applications under uvicorn with httptools, its "
        "default, need --http chatnest.server:Protocol",
    )


def _is_every_address(network: str) -> bool:
    return ip_network(network, strict=False).prefixlen == 0


SERVICE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _identity,
    _proxies,
    _ping,
    _times,
    _drain,
    _protocol,
)
