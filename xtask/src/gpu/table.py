"""Prints rows of ours beside the fastest peer of the same case and number format.

    python table.py RESULTS     reads ours-first.jsonl, peers.jsonl, ours-again.jsonl

A ratio is the peer's median over ours, above 1 where ours is faster. It counts only if both runs of ours agree
within 3 %; others are marked with `~`. Cases that failed have none, and are told below the table.
"""

import json
import pathlib
import sys

AGREEMENT = 0.03
# Peers of products in three parts of tf32 are those with all bits.
PEER_FORMATS = {"tf32x3": "f32"}


def rows(path):
    """Measured rows of a file, by case and number format."""
    found = {}
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        row = json.loads(line)
        if row.get("median_ms"):
            found.setdefault((row["case"], row["dtype"]), []).append(row)
    return found


def failures(path):
    """Cases and number formats of a file that gave wrong numbers or none, with what was said of them."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["case"], row["dtype"]): row["failure"] for row in rows if row.get("failure")}


def main():
    folder = pathlib.Path(sys.argv[1])
    first, again = rows(folder / "ours-first.jsonl"), rows(folder / "ours-again.jsonl")
    first = first or again
    peers = rows(folder / "peers.jsonl")
    failed = failures(folder / "ours-first.jsonl") | failures(folder / "ours-again.jsonl")
    print("| case | dtype | ours ms | TFLOP/s | GB/s | fastest peer | peer ms | ratio |")
    print("|---|---|--:|--:|--:|---|--:|--:|")
    for key, ours in first.items():
        one = ours[0]
        two = again.get(key, ours)[0]
        agrees = abs(one["median_ms"] - two["median_ms"]) <= AGREEMENT * one["median_ms"]
        mine = min(one["median_ms"], two["median_ms"])
        theirs = peers.get((key[0], PEER_FORMATS.get(key[1], key[1])), [])
        peer = min(theirs, key=lambda row: row["median_ms"], default=None)
        if peer is None:
            name, theirs, ratio = "-", "-", "-"
        else:
            name, theirs = peer["impl"], f"{peer['median_ms']:.4f}"
            ratio = f"{'' if agrees else '~'}{peer['median_ms'] / mine:.2f}"
        flops, moved = one.get("tflops") or 0.0, one.get("gb_per_s") or 0.0
        # The speed of wrong numbers is none.
        ratio = "FAILED" if key in failed else ratio
        print(f"| {key[0]} | {key[1]} | {mine:.4f} | {flops:.1f} | {moved:.0f} | {name} | {theirs} | {ratio} |")
    for key, said in failed.items():
        print(f"\n{key[0]} {key[1]} failed: {said}")


if __name__ == "__main__":
    main()
