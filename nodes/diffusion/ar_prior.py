"""The autoregressive prior of unCLIP (arXiv:2204.06125, section 2.2): an image embedding as tokens, predicted one by one.

An embedding is reduced by PCA to `codes` numbers, greatest variance first, and each number is quantised to one of `levels`
values. A causal transformer reads the caption's states, the caption's embedding and a token for the wanted dot product of the
two embeddings, and predicts the numbers in order. The folder `ar_prior/` of a model holds `config.json` (the arguments of
`ArPrior`, and `_class_name`) and `diffusion_pytorch_model.safetensors`, like any model of diffusers.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, GPT2Config, GPT2Model

LEAST_TEMPERATURE = 1e-30
"""Below, logits divided by it are beyond what float32 holds."""


class ArPrior(ModelMixin, ConfigMixin):
    """See the module. Embeddings are [n,embedding_dim], caption states [n,num_embeddings,embedding_dim]."""

    @register_to_config
    def __init__(
        self,
        embedding_dim: int,
        num_embeddings: int,
        codes: int,
        levels: int,
        similarities: int = 8,
        width: int = 128,
        num_layers: int = 4,
        num_attention_heads: int = 4,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding_dim))
        self.register_buffer("components", torch.eye(codes, embedding_dim))  # orthonormal rows
        self.register_buffer("centres", torch.linspace(-1, 1, levels).repeat(codes, 1))  # ascending in each row
        self.register_buffer("similarity_bounds", torch.linspace(0, 1, similarities - 1))  # of the dot product, ascending
        self.states_in = nn.Linear(embedding_dim, width)
        self.text_in = nn.Linear(embedding_dim, width)
        self.similarity_in = nn.Embedding(similarities, width)
        self.code_in = nn.Embedding(codes * levels, width)
        config = GPT2Config(
            vocab_size=1,
            bos_token_id=0,
            eos_token_id=0,
            n_positions=num_embeddings + 1 + codes,
            n_embd=width,
            n_layer=num_layers,
            n_head=num_attention_heads,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        )
        self.transformer = GPT2Model(config)
        self.transformer.wte = nn.Identity()  # everything comes in as vectors
        self.heads = nn.Parameter(torch.randn(codes, width, levels) * width**-0.5)

    @torch.no_grad()
    def fit(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        """Set PCA, levels (quantiles) and the bounds of dot products from embeddings of pairs, each [n,embedding_dim]."""
        mean = images.mean(dim=0)
        _, _, directions = torch.linalg.svd(images - mean, full_matrices=False)
        self.mean.copy_(mean)
        self.components.copy_(directions[: self.config.codes])
        ranks = (torch.arange(self.config.levels, device=images.device) + 0.5) / self.config.levels
        self.centres.copy_(torch.quantile((images - mean) @ self.components.T, ranks, dim=0).T)
        shares = torch.arange(1, self.config.similarities, device=images.device) / self.config.similarities
        self.similarity_bounds.copy_(torch.quantile((images * texts).sum(dim=1), shares))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings as codes, int64 [n,codes]: the nearest values."""
        numbers = (images - self.mean) @ self.components.T
        bounds = (self.centres[:, 1:] + self.centres[:, :-1]) / 2
        return torch.searchsorted(bounds.contiguous(), numbers.T.contiguous()).T

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [n,codes] as embeddings."""
        numbers = torch.gather(self.centres, 1, codes.T).T
        return self.mean + numbers @ self.components

    def similarity(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """The similarity tokens, int64 [n], of pairs of embeddings."""
        return torch.bucketize((images * texts).sum(dim=1), self.similarity_bounds)

    def prefix(self, texts: torch.Tensor, states: torch.Tensor, similarity: torch.Tensor) -> torch.Tensor:
        """What stands before the first code, [n,num_embeddings+2,width]."""
        return torch.cat([self.states_in(states), self.text_in(texts)[:, None], self.similarity_in(similarity)[:, None]], dim=1)

    def forward(
        self, texts: torch.Tensor, states: torch.Tensor, attended: torch.Tensor | None, similarity: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """Logits [n,codes,levels] of every code given those before it, for training; `attended` is bool [n,num_embeddings]."""
        places = torch.arange(self.config.codes - 1, device=codes.device) * self.config.levels
        inputs = torch.cat([self.prefix(texts, states, similarity), self.code_in(codes[:, :-1] + places)], dim=1)
        mask = self._mask(attended, inputs.shape[1])
        hidden = self.transformer(inputs_embeds=inputs, attention_mask=mask).last_hidden_state[:, -self.config.codes :]
        return torch.einsum("nkw,kwl->nkl", hidden, self.heads)

    @torch.no_grad()
    def sample(
        self,
        texts: torch.Tensor,
        states: torch.Tensor,
        attended: torch.Tensor | None,
        generators: list[torch.Generator],
        similarity: int,
        guidance: float,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """Codes [n,codes], one after the other, each row drawn from its own generator on the CPU.

        With 2n captions the first n are unconditional, and their logits are steered away from.
        """
        count = len(generators)
        wanted = torch.full((len(texts),), similarity, device=texts.device)
        inputs, cache = self.prefix(texts, states, wanted), DynamicCache()
        drawn: list[torch.Tensor] = []
        for place in range(self.config.codes):
            mask = self._mask(attended, self.config.num_embeddings + 2 + place)
            output = self.transformer(inputs_embeds=inputs, attention_mask=mask, past_key_values=cache, use_cache=True)
            logits = output.last_hidden_state[:, -1] @ self.heads[place]
            if len(texts) == 2 * count:
                unconditional, conditional = logits.chunk(2)
                logits = unconditional + guidance * (conditional - unconditional)
            drawn.append(_draw(logits, generators, temperature))
            following = self.code_in(drawn[-1] + place * self.config.levels)[:, None]
            inputs = torch.cat([following] * (len(texts) // count))
        return torch.stack(drawn, dim=1)

    def _mask(self, attended: torch.Tensor | None, length: int) -> torch.Tensor | None:
        return None if attended is None else functional.pad(attended.long(), (0, length - attended.shape[1]), value=1)


def _draw(logits: torch.Tensor, generators: list[torch.Generator], temperature: float) -> torch.Tensor:
    """One choice [n] for each row of logits; at temperature 0, or next to it, the likeliest."""
    if temperature < LEAST_TEMPERATURE:
        return logits.argmax(dim=1)
    shares = (logits.float() / temperature).softmax(dim=1).cpu()
    chosen = [torch.multinomial(row, 1, generator=generator) for row, generator in zip(shares, generators, strict=True)]
    return torch.cat(chosen).to(logits.device)
