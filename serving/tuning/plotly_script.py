"""plotly's script as text, for pages that need no network; and what stands where there is none.

vLLM's image, in which engines run, has no plotly, and a figure is no reason to carry it there.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

NO_PLOTS = "No plots: the package plotly is not installed where this page was made."


def plotly_script() -> str:
    """The script; empty where plotly is not installed."""
    try:
        place = distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    except PackageNotFoundError:
        return ""
    return Path(str(place)).read_text(encoding="utf-8")


def scripts(plotly: str, data: str) -> str:
    """The page's script elements: `data` is JSON of the plots, safe within a script."""
    if not plotly:
        return f"<p>{NO_PLOTS}</p>"
    return f"""<script>{plotly}</script>
<script>
const plots = {data};
plots.forEach((plot, index) => Plotly.newPlot(`plot-${{index}}`, plot.data, plot.layout,
  {{displaylogo: false, responsive: true}}));
</script>"""
