"""A report: one line per claim, with its effect in each block."""

from pathlib import Path

from pytest_rllm.reports.session_report import SessionReport


def write(report: SessionReport, path: Path) -> None:
    """Write what a plot needs."""
    lines = [f"decision {report.decision.word if report.decision else 'none'}"]
    for row in report.rows:
        for judgement in row.judgements:
            for judged in judgement.verdicts:
                levels = [block.levels[judged.metric_slug] for block in judgement.blocks]
                lines.append(f"{row.title} {judged.key} {judged.verdict} {len(levels)} blocks")
    path.write_text("\n".join(lines) + "\n")
