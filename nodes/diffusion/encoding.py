"""From prompts to the text states of a CLIP encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from nodegraph import Invalid

from .facts.rules import clip_skip_problem
from .prompts import Token, chunks, common_length, parse

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


@torch.no_grad()
def encode(
    prompts: Sequence[str], tokenizer: CLIPTokenizer, encoder: CLIPTextModel, clip_skip: int = 0, emphasis: bool = True
) -> torch.Tensor:
    """Text states [n, T, D]; T is the encoder's length, or a multiple of it where a prompt is longer.

    All chunks of all prompts are one call of the encoder. A weight w moves a state along the line from the state that an
    empty prompt has in its place: empty + w · (state - empty).
    """
    length = chunk_length(tokenizer, encoder)
    rows = [chunks(weighted_tokens(prompt, tokenizer, emphasis), length - 2) for prompt in prompts]
    flat = [chunk for row in rows for chunk in row]
    weights = chunk_weights(flat, length)
    weighted = bool((weights != 1).any())
    states = hidden_states([*flat, []] if weighted else flat, tokenizer, encoder, length, clip_skip)
    if weighted:
        states, empty = states[:-1], states[-1:]
        factors = weights.to(states)[:, :, None]
        states = torch.where(factors == 1, states, empty + factors * (states - empty))
    return joined(states, [len(row) for row in rows])


def chunk_length(tokenizer: CLIPTokenizer, encoder: CLIPTextModel) -> int:
    """Tokens of one chunk, with the start and the end token."""
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))


def weighted_tokens(prompt: str, tokenizer: CLIPTokenizer, emphasis: bool) -> list[Token]:
    """The prompt's tokens without start and end, each with its weight."""
    pieces = parse(prompt) if emphasis else [(prompt, 1.0)]
    return [(number, weight) for text, weight in pieces for number in tokenizer(text, add_special_tokens=False).input_ids]


def chunk_weights(rows: Sequence[Sequence[Token]], length: int) -> torch.Tensor:
    """Weights [rows, length]; 1 for start, end and padding."""
    weights = torch.ones(len(rows), length, dtype=torch.float32)
    for row, tokens in zip(weights, rows, strict=True):
        row[1 : len(tokens) + 1] = torch.tensor([weight for _, weight in tokens], dtype=torch.float32)
    return weights


def hidden_states(
    rows: Sequence[Sequence[Token]], tokenizer: CLIPTokenizer, encoder: CLIPTextModel, length: int, clip_skip: int
) -> torch.Tensor:
    """The encoder's states [rows, length, D], `clip_skip` layers before the last, after the final norm."""
    layers = encoder.config.num_hidden_layers
    if problem := clip_skip_problem(clip_skip, layers):
        text, fix = problem
        raise Invalid(text, fix=fix, port="clip_skip")
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    attended = torch.zeros_like(ids)
    for row, seen, tokens in zip(ids, attended, rows, strict=True):
        framed = [tokenizer.bos_token_id, *(number for number, _ in tokens), tokenizer.eos_token_id]
        row[: len(framed)] = torch.tensor(framed)
        seen[: len(framed)] = 1
    check_numbers(ids, encoder)
    options: dict[str, Any] = {}
    if getattr(encoder.config, "use_attention_mask", False):
        options["attention_mask"] = attended.to(encoder.device)
    if not clip_skip:
        return encoder(ids.to(encoder.device), **options)[0]
    output = encoder(ids.to(encoder.device), output_hidden_states=True, **options)
    return encoder.final_layer_norm(output.hidden_states[-(clip_skip + 1)])


def check_numbers(ids: torch.Tensor, encoder: CLIPTextModel) -> None:
    """Raises Invalid for numbers of tokens that the encoder does not know."""
    if (most := int(ids.max())) >= (count := encoder.config.vocab_size):
        text = f"the tokenizer gives the token {most}, but the text encoder knows {count} tokens"
        raise Invalid(text, fix="use the tokenizer and the text encoder of one model", port="encoder")


def joined(states: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """States of chunks [chunks, L, D] as those of prompts [n, T, D]; a prompt has `counts` chunks, one after the other."""
    rows = [row.flatten(0, 1) for row in states.split(list(counts))]
    return torch.stack(repeated(rows))


def repeated(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Text states [..., T, D] of different lengths as ones of the same length; see `common_length`."""
    length = common_length(row.shape[-2] for row in rows)
    return [torch.cat([row] * (length // row.shape[-2]), dim=-2) for row in rows]
