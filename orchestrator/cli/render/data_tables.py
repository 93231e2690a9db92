"""Text tables that describe a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_BAR_WIDTH = 40
_MANY_SKIPPED = 20


def print_description(headline: str, description: dict[str, Any], bins: str) -> None:
    """Print a description from ``agr_core.data.stats.stats.describe``, with ages in the bins of a scheme."""
    from orchestrator.cli.render.terminal import Terminal

    console = Terminal(highlight=False)
    console.print(headline, soft_wrap=True)
    if age := description["age"]:
        console.print(f"ages {age['min']:g} to {age['max']:g} years, mean {age['mean']:.1f}")
    lacking = [f"{label} {count:,}" for label, count in description["unknown"].items() if count]
    if lacking:
        console.print(f"images without a label: {', '.join(lacking)}")
    for title, counts in (
        (f"age ({bins})", description["bins"]),
        ("gender", description["gender"]),
        ("race", description["race"]),
        ("partition", description["partition"]),
    ):
        if any(counts.values()):
            console.print(_counts_table(title, counts))
    if crop := description.get("crop"):
        faces, aligned = crop["faces"], ", eyes level" if crop.get("align") else ""
        console.print(
            f"cropped by {crop['version']}, margin {crop['margin']:g}{aligned}: {faces['one']:,} images with one face, "
            f"{faces['several']:,} with several (the largest was taken), {faces['none']:,} without (skipped)",
            soft_wrap=True,
        )
        for entry in crop["several"]:
            console.print(f"  {entry['file']}: {entry['faces']} faces", soft_wrap=True)
    if attributes := description["attributes"]:
        console.print(_counts_table("attribute", attributes, total=description["images"]))
    skipped = description["skipped"]
    console.print(f"{len(skipped):,} files skipped{':' if skipped else ''}")
    for line in _skipped_lines(skipped):
        console.print(f"  {line}", soft_wrap=True)


def _skipped_lines(skipped: list[dict[str, str]]) -> list[str]:
    """Return a line for each skipped file; files that share a frequent reason are summarised in one line."""
    by_reason: dict[str, list[str]] = {}
    for entry in skipped:
        by_reason.setdefault(entry["reason"], []).append(entry["file"])
    many = {reason: files for reason, files in by_reason.items() if len(files) > _MANY_SKIPPED}
    return [
        f"{len(files):,} files, {files[0]} and others that --json names: {reason}" for reason, files in many.items()
    ] + [f"{entry['file']}: {entry['reason']}" for entry in skipped if entry["reason"] not in many]


def _counts_table(title: str, counts: dict[str, int], *, total: int | None = None) -> Table:
    """Build a table of counts and their shares of ``total``; default: of their sum."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(title, min_width=14)
    table.add_column("images", justify="right", min_width=8)
    table.add_column("share", justify="right", min_width=7)
    table.add_column("")
    total = sum(counts.values()) if total is None else total
    most = max(counts.values(), default=0)
    for name, count in counts.items():
        share = f"{count / total:.1%}" if total else ""
        table.add_row(name, f"{count:,}", share, "█" * round(_BAR_WIDTH * count / most) if most else "")
    return table
