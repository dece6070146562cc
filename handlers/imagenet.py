"""A TorchServe handler: ImageNet classification, the five most probable labels."""

from classifier import Classifier
from torchvision.transforms import functional


class ImageNet(Classifier):
    """Resize the short side to 256, crop the middle 224×224, answer with the top five."""

    top = 5

    def pixels(self, image):
        """Return the pixels after the usual crop of torchvision's ImageNet models."""
        return functional.pil_to_tensor(functional.center_crop(functional.resize(image, 256), 224))
