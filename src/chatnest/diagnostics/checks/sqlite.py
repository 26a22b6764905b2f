"""Checks of a ledger in a file, or in memory. No I/O."""

from typing import Final

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, skip, warn
from chatnest.stores.survey import SQLiteSurvey

__all__ = ["SQLITE_CHECKS"]

_MB: Final = 1_000_000
_SCARCE: Final = 512 * _MB
_NONE: Final = 32 * _MB

_NETWORK: Final = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs"),
}
_FORGETS: Final = {
    "overlay": "a layer that is deleted with its container",
    "aufs": "a layer that is deleted with its container",
    "tmpfs": "memory, which a restart of the machine clears",
    "ramfs": "memory, which a restart of the machine clears",
}


def _memory(findings: Findings) -> Check | None:
    if findings.survey is not None:
        return None
    name, workers = "memory.workers", findings.config.server.workers
    if workers > 1:
        return fail(
            name,
            f"{workers} workers that count separately: {workers} times every limit",
            "use sqlite:chatnest.db or redis://HOST, or one worker",
        )
    return warn(name, "a restart forgets all spending", "use sqlite:chatnest.db or redis://HOST")


def _library(findings: Findings) -> Check | None:
    survey, workers = findings.survey, findings.config.server.workers
    if not isinstance(survey, SQLiteSurvey):
        return None
    name, shown = "sqlite.version", f"SQLite {survey.library}"
    if survey.wal_is_safe or workers == 1:
        return ok(name, f"{shown}, {workers} worker{'s' if workers > 1 else ''}")
    return warn(
        name,
        f"{shown} can, very rarely, damage a file that several processes write",
        "use one worker, or SQLite 3.51.3, or Redis",
    )


def _file(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, SQLiteSurvey):
        return None
    name, why = "sqlite.file", survey.unusable
    if why is not None:
        return fail(name, f"{survey.path}: {why.found}", why.advice)
    return ok(name, f"{survey.path} {'can be written' if survey.exists else 'can be created'}")


def _file_system(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, SQLiteSurvey):
        return None
    name, kind = "sqlite.file_system", survey.file_system
    if kind is None:
        return skip(name, "this system does not report it", "use a local disk")
    if kind in _NETWORK or kind.startswith("fuse."):
        return fail(name, f"{kind}, where file locks are unreliable", "use a local disk, or Redis")
    if kind in _FORGETS:
        return warn(name, f"{kind}: {_FORGETS[kind]}", "put the file on a disk or a volume")
    return ok(name, kind)


def _synchronous(findings: Findings) -> Check | None:
    if not isinstance(findings.survey, SQLiteSurvey):
        return None
    name, value = "sqlite.synchronous", findings.config.ledger.synchronous
    if value == "FULL":
        return ok(name, value)
    return warn(
        name, f"{value}: a power failure may undo the last charges", "set FULL if tokens cost money"
    )


def _disk(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, SQLiteSurvey):
        return None
    name, free = "sqlite.disk", survey.free
    if free is None:
        return skip(name, "the directory does not exist", "see sqlite.file")
    shown = f"{free // _MB:,} MB free"
    if free < _NONE:
        return fail(name, shown, "free some space: a full disk refuses every request")
    if free < _SCARCE:
        return warn(name, shown, "free some space: a full disk refuses every request")
    return ok(name, shown)


SQLITE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _memory,
    _library,
    _file,
    _file_system,
    _synchronous,
    _disk,
)
