"""Runs glmeval and other programs in turn on the same shapes and prints how many times faster it is.

    python bench/compare.py NAME --python PYTHON [--only nt50m] [--ref standalone_hyenadna.py]
    python bench/compare.py NAME --load       two busy programs beside, kept in NAME-loaded
    python bench/compare.py NAME --table      the table of an earlier run again

Each round starts every program of a case once, ours first: A B, A B. A ratio is the median of the
peer's medians over the median of ours. Raw rows are added to `bench/runs/NAME/raw.csv` as they come.
"""

import argparse
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
LENGTHS = "64-1000"

# Case, model, batch, tokens (or mixed lengths), dtypes, peers, most rounds.
BERT = ["encoders.py hf", "encoders.py bare"]
HYENA = ["hyenadna.py reference", "hyenadna.py bare"]
BOTH = ["f32", "bf16"]
CASES = [
    ("nt50m, 32 x 36", "nt50m", 32, 36, BOTH, BERT, 9),
    ("nt500m, 32 x 36", "nt500m", 32, 36, BOTH, BERT, 2),
    ("bertbase, 32 x 42", "bertbase", 32, 42, BOTH, BERT, 9),
    ("hyenadna-tiny, 32 x 202", "hyenadna-tiny-d256", 32, 202, BOTH, HYENA, 9),
    ("hyenadna-tiny, 8 x 1024", "hyenadna-tiny-d256", 8, 1024, BOTH, HYENA, 9),
    ("hyenadna-small, 1 x 32768", "hyenadna-small-32k", 1, 32768, BOTH, HYENA, 9),
    ("hyenadna-medium, 1 x 160000", "hyenadna-medium-160k", 1, 160000, ["f32"], HYENA, 2),
    ("gpn, 32 x 230", "gpn", 32, 230, BOTH, ["gpn.py"], 9),
    ("nt50m, 64 mixed, 64 to 1000 nt", "nt50m", 64, LENGTHS, BOTH, ["encoders.py hf"], 9),
]

# Case, architecture, batch x positions x channels, channels of the first convolution.
STEPS = [
    ("step, NT-2.5B 256 x 41 x 2560", "rep-cnn", "256x41x2560", 196),
    ("step, GPN 64 x 230 x 512", "rep-cnn", "64x230x512", 128),
    ("step, HyenaDNA 64 x 230 x 256", "rep-cnn", "64x230x256", 128),
    ("step, one-hot 128 x 230 x 4", "rep-cnn", "128x230x4", 196),
]
STEP_PEERS = ["keras", "torch"]

COLUMNS = [
    "pair", "round", "side", "load", "suite", "case", "impl", "version", "device", "unit", "dtype",
    "threads", "median_ms", "min_ms", "max_ms", "first_ms", "n", "clean", "dirty", "gflops",
    "seqs_per_s", "tokens_per_s", "share_of_peak", "peak_gflops", "load_ms", "peak_rss_bytes",
    "failure",
]  # fmt: skip
# What a peer whose CPU reports AMX but cannot use it is run with, and how that is told.
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}
QUIET_SHARE_MAX = 0.10


def main():
    # So that busy programs end with this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    name = f"{options.name}-loaded" if options.load else options.name
    folder = ROOT / "bench" / "runs" / name
    if not options.table:
        measure(options, folder)
    text = table(folder / "raw.csv")
    (folder / "table.md").write_text(text)
    print(text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="folder below bench/runs")
    parser.add_argument("--python", default=sys.executable, help="that has peers/requirements.txt")
    parser.add_argument("--glmeval", default=str(ROOT / "target/release/glmeval"))
    parser.add_argument("--models", default=str(ROOT / "target/bench-models"))
    parser.add_argument("--ref", default="", help="the authors' standalone_hyenadna.py")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="a program, case and round")
    parser.add_argument("--only", default="", help="part of a case's name, dtype or peer")
    parser.add_argument("--quiet", type=float, default=20.0, help="longest wait for a quiet machine")
    parser.add_argument("--load", action="store_true", help="two busy programs run beside")
    parser.add_argument("--table", action="store_true", help="only print the table of a run")
    return parser.parse_args()


def measure(options, folder):
    """Runs every pair that is asked for and writes rows."""
    folder.mkdir(parents=True, exist_ok=True)
    make = [options.python, str(HERE / "peers/make_models.py"), options.models]
    subprocess.run(make, check=True)
    busy = []
    try:
        if options.load:
            spin = [sys.executable, "-c", "while True: pass"]
            busy = [subprocess.Popen(spin) for _ in range(2)]
        path = folder / "raw.csv"
        is_new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            if is_new:
                writer.writeheader()
            for case in CASES:
                for dtype in case[4]:
                    run_case(options, case, dtype, lambda row: (writer.writerow(row), file.flush()))
            for step in STEPS:
                run_step(options, step, lambda row: (writer.writerow(row), file.flush()))
    finally:
        for process in busy:
            process.kill()
            process.wait()


def run_case(options, case, dtype, write):
    """Rounds of one case in one dtype."""
    label, model, batch, size, _, peers, rounds_max = case
    peers = [p for p in peers if options.only in f"{label} {dtype} {p}"]
    if not options.ref:
        peers = [peer for peer in peers if "reference" not in peer]
    programs = [("ours", ours(options, model, batch, size, dtype))]
    programs += [("peer", peer_command(options, p, model, batch, size, dtype)) for p in peers]
    if peers:
        alternate(options, label, dtype, programs, min(options.rounds, rounds_max), write)


def run_step(options, step, write):
    """Rounds of one training step: ours in both dtypes beside peers in f32."""
    label, architecture, shape, reduce = step
    peers = [p for p in STEP_PEERS if options.only in f"{label} f32 {p}"]
    if not peers:
        return
    shared = ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    shared += ["--shape", shape, "--reduce", str(reduce)]
    own = [options.glmeval, "bench", "--probe", architecture, *shared, "--format", "json"]
    programs = [("ours", [*own, "--precision", dtype]) for dtype in BOTH]
    other = [options.python, str(HERE / "peers/probes.py"), *shared]
    programs += [("peer", [*other, "--impl", peer]) for peer in peers]
    alternate(options, label, "f32", programs, options.rounds, write)


def alternate(options, label, dtype, programs, rounds, write):
    """Starts every program once a round, and leaves out those that failed."""
    failed = set()
    for number in range(rounds):
        for index, (side, command) in enumerate(programs):
            if index in failed:
                continue
            wait_for_quiet(0 if options.load else options.quiet)
            told = {"pair": label, "round": number, "side": side, "load": int(options.load)}
            rows = start(command)
            for row in rows:
                write(told | {"dtype": dtype} | row)
                say(label, row.get("dtype", dtype), side, row)
            if any("failure" in row for row in rows):
                failed.add(index)


def ours(options, model, batch, size, dtype):
    """The command line of glmeval."""
    length = ["--lengths", size] if isinstance(size, str) else ["--tokens", str(size)]
    return [
        options.glmeval, "bench", "--model", str(pathlib.Path(options.models) / model),
        "--random", "1", "--precision", dtype, *length, "--batch", str(batch),
        "--threads", str(options.threads), "--seconds", str(options.seconds), "--format", "json",
    ]  # fmt: skip


def peer_command(options, peer, model, batch, size, dtype):
    """The command line of a peer."""
    program, *impl = peer.split()
    # Our sequences are drawn with the seed of --random.
    length = ["--lengths", size, "--seed", "1"] if isinstance(size, str) else ["--tokens", str(size)]
    command = [options.python, str(HERE / "peers" / program), "--model", model, *length]
    command += ["--batch", str(batch), "--dtype", dtype, "--threads", str(options.threads)]
    command += ["--seconds", str(options.seconds)]
    command += ["--impl", *impl] if impl else []
    return [*command, "--ref", options.ref] if "reference" in impl else command


def start(command):
    """Runs a program; returns its rows, or one that tells how it failed."""
    ended = subprocess.run(command, capture_output=True, text=True)
    suffix = ""
    if ended.returncode == -signal.SIGILL:
        ended = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | WITHOUT_AMX
        )
        suffix = ", without AMX"
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        what = " ".join(pathlib.Path(word).name for word in command[:2])
        return [{"impl": what, "failure": f"code {ended.returncode}: {last}"}]
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    return [row | {"impl": row["impl"] + suffix} for row in rows]


def wait_for_quiet(seconds_max):
    """Returns once the machine is idle for 0.3 s, or after `seconds_max`."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        before, begin = busy_seconds(), time.monotonic()
        time.sleep(0.3)
        if busy_seconds() - before < QUIET_SHARE_MAX * (time.monotonic() - begin):
            return


def busy_seconds():
    """CPU seconds that the whole machine used so far; 0 where nothing tells."""
    try:
        with open("/proc/stat") as stat:
            kinds = [int(word) for word in stat.readline().split()[1:9]]
    except OSError:
        return 0.0
    return (sum(kinds) - kinds[3] - kinds[4]) / os.sysconf("SC_CLK_TCK")


def say(label, dtype, side, row):
    """Progress, for people."""
    found = row.get("failure") or f"{row['median_ms']:.1f} ms, {row['clean']} of {row['n']} clean"
    print(f"{label} {dtype} {side} {row['impl']}: {found}", file=sys.stderr, flush=True)


def table(path):
    """The table of a run as Markdown, made of its rows alone."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = {}
    for row in rows:
        key = (row["pair"], row["dtype"])
        pairs.setdefault(key, {}).setdefault((row["side"], row["impl"]), []).append(row)
    lines = [
        "| case | dtype | peer | ours ms | peer ms | ratio | ours GFLOP/s | of peak | clean ours / peer "
        "| memory MB ours / peer |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (pair, dtype), programs in pairs.items():
        mine = next((runs for (side, _), runs in programs.items() if side == "ours"), [])
        if pair in [step[0] for step in STEPS] and dtype != "f32":
            # Peers train in f32 alone: that is what our other dtypes stand beside.
            programs = programs | pairs.get((pair, "f32"), {})
            programs = {key: runs for key, runs in programs.items() if key[0] == "peer"}
        for (side, name), runs in programs.items():
            if side == "peer":
                lines.append(line(pair, dtype, name, mine, runs))
        if mine and mine[0]["failure"]:
            lines.append(f"| {pair} | {dtype} | ours: {mine[0]['failure']} ||||||||")
    return "\n".join(lines) + "\n"


def line(pair, dtype, name, mine, runs):
    """One pair of programs."""
    if runs[0]["failure"]:
        return f"| {pair} | {dtype} | {name}: {runs[0]['failure']} ||||||||"
    cells = [pair, dtype, name, middle(mine, "median_ms", 1), middle(runs, "median_ms", 1)]
    own, other = middle(mine, "median_ms"), middle(runs, "median_ms")
    cells.append(f"{float(other) / float(own):.2f}" if own else "")
    cells += [middle(mine, "gflops", 0), middle(mine, "share_of_peak", 2)]
    cells.append(f"{clean(mine)} / {clean(runs)}")
    cells.append(f"{memory(mine)} / {memory(runs)}")
    return "| " + " | ".join(cells) + " |"


def middle(rows, key, digits=6):
    """The median of a column over the rounds."""
    values = [float(row[key]) for row in rows if row[key]]
    return f"{statistics.median(values):.{digits}f}" if values else ""


def clean(rows):
    """Clean repetitions of all rounds together."""
    return sum(int(row["clean"]) for row in rows if row["clean"])


def memory(rows):
    """Most memory of any round."""
    values = [int(row["peak_rss_bytes"]) for row in rows if row["peak_rss_bytes"]]
    return f"{max(values) / 1e6:.0f}" if values else ""


if __name__ == "__main__":
    main()
