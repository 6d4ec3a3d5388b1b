"""Times GPN's ConvNet in torch, in the layout that the published module runs.

    python gpn.py --tokens 230 --batch 32 --dtype f32

States are `[B, T, D]`; each convolution runs channels first between two transposes; one-hot input.
"""

from measuring import arguments, measure, start
from sizes import GPN, dilations

parser = arguments(__doc__.split("\n")[0])
parser.add_argument("--model", choices=list(GPN), default="gpn")
options = parser.parse_args()
torch = start(options)
SIZE = GPN[options.model]
WIDTH = SIZE["width"]
DTYPE = torch.bfloat16 if options.dtype == "bf16" else torch.float32


class Block(torch.nn.Module):
    """A dilated convolution and a linear map, each with GELU and layer norm, each added."""

    def __init__(self, dilation):
        super().__init__()
        taps = SIZE["taps"]
        self.convolution = torch.nn.Conv1d(WIDTH, WIDTH, taps, padding="same", dilation=dilation)
        self.linear = torch.nn.Linear(WIDTH, WIDTH)
        self.first_norm, self.second_norm = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.gelu = torch.nn.GELU()

    def forward(self, x):
        near = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.first_norm(self.gelu(near))
        return x + self.second_norm(self.gelu(self.linear(x)))


with torch.inference_mode():
    ids = torch.randint(3, SIZE["vocabulary"], (options.batch, options.tokens))
    model = torch.nn.Sequential(*(Block(dilation) for dilation in dilations(SIZE)))
    model = model.to(DTYPE).eval()
    work = lambda: model(torch.nn.functional.one_hot(ids, WIDTH).to(DTYPE))
    case = f"{options.model}_B{options.batch}_T{options.tokens}"
    measure(options, "forward", case, "bare torch", work, options.batch, ids.numel())
