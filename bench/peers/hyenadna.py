"""Times HyenaDNA in torch: the authors' own file, and a forward pass by hand.

    python hyenadna.py --model hyenadna-tiny-d256 --impl bare --tokens 202 --batch 32
    python hyenadna.py --model … --impl reference --ref standalone_hyenadna.py

`reference` is the authors' single-file model as users run it: the filter is made and transformed in
every call; bf16 runs it under autocast. `bare` computes the spectra once and keeps them, the most a
torch user can do by hand; its transforms stay f32, as torch has none in bf16 on CPUs.
"""

import importlib.util
import sys
import types

from measuring import arguments, measure, start
from sizes import HYENADNA

parser = arguments(__doc__.split("\n")[0])
parser.add_argument("--model", choices=list(HYENADNA), required=True)
parser.add_argument("--impl", choices=["reference", "bare"], default="bare")
parser.add_argument("--ref", default="", help="path of the authors' standalone_hyenadna.py")
options = parser.parse_args()
torch = start(options)
SIZE = HYENADNA[options.model]
WIDTH, LENGTH = SIZE["width"], options.tokens
DTYPE = torch.bfloat16 if options.dtype == "bf16" else torch.float32


class Block(torch.nn.Module):
    """One Hyena operator of order 2 and a feed-forward half."""

    def __init__(self):
        super().__init__()
        self.first_norm = torch.nn.LayerNorm(WIDTH)
        self.second_norm = torch.nn.LayerNorm(WIDTH)
        self.inside = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)
        self.short = torch.nn.Conv1d(3 * WIDTH, 3 * WIDTH, 3, padding=2, groups=3 * WIDTH)
        self.skip = torch.nn.Parameter(torch.randn(WIDTH, 1))
        filters = torch.randn(WIDTH, LENGTH) / LENGTH
        self.spectra = torch.fft.rfft(filters, n=2 * LENGTH)

    def mix(self, x):
        gates = self.short(self.inside(x).transpose(1, 2))[..., :LENGTH]
        last, first, value = gates.split(WIDTH, 1)
        value = value * first
        spectrum = torch.fft.rfft(value.float(), n=2 * LENGTH) * self.spectra
        long = torch.fft.irfft(spectrum, n=2 * LENGTH)[..., :LENGTH].to(value.dtype)
        return self.out(((long + value * self.skip) * last).transpose(1, 2))

    def forward(self, x):
        x = x + self.mix(self.first_norm(x))
        wide = torch.nn.functional.gelu(self.up(self.second_norm(x)), approximate="tanh")
        return x + self.down(wide)


class Bare(torch.nn.Module):
    """Embedding, blocks, layer norm."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(16, WIDTH)
        self.blocks = torch.nn.Sequential(*(Block() for _ in range(SIZE["layers"])))
        self.norm = torch.nn.LayerNorm(WIDTH)

    def forward(self, ids):
        return self.norm(self.blocks(self.words(ids)))


def stand_in(name, **attributes):
    """Puts an empty module in place of one that inference does not need and that is not there."""
    try:
        if importlib.util.find_spec(name) is not None:
            return
    except (ImportError, ValueError):
        pass
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


class NoDepth(torch.nn.Identity):
    """Stochastic depth does nothing at inference."""

    def __init__(self, *_, **__):
        super().__init__()


def reference():
    """The authors' model with the published settings and random weights."""
    # transformers asks whether torchvision is there: it is to find out before the stand-ins.
    import transformers.tokenization_utils  # noqa: F401

    stand_in("torchvision")
    stand_in("torchvision.ops", StochasticDepth=NoDepth)
    spec = importlib.util.spec_from_file_location("standalone_hyenadna", options.ref)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    mixer = dict(emb_dim=5, filter_order=64, l_max=SIZE["positions"], modulate=True, w=10)
    mixer |= dict(lr=6e-4, wd=0.0, lr_pos_emb=0.0)
    return module.HyenaDNAModel(
        d_model=WIDTH,
        n_layer=SIZE["layers"],
        d_inner=4 * WIDTH,
        vocab_size=12,
        pad_vocab_size_multiple=8,
        residual_in_fp32=True,
        layer=mixer,
        use_head=False,
    )


with torch.inference_mode():
    ids = torch.randint(7, 11, (options.batch, LENGTH))
    if options.impl == "reference":
        if not options.ref:
            parser.error("--impl reference needs --ref, the authors' standalone_hyenadna.py")
        model, name = reference().eval(), "authors' file"
        if options.dtype == "bf16":
            name += ", autocast"

        def work():
            with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bf16"):
                return model(ids)
    else:
        # Spectra are plain attributes, so that they stay complex f32.
        model, name = Bare().to(DTYPE).eval(), "bare torch, spectra kept"
        work = lambda: model(ids)
    case = f"{options.model}_B{options.batch}_T{LENGTH}"
    measure(options, "forward", case, name, work, options.batch, options.batch * LENGTH)
