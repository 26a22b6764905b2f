"""The OpenAPI document of a chat, made from its formats and the types of their bodies. No I/O.

OpenAPI 3.1.0. Streams are described by their media type: their frames are in the reference of the
formats.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from chatnest.wire.base import (
    Action,
    HasBodyType,
    HasDocuments,
    HasQuotaErrors,
    MorePath,
    WireFormat,
)
from chatnest.wire.formats import more_paths_of

__all__ = ["openapi_document"]

_VERSION: Final = "3.1.0"
_REFERENCE: Final = "#/components/schemas/{name}"
_ERRORS: Final = {
    "400": "The request is invalid.",
    "401": "The request has no valid key.",
    "403": "The profile is not open to the principal.",
    "404": "The model is unknown, or the path.",
    "413": "The body or the conversation is too large.",
    "422": "The Idempotency-Key belongs to another request.",
    "429": "A limit is reached. Retry-After has the seconds to wait.",
    "502": "The provider failed.",
    "503": "The server or the ledger is unavailable. Retry-After has the seconds to wait.",
    "504": "The provider was silent for too long.",
}
_QUOTA: Final = {"402": "A limit is reached that is not free again within a minute."}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A string in double quotes. A request with the same key gets the same answer.",
    "schema": {"type": "string"},
}
_ACTIONS: Final[Mapping[Action, tuple[str, str]]] = {
    "resume": ("Resume an answer", "The events of the answer."),
    "cancel": ("Cancel an answer", "The outcome of the answer."),
    "models": ("List the models", "The models that the principal may use."),
}


def openapi_document(
    formats: Sequence[WireFormat], *, prefix: str, title: str, version: str, has_keys: bool
) -> dict[str, Any]:
    """The document of these formats. ``prefix`` is the path of the chat, and ``has_keys`` whether
    requests need a key in ``Authorization``.
    """
    bodies = [body for each in formats if (body := _body_of(each)) is not None]
    schemas, components = msgspec.json.schema_components(
        bodies, schema_hook=_any_json, ref_template=_REFERENCE
    )
    body_schemas = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in formats:
        name = type(each).__name__.removesuffix("Format")
        paths.setdefault(prefix + each.path or "/", {})["post"] = _chat(each, name, body_schemas)
        for more in more_paths_of(each):
            path = paths.setdefault(prefix + more.path, {})
            for method, action in more.actions.items():
                path[method.lower()] = _more(each, name, more, action)
    paths[f"{prefix}/limits"] = {"get": _limits()}
    paths[f"{prefix}/usage"] = {"get": _usage()}
    document: dict[str, Any] = {
        "openapi": _VERSION,
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }
    if has_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _any_json(kind: type) -> dict[str, Any]:
    """The schema of a field that may have any value."""
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)


def _body_of(format_: WireFormat) -> type[msgspec.Struct] | None:
    return format_.body_type if isinstance(format_, HasBodyType) else None


def _chat(
    format_: WireFormat, name: str, schemas: Mapping[type[msgspec.Struct], Mapping[str, Any]]
) -> dict[str, Any]:
    body = _body_of(format_)
    content: dict[str, Any] = {format_.content_type: {"schema": {"type": "string"}}}
    if isinstance(format_, HasDocuments) and format_.has_documents:
        content["application/json"] = {"schema": {"type": "object"}}
    return {
        "operationId": f"chat{name}",
        "summary": f"Ask for an answer ({name})",
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"} if body is None else schemas[body]
                }
            },
        },
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **_errors(format_, chat=True),
        },
    }


def _more(format_: WireFormat, name: str, more: MorePath, action: Action) -> dict[str, Any]:
    summary, description = _ACTIONS[action]
    placeholder = more.path.partition("{")[2].partition("}")[0]
    operation: dict[str, Any] = {
        "operationId": f"{action}{placeholder.title()}{name}",
        "summary": f"{summary} ({name})",
        "responses": {
            "200": {
                "description": description,
                "content": {
                    format_.content_type if action == "resume" else "application/json": {
                        "schema": {"type": "string" if action == "resume" else "object"}
                    }
                },
            },
            **_errors(format_, chat=False),
        },
    }
    if action != "models":
        operation["responses"]["204"] = {"description": "There is nothing to resume or to cancel."}
    if placeholder:
        operation["parameters"] = [
            {"name": placeholder, "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operation


def _errors(format_: WireFormat, *, chat: bool) -> dict[str, Any]:
    found = _described(*(_ERRORS if chat else ("401", "404", "429", "503")))
    if isinstance(format_, HasQuotaErrors) and format_.has_quota_errors:
        found |= {status: {"description": text} for status, text in _QUOTA.items()}
    return dict(sorted(found.items()))


def _described(*statuses: str) -> dict[str, Any]:
    return {status: {"description": _ERRORS[status]} for status in statuses}


def _usage() -> dict[str, Any]:
    return {
        "operationId": "usage",
        "summary": "Get what was used in the last 30 days",
        "responses": {
            "200": {
                "description": "The usage of the principal, by day (UTC) and model.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **_described("401", "403", "404", "429", "503"),
        },
    }


def _limits() -> dict[str, Any]:
    return {
        "operationId": "limits",
        "summary": "Get the limits and what is left of them",
        "parameters": [
            {"name": "profile", "in": "query", "required": False, "schema": {"type": "string"}}
        ],
        "responses": {
            "200": {
                "description": "The limits of the principal.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **_described("401", "403", "429", "503"),
        },
    }
