"""PyTorch on one GPU, on the shapes of `gpu_bench`: one JSON object a line with the same keys.

    python gpu.py                    all suites on cuda:0, about four minutes on an H200
    python gpu.py --only linear      one suite: ceiling, layer_norm, linear, attention, varlen, hyena, convolution, probe
    python gpu.py --smoke            tiny shapes on the CPU: that it runs, not how fast

Random operands, never zeros. Device events around each repetition, median of 100 or as many as the seconds
allow; several sets of operands take turns where one would stay in the cache. Warm-ups are not counted.
"""

import argparse
import json
import math
import statistics
import time

import amx
import torch
import torch.nn.functional as functional

SUITES = ["ceiling", "layer_norm", "linear", "attention", "varlen", "hyena", "convolution", "probe"]
TURN_BYTES = 180 << 20
LENGTHS = [34, 36, 41, 71, 128, 171, 336, 1000, 2048]
HEADS = [(20, 64), (20, 128), (12, 64)]
LINEARS = [
    ("nt500m", 1280, 5120),
    ("nt2b5", 2560, 10240),
    ("hyena", 256, 1024),
    ("gpn", 512, 2048),
]
HYENA = [(2048, 202), (2048, 232), (512, 1000), (512, 1024), (64, 8192), (16, 32768), (3, 160000), (1, 1000000)]
BF16 = torch.bfloat16


class Peers:
    """A device, and rows of what was measured on it."""

    def __init__(self, options):
        self.smoke = options.smoke
        if self.smoke:
            amx.mend()
        self.device = "cpu" if options.smoke else "cuda"
        self.seconds, self.repetitions = options.seconds, 2 if options.smoke else 100
        self.name = "cpu" if options.smoke else torch.cuda.get_device_name(0)
        self.versions = {"torch": torch.__version__, "cuda": torch.version.cuda}

    def extent(self, full, tiny):
        return tiny if self.smoke else full

    def randn(self, *extents, dtype=BF16):
        return torch.randn(*extents, device=self.device, dtype=torch.float32).to(dtype)

    def turns(self, make):
        """A function that hands out several equal sets of operands in turn."""
        first = make()
        held = sum(x.numel() * x.element_size() for x in (first if isinstance(first, tuple) else (first,)))
        count = 1 if self.smoke else max(1, min(4, TURN_BYTES // max(held, 1)))
        sets = [first] + [make() for _ in range(count - 1)]
        state = {"at": 0}

        def take():
            state["at"] = (state["at"] + 1) % len(sets)
            return sets[state["at"]]

        return take

    def once(self, work):
        if self.smoke:
            begin = time.perf_counter()
            work()
            return (time.perf_counter() - begin) * 1e3
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def row(self, case, implementation, work, dtype="bf16", flop=0.0, moved=0.0, **more):
        row = {"suite": "gpu", "case": case, "impl": implementation, "device": self.name, "dtype": dtype}
        try:
            first = self.once(work)
            for _ in range(3):
                work()
            times, begin = [], time.perf_counter()
            while len(times) < self.repetitions and (len(times) < 3 or time.perf_counter() - begin < self.seconds):
                times.append(self.once(work))
        except (RuntimeError, ImportError, AttributeError) as error:
            # A peer that has no kernel for a shape is told, not left out.
            print(json.dumps({**row, "failure": repr(error)[:200]}), flush=True)
            return
        median = statistics.median(times)
        row.update(median_ms=median, min_ms=min(times), first_ms=first, n=len(times))
        row.update(tflops=flop / median / 1e9, gb_per_s=moved / median / 1e6, **self.versions, **more)
        print(json.dumps(row), flush=True)


def ceiling(peers):
    count = peers.extent(1 << 31, 1 << 16)
    x = torch.empty(count, dtype=BF16, device=peers.device).uniform_()
    y = torch.empty_like(x)
    peers.row("ceiling_copy", "torch", lambda: y.copy_(x), moved=4 * count)
    del x, y
    size = peers.extent(8192, 64)
    for dtype, name, tf32 in ((BF16, "bf16", False), (torch.float32, "tf32", True), (torch.float32, "f32", False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        take = peers.turns(lambda: (peers.randn(size, size, dtype=dtype), peers.randn(size, size, dtype=dtype)))
        peers.row(f"ceiling_product_{size}", "torch", lambda: torch.mm(*take()), dtype=name, flop=2 * size**3)
    if not peers.smoke:
        bytes_ = 1 << 28
        pinned = torch.empty(bytes_, dtype=torch.uint8).pin_memory()
        there = torch.empty(bytes_, dtype=torch.uint8, device="cuda")
        peers.row("ceiling_download_pinned", "torch", lambda: pinned.copy_(there, non_blocking=True), "u8", moved=bytes_)
        peers.row("ceiling_upload_pinned", "torch", lambda: there.copy_(pinned, non_blocking=True), "u8", moved=bytes_)


def layer_norm(peers):
    rows = peers.extent(65536, 8)
    for width in (256, 512, 768, 1280, 2560):
        weight = torch.ones(width, device=peers.device)
        for dtype, name in ((torch.float32, "f32"), (BF16, "bf16")):
            take = peers.turns(lambda: (peers.randn(rows, width, dtype=dtype), peers.randn(rows, width, dtype=dtype)))
            scale = weight.to(dtype)

            def work():
                x, branch = take()
                x = x + branch
                return functional.layer_norm(x, (width,), scale, scale)

            each = 4 if name == "f32" else 2
            peers.row(f"add_layer_norm_{rows}x{width}", "torch", work, name, moved=4 * each * rows * width)


def linear(peers):
    for name, narrow, wide in LINEARS:
        for rows in (2048, 8192, 36864):
            rows, narrow, wide = peers.extent(rows, 8), peers.extent(narrow, 8), peers.extent(wide, 8)
            for layer, columns, depth in (("fc1", wide, narrow), ("fc2", narrow, wide)):
                for dtype, said, tf32 in ((BF16, "bf16", False), (torch.float32, "tf32", True), (torch.float32, "f32", False)):
                    torch.backends.cuda.matmul.allow_tf32 = tf32
                    bias = peers.randn(columns, dtype=dtype)
                    take = peers.turns(lambda: (peers.randn(rows, depth, dtype=dtype), peers.randn(columns, depth, dtype=dtype)))
                    case, flop = f"linear_{name}_{layer}_M{rows}", 2.0 * rows * columns * depth
                    peers.row(case, "torch", lambda: functional.linear(*take(), bias), said, flop=flop)
            if not peers.smoke and rows == 8192:
                x, w, b = peers.randn(rows, narrow), peers.randn(wide, narrow), peers.randn(wide)
                flop = 2.0 * rows * narrow * wide
                peers.row(f"gelu_{name}_M{rows}", "torch, linear and gelu", lambda: functional.gelu(functional.linear(x, w, b)), flop=flop)
                fused = lambda: torch._addmm_activation(b, x, w.t(), use_gelu=True)  # noqa: E731
                peers.row(f"gelu_{name}_M{rows}", "torch, fused", fused, flop=flop)
    if not peers.smoke:
        # Which GELU the library's epilogue computes.
        z = torch.linspace(-5, 5, 4096, device="cuda").to(BF16).view(64, 64)
        zero, one = torch.zeros(64, device="cuda", dtype=BF16), torch.eye(64, device="cuda", dtype=BF16)
        out = torch._addmm_activation(zero, z, one, use_gelu=True).float()
        errors = {kind: float((out - functional.gelu(z.float(), approximate=kind)).abs().max()) for kind in ("none", "tanh")}
        print(json.dumps({"suite": "gpu", "case": "gelu_kind", "impl": "torch", **errors}), flush=True)


def attention(peers):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tokens = peers.extent(65536, 64)
    backends = [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION), ("efficient", SDPBackend.EFFICIENT_ATTENTION)]
    for heads, size in HEADS:
        for length in peers.extent(LENGTHS, [8]):
            batch = max(1, tokens // length)
            take = peers.turns(lambda: tuple(peers.randn(batch, heads, length, size) for _ in range(3)))
            flop, moved = 4.0 * batch * heads * length * length * size, 8.0 * batch * heads * length * size
            case = f"attention_T{length}_H{heads}_D{size}"
            for name, backend in peers.extent(backends, [("math", SDPBackend.MATH)]):

                def work():
                    with sdpa_kernel(backend):
                        return functional.scaled_dot_product_attention(*take())

                peers.row(case, f"torch, {name}", work, flop=flop, moved=moved, sequences=batch)


def varlen(peers):
    """Sequences of mixed lengths, uniform from a quarter of the longest."""
    if peers.smoke:
        return
    for longest, heads, size in ((41, 20, 64), (171, 20, 64), (336, 20, 64), (1000, 20, 64), (1000, 20, 128)):
        # The congruence of `gpu_bench`: both programs attend within the same sequences.
        lengths, state, least = [], 1, max(1, longest // 4)
        while sum(lengths) < 65536:
            state = (state * 1664525 + 1013904223) % (1 << 32)
            lengths.append(least + (state >> 8) % (longest - least + 1))
        offsets = torch.tensor([0] + lengths, device="cuda").cumsum(0).to(torch.int32)
        tokens = int(offsets[-1])
        q, k, v = (peers.randn(tokens, heads, size) for _ in range(3))
        flop = sum(4.0 * heads * size * length**2 for length in lengths)
        case, count = f"attention_mixed{longest}_H{heads}_D{size}", len(lengths)

        def packed():
            from torch.nn.attention.varlen import varlen_attn

            return varlen_attn(q, k, v, offsets, offsets, longest, longest)

        padded = peers.randn(3, count, heads, longest, size)
        mask = torch.arange(longest, device="cuda")[None] < torch.tensor(lengths, device="cuda")[:, None]
        mask = mask[:, None, None, :]
        peers.row(case, "torch, varlen", packed, flop=flop, sequences=count)
        work = lambda: functional.scaled_dot_product_attention(*padded, attn_mask=mask)  # noqa: E731
        peers.row(case, "torch, padded and masked", work, flop=flop, sequences=count)


def hyena(peers):
    """Both gates and the long convolution of one layer, spectra kept."""
    width = peers.extent(256, 4)
    for batch, length in peers.extent(HYENA, [(2, 20)]):
        size = 1 << (2 * length - 1).bit_length()
        u, x0, x1 = (peers.randn(batch, width, length, dtype=torch.float32) for _ in range(3))
        skip = peers.randn(width, 1, dtype=torch.float32)
        spectrum = torch.fft.rfft(peers.randn(width, length, dtype=torch.float32) / length, n=size)

        def work():
            v = u * x1
            y = torch.fft.irfft(torch.fft.rfft(v, n=size) * spectrum, n=size)[..., :length]
            return (y + v * skip) * x0

        flop = 5.0 * math.log2(size) * size * batch * width
        moved = 16.0 * batch * width * length
        peers.row(f"hyena_B{batch}_L{length}", "torch.fft", work, "f32", flop=flop, moved=moved)


def convolution(peers):
    for batch, length, inputs, outputs in peers.extent([(256, 41, 196, 196), (64, 230, 128, 128), (128, 230, 4, 196)], [(2, 9, 4, 5)]):
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = tf32
            layer = torch.nn.Conv1d(inputs, outputs, 7, padding=3).to(peers.device)
            x = peers.randn(batch, inputs, length, dtype=torch.float32)
            flop = 2.0 * 7 * batch * length * inputs * outputs
            case = f"conv1d_{batch}x{length}x{inputs}x{outputs}_k7"
            dtype = "tf32" if tf32 else "f32"
            peers.row(case, "torch", lambda: layer(x), dtype, flop=flop)
            dy = peers.randn(batch, outputs, length, dtype=torch.float32)
            for part, wanted in (("input", [True, False, False]), ("weight", [False, True, True])):

                def work():
                    backward = torch.ops.aten.convolution_backward
                    return backward(dy, x, layer.weight, [outputs], [1], [3], [1], False, [0], 1, wanted)

                peers.row(f"{case}_{part}_gradient", "torch", work, dtype, flop=flop)


def probe_network(length, channels):
    """The network of `network_rate`."""
    layers = torch.nn

    class Exponential(layers.Module):
        def forward(self, x):
            return x.exp()

    pooled = length // 5 // 4
    return layers.Sequential(
        layers.BatchNorm1d(channels, eps=1e-3),
        layers.Conv1d(channels, 128, 1),
        layers.Conv1d(128, 196, 7, padding=3),
        layers.BatchNorm1d(196, eps=1e-3),
        Exponential(),
        layers.MaxPool1d(5),
        layers.Dropout(0.2),
        layers.Conv1d(196, 256, 7, padding=3),
        layers.BatchNorm1d(256, eps=1e-3),
        layers.ReLU(),
        layers.MaxPool1d(4),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Linear(256 * pooled, 512),
        layers.BatchNorm1d(512, eps=1e-3),
        layers.ReLU(),
        layers.Dropout(0.5),
        layers.Linear(512, 256),
        layers.BatchNorm1d(256, eps=1e-3),
        layers.ReLU(),
        layers.Dropout(0.5),
        layers.Linear(256, 1),
    )


def probe(peers):
    """A training step: as it is written, and captured in a graph."""
    shapes = [(256, 41, 2560), (64, 230, 512), (128, 230, 4)]
    for rows, length, channels in peers.extent(shapes, [(2, 24, 4)]):
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
            with torch.inference_mode(False), torch.enable_grad():
                network = probe_network(length, channels).to(peers.device)
                optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, capturable=not peers.smoke)
                x = peers.randn(rows, channels, length, dtype=torch.float32)
                targets = peers.randn(rows, 1, dtype=torch.float32)

                def step():
                    optimizer.zero_grad(set_to_none=False)
                    functional.mse_loss(network(x), targets).backward()
                    optimizer.step()

                case, dtype = f"probe_step_B{rows}_L{length}_C{channels}", "tf32" if tf32 else "f32"
                peers.row(case, "torch, eager", step, dtype)
                if not peers.smoke:
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph):
                        step()
                    peers.row(case, "torch, graph", graph.replay, dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", choices=SUITES, action="append")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, a row")
    options = parser.parse_args()
    torch.manual_seed(int.from_bytes(b"glm", "big"))
    peers = Peers(options)
    with torch.inference_mode():
        for suite in options.only or SUITES:
            globals()[suite](peers)


if __name__ == "__main__":
    main()
