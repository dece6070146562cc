"""A class with only `initialize` and `handle`; its answers are lists. It reads a file by a relative path."""

from pathlib import Path


class Plain:
    """Counts letters."""

    def initialize(self, context):
        """Read what to count."""
        self.letters = Path("letters.txt").read_text(encoding="utf-8").strip()
        self.here = Path.cwd().samefile(context.system_properties["model_dir"])

    def handle(self, data, context):
        """Answer each text with the count of each letter, nested, and whether this is the model's folder."""
        texts = [request["body"] for request in data]
        return [[len(text), [[text.count(letter) for letter in self.letters]], {"here": self.here}] for text in texts]
