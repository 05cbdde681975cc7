"""Trees and flowcharts of workflows."""

from __future__ import annotations

from nodegraph.show import mermaid, tree
from nodegraph.workflow import Workflow

WORKFLOW = Workflow.of(
    {
        "name": "txt2img",
        "doc": "One image\nfrom one prompt.",
        "inputs": {"prompt": {"type": "text"}, "seeds": {"type": "list[int]", "default": [0, 1]}},
        "nodes": {
            "model": {"use": "load_model", "with": {"name": "tiny-sd"}},
            "positive": {"use": "encode_text", "from": {"encoder": "model.encoder", "text": "inputs.prompt"}},
            "sample": {
                "use": "sample_latent",
                "each": {"seed": "inputs.seeds", "steps": [1, 2]},
                "from": {"model": "model.denoiser", "positive": "positive.conditioning"},
                "with": {"note": 'a "long" ' + "x" * 60},
            },
            "decode": {"use": "./decode.json", "from": {"latent": ["sample.latent", "canvas.latent"]}},
            "save": {"use": "save_image", "from": {"image": "decode.image"}},
        },
        "outputs": {"image": "decode.image", "both": ["decode.image", "inputs.prompt"]},
    }
)

TREE = """\
txt2img: One image from one prompt.
  prompt: text
  seeds: list[int] = [0, 1]
image ← decode.image  ./decode.json
├─ latent ← sample.latent  sample_latent(note="a \\"long\\" xxxxxxxxxxxxxxxxxxxxxxxxxxx…, each steps=[1, 2])
│  ├─ each seed ← inputs.seeds
│  ├─ model ← model.denoiser  load_model(name="tiny-sd")
│  └─ positive ← positive.conditioning  encode_text
│     ├─ encoder ← model.encoder  (above)
│     └─ text ← inputs.prompt
└─ latent ← canvas.latent  (missing)
both ← decode.image  (above)
both ← inputs.prompt
save  save_image
└─ image ← decode.image  (above)"""

MERMAID = """\
flowchart LR
  i0(["prompt: text"])
  i1(["seeds: list[int]"])
  n0["model<br/>load_model"]
  n1["positive<br/>encode_text"]
  n2["sample<br/>sample_latent"]
  n3[["decode<br/>./decode.json"]]
  n4["save<br/>save_image"]
  o0(["image"])
  o1(["both"])
  n0 -->|"encoder"| n1
  i0 -->|"prompt → text"| n1
  i1 ==>|"seeds → seed"| n2
  n0 -->|"denoiser → model"| n2
  n1 -->|"conditioning → positive"| n2
  n2 -->|"latent"| n3
  n3 -->|"image"| n4
  n3 -->|"image"| o0
  n3 -->|"image → both"| o1
  i0 -->|"prompt → both"| o1"""


def test_tree() -> None:
    assert tree(WORKFLOW) == TREE


def test_mermaid() -> None:
    assert mermaid(WORKFLOW) == MERMAID


def test_mermaid_escapes_what_it_would_take_for_its_own() -> None:
    flow = Workflow.of({"nodes": {"a": {"use": 'x"<b>#1'}}})
    assert mermaid(flow) == 'flowchart LR\n  n0["a<br/>x#quot;#lt;b#gt;#35;1"]'


def test_a_workflow_inside_is_shown_by_its_name() -> None:
    flow = Workflow.of({"nodes": {"a": {"use": {"name": "inner", "nodes": {}}}, "b": {"use": {"nodes": {}}}}})
    assert tree(flow) == "workflow\na  workflow inner\nb  workflow"
    assert '[["a<br/>workflow inner"]]' in mermaid(flow)


def test_nodes_in_a_circle_are_shown_once() -> None:
    flow = Workflow.of({"nodes": {"a": {"use": "x", "from": {"v": "b.v"}}, "b": {"use": "x", "from": {"v": "a.v"}}}})
    assert tree(flow) == "workflow\na  x\n└─ v ← b.v  x\n   └─ v ← a.v  (above)"


def test_a_long_chain_needs_no_recursion() -> None:
    nodes = {f"n{i}": {"use": "x", "from": {"v": f"n{i - 1}.v"} if i else {}} for i in range(3000)}
    text = tree(Workflow.of({"nodes": nodes, "outputs": {"v": "n2999.v"}}))
    assert text.count("\n") == 3000
