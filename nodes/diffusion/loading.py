"""Parts of a model folder in the diffusers layout, each read by itself: configurations, safetensors, nothing else.

Each `load_…` is a loader for `run.use`. The class of a part is the one its own configuration names, if it is of the right
kind; a pickle is never opened and code from a model folder is never run.

diffusers and transformers are first imported within loaders, of which one runs at a time: each puts another module in its place while
it is imported, and `import` gives whoever asks meanwhile the first one, which has nothing in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nodegraph import Files, Invalid

from .facts.configurations import network_of
from .facts.layouts import (
    CONFIGS,
    config_path,
    denoiser_part,
    scheduler_part,
    vae_part,
    vocabulary_problem,
    weights_problem,
    weights_variants,
)
from .facts.rules import TEXT_ENCODER, encoder_problem
from .late import defer_scipy_stats

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from .noisy_classifier import NoisyClassifier
    from .pixelspace import PixelSpace

TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_AT_LIMITS = {
    "can't start new thread": "let the process have more threads: see ulimit -u and -v, and the limits of its container",
    "Too many open files": "let the process open more files: see ulimit -n",
}
"""What is to be done where it is not the files of the model that are in the way, by words of the first error."""


def read_configs(files: Files, device: str, dtype: str) -> dict[str, Mapping[str, Any]]:
    """Configurations by their paths in the model."""
    return {path: _read_json(files, path) for path in files}


def load_unet(files: Files, device: str, dtype: str) -> UNet2DConditionModel:
    return load_part(files, denoiser_part(files) or "unet", device, dtype)


def load_vae(files: Files, device: str, dtype: str) -> AutoencoderKL | PixelSpace:
    """Without files, the pixels themselves are the latents."""
    if not list(files):
        import torch

        from .pixelspace import PixelSpace

        return PixelSpace().to(device, getattr(torch, dtype))
    vae = load_part(files, vae_part(files) or "vae", device, dtype)
    if is_movq(vae):  # its pipelines never scale, whatever the configuration says
        vae.register_to_config(scaling_factor=1.0)
    return vae


def is_movq(vae: Any) -> bool:
    """Whether an autoencoder is Kandinsky's MoVQ (arXiv:2209.09002): a VQModel with spatially modulated norms."""
    return type(vae).__name__ == "VQModel" and vae.config.norm_type == "spatial"


def load_text_encoder(files: Files, device: str, dtype: str) -> CLIPTextModel:
    """Raises Invalid for an encoder that is not CLIP's."""
    return load_encoder(files, "text_encoder", TEXT_ENCODER, device, dtype)


def load_encoder(files: Files, part: str, network: str, device: str, dtype: str) -> Any:
    """A network of transformers by the name of its folder. Raises Invalid where its configuration names another class."""
    import transformers

    if problem := encoder_problem({"network": network_of(read_config(files, part))}, network):
        raise Invalid(problem[0], fix=problem[1], port="encoder")
    return load_weights(files, part, getattr(transformers, network), "model", device, dtype)


def load_tokenizer(files: Files, device: str, dtype: str) -> CLIPTokenizer:
    import transformers

    part = next((part for part in ("prior_tokenizer", "tokenizer") if f"{part}/{CONFIGS[part]}" in files), "tokenizer")
    name = read_config(files, part).get("tokenizer_class", "CLIPTokenizer")
    if name not in TOKENIZERS:
        raise Invalid(f"the tokenizer of the model is a {name}; this pack drives {', '.join(TOKENIZERS)}")
    if problem := vocabulary_problem(part, files):
        raise Invalid(problem[0], fix=problem[1])
    with gathered(files, part) as folder, readable(f"the model's {part}", str(folder), part):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    lacking = [name for name in ("bos_token", "eos_token", "pad_token") if getattr(tokenizer, name) is None]
    if not isinstance(tokenizer.model_max_length, int | float) or tokenizer.model_max_length < 3:
        lacking.append("model_max_length of 3 or more")
    if lacking:
        raise Invalid(
            f"the model's {part} has no {lacking[0]}", fix=f"write one into {part}/{CONFIGS[part]}, or copy the model folder again"
        )
    return tokenizer


def load_scheduler_config(files: Files, device: str, dtype: str) -> Mapping[str, Any]:
    """The scheduler's configuration as it stands in the model: schedulers have a state and are made anew for each use.

    Empty for a network that has none, such as an autoregressive prior.
    """
    part = scheduler_part(files)
    return {} if not part and "ar_prior/config.json" in files else read_config(files, part or "scheduler")


def load_classifier(files: Files, device: str, dtype: str) -> NoisyClassifier:
    """A classifier whose files lie in the model itself, not in a folder of it."""
    import torch
    from safetensors.torch import load_file

    from .noisy_classifier import NoisyClassifier

    options = {name: value for name, value in _read_json(files, "config.json").items() if not name.startswith(("_", "nodegraph_"))}
    with readable("the classifier", fix="use a config.json that belongs to the weights"):
        module = NoisyClassifier(**options)
        tensors = load_file(files.path("diffusion_pytorch_model.safetensors"), device=device)
        module.load_state_dict({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}, assign=True)
    return module.eval().requires_grad_(False).to(device)


def load_part(files: Files, part: str, device: str, dtype: str) -> Any:
    """A network of diffusers by the name of its folder."""
    import diffusers

    defer_scipy_stats()
    name = str(read_config(files, part).get("_class_name"))
    cls: type[ModelMixin] | None = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.ModelMixin)):
        raise Invalid(f"the {part} of the model is a {name!r}, which is no model class of diffusers {diffusers.__version__}")
    return load_weights(files, part, cls, "diffusion_pytorch_model", device, dtype)


def load_weights(files: Files, part: str, cls: Any, stem: str, device: str, dtype: str) -> Any:
    """A part on a device, in evaluation mode. Raises Invalid when its weights are damaged or do not fill the network."""
    import torch

    variant = weights_variant(files, part, stem)
    options = {"variant": variant, "dtype": getattr(torch, dtype), "use_safetensors": True, "local_files_only": True}
    _quiet()
    with gathered(files, part) as folder, readable(f"the weights of the model's {part}", str(folder), part):
        module, report = cls.from_pretrained(folder, output_loading_info=True, **options)
    if absent := sorted(report["missing_keys"]):
        text = f"the weights of the model's {part} lack {len(absent)} tensors of its network, such as {absent[0]!r}"
        raise Invalid(text, fix=f"use the config.json that belongs to the weights in {part}/")
    return module.eval().requires_grad_(False).to(device)


@contextmanager
def readable(what: str, folder: str = "", part: str = "", fix: str = "copy the model folder again") -> Iterator[None]:
    """Raises Invalid for whatever goes wrong within: damaged files, and configurations that nobody can build, fail in any way.

    `folder`, which lasts no longer than that, is called by the name of its part.
    """
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while first.__context__ is not None:  # the libraries hide what it came of, such as a want of memory, behind others
            first = first.__context__
        said = (str(error) or type(error).__name__).replace(folder or "\0", part)
        fix = next((other for words, other in _AT_LIMITS.items() if words in str(first)), fix)
        raise Invalid(f"{what} cannot be read: {said}", fix=fix) from first


def weights_variant(files: Files, part: str, stem: str) -> str | None:
    """Which weights of a part to read: None for `stem.safetensors`, which goes first, `fp16` for `stem.fp16.safetensors`.

    Either may be in shards. Raises Invalid when there are no safetensors.
    """
    if problem := weights_problem(part, stem, files):
        raise Invalid(problem[0], fix=problem[1])
    return min(weights_variants(part, stem, files), key=lambda variant: (variant != "", variant != "fp16", variant)) or None


@contextmanager
def gathered(files: Files, part: str) -> Iterator[Path]:
    """A folder with just the files of one part, for the libraries that read folders.

    The files themselves may lie apart: those that are equal in several models, as configurations often are, lie in any of
    them, next to the weights of another.
    """
    with TemporaryDirectory(prefix="nodegraph-", ignore_cleanup_errors=True) as folder:
        for path in files:
            if path.startswith(f"{part}/"):
                target = Path(folder, path.removeprefix(f"{part}/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(files.path(path), target)
        yield Path(folder)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # not allowed to everyone on Windows
        shutil.copyfile(source, target)


def read_config(files: Files, part: str) -> Mapping[str, Any]:
    if (path := config_path(part)) not in files:
        raise Invalid(f"the model has no {part}: {path!r} is not there", fix="copy the whole model folder")
    return _read_json(files, path)


def _read_json(files: Files, path: str) -> Mapping[str, Any]:
    try:
        content = files.json(path)
    except ValueError as error:
        raise Invalid(f"{path!r} of the model is no JSON: {error}", fix="copy the model folder again") from error
    if not isinstance(content, dict):
        raise Invalid(f"{path!r} of the model is no JSON object", fix="copy the model folder again")
    return content


def _quiet() -> None:
    """No progress bars and load reports of the libraries: nodes report through `run`, and faults raise Invalid."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
