"""Times encoders of the BERT family in torch: `transformers`' own, and one by hand.

    python encoders.py --model nt50m --impl hf --tokens 36 --batch 32 --dtype f32

`hf` is what a user of the published weights runs, with fused attention (SDPA) where the installed
transformers has it for the model. `bare` is the least overhead that torch allows by hand: one product
for query, key and value, fused attention, no masks. `--lengths 64-1000` pads sequences of mixed
lengths to the longest and masks the rest, as users of `transformers` do.
"""

from measuring import arguments, measure, mixed_lengths, start
from sizes import ENCODERS

parser = arguments(__doc__.split("\n")[0])
parser.add_argument("--model", choices=["nt50m", "nt500m", "bertbase"], required=True)
parser.add_argument("--impl", choices=["hf", "bare"], default="hf")
parser.add_argument("--lengths", default="", help="MIN-MAX nucleotides, mixed; hf only")
parser.add_argument("--seed", type=int, default=0, help="of mixed lengths")
options = parser.parse_args()
torch = start(options)
SIZE = ENCODERS[options.model]
PAD = 1


class Block(torch.nn.Module):
    """One layer: layer norms before its halves (ESM) or after them (BERT)."""

    def __init__(self, is_post_norm):
        super().__init__()
        width, wide = SIZE["width"], SIZE["feed_forward"]
        self.is_post_norm = is_post_norm
        self.first_norm = torch.nn.LayerNorm(width)
        self.second_norm = torch.nn.LayerNorm(width)
        self.joint = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.up = torch.nn.Linear(width, wide)
        self.down = torch.nn.Linear(wide, width)

    def attend(self, x):
        batch, tokens, width = x.shape
        heads = SIZE["heads"]
        parts = self.joint(x).view(batch, tokens, 3, heads, width // heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def feed(self, x):
        return self.down(torch.nn.functional.gelu(self.up(x)))

    def forward(self, x):
        if self.is_post_norm:
            x = self.first_norm(x + self.attend(x))
            return self.second_norm(x + self.feed(x))
        x = x + self.attend(self.first_norm(x))
        return x + self.feed(self.second_norm(x))


class Bare(torch.nn.Module):
    """Embedding, blocks, layer norm."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(SIZE["vocabulary"], SIZE["width"])
        self.positions = torch.nn.Embedding(1002, SIZE["width"])
        is_post_norm = options.model == "bertbase"
        self.blocks = torch.nn.Sequential(*(Block(is_post_norm) for _ in range(SIZE["layers"])))
        self.norm = torch.nn.LayerNorm(SIZE["width"])

    def forward(self, ids):
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.norm(self.blocks(x))


def published():
    """The model of `transformers` with random weights, and the attention it runs."""
    from transformers import BertConfig, BertModel, EsmConfig, EsmModel

    shared = dict(
        vocab_size=SIZE["vocabulary"],
        hidden_size=SIZE["width"],
        num_hidden_layers=SIZE["layers"],
        num_attention_heads=SIZE["heads"],
        intermediate_size=SIZE["feed_forward"],
        layer_norm_eps=1e-12,
    )
    if options.model == "bertbase":
        kind, config = BertModel, BertConfig(**shared)
    else:
        esm = dict(max_position_embeddings=1002, pad_token_id=PAD, mask_token_id=2)
        esm |= dict(position_embedding_type="absolute", token_dropout=False)
        kind, config = EsmModel, EsmConfig(**shared, **esm, emb_layer_norm_before=False)
    # Not every version has fused attention for every model.
    attention = "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
    config._attn_implementation = attention
    return kind(config, add_pooling_layer=False), attention


def inputs():
    """Ids, mask and the tokens that count."""
    if not options.lengths:
        ids = torch.randint(5, 4100, (options.batch, options.tokens))
        return ids, torch.ones_like(ids), ids.numel()
    lengths = mixed_lengths(options.lengths, options.batch, options.seed)
    if options.model == "bertbase":
        counts = [max(length - 5, 0) + 2 for length in lengths]
    else:
        counts = [1 + length // 6 + length % 6 for length in lengths]
    ids = torch.full((options.batch, max(counts)), PAD)
    for row, count in enumerate(counts):
        ids[row, :count] = torch.randint(5, 4100, (count,))
    mask = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]
    return ids, mask.long(), sum(counts)


with torch.inference_mode():
    ids, mask, tokens = inputs()
    label = f"L{options.lengths}" if options.lengths else f"T{options.tokens}"
    if options.impl == "hf":
        model, attention = published()
        name = f"transformers, {attention}"
    else:
        if options.lengths:
            parser.error("--lengths: the bare encoder has no mask; use --impl hf")
        model, name = Bare(), "bare torch"
    model = model.to(torch.bfloat16 if options.dtype == "bf16" else torch.float32).eval()
    if options.impl == "hf":
        work = lambda: model(input_ids=ids, attention_mask=mask).last_hidden_state
    else:
        work = lambda: model(ids)
    case = f"{options.model}_B{options.batch}_{label}"
    measure(options, "forward", case, name, work, options.batch, tokens)
