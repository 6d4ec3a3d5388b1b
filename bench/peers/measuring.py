"""Timing as `glmeval bench` does it, and the same JSON keys.

A repetition lasts 0.12 s or more. It is dirty if other processes used over 6 % of a core meanwhile;
times are of the clean repetitions if there are any.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import sys
import time

import amx

REPETITION_SECONDS_MIN = 0.12
REPETITIONS = (3, 200)
FOREIGN_SHARE_MAX = 0.06
FOREIGN_SECONDS_GRAIN = 0.011
MASK = (1 << 64) - 1


def arguments(description):
    """The arguments that all peers share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, a case")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=0)
    return parser


def start(options):
    """Sets the threads and the seed; returns torch."""
    import torch

    amx.mend()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return torch


class CpuSeconds:
    """CPU seconds that this process and the rest of the machine used so far."""

    def __init__(self):
        times = os.times()
        self.own = times.user + times.system
        try:
            with open("/proc/stat") as stat:
                kinds = [int(word) for word in stat.readline().split()[1:9]]
        except OSError:
            self.machine = None
            return
        busy = kinds[0] + kinds[1] + kinds[2] + kinds[5] + kinds[6] + kinds[7]
        self.machine = busy / os.sysconf("SC_CLK_TCK")

    def foreign_since(self, before):
        """What others used since `before`; 0 where nothing tells."""
        if self.machine is None:
            return 0.0
        return (self.machine - before.machine) - (self.own - before.own)


def measure(options, suite, case, implementation, work, sequences, tokens):
    """Times `work` and prints its row."""
    first = timed(work)
    work()
    one = timed(work)
    repetition = min(REPETITION_SECONDS_MIN, options.seconds / REPETITIONS[0])
    inner = max(1, int(repetition / max(one, 1e-7)))
    count = int(options.seconds / max(one * inner, 1e-7))
    count = min(max(count, REPETITIONS[0]), REPETITIONS[1])
    clean, dirty = [], []
    begin, seconds_max = time.perf_counter(), max(2 * options.seconds, 8 * one)
    while len(clean) < count and (
        len(clean) + len(dirty) < REPETITIONS[0] or time.perf_counter() - begin < seconds_max
    ):
        cpu, start_time = CpuSeconds(), time.perf_counter()
        for _ in range(inner):
            work()
        seconds = time.perf_counter() - start_time
        foreign = CpuSeconds().foreign_since(cpu)
        is_clean = foreign < FOREIGN_SHARE_MAX * seconds + FOREIGN_SECONDS_GRAIN
        (clean if is_clean else dirty).append(seconds * 1e3 / inner)
    times = clean or dirty
    median = statistics.median(times)
    row = {
        "suite": suite,
        "case": case,
        "impl": implementation,
        "version": versions(),
        "device": "cpu",
        "unit": unit(),
        "dtype": options.dtype,
        "threads": options.threads,
        "median_ms": median,
        "min_ms": min(times),
        "max_ms": max(times),
        "first_ms": first * 1e3,
        "n": len(times),
        "clean": len(clean),
        "dirty": len(dirty),
        "seqs_per_s": sequences / median * 1e3,
        "tokens_per_s": tokens / median * 1e3,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    print(json.dumps(row), flush=True)


def timed(work):
    """Seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def versions():
    """`torch 2.8.0, transformers 4.46.3` of what is loaded."""
    known = ("torch", "transformers", "tensorflow", "keras")
    names = [name for name in known if name in sys.modules]
    loaded = [f"{name} {sys.modules[name].__version__}" for name in names]
    return ", ".join([*loaded, f"Python {platform.python_version()}"])


def unit():
    """The instruction set that torch found."""
    torch = sys.modules.get("torch")
    if torch is None:
        return ""
    return torch.backends.cpu.get_cpu_capability()


def peak_rss_bytes():
    """Most memory that this process ever held."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Random:
    """The seeded stream of `glmeval bench` (SplitMix64), so that mixed lengths are the same."""

    def __init__(self, seed, purpose):
        digest = hashlib.sha256(seed.to_bytes(8, "little") + purpose.encode()).digest()
        self.state = int.from_bytes(digest[:8], "little")

    def next(self):
        """The next 64 bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        """Uniform in 0..bound."""
        limit = MASK - MASK % bound
        while True:
            draw = self.next()
            if draw < limit:
                return draw % bound


def mixed_lengths(text, count, seed):
    """The nucleotides of `count` sequences of `glmeval bench --lengths MIN-MAX --random seed`."""
    first, last = (int(number) for number in text.split("-"))
    stream = Random(seed, "bench/lengths")
    return [first + stream.below(last - first + 1) for _ in range(count)]
