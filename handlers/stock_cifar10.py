"""TorchServe's own image classifier for CIFAR-10: only the conversion of an image is another."""

from torchvision import transforms
from ts.torch_handler.image_classifier import ImageClassifier


class StockCifar10(ImageClassifier):
    """The stock handler without its resize and crop: a CIFAR-10 image has the network's size already."""

    image_processing = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
