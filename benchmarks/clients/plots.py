"""Plots of the comparison; matplotlib is needed here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = {
    "us": "#d62728",
    "bare": "#7f7f7f",
    "vllm": "#1f77b4",
    "guidellm": "#2ca02c",
    "aiperf": "#9467bd",
}


def plot(
    curves: Mapping[tuple[str, int], Sequence[Mapping[str, float]]],
    titles: Mapping[str, str],
    allowed_s: float,
    path: Path,
) -> None:
    """p99 error (ms) against the rate that was really sent, one panel per number of streams.

    Args:
        curves: stages by client and number of streams.
        titles: of the clients.
        allowed_s: where a rate is no longer carried.
        path: a .png.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    streams = sorted({streams for _, streams in curves})
    columns = min(2, len(streams))
    rows = -(-len(streams) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns, 3.3 * rows), sharex=True, sharey=True, squeeze=False
    )
    for axis, count in zip(axes.flat, streams, strict=False):
        for name, title in titles.items():
            ladder = curves.get((name, count))
            if ladder:
                axis.loglog(
                    [stage["rate"] for stage in ladder],
                    [1e3 * stage["p99_s"] for stage in ladder],
                    marker="o",
                    markersize=3,
                    linewidth=1.3,
                    color=COLOURS[name],
                    linestyle="--" if name == "bare" else "-",
                    label=title,
                )
        axis.axhline(1e3 * allowed_s, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(f"{count} streams", fontsize=10)
        axis.grid(visible=True, which="major", linewidth=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("deltas per second, on one core")
    for row in axes:
        row[0].set_ylabel("p99 error, ms")
    for axis in axes.flat[len(streams) :]:
        axis.set_visible(False)
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=3 if columns == 1 else 5,
        fontsize=8,
    )
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
