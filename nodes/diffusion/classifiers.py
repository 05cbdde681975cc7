"""Classifier guidance: steering a sampling by a classifier of noisy latents, beside the guidance of the prompt or in its place."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Field, Handle, Invalid, Kind, ModelRef, Run, node

from .facts import rules
from .facts.configurations import classifier_facts


class Classifier(Handle):
    """A classifier of noisy latents; facts has `classes` and `space`."""

    __slots__ = ()


class Guide(Handle):
    """What steers a sampling; facts has `label`, its `place` among the classes, `scale` and `space`."""

    __slots__ = ()


@node
def load_classifier(
    name: Annotated[ModelRef, Kind("classifier"), "A folder with config.json and safetensors of a NoisyClassifier."], *, run: Run
) -> Classifier:
    """Find a classifier of noisy latents. Which classes it tells apart, `nodegraph models show` says."""
    from .loading import read_configs

    with run.use(Handle(name.part("config.json")), read_configs) as configs:
        return Classifier.of(name, facts=classifier_facts(configs.get))


@node
def guide_by_class(
    classifier: Classifier,
    label: Annotated[str, "One of the classifier's classes."],
    scale: Annotated[float, Field(ge=0, le=1000), "How strongly; 1 is Bayes' rule, more exaggerates."] = 1.0,
) -> Guide:
    """Ask for a class: what is painted moves along the classifier's gradient in each step (arXiv:2105.05233).

    For the `guide` of sample_latent; beside guidance by the prompt, or in its place with guidance 1 and an empty prompt.
    """
    if problem := rules.label_problem(classifier.facts, label):
        text, fix = problem
        raise Invalid(text, fix=fix, port="label")
    place = classifier.facts["classes"].index(label)
    known = {"label": label, "place": place, "scale": scale, "space": classifier.facts.get("space", "")}
    return Guide(classifier.files, classifier.component, classifier.dtype, facts=known)
