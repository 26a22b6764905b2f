"""Reasons: from the failure of a store to a sentence for whoever runs it. No I/O."""

import sys
from collections.abc import Iterator

from chatnest.stores.survey import Reason, StoreChanged

__all__ = ["reason_of"]


def reason_of(failure: BaseException) -> Reason:
    """Why a ledger raised LedgerUnavailable, or a store an exception of its own.

    It quotes nothing that could have a password in it.
    """
    causes = list(_causes(failure))[::-1]  # the first cause says most
    for cause in causes:
        if isinstance(cause, StoreChanged):
            return cause.reason
    packages = {type(cause).__module__.partition(".")[0] for cause in causes}
    if "sqlite3" in packages:
        from chatnest.stores.sqlite_reasons import explain_sqlite  # noqa: PLC0415  # as below

        return explain_sqlite(causes)
    if "redis" in sys.modules:  # an extra: without it, nothing of it can fail
        from chatnest.stores.redis_reasons import explain_redis  # noqa: PLC0415

        return explain_redis(causes)
    return Reason("it does not say why", "try again, and look at the store's own log")


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
