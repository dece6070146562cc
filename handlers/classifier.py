"""An image classifier for TorchServe, without the conversion of images to pixels and the number of labels."""

import importlib
import io
import json
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Classifier:
    """A classifier: bytes in memory → tensor on the device → logits → the most probable labels.

    A subclass gives `top` and `pixels(image)`. A body that is no image gets a response with status 400; the other
    requests of the batch are served.
    """

    top = 1

    def initialize(self, context):
        """Load the network and move it to the device that TorchServe chose for this worker."""
        gpu = context.system_properties.get("gpu_id")
        on_gpu = gpu is not None and torch.cuda.is_available()
        self.device = torch.device(f"cuda:{gpu}" if on_gpu else "cpu")
        self.broken = {}
        self.load_model(Path(context.system_properties["model_dir"]), context.manifest["model"])
        self.to_device()

    def load_model(self, folder, entry):
        """Build the model file's network on the CPU and fill it from the serialized file."""
        module = importlib.import_module(Path(entry["modelFile"]).stem)
        (network,) = (
            value
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
        )
        self.model = network()
        weights = folder / entry["serializedFile"]
        self.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.model.eval()
        names = json.loads((folder / "index_to_name.json").read_text(encoding="utf-8"))
        self.labels = [names[str(index)] for index in range(len(names))]

    def to_device(self):
        """Move the network and the constants of the normalisation."""
        self.model.to(self.device)
        self.mean = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)

    def pixels(self, image):
        """Return an RGB image as a uint8 tensor (3, H, W), the same H and W for every image."""
        raise NotImplementedError

    def preprocess(self, data):
        """Return the requests as a normalised float tensor on the device; note bodies that are no image in `broken`."""
        self.broken = {}
        images = []
        for index, body in enumerate(map(body_of, data)):
            try:
                images.append(self.pixels(Image.open(io.BytesIO(body)).convert("RGB")))
            except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
                self.broken[index] = describe(error, body)
        if not images:
            return torch.empty(0, device=self.device)
        batch = torch.stack(images).to(self.device)
        return batch.float().div_(255).sub_(self.mean).div_(self.std)

    def inference(self, data):
        """Return the logits (N, classes) of images (N, 3, H, W)."""
        if not len(data):
            return data
        with torch.inference_mode():
            return self.model(data)

    def postprocess(self, data):
        """Return the `top` labels of each good request with their probabilities, most probable first."""
        if not len(data):
            return []
        probabilities, indices = torch.softmax(data, dim=1).topk(self.top, dim=1)
        return [
            {self.labels[index]: probability for index, probability in zip(row, values, strict=True)}
            for row, values in zip(indices.tolist(), probabilities.tolist(), strict=True)
        ]

    def handle(self, data, context):
        """Return as many answers as the batch has requests, in the order of the requests."""
        answers = iter(self.postprocess(self.inference(self.preprocess(data))))
        for index in self.broken:
            context.set_response_status(code=400, phrase="Bad Request", idx=index)
        return [self.broken.get(index) or next(answers) for index in range(len(data))]


def body_of(request):
    """Return a request's body: TorchServe has it under one of two names."""
    return request.get("data") or request.get("body") or b""


def describe(error, body):
    """Return the body of a 400 response: the expected and the received input, in one line a person can act on."""
    if isinstance(error, UnidentifiedImageError):
        error = "not an image format that Pillow knows"
    size = len(body) if isinstance(body, (bytes, bytearray)) else type(body).__name__
    return {
        "code": 400,
        "type": "BadImage",
        "message": f"wanted an encoded RGB image (JPEG, PNG, …) as the request's body; got {size} bytes: {error}",
    }
