"""Reports that leave out what goes as the snapshot wants it. Pure; both sides know it.

An engine that holds thousands of versions says of nearly all of them, every two seconds, that they
are proven. It may name the snapshot that it follows instead, by its tag, and beside that only the
versions of which there is something else to say.
"""

from __future__ import annotations

import msgspec

from serving.contract import ABRIDGED_FORMAT, FORMAT, EngineReport
from serving.snapshot_delta import HeldSnapshot


def abridge(report: EngineReport, held: HeldSnapshot) -> EngineReport:
    """The report without what `held` says already; unchanged where that would not be the same.

    It is unchanged for another revision than `held`'s, and where it does not speak of one of the
    versions that `held` has: nobody may be told that such a one is proven.
    """
    if report.rest_proven_in or report.revision != held.snapshot.revision:
        return report
    proven = held.proven
    kept = [item for item in report.versions if proven.get(item.name) != item]
    n_named = sum(item.name in proven for item in report.versions)
    if n_named != len(proven):
        return report
    return msgspec.structs.replace(
        report, versions=kept, rest_proven_in=held.tag, format=ABRIDGED_FORMAT
    )


def expand(report: EngineReport, held: HeldSnapshot) -> EngineReport:
    """The whole report, versions by name. `held` must have the tag that the report names.

    Reports with nothing special to say share one list: compare lists by identity before content.

    Raises:
        ValueError: `held` is another snapshot.
    """
    if report.rest_proven_in != held.tag:
        raise ValueError(f"the report is of {report.rest_proven_in!r}, not of {held.tag!r}")
    versions = held.proven_list
    if report.versions:
        told = {item.name: item for item in report.versions}
        versions = [told.pop(item.name, item) for item in versions]
        if told:
            # Of versions that the snapshot does not have any more.
            versions = sorted((*versions, *told.values()), key=lambda item: item.name)
    return msgspec.structs.replace(report, versions=versions, rest_proven_in="", format=FORMAT)
