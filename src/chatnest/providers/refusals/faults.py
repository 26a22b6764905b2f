"""error_for: the UpstreamError for a refusal of an upstream. No I/O.

A status, an event of a stream and a document in place of a stream are treated alike. Names are
compared in the form of ``plain``. Words are the last resort, for servers that send nothing else.
The error has a text of chatnest's, since the upstream's may contain account names and keys.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from chatnest.errors import (
    ContextLengthExceeded,
    UpstreamAccount,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)
from chatnest.providers.refusals.error_documents import Refusal
from chatnest.providers.refusals.waits import reset_in, retry_after

__all__ = ["error_for", "error_for_words"]

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_ACCOUNT: Final = frozenset(
    {
        *("accessdenied", "accessdeniedexception", "accessterminatederror", "accountdeactivated"),
        *("accountoverdue", "apikeyinvalid", "arrearage", "authenticationerror", "autherror"),
        *("billingerror", "contractspendlimitreached", "enforcedspendlimitreached"),
        *("billinghardlimitreached", "billingnotactive", "creditsexhausted", "creditlimitexceeded"),
        *("deactivatedworkspace", "exceededcurrentquotaerror", "forbidden", "incorrectapikey"),
        *(
            "incorrectapikeyerror",
            "insufficientbalance",
            "insufficientcredits",
            "insufficientfunds",
        ),
        *("insufficientquota", "insufficientquotaerror", "insufficientuserquota", "invalidapikey"),
        *("invalidauthentication", "invalidauthenticationerror", "invalidcredentials"),
        *("missingapikey", "nobalance", "notactive", "outofcredits", "paymentrequired"),
        *("paymentrequirederror", "permissiondenied", "permissiondeniederror", "permissionerror"),
        *("preconsumetokenquotafailed", "quotaexhausted", "spendinglimitreached", "tokenexpired"),
        *("unauthenticated", "unauthorized", "unauthorizederror", "unrecognizedclientexception"),
        "usernotactive",
    }
)
_TOO_LONG: Final = frozenset(
    {
        *("contextlengthexceeded", "contextlengtherror", "contextlengthexceedederror"),
        *("contextoverflow", "contextsizeexceeded", "contextwindowexceeded"),
        *("contextwindowexceedederror", "contextwindowoverflow", "exceedcontextsizeerror"),
        *("inputtoolong", "maxcontextlengthexceeded", "modelcontextwindowexceeded"),
        *("promptlengthexceeded", "prompttoolong", "requesttoolarge", "stringabovemaxlength"),
        *("tokenlimitexceeded", "tokenslimitreached"),
    }
)
_BUSY: Final = frozenset(
    {
        *("capacityexceeded", "engineoverloaded", "engineoverloadederror", "modelnotready"),
        *("modeloverloaded", "nocapacity", "overloaded", "overloadederror", "providerratelimited"),
        *(
            "ratelimit",
            "ratelimited",
            "ratelimiterror",
            "ratelimitexceeded",
            "ratelimitexceedederror",
        ),
        *("ratelimitreached", "ratelimitreachederror", "requestlimitexceeded", "resourceexhausted"),
        *("serveroverloaded", "servicetiercapacityexceeded", "slowdown", "throttled", "throttling"),
        *("throttlingexception", "toomanyrequests", "toomanyrequestserror", "toomanyconnections"),
        *("allocationquota", "ratequota", "burstrate", "quotaviolation", "spikearrestviolation"),
        "capacitynotavailable",
    }
)
_REJECTED: Final = frozenset(
    {
        *("badrequest", "badrequesterror", "contentpolicyviolation", "contentfilter"),
        *("contentfiltered", "datainspectionfailed", "extraforbidden", "failedprecondition"),
        *("invalidargument", "invalidparameter", "invalidparametererror", "invalidparametervalue"),
        *("invalidprompt", "invalidrequest", "invalidrequesterror", "invalidrequestinvalidargs"),
        *("invalidmodel", "modelnotfound", "modelnotsupported", "notfound", "notfounderror"),
        *("unprocessableentity", "unprocessableentityerror", "unsupportedparameter"),
        *(
            "unsupportedvalue",
            "unsupportedmodel",
            "validation",
            "validationerror",
            "wrongapiformat",
        ),
        *("validationexception", "modelnotavailable", "modelnotexist"),
        *("biopolicy", "emptyimagefile", "imagecontentpolicyviolation", "imagefiletoolarge"),
        *("imageparseerror", "imagetoolarge", "imagetoosmall", "invalidbase64image"),
        *("invalidimage", "invalidimageformat", "invalidimagemode", "invalidimageurl"),
        *("misalignmentpolicyviolation", "unsupportedimagemediatype"),
    }
)


def _any_of(*families: tuple[str, tuple[str, ...]]) -> re.Pattern[str]:
    return re.compile("|".join(pattern for _, patterns in families for pattern in patterns))


_TOO_LONG_WORDS: Final = _any_of(
    ("OpenAI, vLLM, Groq", (r"context length", r"reduce the length of the (?:messages|input)")),
    ("OpenAI, OpenRouter, MiniMax", (r"context[ -]window", r"input tokens exceed")),
    ("Anthropic", (r"prompt is too long", r"prompt too long", r"exceed context limit")),
    ("Bedrock, Replicate", (r"input is too long", r"too many input tokens")),
    ("Gemini", (r"token count .{0,40}exceeds the (?:maximum|limit)",)),
    ("xAI", (r"maximum prompt length",)),
    ("Mistral", (r"too large for model",)),
    ("vLLM", (r"maximum model length", r"max_model_len", r"too long to fit into the model")),
    ("SGLang", (r"longer than the model'?s", r"exceeds? the maximum allowed length")),
    ("llama.cpp", (r"context size", r"exceeds? (?:the )?(?:available )?context")),
    ("LM Studio", (r"context the overflows", r"context overflow")),
    ("TGI, Together", (r"`?inputs`? tokens \+ `?max_new_tokens`?", r"must have less than \d+ tok")),
    ("DashScope", (r"range of input length", r"input length should be")),
    ("Perplexity", (r"length of all messages is too long",)),
    ("Moonshot", (r"exceeded model token limit",)),
    ("OpenAI, Groq: more than a minute may have", (r"request too large",)),
    ("gateways that quote a name", (r"contextwindowexceeded", r"context_length_exceeded")),
    ("others", (r"token limit exceeded", r"exceeds? max(?:imum)?[ _](?:seq|sequence)")),
    ("others", (r"exceeds? the (?:model'?s )?max(?:imum)? (?:number of )?(?:\w+ )?tokens",)),
)
_ACCOUNT_WORDS: Final = _any_of(
    ("OpenAI, xAI", (r"(?:incorrect|invalid|expired|missing|revoked) (?:\w+ )?api[ _-]?key",)),
    ("Gemini, DashScope", (r"api[ _-]?key (?:\w+ )?(?:not valid|invalid|expired|is incorrect)",)),
    ("others", (r"api[ _-]?key (?:is|has|was) (?:\w+ )?(?:not|invalid|expired|revoked|disabled)",)),
    ("many", (r"no api[ _-]?key", r"invalid (?:authentication|credentials|token)")),
    ("OpenRouter, Together", (r"insufficient (?:\w+ )?credit", r"more credits", r"credit limit")),
    ("DeepSeek, new-api", (r"insufficient (?:\w+ )?(?:balance|quota|funds)", r"account balance")),
    ("OpenAI", (r"check your plan and billing", r"billing hard limit", r"billing is not active")),
    ("Anthropic", (r"credit balance is too low", r"specified api usage limits", r"spend limit")),
    ("Anthropic", (r"organization (?:has been|is) (?:disabled|on hold)",)),
    ("DashScope, Zhipu", (r"overdue[ -]payment", r"in arrears", "余额不足", "欠费")),
    ("gateways that quote a name", (r"authenticationerror", r"insufficient_quota")),
    ("others", (r"\bunauthorized\b", r"no permission", r"permission denied", r"access denied")),
    ("others", (r"payment required", r"account (?:is|has been) (?:not active|deactivated|suspen)")),
)
_BUSY_WORDS: Final = _any_of(
    ("many", (r"rate[ -]?limit", r"too many requests", r"too many concurrent", r"throttl")),
    ("many", (r"over ?loaded", r"(?:at|over|no|exceeded|insufficient) (?:\w+ )?capacity")),
    ("OpenRouter", (r"temporarily rate", r"request limit reached")),
    ("Bedrock", (r"too many tokens, please wait",)),
    ("Gemini", (r"resource (?:has been )?exhausted", r"exceeded your current quota")),
    ("TGI, Hugging Face", (r"currently loading", r"model is loading", r"loading model")),
    ("others", (r"(?:server|service|model|engine) (?:is )?(?:currently )?(?:too )?busy",)),
    ("gateways that quote a name", (r"ratelimiterror", r"resource_exhausted", r"rate_limit_exc")),
    ("Zhipu", (r"并发", r"频率", r"速率")),
    ("others", (r"quota exceeded", r"请求过于频繁", r"requests per (?:minute|second|day)")),
)
_REJECTED_WORDS: Final = _any_of(
    ("Ollama, OpenAI", (r"\bmodel\b.{0,80}(?:not found|does not exist|not supported)",)),
    (
        "gateways that quote a name",
        (r"badrequesterror", r"notfounderror", r"invalid_request_error"),
    ),
)
_FLAGGED: Final = re.compile(r"moderation|flagged|content policy|safety")

_ACCOUNT_STATUSES: Final = (401, 402, 403)
_BUSY_STATUSES: Final = (429, 498, 529)
"""498 is Groq's status for a tier without capacity, and 529 Anthropic's for too much load."""
_TOO_LARGE: Final = 413
_SERVER: Final = 500


def error_for(
    refusal: Refusal, *, status: int = 0, headers: Mapping[str, str] = _NO_HEADERS
) -> UpstreamError:
    """The error for a refusal: the document of a response with ``status`` and ``headers``, or an
    event of a stream, which has neither.
    """
    kind = _kind(refusal, status or refusal.status)
    wait = retry_after(headers)
    if wait is None:
        wait = refusal.wait
    if wait is None and kind is UpstreamOverloaded:
        wait = reset_in(headers)
    if kind is UpstreamServerError and (status or refusal.status) == 503 and wait is not None:  # noqa: PLR2004
        kind = UpstreamOverloaded
    if not kind.transient:
        wait = None
    return kind(retry_after=wait, facts={"code": refusal.code, "param": refusal.param})


def error_for_words(words: str) -> UpstreamError | None:
    """The error for a line of text in place of an event, or None."""
    refusal = Refusal(words=words[:4_096].lower())
    kind = _kind(refusal, 0)
    return None if kind is UpstreamServerError else kind()


def _kind(refusal: Refusal, status: int) -> type[UpstreamError]:  # a table
    names, words = refusal.names, refusal.words
    if status == 403 and _FLAGGED.search(words) and not names & _ACCOUNT:  # noqa: PLR2004
        return UpstreamRejected  # moderation of a client's text, not a fault of the account
    if _is_account(refusal, status):
        return UpstreamAccount
    if (status != 429 and names & _TOO_LONG) or _is_too_long(refusal, status):  # noqa: PLR2004
        return ContextLengthExceeded
    if status == _TOO_LARGE:
        return UpstreamRejected
    if status in _BUSY_STATUSES or names & _BUSY:
        return UpstreamOverloaded
    if 0 < status < _SERVER and status not in {408, 409, 425}:
        return UpstreamOverloaded if _BUSY_WORDS.search(words) else UpstreamRejected
    if status == 0:
        if _BUSY_WORDS.search(words):
            return UpstreamOverloaded
        if names & _REJECTED or _REJECTED_WORDS.search(words):
            return UpstreamRejected
    return UpstreamServerError


def _is_account(refusal: Refusal, status: int) -> bool:
    if status in _ACCOUNT_STATUSES or refusal.status in _ACCOUNT_STATUSES:
        return True
    if refusal.names & _ACCOUNT:
        return True
    # Gemini writes "check your plan and billing" for a limit that passes within seconds.
    passes = refusal.wait is not None or "resourceexhausted" in refusal.names
    return not passes and _ACCOUNT_WORDS.search(refusal.words) is not None


def _is_too_long(refusal: Refusal, status: int) -> bool:
    if status == _TOO_LARGE and (refusal.names & _BUSY or "token" in refusal.words):
        return True
    if status in _BUSY_STATUSES or refusal.names & _BUSY:
        return "request too large" in refusal.words
    return _TOO_LONG_WORDS.search(refusal.words) is not None
