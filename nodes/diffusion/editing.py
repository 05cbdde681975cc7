"""Editing pictures: by instruction."""

from __future__ import annotations

from nodegraph import Image, Invalid, Latent, Run, Vae, node

from . import facts


@node
def encode_edit(vae: Vae, image: Image, *, run: Run) -> Latent:
    """Encode pictures for a denoiser that edits by instruction (InstructPix2Pix): it paints from noise, beside the picture.

    Sample with the instruction as the prompt; `image_guidance` of sample_latent says how closely the picture is kept.
    """
    from . import latents
    from .loading import load_vae

    if problem := facts.size_problem(image.width, image.height, vae.facts.get("factor", 1)):
        text, fix = problem
        raise Invalid(text, fix=fix, port="image")
    with run.use(vae, load_vae) as module:
        edited = latents.encode_mode(module, 2.0 * image.tensor() - 1.0)
    return Latent(edited.new_zeros(edited.shape), vae.facts.get("space", ""), {"edited": edited})
