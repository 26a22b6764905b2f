"""Reasons: turns the failure of a store into a sentence for its operator. No I/O."""

import sys
from collections.abc import Iterator

from chatnest.stores.survey import Reason, StoreChanged

__all__ = ["reason_of"]


def reason_of(failure: BaseException) -> Reason:
    """The reason for a LedgerUnavailable, or for an exception of a store's library.

    It quotes no text that may contain a password.
    """
    causes = list(_causes(failure))[::-1]  # the first cause is the most precise
    for cause in causes:
        if isinstance(cause, StoreChanged):
            return cause.reason
    packages = {type(cause).__module__.partition(".")[0] for cause in causes}
    if "sqlite3" in packages:
        from chatnest.stores.sqlite_reasons import explain_sqlite  # noqa: PLC0415  # slow to import

        return explain_sqlite(causes)
    if "redis" in sys.modules:  # an extra: if it is not imported, it cannot have failed
        from chatnest.stores.redis_reasons import explain_redis  # noqa: PLC0415

        return explain_redis(causes)
    return Reason("the cause is unknown", "try again, and look at the store's log")


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
