"""Writes folders with config and vocabulary, all that `glmeval bench --random` needs.

    python make_models.py FOLDER

Weights are drawn by whoever runs them, so nothing is fetched and nothing large is written.
"""

import itertools
import json
import pathlib
import sys

from sizes import ENCODERS, GPN, HYENADNA


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, size in ENCODERS.items():
        write(folder / name, ENCODER_FORMS.get(name, nucleotide_transformer)(size))
    for name, size in HYENADNA.items():
        write(folder / name, hyenadna(size))
    for name, size in GPN.items():
        write(folder / name, gpn(size))


def write(folder, files):
    """Writes texts as they are and everything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text)


def k_mers(length, letters):
    return ["".join(word) for word in itertools.product(letters, repeat=length)]


def encoder(size):
    """Keys that all encoders share."""
    return {
        "num_hidden_layers": size["layers"],
        "hidden_size": size["width"],
        "num_attention_heads": size["heads"],
        "intermediate_size": size["feed_forward"],
        "vocab_size": size["vocabulary"],
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def nucleotide_transformer(size):
    """ESM form: learned positions."""
    config = encoder(size) | {
        "architectures": ["EsmForMaskedLM"],
        "model_type": "esm",
        "max_position_embeddings": 1002,
        "position_embedding_type": "absolute",
        "emb_layer_norm_before": False,
        "token_dropout": False,
        "tie_word_embeddings": False,
        "pad_token_id": 1,
        "mask_token_id": 2,
    }
    words = ["<unk>", "<pad>", "<mask>", "<cls>", *k_mers(6, "ATCG"), *"ATCGN"]
    return {"config.json": config, "vocab.txt": "\n".join([*words, "<eos>", "<bos>"])}


def nucleotide_transformer_v2(size):
    """Rotary positions, gated feed-forward without biases."""
    files = nucleotide_transformer(size)
    files["config.json"] |= {
        "position_embedding_type": "rotary",
        "max_position_embeddings": 2050,
        "add_bias_fnn": False,
        "auto_map": {"AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    }
    del files["config.json"]["model_type"]
    return files


def dnabert(size):
    """BERT over overlapping 6-mers."""
    config = encoder(size) | {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *k_mers(6, "ATCG")]
    return {"config.json": config, "vocab.txt": "\n".join(words)}


def dnabert2(size):
    """BERT with ALiBi and gated feed-forward; its pieces are all words of up to five letters."""
    config = encoder(size) | {
        "architectures": ["BertForMaskedLM"],
        "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
        "alibi_starting_size": 512,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
    }
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    pieces = [word for length in range(2, 6) for word in k_mers(length, "ACGT")]
    merges = [f"{word[:-1]} {word[-1]}" for word in pieces]
    tokenizer = definition(special, [*special, *"ACGT", *pieces], merges, "[UNK]")
    ends = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")]
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    names = {name: {"id": name, "ids": [special.index(name)], "tokens": [name]} for name in special}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [ends[0], sequence, ends[1]],
        "pair": [ends[0], sequence, ends[1], {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: names[name] for name in ("[CLS]", "[SEP]")},
    }
    return {"config.json": config, "tokenizer.json": tokenizer}


def hyenadna(size):
    """The flat config of the Hub's `-hf` repositories; the tokenizer has no file."""
    config = {
        "architectures": ["HyenaDNAForCausalLM"],
        "model_type": "hyenadna",
        "n_layer": size["layers"],
        "d_model": size["width"],
        "d_inner": 4 * size["width"],
        "max_seq_len": size["positions"],
        "vocab_size": 12,
        "pad_vocab_size_multiple": 8,
        "pad_token_id": 4,
        "hyena_order": 2,
        "short_filter_order": 3,
        "filter_order": 64,
        "emb_dim": 5,
        "num_inner_mlps": 2,
        "activation_freq": 10,
        "train_freq": True,
        "use_bias": True,
        "layer_norm_epsilon": 1e-05,
        "initializer_range": 0.02,
        "embed_dropout": 0.1,
        "hyena_dropout": 0.0,
        "hyena_filter_dropout": 0.0,
        "tie_word_embeddings": False,
    }
    return {"config.json": config}


def gpn(size):
    """The ConvNet of GPN's first form."""
    config = {
        "architectures": ["ConvNetForMaskedLM"],
        "model_type": "ConvNet",
        "n_layers": size["layers"],
        "hidden_size": size["width"],
        "kernel_size": size["taps"],
        "dilation_double_every": 1,
        "dilation_max": size["dilation_max"],
        "dilation_cycle": size["cycle"],
        "initializer_range": 0.02,
        "vocab_size": size["vocabulary"],
    }
    special = ["[PAD]", "[MASK]", "[UNK]"]
    tokenizer = definition(special, [*special, *"acgt"], [], "[UNK]")
    tokenizer["normalizer"] = {"type": "Lowercase"}
    return {"config.json": config, "tokenizer.json": tokenizer}


def definition(special, words, merges, unknown):
    """A `tokenizer.json` of byte-pair pieces."""
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    added = [{"id": i, "content": name, "special": True} | flags for i, name in enumerate(special)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {word: index for index, word in enumerate(words)},
            "merges": merges,
        },
    }


ENCODER_FORMS = {
    "nt-v2-50m": nucleotide_transformer_v2,
    "bertbase": dnabert,
    "dnabert2": dnabert2,
}

if __name__ == "__main__":
    main()
