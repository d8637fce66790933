"""The gate page: what the parity gate decided, how long it takes, and whether its proofs hold."""

from __future__ import annotations

from bench.grafana.model import ENGINE, Dashboard, Panel, Query, Row, or_none

_R = "[$__rate_interval]"
_E = '{instance=~"$engine"}'

_NOW = Row(
    "Now",
    (
        Panel(
            "PASS",
            "Evaluations that ended PASS over the page's time.",
            "none",
            (Query('sum(increase(loraplane_gate_verdicts_total{verdict="PASS"}[$__range]))'),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "FAIL",
            "Evaluations that ended FAIL over the page's time: the gate's work, not a fault.",
            "none",
            (Query('sum(increase(loraplane_gate_verdicts_total{verdict="FAIL"}[$__range]))'),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "INCONCLUSIVE",
            "Evaluations that could not tell, over the page's time. Their reports say why.",
            "none",
            (
                Query(
                    'sum(increase(loraplane_gate_verdicts_total{verdict="INCONCLUSIVE"}[$__range]))'
                ),
            ),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Live versions that failed again",
            "Versions in service that failed when the fleet's engine build, base or number type "
            "had changed, over the page's time.",
            "none",
            (Query('sum(increase(loraplane_gate_rechecks_total{verdict="FAIL"}[$__range]))'),),
            kind="stat",
            width=4,
            height=4,
            bad_from=1,
        ),
        Panel(
            "Out of service on an engine",
            "Versions that reachable engines report as failed or quarantined.",
            "none",
            (Query("sum(max by (engine) (loraplane_versions_out_of_service))"),),
            kind="stat",
            width=4,
            height=4,
            bad_from=1,
        ),
        Panel(
            "Unreachable engines",
            "Engines that have not reported in time; what they serve is unknown.",
            "none",
            (Query('max(loraplane_engines{state="unreachable"})'),),
            kind="stat",
            width=4,
            height=4,
            bad_from=1,
        ),
    ),
)

_VERDICTS = Row(
    "Verdicts and versions",
    (
        Panel(
            "Verdicts",
            "Verdicts per hour, as the last hour had them.",
            "none",
            (
                Query(
                    "sum by (verdict) (increase(loraplane_gate_verdicts_total[1h]))", "{{verdict}}"
                ),
                Query(
                    "sum by (verdict) (increase(loraplane_gate_rechecks_total[1h]))",
                    "again: {{verdict}}",
                ),
            ),
        ),
        Panel(
            "Versions by state",
            "All versions of the registry; retired ones stay counted.",
            "none",
            (Query("max by (state) (loraplane_versions)", "{{state}}"),),
            is_stacked=True,
        ),
        Panel(
            "Oldest version on its way",
            "How long the oldest version has been in a state that it should leave by itself. 0: "
            "none is there.",
            "s",
            (Query("max by (state) (loraplane_version_state_seconds)", "{{state}}"),),
        ),
    ),
)

_TIME = Row(
    "Where an evaluation's time goes",
    (
        Panel(
            "Mean seconds by stage",
            "Over the last hour, by stage of the gate; `total` is a whole evaluation. A gap: none "
            "ran.",
            "s",
            (
                Query(
                    "sum by (stage) (increase(loraplane_gate_seconds_sum[1h])) / "
                    "(sum by (stage) (increase(loraplane_gate_seconds_count[1h])) > 0)",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Slow evaluations by stage",
            "95th percentile of each stage over the last hour, from the histogram's bounds.",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, "
                    "sum by (le, stage) (increase(loraplane_gate_seconds_bucket[1h])))",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Duration of whole evaluations",
            "Evaluations by duration.",
            "s",
            (
                Query(
                    "sum by (le) "
                    '(increase(loraplane_gate_seconds_bucket{stage="total"}[$__rate_interval]))',
                    "{{le}}",
                ),
            ),
            kind="heatmap",
        ),
    ),
)

_PROOFS = Row(
    "Whether proofs hold",
    (
        Panel(
            "Probes by outcome",
            "Load probes and scheduled ones since the engines started. failed: it did not answer "
            "as the gate recorded; unanswered: the engine did not answer at all.",
            "none",
            (
                Query(
                    f"sum by (outcome) (loraplane_adapter_probes_total{_E})",
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            "Failed probes by adapter",
            "Since the engines started.",
            "none",
            (
                Query(
                    f"sum by (adapter) (loraplane_adapter_probe_failures_total{_E}) > 0 "
                    f"{or_none('adapter')}",
                    "{{adapter}}",
                ),
            ),
        ),
        Panel(
            "Failed steps and background work",
            "Steps of the controller, and turns of its background work, that ended in an error "
            "nobody expected, in the last hour.",
            "none",
            (
                Query("sum by (step) (increase(loraplane_step_failures_total[1h]))", "{{step}}"),
                Query(
                    "sum by (task) (increase(loraplane_background_failures_total[1h]))",
                    "background: {{task}}",
                ),
            ),
        ),
    ),
)

_FLEET = Row(
    "Fleet",
    (
        Panel(
            "Engines by state",
            "As the controller sees them; unreachable is not absent.",
            "none",
            (Query("max by (state) (loraplane_engines)", "{{state}}"),),
            is_stacked=True,
            width=6,
        ),
        Panel(
            "Snapshot lag",
            "Revisions by which a reachable engine's aliases are behind.",
            "none",
            (Query("max by (engine) (loraplane_snapshot_lag_revisions)", "{{engine}}"),),
            width=6,
        ),
        Panel(
            "Followed revision",
            "The snapshot that each engine follows, as it says itself; -1 before the first.",
            "none",
            (Query(f"loraplane_snapshot_revision{_E}", "{{instance}}"),),
            width=6,
        ),
        Panel(
            "Uploads",
            "Bytes of upload requests per second, refused ones included.",
            "Bps",
            (Query(f"sum(rate(loraplane_upload_bytes_total{_R}))", "uploads"),),
            width=6,
        ),
        Panel(
            "Leaders",
            "Controllers that run the steps: one, whatever their number; and how often one began "
            "to lead in the last hour.",
            "none",
            (
                Query("sum(loraplane_leader)", "leaders"),
                Query("sum(increase(loraplane_leader_transitions_total[1h]))", "changes"),
            ),
            width=6,
        ),
    ),
)

GATE = Dashboard(
    uid="loraplane-gate",
    title="loraplane: gate",
    description="What the parity gate decided, how long it takes, whether its proofs still hold.",
    variables=(ENGINE,),
    rows=(_NOW, _VERDICTS, _TIME, _PROOFS, _FLEET),
)
