"""Samplers by name, as the scheduler classes of diffusers with the options that make them so."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from nodegraph import Invalid

from .facts.configurations import LEARNED, prediction_of
from .facts.samplers import FOUR_STEPS, OTHER_SCHEDULER, TWO_STEPS, WITH_VARIANCE, sampler_problem
from .late import defer_scipy_stats

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_type": "logrho"}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpm++_2s": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++_sde": ("DPMSolverSDEScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Sampler → class, options over the model's own configuration."""

FLOW = {"euler": "FlowMatchEulerDiscreteScheduler", "heun": "FlowMatchHeunDiscreteScheduler"}
"""Samplers whose integration of flow-matching models is a class of its own."""

RESPACINGS = ("karras", "exponential", "beta")
"""Noise levels of Karras et al. 2022 (arXiv:2206.00364), geometric ones, and quantiles of a beta distribution
(arXiv:2407.12173)."""


def make_scheduler(
    config: Mapping[str, Any], sampler: str = "default", sigmas: str = "default", instead: Mapping[str, Any] | None = None
) -> SchedulerMixin:
    """A fresh scheduler for a model's scheduler configuration. Raises Invalid where they do not go together.

    `instead`: values in place of what the configuration says, of those options that its class has.
    """
    import diffusers

    if problem := sampler_problem(sampler, sigmas, prediction_of(config), str(config.get("_class_name"))):
        port, text, fix = problem
        raise Invalid(text, fix=fix, port=port)
    # read by its own class first: that fills in the defaults that the other classes do not share
    cls: Any = _scheduler_class(str(config.get("_class_name")))
    try:
        own = cls.from_config(dict(config))
    except Exception as error:  # arithmetic on whatever stands there
        text = f"the configuration of the model's scheduler cannot be used: {error}"
        raise Invalid(text, fix="copy the model folder again", port="model") from error
    own.register_to_config(**{name: value for name, value in (instead or {}).items() if name in own.config})
    if sampler == "default" and not _steps_alone(cls):
        text = f"the scheduler of the model is a {cls.__name__}, whose steps need more than a prediction, a timestep and a sample"
        raise Invalid(text, fix="name another sampler", port="sampler")
    options: dict[str, Any] = {}
    if sampler != "default" and prediction_of(config) == "flow_prediction":
        cls, options = _flow_sampler(sampler, config)
    elif sampler != "default":
        name, options = SAMPLERS[sampler]
        cls = getattr(diffusers, name)
        if type(own).__name__ == "UnCLIPScheduler":  # which is not spaced, as it clips
            options = {"timestep_spacing": "leading", **options}
    scheduler = own
    if (sampler, sigmas) != ("default", "default"):
        with invalid("sampler"):
            scheduler = cls.from_config(own.config, **options, **_respacing(cls, sigmas))
    if learns_variance(scheduler) and not takes_variance(scheduler):  # it gets the mean alone, and would cut it to three channels
        scheduler.register_to_config(variance_type=None)
    return scheduler


def _scheduler_class(name: str) -> Any:
    import diffusers

    defer_scipy_stats()
    cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise Invalid(f"the scheduler of the model is a {name!r}, which is no scheduler of diffusers {diffusers.__version__}", port="model")
    return cls


def _steps_alone(cls: Any) -> bool:
    """Whether a step of a scheduler needs nothing but a prediction, a timestep and a sample."""
    taken = inspect.signature(cls.step).parameters.values() if hasattr(cls, "step") else ()
    needed = {one.name for one in taken if one.default is one.empty and one.kind is not one.VAR_KEYWORD}
    return needed == {"self", "model_output", "timestep", "sample"}


def _flow_sampler(sampler: str, config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    import diffusers

    if sampler in FLOW:
        return getattr(diffusers, FLOW[sampler]), {}
    name, options = SAMPLERS[sampler]
    shift = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": config.get("shift", 1.0)}
    return getattr(diffusers, name), {**options, **shift}


def _respacing(cls: Any, sigmas: str) -> dict[str, bool]:
    if sigmas == "default":
        return {}
    known = inspect.signature(cls.__init__).parameters
    if f"use_{sigmas}_sigmas" not in known:
        raise Invalid(f"{cls.__name__} has its own noise levels and takes no {sigmas!r} ones", fix="use sigmas 'default'", port="sigmas")
    return {f"use_{each}_sigmas": each == sigmas for each in RESPACINGS}


@contextmanager
def invalid(port: str) -> Iterator[None]:
    """What a scheduler refuses is a mistake in the inputs, and so is a sampler whose library is not installed."""
    try:
        yield
    except (ValueError, NotImplementedError, torch.linalg.LinAlgError) as error:
        raise Invalid(f"the scheduler refuses: {error}", port=port) from error
    except ImportError as error:
        raise Invalid(f"this sampler needs a library that is not installed: {error}", fix="pip install torchsde", port=port) from error


@contextmanager
def of_part(port: str) -> Iterator[None]:
    """What is wrong with a scheduler that no port can replace is told of the part that it belongs to."""
    try:
        yield
    except Invalid as error:
        if error.port not in ("model", "sampler", "sigmas"):
            raise
        raise Invalid(error.text, fix=error.fix if error.port == "model" else OTHER_SCHEDULER, port=port) from error


def set_timesteps(scheduler: SchedulerMixin, steps: int) -> None:
    """Space the steps. Timesteps and noise levels stay on the host, as a step that looked one up on a device would wait for it."""
    if scheduler.config.get("use_dynamic_shifting"):
        raise Invalid("the model's scheduler shifts its noise levels by the picture's size, which this node does not do", port="model")
    if type(scheduler).__name__ == "UnCLIPScheduler" and steps < 2:
        raise Invalid(TWO_STEPS[0], fix=TWO_STEPS[1], port="steps")
    if type(scheduler).__name__ == "PNDMScheduler" and not scheduler.config.skip_prk_steps and steps < 4:
        raise Invalid(FOUR_STEPS[0], fix=FOUR_STEPS[1], port="steps")
    with invalid("steps"):
        scheduler.set_timesteps(steps, device="cpu")


def order(scheduler: SchedulerMixin) -> int:
    """How many entries of `timesteps` make one step."""
    return getattr(scheduler, "order", 1)


def begin_at(scheduler: SchedulerMixin, step: int) -> None:
    """Say where in `timesteps` the loop begins, to the schedulers that count."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(step * order(scheduler))


def scaled(scheduler: SchedulerMixin, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """The sample as the denoiser takes it."""
    return scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample


def noised(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Clean latents with the noise of a timestep [1]."""
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, timestep)
    return scheduler.scale_noise(clean, timestep, noise)


def step(
    scheduler: SchedulerMixin, prediction: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, options: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample after one step, and the scheduler's estimate of the clean sample, if it makes one."""
    with invalid("sampler"):
        output = scheduler.step(prediction, timestep, sample, **options)
    estimate = getattr(output, "pred_original_sample", None)
    return output.prev_sample, output.prev_sample if estimate is None else estimate


def step_options(scheduler: SchedulerMixin, eta: float, generators: list[torch.Generator]) -> dict[str, Any]:
    """What this scheduler's `step` takes besides prediction, timestep and sample."""
    generator = generators if len(generators) > 1 else generators[0]
    offered = {"eta": eta, "generator": generator, "prev_timestep": None}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in offered.items() if name in taken}


def at(options: Mapping[str, Any], timesteps: torch.Tensor, index: int) -> Mapping[str, Any]:
    """The options of one step: the schedulers of unCLIP ask for the timestep that follows, None after the last."""
    if "prev_timestep" not in options:
        return options
    return {**options, "prev_timestep": timesteps[index + 1] if index + 1 < len(timesteps) else None}


def learns_variance(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler is told that the denoiser predicts a variance beside the mean."""
    return getattr(scheduler.config, "variance_type", None) in LEARNED


def takes_variance(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler steps with a variance that the denoiser predicted."""
    return learns_variance(scheduler) and type(scheduler).__name__ in WITH_VARIANCE


def seed_brownian_motion(scheduler: SchedulerMixin, generators: list[torch.Generator]) -> None:
    """Give the stochastic DPM-Solver, which takes no generator, a seed for each picture, drawn from its generator."""
    if hasattr(scheduler, "noise_sampler_seed"):
        warnings.filterwarnings("ignore", "Should have t[ab]", module="torchsde")  # of the last bit of a noise level
        scheduler.noise_sampler_seed = [int(torch.randint(2**63 - 1, (1,), generator=generator)) for generator in generators]
