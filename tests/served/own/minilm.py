"""Sentence embeddings by MiniLM: JSON in, JSON out; tokenizer and weights lie in the archive."""

import torch
from transformers import AutoModel, AutoTokenizer


class Embeddings:
    """Handles `{"text": …}`."""

    def initialize(self, context):
        """Load tokenizer and network."""
        folder = context.system_properties["model_dir"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModel.from_pretrained(folder).eval()

    def preprocess(self, data):
        """Return the texts as padded tokens."""
        texts = [request["body"]["text"] for request in data]
        return self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")

    def inference(self, tokens):
        """Return the mean of the token embeddings, normalised."""
        with torch.inference_mode():
            states = self.network(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)

    def postprocess(self, vectors):
        """Return one vector for each request."""
        return [{"embedding": vector} for vector in vectors.tolist()]

    def handle(self, data, context):
        """Return an answer for each request."""
        return self.postprocess(self.inference(self.preprocess(data)))
