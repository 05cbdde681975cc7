"""Rules of samplers and schedulers: which noise levels and steps they take, of which models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FIXED_SIGMAS = frozenset({"ddim", "ddpm", "euler_ancestral", "lcm", "pndm", "tcd"})
"""Samplers whose noise levels cannot be respaced by `sigmas`."""
RESPACED = frozenset({
    "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler", "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler",
    "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "SASolverScheduler",
    "UniPCMultistepScheduler",
})  # fmt: skip
"""The schedulers of diffusers whose noise levels can be respaced by `sigmas`."""
DISTILLED_STEPS = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}
"""Samplers that take no more steps than the models for them were distilled to, and their schedulers, which may say how many."""
WITH_VARIANCE = ("DDPMScheduler", "UnCLIPScheduler")
"""Schedulers that step with a variance that the denoiser predicts, where they are told that it does."""
NO_VARIANCE = (
    "the model's scheduler takes a variance beside the prediction, which its denoiser does not predict",
    "use the sampler 'ddim'",
)
"""What is wrong where it does not, as (text, fix)."""
FLOW_SAMPLERS = frozenset({"default", "dpm++_2m", "dpm++_2m_sde", "euler", "heun", "unipc"})
"""Samplers that also integrate flow-matching models (that of deis in diffusers 0.42 stops before the last noise is gone)."""
FLOW_SIGMAS = {"dpm++_2m": (), "dpm++_2m_sde": (), "heun": (), "unipc": ("karras",)}
"""Of these the samplers that respace the noise levels of a flow-matching model in no way, or in one: those of diffusers 0.42 give NaN,
as they take the levels for those of another process."""
NO_SAMPLE_PREDICTION = {
    "dpm++_sde": "DPMSolverSDEScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_ancestral": "KDPM2AncestralDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "pndm": "PNDMScheduler",
}
"""Samplers that cannot use a model that predicts the clean sample, and their schedulers."""
MUCH_NOISE = 1000.0
"""Above this, the first noise level (sigma) is further from all others than those are from each other."""
FROM_MUCH_NOISE = {"heun": ("karras", "exponential"), "dpm2_ancestral": ("exponential",)}
"""Samplers that lose the picture in one long step from there, and the spacings in which the step is short enough for them."""
HALF_STEPS, LEAST_STEPS = ("heun", "dpm2", "dpm2_ancestral"), 20
"""Samplers that look ahead into each step, and how many such steps a spacing over all of those levels takes."""
CLIPPING = ("default", "ddim", "ddpm", "lcm")
"""Samplers that keep the estimate of a clean picture in its range, if the model's configuration says so."""
NOT_SPACED = ("dpm++_2s", "lcm", "tcd")
"""Samplers that begin at the last timestep, whatever they are told."""
RESCALED = ("dpm++_2m", "dpm++_2m_sde", "euler", "unipc")
"""Samplers that follow `rescale_betas_zero_snr`; the others keep the noise levels without it."""
UNTOLD = frozenset({"AmusedScheduler", "RFD4ProteinaScheduler", "VQDiffusionScheduler"})
"""The schedulers of diffusers that know nothing of noise levels, so that no sampler could be told theirs."""
OTHER_STEPS = UNTOLD | {
    "BlockRefinementScheduler", "CogVideoXDPMScheduler", "DDPMWuerstchenScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler",
    "HeliosDMDScheduler", "HeliosScheduler", "KarrasVeScheduler", "PiflowScheduler", "RePaintScheduler", "SCMScheduler",
    "ScoreSdeVeScheduler",
}  # fmt: skip
"""The schedulers of diffusers whose steps need more than a prediction, a timestep and a sample."""
NOT_OF_DDIM = ("the model's noise levels are not those of DDIM", "use a model that predicts noise or velocity")
"""Why the steps of a scheduler cannot be inverted, as (text, fix)."""
OTHER_SCHEDULER = "use a model with another scheduler"
"""What to do about a scheduler that nobody can name another for."""
TWO_STEPS = ("the scheduler of this model spaces its steps between two ends", "use at least 2 steps")
"""What is wrong with one step of UnCLIPScheduler, as (text, fix)."""
FOUR_STEPS = ("the scheduler of this model begins with Runge-Kutta steps, for which it takes 4 timesteps", "use at least 4 steps")
"""What is wrong with fewer steps of such a PNDMScheduler, as (text, fix)."""


def scheduler_problem(scheduler: str, sampler: str = "default") -> tuple[str, str, str] | None:
    """Why the class of a model's scheduler is of no use, as (port, text, fix); None if it is. An empty argument is unknown."""
    if scheduler and not scheduler.endswith("Scheduler"):
        return "model", f"the scheduler of the model is a {scheduler!r}, which is no scheduler", "copy the model folder again"
    text = f"the scheduler of the model is a {scheduler}, whose steps need more than a prediction, a timestep and a sample"
    if scheduler in UNTOLD:
        return "model", text, OTHER_SCHEDULER
    return ("sampler", text, "name another sampler") if scheduler in OTHER_STEPS and sampler == "default" else None


def sampler_problem(sampler: str, sigmas: str, prediction: str, scheduler: str = "") -> tuple[str, str, str] | None:
    """Why a sampler cannot be used, as (port, text, fix); None if it can. An empty argument is unknown. `scheduler`: the model's own."""
    if problem := scheduler_problem(scheduler, sampler):
        return problem
    if sampler == "default" and sigmas not in ("", "default") and scheduler and scheduler not in RESPACED:
        return "sigmas", f"{scheduler} has its own noise levels and takes no {sigmas!r} ones", "use sigmas 'default'"
    if sampler in FIXED_SIGMAS and sigmas not in ("", "default"):
        return "sigmas", f"the sampler {sampler!r} has its own noise levels and takes no {sigmas!r} ones", "use sigmas 'default'"
    if prediction == "flow_prediction" and sampler and sampler not in FLOW_SAMPLERS:
        choices = ", ".join(map(repr, sorted(FLOW_SAMPLERS)))
        return "sampler", f"the sampler {sampler!r} cannot integrate a flow-matching model", f"use one of {choices}"
    if prediction == "flow_prediction" and sigmas not in ("", "default", *FLOW_SIGMAS.get(sampler, (sigmas,))):
        text = f"the sampler {sampler!r} cannot respace the noise levels of a flow-matching model as {sigmas!r} ones"
        return "sigmas", text, "use sigmas 'default', or the sampler 'euler'"
    unable = sampler in NO_SAMPLE_PREDICTION or (sampler == "default" and scheduler in NO_SAMPLE_PREDICTION.values())
    if prediction == "sample" and unable:
        return "sampler", f"the sampler {sampler!r} cannot use a model that predicts the clean sample", "use 'ddim'"
    return None


def noise_problem(
    model: Mapping[str, Any], sampler: str, sigmas: str, steps: Any = None, whole: bool = True
) -> tuple[str, str, str] | None:
    """Why a sampler cannot begin where a model does, as (port, text, fix); None if it can. An empty argument, and steps of None, are
    unknown; `whole`: whether it begins at the first step."""
    begins_there = model.get("noise") and (not model.get("leading") or sampler in NOT_SPACED)
    if not begins_there and not (model.get("rescaled") and sampler in RESCALED):
        return None
    begins = f"the noise levels of this model begin at {model['noise']:,}" if model.get("noise") else "this model begins with noise alone"
    if sigmas == "beta":
        return "sigmas", f"{begins}, and 'beta' ones then leave out those in which the picture is made", "use sigmas 'default'"
    if not whole:
        return None
    if model.get("prediction") == "epsilon" and sigmas in ("", "default") and sampler not in ("", *CLIPPING):
        text = f"{begins}, where the noise that it predicts says nothing of the picture, and {sampler!r} does not clip"
        return "sampler", text, "use sigmas 'karras', or the sampler 'ddpm'" if sampler not in FIXED_SIGMAS else "use the sampler 'ddpm'"
    if sampler not in HALF_STEPS:
        return None
    spacings = FROM_MUCH_NOISE.get(sampler, ("default", "karras", "exponential"))
    if sigmas and sigmas not in spacings:
        fix = f"use sigmas {spacings[-1]!r} with {LEAST_STEPS} steps or more, or another sampler, such as 'dpm++_2m'"
        return "sampler", f"{begins}, from where a step of {sampler!r} with {sigmas!r} sigmas loses the picture", fix
    if sigmas not in ("", "default") and isinstance(steps, int) and steps < LEAST_STEPS:
        text = f"{begins}, from where {steps} steps of {sampler!r} with {sigmas!r} sigmas are too long"
        return "steps", text, f"use {LEAST_STEPS} steps or more, or another sampler, such as 'dpm++_2m'"
    return None


def variance_problem(model: Mapping[str, Any], sampler: str) -> tuple[str, str, str] | None:
    """Why a sampler cannot step as it is told to, as (port, text, fix); None if it can. An empty argument is unknown."""
    family = {"ddpm": "DDPMScheduler", "default": model.get("scheduler")}.get(sampler)
    return ("sampler", *NO_VARIANCE) if model.get("unlearned") and family in WITH_VARIANCE else None


def count_problem(model: Mapping[str, Any], sampler: str, steps: int) -> tuple[str, str, str] | None:
    """Why a sampler cannot take so many steps, as (port, text, fix); None if it can, or if that is not known."""
    own = model.get("scheduler")
    family = DISTILLED_STEPS.get(sampler, own if sampler == "default" else None)
    if family == "UnCLIPScheduler" and steps < 2:
        return "steps", *TWO_STEPS
    most = model.get("most_steps", 50)  # of those whose scheduler does not say
    if family in DISTILLED_STEPS.values() and steps > most and (own == family or "most_steps" not in model):
        return "steps", f"the sampler {sampler!r} takes at most {most} steps, as models for it were distilled to", f"use at most {most}"
    return None


def first_of_strength(steps: int, strength: float) -> int:
    """The first step of `steps` when a picture is changed with a strength in 0..1, rounded as the pipelines do."""
    return steps - min(int(steps * strength), steps)


def steps_problem(steps: int, strength: float = 1.0, start: int = 0, end: int | None = None) -> tuple[str, str, str] | None:
    """Why there is no step to take, as (port, text, fix); None if there is one. Without an end the last step is the last."""
    if start and strength < 1:
        return "start", f"start {start} and strength {strength:g} both say where to begin", "leave one of them out"
    last = steps if end is None else end
    if last > steps:
        return "end", f"end {last} is after the last of {steps} steps", f"use at most {steps}"
    first = start or first_of_strength(steps, strength)
    if first >= steps and strength < 1:
        least = math.ceil(1e4 / steps) / 1e4
        return "strength", f"strength {strength:g} of {steps} steps is not one step", f"use at least {least:g}"
    if first < last:
        return None
    port, fix = ("start", f"use at most {last - 1}") if start else ("end", f"use at least {first + 1}")
    return port, f"there is no step from {first} to {last}", fix
