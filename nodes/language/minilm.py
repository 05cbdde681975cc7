"""Sentence vectors by a small BERT whose matrices are stored as int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from nodegraph import Files, Invalid

from .reading import load_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import BertConfig, BertModel

BATCH = 64
"""Sentences in one call."""
SHORTEST = 3
"""The least tokens that leave one for the text, between those that begin and end it."""


class SentenceEncoder(torch.nn.Module):
    """Texts to unit vectors: the mean of the last states over a text's tokens."""

    def __init__(self, bert: BertModel, tokenizer: Tokenizer, length: int):
        super().__init__()
        self.bert, self.tokenizer = bert, tokenizer
        self.tokenizer.enable_truncation(length)
        self.tokenizer.no_padding()

    @torch.no_grad()
    def encode(self, texts: Sequence[str], report: Callable[[int], None] = lambda done: None) -> torch.Tensor:
        """Float32 [n,D] of length 1, in order. Texts of one length go together, so that nothing is padded."""
        rows = [self.tokenizer.encode(text).ids for text in texts]
        vectors = torch.empty(len(texts), self.bert.config.hidden_size, dtype=torch.float32)
        order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), place))
        done = 0
        while done < len(order):
            length = len(rows[order[done]])
            places = [place for place in order[done : done + BATCH] if len(rows[place]) == length]
            ids = torch.tensor([rows[place] for place in places], device=self.bert.device)
            states = self.bert(ids).last_hidden_state.float().mean(dim=1)
            vectors[places] = torch.nn.functional.normalize(states, dim=1).cpu()
            done += len(places)
            report(done)
        return vectors


def load_encoder(files: Files, device: str, dtype: str) -> SentenceEncoder:
    """Raises Invalid when the files are not those of a sentence encoder, or damaged."""
    from transformers import BertConfig, BertModel  # here, as one thread loads at a time: see the diffusion pack's loading

    config = load_config(files)
    try:
        bert = BertModel(BertConfig(**config["bert"]), add_pooling_layer=False)
        tensors = load_file(files.path("model.safetensors"))
        bert.load_state_dict(dequantised(tensors), strict=True)
        tokenizer = Tokenizer.from_str(files.path("tokenizer.json").read_text(encoding="utf-8"))
        length = config.get("max_length", 256)
        _check(bert.config, length, config.get("embedding_width", bert.config.hidden_size), tokenizer.get_vocab_size())
        encoder = SentenceEncoder(bert, tokenizer, length)
    except Exception as error:  # the libraries raise no narrower one for damaged files
        raise Invalid(f"the sentence encoder cannot be read: {error}", fix="get its files anew") from error
    return encoder.eval().requires_grad_(False).to(device, getattr(torch, dtype))


def _check(config: BertConfig, length: Any, width: Any, tokens: int) -> None:
    """Raises ValueError when a model is not what its files say it is, or its tokens are not those of its embeddings."""
    most = config.max_position_embeddings
    if type(length) is not int or not SHORTEST <= length <= most:
        raise ValueError(f"it says 'max_length' {length!r}, which must be from {SHORTEST} to {most}")
    if width != config.hidden_size:
        raise ValueError(f"it says 'embedding_width' {width!r}, but its vectors are {config.hidden_size} wide")
    if tokens > config.vocab_size:
        raise ValueError(f"its tokenizer knows {tokens} tokens, but its embeddings {config.vocab_size}")


def dequantised(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Float32 tensors of int8 ones [n,m] and their scales [n,groups] (`NAME.scale`); others as they are."""
    plain = {}
    for name, tensor in tensors.items():
        if (scale := tensors.get(f"{name}.scale")) is not None:
            tensor = (tensor.float().unflatten(1, (scale.shape[1], -1)) * scale.float()[..., None]).flatten(1)
        if not name.endswith(".scale"):
            plain[name] = tensor.float()
    return plain
