"""The command `loraplane`: which verbs there are, and how their errors become exit codes.

0 done, 1 refused (verdict or finding), 2 usage, 3 unreachable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from serving.cli import (
    capacity,
    drain,
    fleet,
    load,
    policy,
    processes,
    push,
    replay,
    suite,
    tenants,
    top,
    tune,
    versions,
    views,
)
from serving.cli.errors import CliError
from serving.settings import SettingInvalid

app = typer.Typer(
    name="loraplane",
    help="Serve many tenants' LoRA adapters on one base model; an adapter goes live after its "
    "proof. Every option can also be set as LORAPLANE_<OPTION>.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (processes.up, processes.controller, processes.engine, drain.drain, processes.check),
    "Adapters": (
        push.push,
        versions.ls,
        versions.show,
        versions.report,
        versions.promote,
        versions.rollback,
        versions.retire,
    ),
    "Tuning": (load.load, tune.tune, replay.replay),
    "Fleet": (fleet.events, fleet.engines, fleet.clear, top.top),
}
for panel, verbs in _VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.add_typer(capacity.capacity_app, name="capacity", rich_help_panel="Fleet")
app.add_typer(suite.suite_app, name="suite", rich_help_panel="Adapters")
app.add_typer(tenants.tenant_app, name="tenant", rich_help_panel="Tenants")
app.add_typer(tenants.key_app, name="key", rich_help_panel="Tenants")
app.add_typer(policy.policy_app, name="policy", rich_help_panel="Tenants")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except CliError as exc:
        views.print_error(exc)
        sys.exit(exc.exit_code)
    except SettingInvalid as exc:
        views.err.print(f"error: {exc}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
