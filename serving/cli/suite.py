"""`loraplane suite`: check, import, sample and show suites; store them for a tenant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.errors import NameError_, SuiteInvalid
from adapters.identity import AdapterName, parse_adapter_name, parse_tenant_id
from adapters.parity.suite import (
    DEFAULT_SEGMENT,
    Suite,
    SuiteScan,
    format_suite,
    parse_pool,
    parse_suite,
    scan_suite,
)
from adapters.parity.suite_import import import_bfcl, import_openai_messages, merge_suites
from adapters.parity.suite_sample import FLOOR_PER_SEGMENT, read_traffic, sample_suite
from serving.cli import suite_views, views
from serving.cli.client import ControllerClient, Json
from serving.cli.errors import Refused, RequestRefused, UsageError_
from serving.cli.options import DEFAULT_URL, AsJson, Token, Url, connect, option, read_adapter

suite_app = typer.Typer(
    help="Suites: the cases that the gate asks a version. See docs/suites.md.",
    no_args_is_help=True,
)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A suite: JSON lines.")]
_Out = Annotated[Path, option("-o", "--out", help="The suite to write.")]
_MaxTokens = Annotated[
    int | None,
    option("--max-tokens", help="Longest answer of every case; by the case, if left out.", min=1),
]
_Segment = Annotated[
    str | None, option("--segment", help="Segment of cases that come without one; bfcl: of all.")
]
_Tenant = Annotated[str, option("--tenant", help="Whose suites.")]
Training = Annotated[
    Path | None,
    option("--training", help="Training set (JSON lines): the suite is searched for its cases."),
]


@suite_app.command("check")
def check_suite(file: _File, as_json: AsJson = False) -> None:
    """Check a suite to its end; exit code 1 when it is invalid. Notes are advice alone."""
    scan = scan_suite(read_bytes(file))
    facts = suite_views.check_facts(scan)
    if as_json:
        views.print_json(facts)
    else:
        suite_views.print_errors(file, scan)
        suite_views.print_notes(facts["notes"])
    _refuse_errors(file, scan)
    if not as_json:
        views.out.print(f"{file}: {len(scan.cases)} cases, valid", markup=False)


@suite_app.command("import")
def import_suite(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of one format.")],
    out: _Out,
    format_: Annotated[
        str, option("--format", help="bfcl: leaderboard questions. openai: conversations.")
    ],
    answers: Annotated[
        Path | None,
        option(
            "--answers",
            help="bfcl: folder with the possible answers under the questions' file names "
            "(default: possible_answer beside each).",
        ),
    ] = None,
    segment: _Segment = None,
    max_tokens: _MaxTokens = None,
) -> None:
    """Make a suite of files in another format."""
    if format_ not in {"bfcl", "openai"}:
        raise UsageError_(f"--format is bfcl or openai, not {format_!r}.")
    label = segment or DEFAULT_SEGMENT
    suites = [
        _import_bfcl(file, answers, segment=segment, max_tokens=max_tokens)
        if format_ == "bfcl"
        else _read(file, import_openai_messages, segment=label, max_tokens=max_tokens)
        for file in files
    ]
    try:
        suite = merge_suites(suites)
    except SuiteInvalid as exc:
        raise _refused(out, exc) from exc
    _write(out, suite)
    suite_views.print_notes(suite_views.notes_of(suite))


@suite_app.command("sample")
def sample(
    file: _File,
    out: _Out,
    n_cases: Annotated[int, option("-n", "--cases", help="How many cases to draw.", min=1)],
    floor: Annotated[
        int, option("--floor", help="Cases that every segment gets at least.", min=0)
    ] = FLOOR_PER_SEGMENT,
    seed: Annotated[int, option("--seed", help="Another seed draws other cases.")] = 0,
    is_traffic: Annotated[
        bool,
        option("--traffic", help="FILE holds recorded requests, not a suite: cases without gold."),
    ] = False,
    segment: _Segment = None,
    max_tokens: _MaxTokens = None,
    as_json: AsJson = False,
) -> None:
    """Draw a stratified sample: every segment by its share, and at least the floor."""
    if not is_traffic and (segment or max_tokens):
        raise UsageError_("--segment and --max-tokens are for --traffic; a suite has its own.")
    if is_traffic:
        label = segment or DEFAULT_SEGMENT
        pool = _read(file, read_traffic, segment=label, max_tokens=max_tokens)
    else:
        pool = _read(file, parse_pool)
    drawn = sample_suite(pool, n_cases, floor_per_segment=floor, seed=seed)
    _write(out, drawn.suite, is_quiet=as_json)
    if as_json:
        views.print_json(suite_views.sample_facts(drawn))
    else:
        suite_views.print_sample(drawn)


@suite_app.command("show")
def show_suite(
    name: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_TENANT/NAME", help="A file, or a stored suite (@N: an old one)."
        ),
    ],
    case_id: Annotated[
        str | None, option("--case", help="Show the case of this id, as it is asked.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show a suite: segments, kinds of gold answers, what it was compared with."""
    stored: Json = {}
    if Path(name).is_file():
        suite = _read(Path(name), parse_suite)
    else:
        with connect(url, token) as client:
            stored, suite = _fetch(client, name)
    if case_id is not None:
        cases = [case.to_json() for case in suite.cases if case.id == case_id]
        if not cases:
            raise UsageError_(f"{name} has no case {case_id!r}.")
        views.print_json(cases[0])
        return
    facts = {**suite_views.suite_facts(suite), **stored}
    if as_json:
        views.print_json(facts)
    else:
        suite_views.print_suite(name, facts)


@suite_app.command("push")
def push_suite(
    file: _File,
    tenant: _Tenant,
    name: Annotated[
        str | None, option("--name", help="Its name; the file's stem, if left out.")
    ] = None,
    training: Training = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Store a suite for a tenant's adapters; exit code 1 when it is invalid or contaminated."""
    scan = scan_suite(read_bytes(file))
    if not as_json:
        suite_views.print_errors(file, scan)
    _refuse_errors(file, scan)
    with connect(url, token) as client:
        stored = store_suite(client, tenant, file, name=name, training=training)
    if as_json:
        views.print_json(stored)
        return
    views.out.print(f"{stored['id']}: {stored['n_cases']} cases, {stored['digest']}", markup=False)
    suite_views.print_contamination(stored.get("contamination"))


@suite_app.command("ls")
def list_suites(
    tenant: _Tenant, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """List a tenant's stored suites, every content of each."""
    with connect(url, token) as client:
        rows = views.items_of(client.fetch(f"/v1/tenants/{tenant}/suites"), "suites")
    if as_json:
        views.print_json(rows)
    else:
        suite_views.print_stored(rows)


def store_suite(
    client: ControllerClient,
    tenant: str,
    file: Path,
    *,
    name: str | None = None,
    training: Path | None = None,
) -> Json:
    """Upload a suite, with its training set if given; the suite as it is stored.

    Raises:
        UsageError_: no name can be made of the file's, or a file is missing.
        RequestRefused: invalid or contaminated; what was found is printed first.
    """
    if training is not None and not training.is_file():
        raise UsageError_(f"{training} is no file.", fix="Give the training set as JSON lines.")
    try:
        owner = parse_tenant_id(tenant)
        stored_name = parse_adapter_name(name) if name else _name_of(file)
    except NameError_ as exc:
        raise UsageError_(str(exc), fix="Give the suite a --name.") from exc
    try:
        stored: Json = client.put_suite(owner, stored_name, file, training=training)
    except RequestRefused as exc:
        suite_views.print_refusal(exc)
        raise
    return stored


def _name_of(file: Path) -> AdapterName:
    return parse_adapter_name(file.stem.lower())


def read_bytes(file: Path) -> bytes:
    """The file's content.

    Raises:
        UsageError_: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as exc:
        raise UsageError_(f"{file} cannot be read: {exc.strerror}.", fix="Name a file.") from exc


def _read(file: Path, read: Callable[..., Suite], **options: Any) -> Suite:
    try:
        return read(read_bytes(file), **options)
    except SuiteInvalid as exc:
        raise _refused(file, exc) from exc


def _import_bfcl(file: Path, folder: Path | None, **options: Any) -> Suite:
    """The questions with their possible answers, where there are some; irrelevance has none."""
    answers = (folder or file.parent / "possible_answer") / file.name
    gold = read_bytes(answers) if answers.is_file() else None
    try:
        return import_bfcl(read_bytes(file), gold, **options)
    except SuiteInvalid as exc:
        is_answer = str(exc.fields["field"]).startswith("ground_truth")
        raise _refused(answers if is_answer else file, exc) from exc


def _fetch(client: ControllerClient, name: str) -> tuple[Json, Suite]:
    """A stored suite: the latest content of `acme/cases`, or that of `acme/cases@2`."""
    stem, _, number = name.partition("@")
    tenant, suite = read_adapter(stem)
    path = f"/v1/tenants/{tenant}/suites/{suite}"
    if number:
        rows = views.items_of(client.fetch(f"/v1/tenants/{tenant}/suites"), "suites")
        stored = next((row for row in rows if row["id"] == name), None)
        if stored is None:
            raise Refused(f"There is no {name}.", fix=f"loraplane suite ls --tenant {tenant}")
    else:
        stored = client.fetch(path)
    cases = client.fetch_bytes(f"{path}/cases", number=stored["number"])
    return stored, parse_suite(cases)


def _write(out: Path, suite: Suite, *, is_quiet: bool = False) -> None:
    try:
        out.write_bytes(format_suite(suite))
    except OSError as exc:
        raise UsageError_(f"{out} cannot be written: {exc.strerror}.") from exc
    if not is_quiet:
        views.out.print(f"wrote {out}: {len(suite.cases)} cases", markup=False)


def _refused(file: Path, error: SuiteInvalid) -> Refused:
    fields = error.fields
    return Refused(
        f"{file}, {suite_views.place(fields)}: {fields['problem']}.", fix=str(fields["fix"])
    )


def _refuse_errors(file: Path, scan: SuiteScan) -> None:
    if scan.errors:
        raise Refused(f"{file} is not a valid suite.")
