"""Writes the files of this folder; see README.md for what is real and what is made up.

    python generate.py SATMUT.tsv.gz

SATMUT is resources/satmut_examples/GRCh38_ALL.tsv of github.com/visze/sequence_cnn_models (MIT licence), gzipped,
with the columns element, chrom, pos_grch38, ref, alt, tags, dna, rna, value, p_value. Needs numpy and h5py.
"""

import csv
import gzip
import sys

import h5py
import numpy as np

LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
# Nucleotides of the longest window (998) on either side of an element.
FLANK = 500
ELEMENTS = {"LDLR": "HepG2", "F9": "HepG2"}


def variants(source):
    """Real effects of two elements; the reference is put together from the measured positions themselves."""
    with gzip.open(source, "rt") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["element"] in ELEMENTS]
    with open("elements.fa", "w") as genome, gzip.GzipFile("variants.tsv.gz", "wb", mtime=0) as table:
        table.write(b"chrom\tpos\tref\talt\telement\tcell\teffect\tp_value\n")
        for element, cell in ELEMENTS.items():
            of_element = [row for row in rows if row["element"] == element]
            first = min(int(row["pos_grch38"]) for row in of_element)
            last = max(int(row["pos_grch38"]) for row in of_element)
            letters = ["N"] * (last - first + 1)
            for row in of_element:
                letters[int(row["pos_grch38"]) - first] = row["ref"]
            print(element, len(letters), "nt,", letters.count("N"), "unknown")
            text = "N" * FLANK + "".join(letters) + "N" * FLANK
            genome.write(f">{element}\n")
            genome.writelines(text[i : i + 60] + "\n" for i in range(0, len(text), 60))
            for row in of_element:
                if row["alt"] in "ACGT":
                    position = int(row["pos_grch38"]) - first + FLANK + 1
                    values = [element, position, row["ref"], row["alt"], element, cell, row["value"], row["p_value"]]
                    table.write(("\t".join(map(str, values)) + "\n").encode())


def sequences(random, count, length):
    return random.integers(0, 4, (count, length))


def plant(random, sequence, motif):
    start = random.integers(0, len(sequence) - len(motif))
    sequence[start : start + len(motif)] = ["ACGT".index(letter) for letter in motif]


def one_hot(sequences):
    return np.eye(4, dtype=np.float32)[sequences]


def splits(count):
    """70/10/20, as the study cuts."""
    train, valid = int(0.7 * count), int(0.1 * count)
    return {"train": slice(0, train), "valid": slice(train, train + valid), "test": slice(train + valid, count)}


def write(name, arrays):
    with h5py.File(name, "w", libver="earliest") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values, compression="gzip", compression_opts=9, shuffle=True, track_times=False)


def eclip(random, count=800):
    """Binding where GCATG stands at least once; channels 4 to 8, RNA structure, are zeros."""
    x, y = sequences(random, count, 200), random.integers(0, 2, count)
    for sequence, bound in zip(x, y):
        for _ in range(3 * bound):
            plant(random, sequence, "TGCATG")
    channels = np.concatenate([one_hot(x), np.zeros((count, 200, 5), np.float32)], axis=2).transpose(0, 2, 1)
    arrays = {}
    for split, rows in splits(count).items():
        arrays[f"X_{split}"] = channels[rows]
        arrays[f"Y_{split}"] = y[rows, None].astype(np.float32)
    write("synthetic_K562_200.h5", arrays)


def insert(random, count=800):
    """Elongation grows with the share of G and C; columns 1 and 2 mean nothing."""
    x = sequences(random, count, 173)
    for sequence in x[: count // 2]:
        places = random.random(173) < 0.4
        sequence[places] = random.integers(1, 3, places.sum())
    x = x[random.permutation(count)]
    share = ((x == 1) | (x == 2)).mean(axis=1)
    y = np.round(np.exp(4 * (share - 0.5) + random.normal(0, 0.2, count)), 2)
    y = np.stack([y, np.round(random.random(count), 1), np.round(random.random(count), 1)], axis=1)
    arrays = {}
    for split, rows in splits(count).items():
        arrays[f"X_{split}"], arrays[f"Y_{split}"] = one_hot(x[rows]), y[rows].astype(np.float32)
    write("synthetic_insert_dataset.h5", arrays)


def splicing(random, count=360):
    """Tissue t includes the exon more often where its own motif stands in the intron; a tenth is not observed."""
    motifs = ["TGCATG", "TCTCT", "GGGAGG", "TTTTTC"]
    x = sequences(random, count, 800)
    delta = random.normal(0, 0.3, (count, 56))
    for sequence, row in zip(x, delta):
        for number, motif in enumerate(motifs):
            if random.random() < 0.4:
                for _ in range(2):
                    plant(random, sequence[:300], motif)
                row[number::4] += 2.0
    y = np.stack([delta, np.repeat(random.normal(0, 1, (count, 1)), 56, axis=1)], axis=2)
    y[random.random((count, 56)) < 0.1, 0] = np.nan
    arrays = {}
    for split, rows in splits(count).items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = one_hot(x[rows]), np.round(y[rows], 1).astype(np.float32)
    write("synthetic_delta_logit.h5", arrays)


if __name__ == "__main__":
    variants(sys.argv[1])
    eclip(np.random.default_rng(6))
    insert(np.random.default_rng(5))
    splicing(np.random.default_rng(4))
